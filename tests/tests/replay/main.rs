//! A recorded node, given the same again, gives out the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

mod adapters;
mod conversation;
mod disorder;
mod link;
mod memory;
mod random;
mod ring;
mod shrinking;
mod turns;
mod wire;
