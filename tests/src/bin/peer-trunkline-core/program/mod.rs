//! The program, where it runs.

mod broadcast;
mod connect;
mod load;
mod paced;
mod server;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use trunkline_testkit::peers::bare::{self, Endpoint};
use trunkline_testkit::peers::{self, Plan, Report, Workload, config, roots};

pub(crate) fn main() -> ExitCode {
    peers::run("peer-trunkline-core", server::serve, measure)
}

fn measure(plan: &Plan) -> Result<Report> {
    peers::allow_many_files();
    match (plan.workload, plan.rate.0) {
        (Workload::Pipeline | Workload::Rpc, Some(rate)) => paced::run(plan, rate),
        (Workload::Pipeline | Workload::Bulk | Workload::Rpc | Workload::Mixed, _) => {
            load::run(plan)
        }
        (Workload::Broadcast, _) => broadcast::run(plan),
        (Workload::Connect, _) => connect::run(plan),
    }
}

/// So many client endpoints.
fn endpoints(server: SocketAddr, count: usize) -> Result<Vec<Endpoint>> {
    bare::endpoints(server, roots()?, &config(), count)
}
