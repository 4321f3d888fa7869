//! A chat with rooms, on tokio.
//!
//! ```text
//! cargo run -p trunkline-tokio --example chat
//! ```
//!
//! The service, in `services/chat.rs`, names no runtime: `trunkline-smol` has the same one.

// The name by which the service knows it.
extern crate trunkline_tokio as trunkline;

#[macro_use]
#[path = "services/common.rs"]
mod common;
#[path = "services/chat.rs"]
mod chat;

#[tokio::main]
async fn main() -> Result<(), common::Failure> {
    chat::run().await
}
