//! Nodes on a simulated network, in virtual time. One program: thirty would be linked for minutes, and fill a disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

mod addresses;
mod admission;
mod asked_back;
mod authorities;
mod behaviour;
mod client_drains;
mod closing;
mod contract;
mod conversations;
mod copies;
mod crossing;
mod crowd;
mod draining;
mod endings;
mod excepting;
mod found;
mod handshakes;
mod herd;
mod identities;
mod liveness;
mod moves;
mod patience;
mod pressure;
mod queues;
mod quiet;
mod refusals;
mod resume;
mod room;
mod scale;
mod segments;
mod sharing;
mod sparse;
mod sweep;
mod takeover;

use std::time::Duration;

use trunkline_core::{Message, Tag};

const SECOND: Duration = Duration::from_secs(1);

/// What is said where it does not matter what.
fn message(body: impl Into<bytes::Bytes>) -> Message {
    Message::new(Tag::of("test.Said"), body)
}
