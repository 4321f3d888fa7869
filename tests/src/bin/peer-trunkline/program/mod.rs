//! The program, where it runs.

mod broadcast;
mod clients;
mod connect;
mod load;
mod server;

use std::future::Future;
use std::process::ExitCode;

use anyhow::Result;
use trunkline_testkit::peers::{self, Plan, Report, Workload};

pub(crate) fn main() -> ExitCode {
    let client = |plan: &Plan| block_on(measure(plan.clone()));
    peers::run(
        "peer-trunkline",
        |arguments| block_on(server::serve(arguments)),
        client,
    )
}

async fn measure(plan: Plan) -> Result<Report> {
    peers::allow_many_files();
    match plan.workload {
        Workload::Pipeline | Workload::Bulk | Workload::Rpc | Workload::Mixed => {
            load::run(&plan).await
        }
        Workload::Broadcast => broadcast::run(&plan).await,
        Workload::Connect => connect::run(&plan).await,
    }
}

/// Does the work as a task of tokio's default runtime, or, with `PEERS_RT=current`, of the
/// single-threaded one.
fn block_on<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let mut builder = match std::env::var("PEERS_RT").as_deref() {
        Ok("current") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async { tokio::spawn(work).await? })
}
