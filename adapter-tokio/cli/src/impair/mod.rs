//! A bad network: a UDP proxy that does to one path what bad networks do.
//!
//! [`engine`] decides what happens to each packet, without a socket or a clock; [`proxy`] moves
//! the packets and does what was decided.

mod bottleneck;
mod delay_line;
mod draws;
mod engine;
mod loss;
mod orders;
mod proxy;
mod settings;
mod summary;
mod upstream;

pub(crate) use orders::Order;
pub(crate) use proxy::{Handle, ProxySettings};
pub(crate) use settings::{Blackout, Cut, Direction, Directions, Impairments, Rate, Share};
pub(crate) use summary::Summary;
