//! What tokio supplies: tasks and time.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinSet;
use trunkline_core::driver::system::{UdpIo, bind_shards, default_busy_poll, look_up, random_seed};
use trunkline_core::driver::{self, Platform, Sharded, Task};
use trunkline_core::{BusyPoll, Seed, Steering};

use crate::reactor::Reactor;
use crate::shard::Shard;

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
    /// The thread, if it is one of a shard's own.
    shard: Option<Shard>,
}

impl From<Handle> for Runtime {
    fn from(handle: Handle) -> Self {
        Self {
            handle,
            shard: None,
        }
    }
}

/// Where tokio has several threads, each has a queue of 256 tasks. One more moves half of them to another
/// queue, which all threads share under a lock.
const HALF_A_QUEUE: usize = 128;

impl driver::Runtime for Runtime {
    fn spawn(&self, task: Task) {
        match &self.shard {
            None => drop(self.handle.spawn(task)),
            Some(shard) => shard.spawn(&self.handle, task),
        }
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn wakes_at_once(&self) -> usize {
        match self.handle.runtime_flavor() {
            RuntimeFlavor::CurrentThread => usize::MAX,
            _ => HALF_A_QUEUE,
        }
    }
}

impl Platform for Runtime {
    type Io = UdpIo<Reactor>;

    fn current() -> io::Result<Self> {
        Ok(Handle::try_current().map_err(io::Error::other)?.into())
    }

    fn bind(&self, address: SocketAddr) -> io::Result<Self::Io> {
        let _inside = self.handle.enter();
        UdpIo::bind(address, |socket| Reactor::register(socket, None))
    }

    fn resolve(&self, host: &str) -> Task<io::Result<Vec<SocketAddr>>> {
        // By no thread of the runtime's: one that ends waits for all of its own, and a look-up may take half a minute.
        look_up(host)
    }

    fn sleep(&self, time: Duration) -> Task {
        // A task of the runtime's own, for a timer that outlives its runtime panics.
        let mut sleeping = JoinSet::new();
        sleeping.spawn_on(async move { tokio::time::sleep(time).await }, &self.handle);
        Box::pin(async move {
            // If the runtime has ended, nobody waits for longer either.
            let _ = sleeping.join_next().await;
        })
    }

    fn default_busy_poll() -> BusyPoll {
        default_busy_poll()
    }

    fn seed() -> io::Result<Seed> {
        random_seed()
    }
}

impl Sharded for Runtime {
    fn shards(
        &self,
        address: SocketAddr,
        steering: &Steering,
    ) -> io::Result<Vec<(Self, Self::Io)>> {
        let place = |(number, socket)| {
            let (shard, handle, hold) = Shard::start(number, &self.handle)?;
            let inside = handle.enter();
            let io = UdpIo::over(socket, |socket| Reactor::register(socket, Some(hold)))?;
            drop(inside);
            let shard = Some(shard);
            Ok((Self { handle, shard }, io))
        };
        let sockets = bind_shards(address, steering)?;
        sockets.into_iter().enumerate().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use trunkline_core::driver::Platform as _;

    use super::*;

    #[test]
    fn only_threads_that_share_tasks_bound_what_is_woken_at_once() {
        use driver::Runtime as _;

        let one = Builder::new_current_thread().build().unwrap();
        let several = Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let bound = |runtime: &tokio::runtime::Runtime| {
            Runtime::from(runtime.handle().clone()).wakes_at_once()
        };
        assert_eq!((bound(&one), bound(&several)), (usize::MAX, HALF_A_QUEUE));
    }

    #[test]
    fn a_sleep_ends_with_its_runtime() {
        let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
        let network = runtime();
        let sleep = Runtime::from(network.handle().clone()).sleep(Duration::from_secs(3_600));
        drop(network);
        runtime().block_on(sleep);
    }
}
