//! A server that is replaced while its client goes on, on smol.
//!
//! ```text
//! cargo run -p trunkline-smol --example restart_on_smol
//! ```
//!
//! The service, in `adapter-tokio/examples/services/restart.rs`, names no runtime: it is the same one
//! that `trunkline-tokio` has.

// The name by which the service knows it.
extern crate trunkline_smol as trunkline;

#[macro_use]
#[path = "../../adapter-tokio/examples/services/common.rs"]
mod common;
#[path = "../../adapter-tokio/examples/services/restart.rs"]
mod restart;

fn main() -> Result<(), common::Failure> {
    smol::block_on(restart::run())
}
