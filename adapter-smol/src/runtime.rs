//! What smol supplies: tasks and time.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use smol::{Executor, Timer};
use trunkline_core::driver::system::{UdpIo, bind_shards, look_up, random_seed};
use trunkline_core::driver::{self, Platform, Sharded, Task};
use trunkline_core::{Seed, Steering};

use crate::reactor::Reactor;
use crate::shard::Shard;

/// The executor that a server or client runs on: unless told, smol's global one, whose threads
/// [`smol::spawn`] starts (`SMOL_THREADS` of them).
///
/// An executor of your own runs it for as long as you run the executor, on as many threads; with
/// its last `Arc`, everything that runs on it ends.
///
/// ```
/// use std::sync::Arc;
/// # use trunkline_smol::{Client, Server};
///
/// let executor = Arc::new(smol::Executor::new());
/// let server = Server::bind("127.0.0.1:0".parse()?).runtime(&executor);
/// let client = Client::connect("localhost:4433").runtime(&executor);
/// smol::block_on(executor.run(async {
///     // .. server.await, client.await: all of it on this one thread.
/// }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Runtime(Spawner);

#[derive(Clone, Debug)]
enum Spawner {
    Global,
    /// Weak, for the tasks hold this: an executor that they kept alive would never end them.
    Shared(Weak<Executor<'static>>),
    Static(&'static Executor<'static>),
    /// A thread of one shard's own.
    Shard(Shard),
}

impl Runtime {
    /// An error, if nothing can run any more.
    fn check(&self) -> io::Result<()> {
        if matches!(&self.0, Spawner::Shared(executor) if executor.strong_count() == 0) {
            return Err(io::Error::other("the executor to run on was dropped"));
        }
        Ok(())
    }
}

impl From<&Arc<Executor<'static>>> for Runtime {
    fn from(executor: &Arc<Executor<'static>>) -> Self {
        Self(Spawner::Shared(Arc::downgrade(executor)))
    }
}

impl From<&'static Executor<'static>> for Runtime {
    fn from(executor: &'static Executor<'static>) -> Self {
        Self(Spawner::Static(executor))
    }
}

impl driver::Runtime for Runtime {
    fn spawn(&self, task: Task) {
        match &self.0 {
            Spawner::Global => smol::spawn(task).detach(),
            Spawner::Static(executor) => executor.spawn(task).detach(),
            Spawner::Shard(shard) => shard.spawn(task),
            Spawner::Shared(executor) => {
                if let Some(executor) = executor.upgrade() {
                    executor.spawn(task).detach();
                }
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl Platform for Runtime {
    type Io = UdpIo<Reactor>;

    fn current() -> io::Result<Self> {
        Ok(Self(Spawner::Global))
    }

    fn bind(&self, address: SocketAddr) -> io::Result<Self::Io> {
        self.check()?;
        UdpIo::bind(address, |socket| Reactor::register(socket, None))
    }

    fn resolve(&self, host: &str) -> Task<io::Result<Vec<SocketAddr>>> {
        look_up(host)
    }

    fn sleep(&self, time: Duration) -> Task {
        Box::pin(async move {
            Timer::after(time).await;
        })
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
        self.check()?;
        let place = |(number, socket)| {
            let (shard, hold, watch) = Shard::start(number)?;
            driver::Runtime::spawn(self, watch);
            let io = UdpIo::over(socket, |socket| Reactor::register(socket, Some(hold)))?;
            Ok((Self(Spawner::Shard(shard)), io))
        };
        let sockets = bind_shards(address, steering)?;
        sockets.into_iter().enumerate().map(place).collect()
    }
}
