//! The bodies of the fuzz targets. `fuzz/` hands them to cargo-fuzz on nightly; here they compile
//! with everything else, and `cargo test` runs every input that is checked in there.
//!
//! A body takes any bytes, and panics where an invariant does not hold. It says what of its
//! behaviour the input has reached, so that a test can hold the checked-in inputs to reaching all
//! of it. An input means the same in every run, and in every build that has the same target.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a broken invariant ends the run"
)]

mod configuration;
mod conversation;
mod forged;
mod frames;
mod input;
mod laws;
mod link;
mod node;
mod null;
mod packets;
mod quic;
mod reached;
mod scripted;
mod seen;
mod steps;
mod tokens;
mod traces;
mod two_nodes;

pub use self::reached::Reached;
pub use configuration::configuration;
pub use forged::{Forged, ack, retire};
pub use frames::frames;
pub use link::link;
pub use node::node;
pub use null::{TAG_BYTES, use_null_crypto};
pub use quic::quic;
pub use tokens::tokens;
pub use traces::traces;
pub use two_nodes::two_nodes;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// What it does with an input.
    pub body: fn(&[u8]) -> Reached,
    /// Inputs to begin with, made from simulated conversations.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many bytes may be held at once for an input.
    pub memory: fn(&[u8]) -> u64,
    /// What its corpus has to reach.
    pub floor: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        body: frames,
        seeds: frames::seeds,
        memory: frames::memory,
        floor: frames::FLOOR,
    },
    Target {
        name: "tokens",
        body: tokens,
        seeds: tokens::seeds,
        memory: of_nodes,
        floor: tokens::FLOOR,
    },
    Target {
        name: "link",
        body: link,
        seeds: link::seeds,
        memory: of_nodes,
        floor: link::FLOOR,
    },
    Target {
        name: "node",
        body: node,
        seeds: node::seeds,
        memory: of_nodes,
        floor: node::FLOOR,
    },
    Target {
        name: "two_nodes",
        body: two_nodes,
        seeds: two_nodes::seeds,
        memory: of_nodes,
        floor: two_nodes::FLOOR,
    },
    Target {
        name: "quic",
        body: quic,
        seeds: quic::seeds,
        memory: of_nodes,
        floor: quic::FLOOR,
    },
    Target {
        name: "traces",
        body: traces,
        seeds: traces::seeds,
        memory: traces::memory,
        floor: traces::FLOOR,
    },
    Target {
        name: "configuration",
        body: configuration,
        seeds: configuration::seeds,
        memory: of_nodes,
        floor: configuration::FLOOR,
    },
];

/// What the nodes of a run and all that is under way between them may hold.
fn of_nodes(_: &[u8]) -> u64 {
    64 << 20
}

/// The target of that name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> &'static Target {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("there is no target {name}"))
}
