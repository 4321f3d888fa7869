//! Processes of a simulation, which can be killed.

use super::Simulation;

/// Tasks that end together, as those of a process do.
///
/// A server that is killed and started again, to which its client comes back by itself:
///
/// ```
/// # use std::time::Duration;
/// # use trunkline_core::{PersistentKeys, Status};
/// # use trunkline_core::driver::{Context, Service};
/// # use trunkline_testkit::simulated::{Process, Simulation};
/// # #[derive(Clone, PartialEq, prost::Message)] struct Ask {}
/// # impl prost::Name for Ask { const NAME: &'static str = "Ask"; const PACKAGE: &'static str = "up.v1"; }
/// # #[derive(Clone, PartialEq, prost::Message)] struct Up {}
/// # impl prost::Name for Up { const NAME: &'static str = "Up"; const PACKAGE: &'static str = "up.v1"; }
/// async fn up(_: Context<()>, _: Ask) -> Result<Up, Status> {
///     Ok(Up {})
/// }
///
/// fn serve(simulation: &Simulation) -> Process {
///     let server = simulation
///         .server()
///         // With them a client notices the restart at once.
///         .persistent_keys(PersistentKeys::new([1; 32], [2; 32]))
///         .service(Service::new(()).on_request(up));
///     simulation.process(async {
///         let _server = server.await.expect("it starts");
///         std::future::pending().await
///     })
/// }
///
/// let simulation = Simulation::new(7);
/// simulation.run(async {
///     let first = serve(&simulation);
///     let anna = simulation.client("anna").await?;
///     first.kill();
///     let _second = serve(&simulation);
///     let asked = anna.request::<Up>(&Ask {}).timeout(Duration::from_secs(60));
///     // What was asked of the first one may be lost with it.
///     if asked.await.is_err() {
///         anna.request::<Up>(&Ask {}).await?;
///     }
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it leaves the process running.
#[derive(Debug)]
#[must_use = "a process that nobody can kill is a task: `Simulation::spawn`"]
pub struct Process {
    pub(super) simulation: Simulation,
    pub(super) number: u64,
}

impl Process {
    /// Ends the process: its tasks stop where they are, and nobody is told.
    pub fn kill(self) {
        self.simulation.0.tasks.kill(self.number);
    }
}
