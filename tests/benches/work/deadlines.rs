//! The queue of deadlines with few and with very many entries, and the table that promises stand in.

use std::time::{Duration, Instant};

// The core's own, which are not for its users, with their tests (and what these need).
#[allow(
    dead_code,
    unused_imports,
    reason = "a part of it is measured, and none of its tests run"
)]
#[path = "../../../core/src/sliding.rs"]
mod sliding;
#[allow(
    dead_code,
    unused_imports,
    reason = "a part of it is measured, and none of its tests run"
)]
#[path = "../../../core/src/timers/mod.rs"]
mod timers;

use sliding::SlidingTable;
use timers::{TimerSlot, Timers};

/// A queue in which every deadline is that of somebody else's timer.
pub(crate) struct Deadlines {
    start: Instant,
    timers: Timers<usize>,
    slots: Vec<TimerSlot>,
    next: usize,
}

impl Deadlines {
    /// A queue of so many, whose deadlines lie in no order.
    pub(crate) fn new(entries: usize) -> Self {
        let mut own = Self {
            start: Instant::now(),
            timers: Timers::new(),
            slots: Vec::new(),
            next: 0,
        };
        for entry in 0..entries {
            let mut slot = TimerSlot::default();
            own.timers.set(&mut slot, entry, own.deadline(entry));
            own.slots.push(slot);
        }
        own
    }

    fn deadline(&self, number: usize) -> Instant {
        // A multiplier of Knuth's spreads consecutive numbers over 15 s.
        let spread = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 15_000_000;
        self.start + Duration::from_micros(spread)
    }

    /// Moves one timer to another deadline, as each packet of a connection does, and asks when the
    /// next is due.
    pub(crate) fn postpone(&mut self) -> Option<Instant> {
        self.next += 1;
        let owner = self.next.wrapping_mul(7_919) % self.slots.len();
        let deadline = self.deadline(self.next.wrapping_mul(31));
        self.timers.set(&mut self.slots[owner], owner, deadline);
        self.timers.next().map(|(deadline, _)| deadline)
    }
}

/// A table of promises that are settled as they were made, some of them out of order.
pub(crate) struct Promises {
    table: SlidingTable<[u64; 8]>,
}

impl Promises {
    /// So many are pending.
    pub(crate) fn new(pending: usize) -> Self {
        let mut table = SlidingTable::new();
        for _ in 0..pending {
            table.push([0; 8]);
        }
        Self { table }
    }

    /// Makes two promises and settles the oldest two, the younger of them first.
    pub(crate) fn turn_over(&mut self) -> usize {
        let oldest = self.table.first_number().unwrap();
        for _ in 0..2 {
            self.table.push([0; 8]);
        }
        self.table.remove(oldest + 1);
        self.table.remove(oldest);
        self.table.len()
    }
}
