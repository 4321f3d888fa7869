//! Timers of a simulation, and whether the test itself may still wait for one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Simulation;

/// How long a test may wait without being woken, unless told otherwise.
const STALL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Nobody waits for a sleep that ends later than this: it stands for "never". Heartbeats would be sent by the million
/// until then.
const AWAITED_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// When, and which of those of that time.
type Key = (Instant, u64);

pub(super) struct Timers {
    set: BTreeMap<Key, Waker>,
    count: u64,
    /// Those that are sleeps, and no socket's.
    sleeps: BTreeSet<Key>,
    /// How long the test may wait without being woken; `None`: for ever.
    pub(super) stall_timeout: Option<Duration>,
    /// When the test itself ran last.
    ran: Instant,
    /// From when on nothing is left that the test waits for: when it ran last, or when the last of the sleeps ends that
    /// had begun by then. Later ones do not count: there may be a next one for ever. Nor do those that nobody waits for.
    idle_from: Instant,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            set: BTreeMap::new(),
            count: 0,
            sleeps: BTreeSet::new(),
            stall_timeout: Some(STALL_TIMEOUT),
            ran: now,
            idle_from: now,
        }
    }

    /// The test itself has run.
    pub(super) fn test_ran(&mut self, now: Instant) {
        self.ran = now;
        // By their order: this is asked whenever the test runs, and there may be any number that nobody waits for.
        let mut awaited = self.sleeps.range(..=(now + AWAITED_MAX, u64::MAX));
        self.idle_from = awaited.next_back().map_or(now, |(at, _)| *at).max(now);
    }

    /// How long the test has waited, if that is too long.
    pub(super) fn stalled(&self, now: Instant) -> Option<Duration> {
        let idle = now.saturating_duration_since(self.idle_from);
        let stalled = self.stall_timeout.is_some_and(|most| idle > most);
        stalled.then(|| now - self.ran)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.set.keys().next().map(|(at, _)| *at)
    }

    /// Wakes those whose time has come.
    pub(super) fn fire(&mut self, now: Instant) {
        while let Some(entry) = self.set.first_entry().filter(|entry| entry.key().0 <= now) {
            self.sleeps.remove(entry.key());
            entry.remove().wake();
        }
    }

    fn set(&mut self, now: Instant, at: Instant, sleeps: bool, waker: Waker) -> Key {
        self.count += 1;
        let key = (at, self.count);
        self.set.insert(key, waker);
        if sleeps {
            self.sleeps.insert(key);
            if now == self.ran && is_awaited(now, at) {
                self.idle_from = self.idle_from.max(at);
            }
        }
        key
    }

    fn remove(&mut self, key: Key) {
        self.set.remove(&key);
        self.sleeps.remove(&key);
    }
}

fn is_awaited(now: Instant, at: Instant) -> bool {
    at.saturating_duration_since(now) <= AWAITED_MAX
}

/// One timer: of a socket's driver, or of a sleep.
pub(super) struct Timer {
    simulation: Simulation,
    sleeps: bool,
    armed: Option<Key>,
}

impl Timer {
    pub(super) fn of_socket(simulation: Simulation) -> Self {
        Self {
            simulation,
            sleeps: false,
            armed: None,
        }
    }

    pub(super) fn of_sleep(simulation: Simulation) -> Self {
        Self {
            simulation,
            sleeps: true,
            armed: None,
        }
    }

    /// Ready once the deadline has come, never without one; a later call replaces an earlier one's.
    pub(super) fn poll(&mut self, cx: &Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let mut state = self.simulation.state();
        if let Some(key) = self.armed.take() {
            state.timers.remove(key);
        }
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let now = state.now;
        if deadline <= now {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        self.armed = Some(state.timers.set(now, deadline, self.sleeps, waker));
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.armed.take() {
            self.simulation.state().timers.remove(key);
        }
    }
}
