//! A server that is replaced while its client goes on, on tokio.
//!
//! ```text
//! cargo run -p trunkline-tokio --example restart
//! ```
//!
//! The service, in `services/restart.rs`, names no runtime: `trunkline-smol` has the same one.

// The name by which the service knows it.
extern crate trunkline_tokio as trunkline;

#[macro_use]
#[path = "services/common.rs"]
mod common;
#[path = "services/restart.rs"]
mod restart;

#[tokio::main]
async fn main() -> Result<(), common::Failure> {
    restart::run().await
}
