//! Which deliveries of a session were given up by their senders.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use super::watch::{enrol, lock};

/// Which deliveries of a session were given up by their senders. Empty, and without a lock's
/// cost, unless somebody asks or cancels.
#[derive(Debug, Default)]
pub(crate) struct Cancellations {
    used: AtomicBool,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    all: bool,
    of: BTreeMap<u64, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    cancelled: bool,
    wakers: Vec<Waker>,
}

impl Cancellations {
    /// The sender gave up on this delivery.
    pub(crate) fn cancel(&self, delivery: u64) {
        let mut entries = lock(&self.entries);
        let entry = entries.of.entry(delivery).or_default();
        entry.cancelled = true;
        let wakers = std::mem::take(&mut entry.wakers);
        self.used.store(true, Ordering::Release);
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The session is gone: nobody waits for anything.
    pub(crate) fn cancel_all(&self) {
        let mut entries = lock(&self.entries);
        entries.all = true;
        let all = std::mem::take(&mut entries.of);
        self.used.store(true, Ordering::Release);
        drop(entries);
        all.into_values()
            .flat_map(|entry| entry.wakers)
            .for_each(Waker::wake);
    }

    pub(crate) fn is_cancelled(&self, delivery: u64) -> bool {
        if !self.used.load(Ordering::Acquire) {
            return false;
        }
        let entries = lock(&self.entries);
        entries.all
            || entries
                .of
                .get(&delivery)
                .is_some_and(|entry| entry.cancelled)
    }

    pub(crate) fn poll(&self, delivery: u64, cx: &Context<'_>) -> Poll<()> {
        let mut entries = lock(&self.entries);
        if entries.all {
            return Poll::Ready(());
        }
        let entry = entries.of.entry(delivery).or_default();
        if entry.cancelled {
            return Poll::Ready(());
        }
        enrol(&mut entry.wakers, cx);
        self.used.store(true, Ordering::Release);
        Poll::Pending
    }

    /// The delivery was answered. The driver calls this when it answers, so that a cancellation
    /// that crosses the answer leaves nothing behind.
    pub(crate) fn forget(&self, delivery: u64) {
        if self.used.load(Ordering::Acquire) {
            lock(&self.entries).of.remove(&delivery);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_delivery_that_was_given_up_is_cancelled() {
        let cancellations = Cancellations::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(cancellations.poll(1, &cx).is_pending());
        cancellations.cancel(1);
        assert!(cancellations.is_cancelled(1));
        assert!(!cancellations.is_cancelled(2));
        assert!(cancellations.poll(1, &cx).is_ready());
        cancellations.forget(1);
        assert!(!cancellations.is_cancelled(1));
        assert!(lock(&cancellations.entries).of.is_empty());
    }

    #[test]
    fn a_session_that_ends_cancels_all_its_deliveries() {
        let cancellations = Cancellations::default();
        cancellations.cancel_all();
        assert!(cancellations.is_cancelled(7));
        assert!(
            cancellations
                .poll(8, &Context::from_waker(Waker::noop()))
                .is_ready()
        );
    }
}
