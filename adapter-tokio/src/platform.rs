//! What tokio supplies: tasks, time, names.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use trunkline_core::Seed;
use trunkline_core::driver::{Platform, Runtime, Task};

use crate::socket::UdpIo;

/// A tokio runtime.
#[derive(Clone, Debug)]
pub struct Tokio {
    handle: Handle,
}

impl Runtime for Tokio {
    fn spawn(&self, task: Task) {
        self.handle.spawn(task);
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl Platform for Tokio {
    type Io = UdpIo;

    fn current() -> io::Result<Self> {
        let handle = Handle::try_current().map_err(io::Error::other)?;
        Ok(Self { handle })
    }

    fn bind(&self, address: SocketAddr) -> io::Result<UdpIo> {
        let _inside = self.handle.enter();
        UdpIo::bind(address)
    }

    fn resolve(&self, host: &str) -> Task<io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host(host).await?.collect();
            if found.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the name has no address",
                ));
            }
            Ok(found)
        })
    }

    fn sleep(&self, time: Duration) -> Task {
        let _inside = self.handle.enter();
        Box::pin(tokio::time::sleep(time))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn seed() -> io::Result<Seed> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| io::Error::other("the system gave no randomness"))?;
        Ok(Seed::new(bytes))
    }
}
