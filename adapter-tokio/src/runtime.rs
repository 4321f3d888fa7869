//! What tokio supplies: tasks and time.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use trunkline_core::Seed;
use trunkline_core::driver::system::{UdpIo, look_up, random_seed};
use trunkline_core::driver::{self, Platform, Task};

use crate::reactor::Reactor;

/// The tokio runtime that a server or client runs in: unless told, the one that starts it.
///
/// ```no_run
/// # use trunkline_tokio::{Admit, Server};
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let network = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
/// let server = Server::bind("127.0.0.1:4433".parse()?).runtime(network.handle().clone());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Runtime {
    handle: Handle,
}

impl From<Handle> for Runtime {
    fn from(handle: Handle) -> Self {
        Self { handle }
    }
}

impl driver::Runtime for Runtime {
    fn spawn(&self, task: Task) {
        self.handle.spawn(task);
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl Platform for Runtime {
    type Io = UdpIo<Reactor>;

    fn current() -> io::Result<Self> {
        let handle = Handle::try_current().map_err(io::Error::other)?;
        Ok(Self { handle })
    }

    fn bind(&self, address: SocketAddr) -> io::Result<Self::Io> {
        let _inside = self.handle.enter();
        UdpIo::bind(address, Reactor::register)
    }

    fn resolve(&self, host: &str) -> Task<io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        let found = self.handle.spawn_blocking(move || look_up(&host));
        Box::pin(async move { found.await.map_err(io::Error::other)? })
    }

    fn sleep(&self, time: Duration) -> Task {
        let _inside = self.handle.enter();
        Box::pin(tokio::time::sleep(time))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn seed() -> io::Result<Seed> {
        random_seed()
    }
}
