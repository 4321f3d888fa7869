//! Services on a simulated network: the driver, handles and handlers, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

#[macro_use]
mod messages;

mod cancellation;
mod clients_and_servers;
mod handlers;
mod mistakes;
mod paths;

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
