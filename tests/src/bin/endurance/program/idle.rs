//! S9: idle connections, which cost heartbeats and no more.

use std::time::Duration;

use anyhow::Result;
use trunkline_core::Config;
use trunkline_testkit::peers::bare::rest;
use trunkline_testkit::peers::{Snapshot, resident_kib};

use super::arguments::{Engine, Idle};
use super::clients::Clients;
use super::server_process::{ServerProcess, Start};
use super::verdict::{Verdict, rounded};

/// Which share of a core the server may use.
const SHARE_MOST: f64 = 0.05;
/// What was left behind by the setting up is over by then: path MTU discovery, for one.
const REST: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &Idle) -> Result<Verdict> {
    let engine = options.common.engine_or(Engine::Core);
    let server = ServerProcess::start(Start::new(engine))?;
    let kib_before = resident_kib(&[server.pid])?;
    let (config, connections) = (Config::default(), options.connections);
    let mut clients = Clients::connect(server.address, &config, connections, &options.common)?;
    rest(&mut clients.endpoints, REST)?;

    let before = Snapshot::take(&[server.pid])?;
    // It fails if a link breaks.
    rest(&mut clients.endpoints, options.minutes)?;
    let used = before.until(&Snapshot::take(&[server.pid])?);
    let seconds = used.time.as_secs_f64();
    let share = used.server.total / seconds;
    let kib = resident_kib(&[server.pid])?.saturating_sub(kib_before);
    Ok(Verdict::new("S9")
        .with("engine", engine.name())
        .with("connections", connections)
        .with("minutes", rounded(seconds / 60.0))
        .check(
            "server_cpu_share",
            (share * 1e5).round() / 1e5,
            share < SHARE_MOST,
            "under 0.05",
        )
        .with(
            "server_system_cpu_share",
            rounded(used.server.system / seconds),
        )
        .with("client_cpu_share", rounded(used.client.total / seconds))
        .with(
            "server_kib_per_connection",
            rounded(kib as f64 / f64::from(connections)),
        ))
}
