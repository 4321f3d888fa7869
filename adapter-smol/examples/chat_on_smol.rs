//! A chat with rooms, on smol.
//!
//! ```text
//! cargo run -p trunkline-smol --example chat_on_smol
//! ```
//!
//! The service, in `adapter-tokio/examples/services/chat.rs`, names no runtime: it is the same one
//! that `trunkline-tokio` has.

// The name by which the service knows it.
extern crate trunkline_smol as trunkline;

#[macro_use]
#[path = "../../adapter-tokio/examples/services/common.rs"]
mod common;
#[path = "../../adapter-tokio/examples/services/chat.rs"]
mod chat;

fn main() -> Result<(), common::Failure> {
    smol::block_on(chat::run())
}
