//! What the benchmark programs `peer-trunkline` and `peer-trunkline-core` share: the contract of a
//! benchmark peer.
//!
//! A peer is one program with two roles. `server` serves every workload to any number of
//! connections; `client` puts one workload to a server for a measured time, and prints what it
//! measured as one JSON object. A driver that starts such programs in turn can compare libraries
//! that have nothing else in common. `benches/README.md` says what the workloads are, and how to
//! run them by hand.
//!
//! Here are the command line, the measuring window, the processes' CPU and memory, and the report;
//! and in [`bare`] the loop that drives nodes by hand, which `endurance` uses too. How messages are
//! carried is each program's own matter otherwise.

mod arguments;
pub mod bare;
mod credentials;
mod files;
mod latencies;
mod messages;
mod meter;
mod ready;
mod recording;
mod report;
mod settings;
mod usage;

pub use arguments::{Plan, Rate, ServerArguments, Workload};
pub use credentials::{SERVER_NAME, identity, roots};
pub use files::allow_many_files;
pub use latencies::Latencies;
pub use messages::{
    BULK_ABOVE, Echo, Event, Note, SUBSCRIBERS, Start, Subscribe, clock_ns, note_lane, tag,
};
pub use meter::{Counter, Measurement, Meter, Window};
pub use ready::announce;
pub use recording::recording;
pub use report::{Broadcasting, Connecting, Report};
pub use settings::config;
pub use usage::{Cpu, Snapshot, resident_kib};

use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Role};

/// Carries out what the command line says. `name` stands in the report, unless the environment
/// variable `PEERS_NAME` gives another one.
pub fn run(
    name: &str,
    server: impl FnOnce(ServerArguments) -> anyhow::Result<()>,
    client: impl FnOnce(&Plan) -> anyhow::Result<Report>,
) -> ExitCode {
    let done = match Arguments::parse().role {
        Role::Server(arguments) => server(arguments),
        Role::Client(arguments) => arguments
            .plan()
            .and_then(|plan| client(&plan))
            .map(|report| report.print(name)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
