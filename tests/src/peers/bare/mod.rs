//! The bare state machine in a loop of its own: nodes, UDP sockets and one thread, as somebody with
//! an event loop embeds it.

mod bad_path;
mod closing;
mod dialing;
mod endpoint;
mod event_loop;
mod rest;
mod socket;

pub use closing::close;
pub use dialing::{Dialed, dial, dial_of, endpoints};
pub use endpoint::{Endpoint, Setup};
pub use event_loop::{Application, Moment, run};
pub use rest::rest;

use anyhow::{Result, bail};
use trunkline_core::{Event, SessionKey};

/// A session, and the number of the endpoint that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The endpoint's number.
    pub endpoint: usize,
    /// The session.
    pub session: SessionKey,
}

/// A client's measurement is void once a link has broken or something was dropped.
pub fn ensure_intact(event: &Event) -> Result<()> {
    match event {
        Event::Disconnected { reason, .. } | Event::Closed { reason, .. } => {
            bail!("a link ended: {reason}")
        }
        Event::Dropped { messages, .. } => bail!("{messages} best-effort messages were dropped"),
        _ => Ok(()),
    }
}
