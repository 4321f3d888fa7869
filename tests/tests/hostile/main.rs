//! What hostile and broken peers can do to a node, and what they cannot: each fault ends its own
//! link, with a number and a sentence, is counted, and touches no other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

mod admission;
mod answers;
mod flood;
mod frames;
mod handshake;
mod junk;
mod lanes;
mod memory;
mod quic_frames;
mod servers;
mod sessions;
mod siege;
mod table;
mod victim;
mod welcomes;
