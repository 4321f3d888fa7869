//! A server of `trunkline_cli.proto` that tells what happens.

mod account;
mod journal;
mod moves;
mod restart;
mod service;
mod summary;

pub(crate) use journal::{Entry, Journal, Manner};
pub(crate) use restart::keys;
pub(crate) use service::{State, Telling, service};
pub(crate) use summary::Summary;
