//! Telemetry from many devices, on tokio.
//!
//! ```text
//! cargo run -p trunkline-tokio --example telemetry
//! ```
//!
//! The service, in `services/telemetry.rs`, names no runtime: `trunkline-smol` has the same one.

// The name by which the service knows it.
extern crate trunkline_tokio as trunkline;

#[macro_use]
#[path = "services/common.rs"]
mod common;
#[path = "services/telemetry.rs"]
mod telemetry;

#[tokio::main]
async fn main() -> Result<(), common::Failure> {
    telemetry::run().await
}
