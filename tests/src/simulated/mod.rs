//! Servers and clients with typed handlers on the simulated network: a runtime of one thread and
//! virtual time, for tests of services that are written against handles and handlers.
//!
//! [`Server`] and [`Client`] are those of the adapters, on a [`Simulation`] in place of a runtime;
//! services, handlers and messages are the same ones. [`Simulation::server`] and [`Simulation::client`]
//! set up what most tests want; [the front page](crate#a-test-of-a-handler) has a handler tested by them.
//! What a test or a handler waits for must come from the simulation: [`Simulation::sleep`], and channels of any
//! kind, but no other runtime's timers or sockets.
//!
//! Addresses are not quite a machine's. Every name leads to 127.0.0.1, and there is no IPv6 but by an address that was
//! bound to as such. Who binds to the unspecified address (`0.0.0.0`, `[::]`) and a port gets 127.0.0.1, and where that
//! is taken, or with port 0, an address of its own (10.0.0.0/16): a client is a machine of its own.
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
mod process;
mod socket;
mod tasks;
mod timers;

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use trunkline_core::Seed;
use trunkline_core::driver::{Platform, Runtime, Task};

use self::paths::Paths;
pub use self::process::Process;
pub use self::socket::SimulatedSocket;
use self::socket::Sockets;
use self::tasks::Tasks;
use self::timers::{Timer, Timers};
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
    /// Inside of `run`.
    runs: AtomicBool,
    certificates: Certificates,
}

struct State {
    now: Instant,
    start: Instant,
    paths: Paths,
    network: Network,
    sockets: Sockets,
    timers: Timers,
    random: Random,
    /// Of handlers, hooks and admission functions.
    panics: Vec<String>,
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
            timers: Timers::new(now),
            random: Random::new(seed),
            panics: Vec::new(),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            tasks: Arc::default(),
            runs: AtomicBool::new(false),
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
        // The caller's function may look at the simulation, or change other paths.
        let mut path = self.state().paths.default;
        change(&mut path);
        self.state().paths.default = path;
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
        let mut path = *self.state().paths.own(from, to);
        change(&mut path);
        *self.state().paths.own(from, to) = path;
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
    /// It is called from a plain `#[test]`, on a thread where no other runtime runs: inside of `#[tokio::test]`, tokio
    /// has its channels wait once they were used often enough, and wakes nobody here. Outside of tokio its channels, as
    /// all others, do well.
    ///
    /// # Panics
    /// * If `main` waits for something that no task, timer or datagram will bring, or for longer than
    ///   [`stall_timeout`](Self::stall_timeout); or if tasks run for ever without waiting.
    /// * If a handler, a hook or an admission function has panicked, which the library catches:
    ///   [`take_panics`](Self::take_panics). The test's output has its place.
    /// * If this simulation runs already.
    /// * Inside of a tokio runtime, as far as the testkit knows of it: with its feature `peers`, a default one.
    #[allow(
        clippy::panic,
        reason = "a test helper: a test that would hang ends instead"
    )]
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        refuse_runtimes();
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
                        let panics = self.take_panics();
                        assert!(panics.is_empty(), "{}", panics.join("; "));
                        return result;
                    }
                    let mut state = self.state();
                    let now = state.now;
                    state.timers.test_ran(now);
                } else {
                    tasks.run(woken);
                }
                runs += 1;
                assert!(
                    runs < RUNS_WITHOUT_TIME,
                    "tasks run for ever without waiting for anything"
                );
            }
            let state = self.state();
            let stalled = state.timers.stalled(state.now);
            drop(state);
            if let Some(time) = stalled {
                panic!(
                    "the test has waited for {time:?} of virtual time, and nothing has woken it: heartbeats and redials \
                     alone keep time moving. If it is to wait for longer, `Simulation::stall_timeout` says so{}",
                    self.suspects()
                );
            }
            if !self.advance() {
                panic!(
                    "the test waits for what no task, timer or datagram will bring{}",
                    self.suspects()
                );
            }
        }
    }

    /// How long the test itself, the future that [`run`](Self::run) was given, may wait without anything waking it: a
    /// day of virtual time at first. Then the run ends by a panic, which it would otherwise never: clients' heartbeats and
    /// redials keep time moving for ever. `None` or `Duration::MAX`: it may wait for ever.
    ///
    /// What begins only once the last [`sleep`](Self::sleep) ends that had begun, in whatever task, when the test ran
    /// last: a test may sleep for a week, or wait for a task that does. Nobody is taken to wait for a sleep of more than a
    /// year: where clients live and the test is to wait for one, that needs `None`.
    pub fn stall_timeout(&self, time: impl Into<Option<Duration>>) {
        self.state().timers.stall_timeout = time.into();
    }

    /// Panics of handlers, hooks and admission functions since the last call, as "a handler panicked: " and what it
    /// said. The library catches them: a handler's message is rejected, and everything else goes on. So that a failed
    /// assertion in a handler fails the test, [`run`](Self::run) panics at its end if there were any; a test that
    /// provokes some takes them before.
    ///
    /// ```
    /// # use trunkline_core::Status;
    /// # use trunkline_core::driver::{Context, Service};
    /// # use trunkline_testkit::simulated::Simulation;
    /// # #[derive(Clone, PartialEq, prost::Message)] struct Said { #[prost(string, tag = "1")] text: String }
    /// # impl prost::Name for Said { const NAME: &'static str = "Said"; const PACKAGE: &'static str = "chat.v1"; }
    /// async fn said(_: Context<()>, said: Said) {
    ///     assert_ne!(said.text, "", "say something");
    /// }
    ///
    /// let simulation = Simulation::new(7);
    /// simulation.run(async {
    ///     let _server = simulation.server().service(Service::new(()).on(said)).await.unwrap();
    ///     let anna = simulation.client("anna").await.unwrap();
    ///     anna.send(&Said::default()).acked().await.unwrap_err();
    ///     let [panic] = &simulation.take_panics()[..] else { panic!("one handler panics") };
    ///     assert!(panic.contains("say something"));
    /// });
    /// ```
    #[must_use = "they no longer fail the test"]
    pub fn take_panics(&self) -> Vec<String> {
        std::mem::take(&mut self.state().panics)
    }

    /// Why a test may wait for ever, for the end of a sentence that says that it does.
    fn suspects(&self) -> String {
        let mut suspects = self.take_panics();
        if !RUNTIMES_ARE_REFUSED {
            let tokio = "inside of a tokio runtime, channels may wait for ever: call it from a plain #[test]";
            suspects.push(tokio.to_owned());
        }
        let suspects = suspects.into_iter();
        suspects.map(|suspect| format!("; {suspect}")).collect()
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

    /// Ends after that time; never, if it is one that no clock shows, as `Duration::MAX`.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut timer = Timer::of_sleep(self.clone());
        let deadline = self.now().checked_add(time);
        std::future::poll_fn(move |cx| timer.poll(cx, deadline))
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
        let Some(next) = [timers.next(), network.next_arrival()]
            .into_iter()
            .flatten()
            .min()
        else {
            return false;
        };
        *now = next.max(*now);
        while let Some(arrival) = network.arrived(*now) {
            let taken = sockets.receive(arrival.to, arrival.datagram);
            network.traffic.socket_full += u64::from(!taken);
        }
        timers.fire(*now);
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

    fn panicked(&self, who: &str, panic: &(dyn Any + Send)) {
        let said = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(said), _) => said,
            (_, Some(said)) => said.as_str(),
            _ => "without words",
        };
        let panic = format!("{who} panicked: {said}");
        self.state().panics.push(panic);
    }
}

impl Platform for Simulation {
    type Io = SimulatedSocket;

    fn current() -> io::Result<Self> {
        let outside = || io::Error::other("not inside of `Simulation::run`");
        CURRENT.with_borrow(Option::clone).ok_or_else(outside)
    }

    fn bind(&self, address: SocketAddr) -> io::Result<SimulatedSocket> {
        if !Arc::ptr_eq(&Self::current()?.0, &self.0) {
            return Err(io::Error::other(
                "another simulation runs on this thread: start what is its own inside of its own `Simulation::run`",
            ));
        }
        SimulatedSocket::bind(self, address)
    }

    /// Every name is 127.0.0.1's.
    fn resolve(&self, host: &str) -> Task<io::Result<Vec<SocketAddr>>> {
        if let Ok(address) = host.parse() {
            return Box::pin(std::future::ready(Ok(vec![address])));
        }
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

/// Makes a simulation the current one of this thread; its tasks end when that ends.
struct Entered {
    simulation: Simulation,
    before: Option<Simulation>,
}

impl Entered {
    fn new(simulation: &Simulation) -> Self {
        let runs = simulation.0.runs.swap(true, Ordering::AcqRel);
        assert!(
            !runs,
            "this simulation runs already: the end of a second `Simulation::run` would be that of all tasks of the first. \
             Await inside of the one that runs, or make another simulation"
        );
        // Those of a run that a panic ended are nobody's.
        let _ = simulation.take_panics();
        Self {
            simulation: simulation.clone(),
            before: CURRENT.replace(Some(simulation.clone())),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Whatever a task does when it is dropped, this run is over.
        let tasks = &self.simulation.0.tasks;
        let dropped = catch_unwind(AssertUnwindSafe(|| tasks.kill_all()));
        CURRENT.set(self.before.take());
        self.simulation.0.runs.store(false, Ordering::Release);
        if let Err(panic) = dropped
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

/// Whether a runtime around a run is known to be there.
const RUNTIMES_ARE_REFUSED: bool = cfg!(feature = "peers");

fn refuse_runtimes() {
    #[cfg(feature = "peers")]
    assert!(
        tokio::runtime::Handle::try_current().is_err(),
        "a simulation is a runtime of its own, and channels of tokio's would wait for ever in it here: call it from a \
         plain #[test], outside of any runtime"
    );
}
