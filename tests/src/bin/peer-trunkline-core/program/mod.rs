//! The program, where it runs.

mod broadcast;
mod closing;
mod connect;
mod dialing;
mod endpoint;
mod event_loop;
mod load;
mod rest;
mod server;
mod socket;

use std::process::ExitCode;

use anyhow::{Result, bail};
use trunkline_core::{Event, SessionKey};
use trunkline_testkit::peers::{self, Plan, Report, Workload};

pub(crate) fn main() -> ExitCode {
    peers::run("peer-trunkline-core", server::serve, measure)
}

fn measure(plan: &Plan) -> Result<Report> {
    peers::allow_many_files();
    match plan.workload {
        Workload::Pipeline | Workload::Bulk | Workload::Rpc | Workload::Mixed => load::run(plan),
        Workload::Broadcast => broadcast::run(plan),
        Workload::Connect => connect::run(plan),
    }
}

/// A session, and the number of the endpoint that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    endpoint: usize,
    session: SessionKey,
}

/// A client's measurement is void once a link has broken or something was dropped.
fn ensure_intact(event: &Event) -> Result<()> {
    match event {
        Event::Disconnected { reason, .. } | Event::Closed { reason, .. } => {
            bail!("a link ended: {reason}")
        }
        Event::Dropped { messages, .. } => bail!("{messages} best-effort messages were dropped"),
        _ => Ok(()),
    }
}
