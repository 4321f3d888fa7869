//! A runtime for tests: one thread, time that passes only when all tasks wait, and a network in
//! memory whose sockets misbehave when told to. A test that would hang ends in a panic.

mod io;
mod ready;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use trunkline_core::driver::{Platform, Runtime, Sharded, Task};
use trunkline_core::{Datagram, Seed, Steering};

pub use self::io::{LabIo, Socket};

use self::ready::Ready;

/// Longer than anything here waits for.
const FOR_EVER: Duration = Duration::from_secs(3_600);

thread_local! {
    static CURRENT: RefCell<Option<Lab>> = const { RefCell::new(None) };
}

/// The runtime, as [`Platform`] and [`Runtime`].
#[derive(Clone)]
pub struct Lab {
    inner: Arc<Mutex<Inner>>,
    ready: Arc<Ready>,
}

struct Inner {
    now: Instant,
    /// The time of day, when that was the time.
    wall: (Instant, SystemTime),
    tasks: BTreeMap<u64, (Waker, Task)>,
    last: u64,
    /// What happens at a later time, in order.
    agenda: BTreeMap<(Instant, u64), Later>,
    sockets: BTreeMap<SocketAddr, Socket>,
    /// Sockets that share an address, by names of their own.
    groups: BTreeMap<SocketAddr, Vec<SocketAddr>>,
    /// What a network translates: the addresses of sockets, and as what others see them.
    moved: BTreeMap<SocketAddr, SocketAddr>,
    names: BTreeMap<String, Vec<SocketAddr>>,
    /// Whether the machine speaks IPv6.
    has_ipv6: bool,
    /// Whether its sockets of IPv6 serve IPv4, too.
    serves_both: bool,
    /// How many tasks a turn should wake at most.
    wakes_at_once: usize,
    /// So many more (or fewer) places than were asked for come from [`Sharded::shards`].
    surplus: i16,
    panics: usize,
}

impl Inner {
    /// The socket that datagrams to an address go to: one at that address, or at any. Of several,
    /// one that is chosen by who sent it.
    fn listener(&self, to: SocketAddr, from: u16) -> Option<SocketAddr> {
        if let Some(group) = self.groups.get(&to) {
            let place = usize::from(from).checked_rem(group.len())?;
            return Some(group[place]);
        }
        let any = |ip: IpAddr| SocketAddr::new(ip, to.port());
        let candidates = [
            to,
            any(Ipv4Addr::UNSPECIFIED.into()),
            any(Ipv6Addr::UNSPECIFIED.into()),
        ];
        let fits =
            |at: &SocketAddr| at.is_ipv6() == to.is_ipv6() || at.is_ipv6() && self.serves_both;
        candidates
            .into_iter()
            .filter(fits)
            .find(|at| self.sockets.contains_key(at))
    }
}

enum Later {
    Wake(Waker),
    Arrive(SocketAddr, Datagram),
}

impl Lab {
    /// Runs a test on a lab of its own.
    pub fn run<T>(test: impl AsyncFnOnce(Lab) -> T) -> T {
        let now = Instant::now();
        let lab = Self {
            inner: Arc::new(Mutex::new(Inner {
                now,
                wall: (now, SystemTime::now()),
                tasks: BTreeMap::new(),
                last: 0,
                agenda: BTreeMap::new(),
                sockets: BTreeMap::new(),
                groups: BTreeMap::new(),
                moved: BTreeMap::new(),
                names: BTreeMap::new(),
                has_ipv6: true,
                serves_both: true,
                wakes_at_once: usize::MAX,
                surplus: 0,
                panics: 0,
            })),
            ready: Arc::default(),
        };
        CURRENT.set(Some(lab.clone()));
        let outcome = lab.block_on(test(lab.clone()));
        lab.shut_down();
        CURRENT.set(None);
        outcome
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let waker = self.ready.waker(0);
        let end = self.now() + FOR_EVER;
        let (mut moment, mut polls) = (self.now(), 0);
        self.ready.wake(0);
        loop {
            assert!(self.now() < end, "this hangs");
            if std::mem::replace(&mut moment, self.now()) != moment {
                polls = 0;
            }
            polls += 1;
            assert!(polls < 1_000_000, "this spins");
            match self.ready.next() {
                Some(0) => {
                    let mut cx = Context::from_waker(&waker);
                    if let Poll::Ready(outcome) = future.as_mut().poll(&mut cx) {
                        return outcome;
                    }
                }
                Some(id) => self.poll(id),
                None => self.pass_time(),
            }
        }
    }

    fn poll(&self, id: u64) {
        let Some((waker, mut task)) = self.lock().tasks.remove(&id) else {
            return;
        };
        let mut cx = Context::from_waker(&waker);
        // A panic ends its task and nothing else, as in other runtimes.
        match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => {
                self.lock().tasks.insert(id, (waker, task));
            }
            Ok(Poll::Ready(())) => drop(task),
            Err(_) => {
                self.lock().panics += 1;
                drop(task);
            }
        }
    }

    /// Nothing can go on at this time: what comes next?
    fn pass_time(&self) {
        let mut inner = self.lock();
        let Some(((at, _), later)) = inner.agenda.pop_first() else {
            panic!("everybody waits for everybody: this hangs");
        };
        inner.now = inner.now.max(at);
        let waker = match later {
            Later::Wake(waker) => Some(waker),
            Later::Arrive(to, datagram) => {
                let home = inner.moved.iter().find(|(_, seen)| **seen == to);
                let to = home.map_or(to, |(home, _)| *home);
                let at = inner.listener(to, datagram.remote.port());
                at.and_then(|at| inner.sockets.get_mut(&at))
                    .and_then(|socket| {
                        if !socket.cut {
                            socket.arrived.push_back(datagram);
                        }
                        socket.reader.take()
                    })
            }
        };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets time pass to what comes next, or to `end` if that is earlier (`false`), though tasks could go
    /// on: as if one of them took it.
    fn take_step(&self, end: Instant) -> bool {
        let mut inner = self.lock();
        let next = inner.agenda.first_key_value();
        if next.is_none_or(|((at, _), _)| *at > end) {
            inner.now = inner.now.max(end);
            return false;
        }
        drop(inner);
        self.pass_time();
        true
    }

    fn later(&self, at: Instant, later: Later) {
        let mut inner = self.lock();
        inner.last += 1;
        let key = (at, inner.last);
        inner.agenda.insert(key, later);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Drops every task, as a runtime does that goes away.
    pub fn shut_down(&self) {
        let tasks = std::mem::take(&mut self.lock().tasks);
        drop(tasks);
    }

    /// Drops the task that was spawned last, as its runtime would that goes away.
    pub fn drop_newest(&self) {
        let newest = self.lock().tasks.pop_last();
        drop(newest);
    }

    /// How many tasks have panicked.
    pub fn panics(&self) -> usize {
        self.lock().panics
    }

    /// Looks at a socket, or changes how it behaves.
    pub fn socket<T>(&self, address: SocketAddr, look: impl FnOnce(&mut Socket) -> T) -> T {
        let mut inner = self.lock();
        let at = inner.listener(address, 0).expect("it is bound");
        let socket = inner.sockets.get_mut(&at).expect("it is bound");
        let seen = look(socket);
        let reader = socket.reader.take();
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
        seen
    }

    /// Whether somebody is bound to that address.
    pub fn is_bound(&self, address: SocketAddr) -> bool {
        let inner = self.lock();
        inner.sockets.contains_key(&address) || inner.groups.contains_key(&address)
    }

    /// The sockets that share an address.
    pub fn sockets_at(&self, address: SocketAddr) -> Vec<SocketAddr> {
        self.lock().groups[&address].clone()
    }

    /// From now on, the socket that others see at that address is seen at another port, as behind
    /// a network that has forgotten it. Returns what it is seen as.
    pub fn rebind(&self, seen: SocketAddr) -> SocketAddr {
        let mut inner = self.lock();
        inner.last += 1;
        let port = u16::try_from(inner.last).expect("ports enough");
        let home = inner.moved.iter().find(|(_, other)| **other == seen);
        let home = home.map_or(seen, |(home, _)| *home);
        let seen = SocketAddr::new(home.ip(), port);
        inner.moved.insert(home, seen);
        seen
    }

    /// Says what a name resolves to from now on; to nothing: the look-up never ends.
    pub fn name(&self, name: &str, addresses: &[SocketAddr]) {
        let mut inner = self.lock();
        inner.names.insert(name.into(), addresses.into());
    }

    /// The machine sleeps for so long, which its monotonic clock knows nothing of.
    pub fn suspend(&self, time: Duration) {
        self.lock().wall.1 += time;
    }

    /// Takes IPv6 away from the machine.
    pub fn without_ipv6(&self) {
        self.lock().has_ipv6 = false;
    }

    /// Has sockets of IPv6 serve that alone.
    pub fn without_mapping(&self) {
        self.lock().serves_both = false;
    }

    /// From now on, servers get so many more (or fewer) places than they have shards.
    pub fn miscount_shards(&self, surplus: i16) {
        self.lock().surplus = surplus;
    }

    /// Drivers that start from now on had better wake no more tasks in a turn.
    pub fn wake_at_once(&self, most: usize) {
        self.lock().wakes_at_once = most;
    }

    /// From now on, whoever is woken by another task runs next, as in tokio's threads; who wakes
    /// itself, last.
    pub fn run_latest_first(&self) {
        self.ready.latest_first.store(true, Ordering::Relaxed);
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        self.lock().now
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        self.sleep(time).await;
    }
}

impl Runtime for Lab {
    fn spawn(&self, task: Task) {
        let mut inner = self.lock();
        inner.last += 1;
        let id = inner.last;
        inner.tasks.insert(id, (self.ready.waker(id), task));
        drop(inner);
        self.ready.wake(id);
    }

    fn now(&self) -> Instant {
        Self::now(self)
    }

    fn wall(&self) -> SystemTime {
        let inner = self.lock();
        let (then, wall) = inner.wall;
        wall + (inner.now - then)
    }

    fn wakes_at_once(&self) -> usize {
        self.lock().wakes_at_once
    }
}

impl Platform for Lab {
    type Io = LabIo;

    fn current() -> Result<Self> {
        CURRENT
            .with_borrow(Clone::clone)
            .ok_or_else(|| Error::other("there is no lab"))
    }

    fn bind(&self, address: SocketAddr) -> Result<LabIo> {
        let mut inner = self.lock();
        let mut address = address;
        if address.is_ipv6() && !inner.has_ipv6 {
            return Err(ErrorKind::Unsupported.into());
        }
        if address.port() == 0 {
            inner.last += 1;
            address.set_port(u16::try_from(inner.last).expect("ports enough"));
        }
        if inner.sockets.contains_key(&address) {
            return Err(ErrorKind::AddrInUse.into());
        }
        inner.sockets.insert(address, Socket::default());
        Ok(LabIo::new(self.clone(), address, address))
    }

    fn resolve(&self, host: &str) -> Task<Result<Vec<SocketAddr>>> {
        let inner = self.lock();
        let found = inner.names.get(host).cloned();
        Box::pin(async move {
            match found {
                Some(found) if found.is_empty() => std::future::pending().await,
                Some(found) => Ok(found),
                None => Err(ErrorKind::NotFound.into()),
            }
        })
    }

    fn sleep(&self, time: Duration) -> Task {
        let (lab, deadline) = (self.clone(), self.now() + time);
        let mut booked: Option<Waker> = None;
        Box::pin(std::future::poll_fn(move |cx| {
            if lab.now() >= deadline {
                return Poll::Ready(());
            }
            if !booked
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                booked = Some(cx.waker().clone());
                lab.later(deadline, Later::Wake(cx.waker().clone()));
            }
            Poll::Pending
        }))
    }

    fn seed() -> Result<Seed> {
        let lab = Self::current()?;
        let mut inner = lab.lock();
        inner.last += 1;
        Ok(Seed::new([inner.last as u8; 32]))
    }
}

impl Sharded for Lab {
    fn shards(&self, address: SocketAddr, steering: &Steering) -> Result<Vec<(Self, LabIo)>> {
        let first = self.bind(address)?;
        let address = first.address;
        drop(first);
        let mut places = Vec::new();
        let surplus = self.lock().surplus;
        for number in 0..steering.shards().saturating_add_signed(surplus) {
            let key = SocketAddr::from(([127, 0, 1, number as u8], address.port()));
            let mut inner = self.lock();
            inner.sockets.insert(key, Socket::default());
            inner.groups.entry(address).or_default().push(key);
            places.push((self.clone(), LabIo::new(self.clone(), address, key)));
        }
        Ok(places)
    }
}

/// What comes first: the work, or the end of its time.
pub async fn within<T>(lab: &Lab, time: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut sleep: Pin<Box<_>> = lab.sleep(time);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// A waker that looks at once, as another thread might.
pub struct Looking<F>(pub F);

impl<F: Fn() + Send + Sync + 'static> Wake for Looking<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}
