//! Servers and clients with typed handlers on the simulated network: a runtime of one thread and
//! virtual time, for tests of services that are written against handles and handlers.
//!
//! [`Server`] and [`Client`] are those of the adapters, on a [`Simulation`] in place of a runtime;
//! services, handlers and messages are the same ones. [`Simulation::server`] and [`Simulation::client`]
//! set up what most tests want; [the front page](crate#a-test-of-a-handler) has a handler tested by them.
//! What a test or a handler waits for must come from the simulation: [`Simulation::sleep`], and channels of any
//! kind, but no other runtime's timers or sockets.
//!
//! All paths are alike ([`Simulation::path`]), until one client's is made another one
//! ([`Simulation::path_between`]), or one direction of it ([`Simulation::direction`]).
//!
//! ```
//! use std::time::Duration;
//! use trunkline_core::driver::{Context, Service};
//! use trunkline_core::Status;
//! use trunkline_testkit::simulated::Simulation;
//! # #[derive(Clone, PartialEq, prost::Message)] struct Ask { #[prost(uint32, tag = "1")] number: u32 }
//! # impl prost::Name for Ask { const NAME: &'static str = "Ask"; const PACKAGE: &'static str = "square.v1"; }
//! # #[derive(Clone, PartialEq, prost::Message)] struct Square { #[prost(uint32, tag = "1")] number: u32 }
//! # impl prost::Name for Square { const NAME: &'static str = "Square"; const PACKAGE: &'static str = "square.v1"; }
//!
//! async fn square(_: Context<()>, ask: Ask) -> Result<Square, Status> {
//!     Ok(Square { number: ask.number * ask.number })
//! }
//!
//! let simulation = Simulation::new(7);
//! simulation.path(|path| path.loss = 0.1);
//! simulation.run(async {
//!     let server = simulation.server().service(Service::new(()).on_request(square)).await?;
//!     let client = simulation.client("alice").await?;
//!
//!     // The path is cut for so long that both sides find their peer dead, and comes back.
//!     simulation.path(|path| path.cut = true);
//!     let asked = client.request::<Square>(&Ask { number: 4 }).timeout(Duration::from_secs(300));
//!     simulation.spawn({
//!         let simulation = simulation.clone();
//!         async move {
//!             simulation.sleep(Duration::from_secs(100)).await;
//!             simulation.path(|path| path.cut = false);
//!         }
//!     });
//!     assert_eq!(asked.await?, Square { number: 16 });
//!     assert!(simulation.elapsed() > Duration::from_secs(100));
//!
//!     client.close().await;
//!     server.close().await;
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builders;
mod paths;
mod socket;
mod tasks;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use trunkline_core::Seed;
use trunkline_core::driver::{Platform, Runtime, Task};

use self::paths::Paths;
pub use self::socket::SimulatedSocket;
use self::socket::Sockets;
use self::tasks::Tasks;
use crate::network::Network;
use crate::world::WALL;
use crate::{Certificates, Path, Random, Traffic};

/// A server on a simulated network.
pub type Server = trunkline_core::driver::Server<Simulation>;
/// A client on a simulated network.
pub type Client = trunkline_core::driver::Client<Simulation>;

/// So many tasks may run without time advancing; more means that one of them waits by running.
const RUNS_WITHOUT_TIME: u32 = 1_000_000;

/// A runtime of one thread in virtual time, with a simulated network. Cheap to clone.
///
/// Everything follows from the seed and from what the test does.
#[derive(Clone)]
pub struct Simulation(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    tasks: Arc<Tasks>,
    certificates: Certificates,
}

struct State {
    now: Instant,
    start: Instant,
    paths: Paths,
    network: Network,
    sockets: Sockets,
    timers: BTreeMap<(Instant, u64), Waker>,
    timers_set: u64,
    random: Random,
}

/// Tasks that end together, as those of a process do.
///
/// Dropping it leaves the process running.
#[derive(Debug)]
#[must_use = "a process that nobody can kill is a task: `Simulation::spawn`"]
pub struct Process {
    simulation: Simulation,
    number: u64,
}

thread_local! {
    static CURRENT: RefCell<Option<Simulation>> = const { RefCell::new(None) };
}

impl Simulation {
    /// A simulation in which everything follows from the seed.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a broken fixture ends the test"
    )]
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        let state = State {
            now,
            start: now,
            paths: Paths::default(),
            network: Network::new(!seed, now),
            sockets: Sockets::default(),
            timers: BTreeMap::new(),
            timers_set: 0,
            random: Random::new(seed),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            tasks: Arc::default(),
            certificates: Certificates::new().expect("throwaway certificates can be made"),
        }))
    }

    /// Certificates for a server called `localhost`.
    pub fn certificates(&self) -> Certificates {
        self.0.certificates.clone()
    }

    /// Changes what every path does from now on, in both directions, but for those directions that were given
    /// settings of their own.
    pub fn path(&self, change: impl FnOnce(&mut Path)) {
        change(&mut self.state().paths.default);
    }

    /// Changes what the path between two addresses does from now on, in both directions, apart from what all others
    /// do: this client's link is bad, or cut, and its neighbours' are well. It is [`direction`](Self::direction),
    /// once for each; so `change` is called twice.
    ///
    /// ```
    /// # use trunkline_testkit::simulated::{Client, Server, Simulation};
    /// # fn cut(simulation: &Simulation, server: &Server, anna: &Client) {
    /// simulation.path_between(anna.local_addr(), server.local_addr(), |path| path.cut = true);
    /// # }
    /// ```
    ///
    /// # Panics
    /// As `direction` does.
    pub fn path_between(
        &self,
        one: SocketAddr,
        other: SocketAddr,
        mut change: impl FnMut(&mut Path),
    ) {
        self.direction(one, other, &mut change);
        self.direction(other, one, change);
    }

    /// Changes what happens to datagrams from one address to another from now on, and to no others: a slow uplink, or
    /// loss only towards the client.
    ///
    /// The first change begins with what every path does then; later changes of [`path`](Self::path) do not reach this
    /// direction any more. It belongs to the addresses, whoever has them: it may be changed before anybody does, as
    /// for a server that is yet to start. What is under way already arrives as it was to.
    ///
    /// # Panics
    /// If one of the addresses is none that a socket can have: unspecified (`0.0.0.0`), or port 0. Those that were
    /// given are what `local_addr` of a server or client says.
    pub fn direction(&self, from: SocketAddr, to: SocketAddr, change: impl FnOnce(&mut Path)) {
        change(self.state().paths.own(from, to));
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        let state = self.state();
        state.now - state.start
    }

    /// What became of the datagrams so far.
    pub fn traffic(&self) -> Traffic {
        self.state().network.traffic
    }

    /// A digest of every datagram that was sent so far: when, from where, where to, and what. Equal
    /// digests mean equal runs.
    pub fn fingerprint(&self) -> u64 {
        self.state().network.fingerprint()
    }

    /// Runs `main` to its end, and all other tasks until then; what still runs is dropped. Time
    /// stands still while any task can run, and then jumps to the next timer or datagram.
    ///
    /// # Panics
    /// If `main` waits for something that no task, timer or datagram will bring; or if tasks run
    /// for ever without waiting.
    #[allow(
        clippy::panic,
        reason = "a test helper: a test that would hang ends instead"
    )]
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let _entered = Entered::new(self);
        let tasks = &self.0.tasks;
        let mut main = pin!(main);
        let main_waker = tasks.main();
        main_waker.wake_by_ref();
        loop {
            let mut runs = 0;
            while let Some(woken) = tasks.next_woken() {
                if tasks.is_main(woken) {
                    let mut cx = Context::from_waker(&main_waker);
                    if let Poll::Ready(result) = main.as_mut().poll(&mut cx) {
                        return result;
                    }
                } else {
                    tasks.run(woken);
                }
                runs += 1;
                assert!(
                    runs < RUNS_WITHOUT_TIME,
                    "tasks run for ever without waiting for anything"
                );
            }
            if !self.advance() {
                panic!("the test waits for what no task, timer or datagram will bring");
            }
        }
    }

    /// Runs a task beside the others, in the process that it was called from.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(Box::pin(task));
    }

    /// Runs a task, and all that it spawns, as a process of its own, which can be killed.
    pub fn process(&self, task: impl Future<Output = ()> + Send + 'static) -> Process {
        Process {
            simulation: self.clone(),
            number: self.0.tasks.spawn_process(Box::pin(task)),
        }
    }

    /// Ends after that time.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut timer = Timer::new(self.clone());
        let deadline = self.now() + time;
        std::future::poll_fn(move |cx| timer.poll(cx, Some(deadline)))
    }

    /// Time goes on to the next timer or datagram; `false`: there is none.
    fn advance(&self) -> bool {
        let mut state = self.state();
        let State {
            now,
            network,
            sockets,
            timers,
            ..
        } = &mut *state;
        let timer = timers.keys().next().map(|(at, _)| *at);
        let Some(next) = [timer, network.next_arrival()].into_iter().flatten().min() else {
            return false;
        };
        *now = next.max(*now);
        while let Some(arrival) = network.arrived(*now) {
            let taken = sockets.receive(arrival.to, arrival.datagram);
            network.traffic.socket_full += u64::from(!taken);
        }
        while let Some(entry) = timers.first_entry().filter(|entry| entry.key().0 <= *now) {
            entry.remove().wake();
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while holding it has ended the test.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation")
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}

impl Runtime for Simulation {
    fn spawn(&self, task: Task) {
        self.0.tasks.spawn(task);
    }

    fn now(&self) -> Instant {
        self.state().now
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + WALL + self.elapsed()
    }
}

impl Platform for Simulation {
    type Io = SimulatedSocket;

    fn current() -> io::Result<Self> {
        let outside = || io::Error::other("not inside of `Simulation::run`");
        CURRENT.with_borrow(Option::clone).ok_or_else(outside)
    }

    fn bind(&self, address: SocketAddr) -> io::Result<SimulatedSocket> {
        SimulatedSocket::bind(self, address)
    }

    /// Every name is this machine's: all addresses of the simulated network lie on it.
    fn resolve(&self, host: &str) -> Task<io::Result<Vec<SocketAddr>>> {
        let port = host
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let found = match port {
            Some(port) => Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{host:?} is not `host:port`"),
            )),
        };
        Box::pin(std::future::ready(found))
    }

    fn sleep(&self, time: Duration) -> Task {
        Box::pin(Self::sleep(self, time))
    }

    fn seed() -> io::Result<Seed> {
        let simulation = Self::current()?;
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&simulation.state().random.next_u64().to_be_bytes());
        }
        Ok(Seed::new(bytes))
    }
}

impl Process {
    /// Ends the process: its tasks stop where they are, and nobody is told.
    pub fn kill(self) {
        self.simulation.0.tasks.kill(self.number);
    }
}

/// Makes a simulation the current one of this thread; its tasks end when that ends.
struct Entered {
    simulation: Simulation,
    before: Option<Simulation>,
}

impl Entered {
    fn new(simulation: &Simulation) -> Self {
        Self {
            simulation: simulation.clone(),
            before: CURRENT.replace(Some(simulation.clone())),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.simulation.0.tasks.kill_all();
        CURRENT.set(self.before.take());
    }
}

/// One timer: of a socket's driver, or of a sleep.
struct Timer {
    simulation: Simulation,
    armed: Option<(Instant, u64)>,
}

impl Timer {
    fn new(simulation: Simulation) -> Self {
        Self {
            simulation,
            armed: None,
        }
    }

    /// Ready once the deadline has come; a later call replaces an earlier one's.
    fn poll(&mut self, cx: &Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let mut state = self.simulation.state();
        if let Some(key) = self.armed.take() {
            state.timers.remove(&key);
        }
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        if deadline <= state.now {
            return Poll::Ready(());
        }
        state.timers_set += 1;
        let key = (deadline, state.timers_set);
        state.timers.insert(key, cx.waker().clone());
        self.armed = Some(key);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.armed.take() {
            self.simulation.state().timers.remove(&key);
        }
    }
}
