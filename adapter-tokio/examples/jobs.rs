//! Job dispatch with replies and deadlines, on tokio.
//!
//! ```text
//! cargo run -p trunkline-tokio --example jobs
//! ```
//!
//! The service, in `services/jobs.rs`, names no runtime: `trunkline-smol` has the same one.

// The name by which the service knows it.
extern crate trunkline_tokio as trunkline;

#[macro_use]
#[path = "services/common.rs"]
mod common;
#[path = "services/jobs.rs"]
mod jobs;

#[tokio::main]
async fn main() -> Result<(), common::Failure> {
    jobs::run().await
}
