//! The measuring window: load to warm up, then a stretch of wall time, with the processes' CPU read
//! at both its ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::arguments::Plan;
use super::usage::{Cpu, Snapshot};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The messages that the workload is about.
    Messages,
    /// The large messages beside them (`mixed`).
    Bulk,
}

/// Counts while the load runs. Any thread may hold it.
#[derive(Debug, Default)]
pub struct Meter {
    stopped: AtomicBool,
    measuring: AtomicBool,
    messages: AtomicU64,
    bulk: AtomicU64,
    /// Where `messages` ends the window.
    end: AtomicU64,
    /// The thread that keeps the window.
    keeper: OnceLock<Thread>,
}

/// A window that is being measured.
#[derive(Debug)]
pub struct Measurement {
    /// What the load counts with.
    pub meter: Arc<Meter>,
    keeper: JoinHandle<Result<Window>>,
}

/// What was measured between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Wall time between them.
    pub time: Duration,
    /// Messages that were completed.
    pub messages: u64,
    /// Bulk messages that were.
    pub bulk: u64,
    /// What this process used.
    pub client: Cpu,
    /// What the server's processes used.
    pub server: Cpu,
}

impl Measurement {
    /// Starts the clock: to be called as the load begins.
    pub fn start(plan: &Plan) -> Self {
        let meter = Arc::new(Meter::default());
        let (kept, plan) = (meter.clone(), plan.clone());
        let keeper = thread::spawn(move || {
            let window = kept.keep(&plan);
            kept.stopped.store(true, Relaxed);
            window
        });
        // Set once, for nobody else has this meter yet.
        let _ = meter.keeper.set(keeper.thread().clone());
        Self { meter, keeper }
    }

    /// Waits until the window is over, and says what it held.
    pub fn finish(self) -> Result<Window> {
        self.keeper
            .join()
            .map_err(|_| anyhow!("the thread that measures has panicked"))?
    }
}

impl Meter {
    fn keep(&self, plan: &Plan) -> Result<Window> {
        thread::sleep(plan.warmup);
        let before = Snapshot::take(&plan.server_pids)?;
        let (messages, bulk) = (self.messages.load(Relaxed), self.bulk.load(Relaxed));
        let cap = if plan.count == 0 {
            u64::MAX
        } else {
            plan.count
        };
        self.end.store(messages.saturating_add(cap), Relaxed);
        self.measuring.store(true, Relaxed);
        let end = before.at + plan.duration;
        while !self.is_stopped()
            && let Some(left) = end.checked_duration_since(Instant::now())
            && !left.is_zero()
        {
            thread::park_timeout(left);
        }
        let counted = (self.messages.load(Relaxed), self.bulk.load(Relaxed));
        let after = Snapshot::take(&plan.server_pids)?;
        self.measuring.store(false, Relaxed);
        let mut window = before.until(&after);
        (window.messages, window.bulk) = (counted.0 - messages, counted.1 - bulk);
        Ok(window)
    }

    /// Whether the window is over, and the load with it.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Whether latencies are to be kept.
    pub fn is_measuring(&self) -> bool {
        self.measuring.load(Relaxed)
    }

    /// Counts completed messages.
    pub fn add(&self, counter: Counter, number: u64) {
        if counter == Counter::Bulk {
            self.bulk.fetch_add(number, Relaxed);
            return;
        }
        let messages = self.messages.fetch_add(number, Relaxed) + number;
        if self.is_measuring()
            && messages >= self.end.load(Relaxed)
            && !self.stopped.swap(true, Relaxed)
            && let Some(keeper) = self.keeper.get()
        {
            keeper.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::{Rate, Workload};
    use super::*;

    fn plan(count: u64, duration: Duration) -> Plan {
        Plan {
            connect: ([127, 0, 0, 1], 1).into(),
            workload: Workload::Rpc,
            payload: 1,
            count,
            concurrency: 1,
            conns: 1,
            duration,
            warmup: Duration::ZERO,
            hold: Duration::ZERO,
            rate: Rate(None),
            endpoints: 1,
            bulk_payload: 1,
            bulk_window: 1,
            server_pids: Vec::new(),
        }
    }

    #[test]
    fn the_window_ends_with_its_time() {
        let measurement = Measurement::start(&plan(0, Duration::from_millis(5)));
        let mut added = 0;
        while !measurement.meter.is_stopped() {
            measurement.meter.add(Counter::Messages, 1);
            measurement.meter.add(Counter::Bulk, 2);
            added += 1;
        }
        // How much of it this thread ran in is the scheduler's affair.
        let window = measurement.finish().unwrap();
        assert!(window.time >= Duration::from_millis(5), "{window:?}");
        assert!(
            window.messages <= added && window.bulk <= 2 * added,
            "{window:?}"
        );
    }

    #[test]
    fn a_cap_ends_it_early() {
        let measurement = Measurement::start(&plan(10, Duration::from_secs(3_600)));
        while !measurement.meter.is_stopped() {
            measurement.meter.add(Counter::Messages, 1);
        }
        assert!(measurement.finish().unwrap().messages >= 10);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let mut plan = plan(0, Duration::ZERO);
        plan.server_pids = vec![i32::MAX];
        let error = Measurement::start(&plan).finish().unwrap_err().to_string();
        assert!(error.contains(&i32::MAX.to_string()), "{error}");
    }
}
