//! `connect`: how fast connections come up, and what they cost while they rest.

use std::time::Duration;

use anyhow::Result;
use trunkline_testkit::peers::bare::{close, dial, rest};
use trunkline_testkit::peers::{Connecting, Plan, Report, Snapshot, resident_kib};

use super::endpoints;
use super::load::note;

pub(crate) fn run(plan: &Plan) -> Result<Report> {
    let own = [i32::try_from(std::process::id())?];
    let mut endpoints = endpoints(plan.connect, plan.endpoints.min(plan.conns))?;
    let kib_before = (resident_kib(&plan.server_pids)?, resident_kib(&own)?);
    let before = Snapshot::take(&plan.server_pids)?;
    let dialed = dial(
        plan.connect,
        &mut endpoints,
        plan.conns,
        plan.concurrency,
        note(16),
    )?;
    let mut window = before.until(&Snapshot::take(&plan.server_pids)?);
    window.messages = dialed.places.len() as u64;

    rest(&mut endpoints, Duration::from_secs(2))?;
    let kib_after = (resident_kib(&plan.server_pids)?, resident_kib(&own)?);
    let idle = Snapshot::take(&plan.server_pids)?;
    rest(&mut endpoints, plan.hold)?;
    let idle = idle.until(&Snapshot::take(&plan.server_pids)?);
    let kib_idle_end = resident_kib(&plan.server_pids)?;

    close(&mut endpoints, &dialed.places)?;
    let connecting = Connecting {
        window,
        ready: dialed.ready,
        handshakes: dialed.handshakes,
        server_kib: [kib_before.0, kib_after.0, kib_idle_end],
        client_kib: [kib_before.1, kib_after.1],
        idle,
    };
    Ok(Report::connect(plan, connecting))
}
