//! Which deliveries of a session were given up by their senders.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use super::harmless::wake;
use super::watch::lock;

/// Which deliveries of a session were given up by their senders. It costs no lock to look, unless
/// one was, and remembers no delivery that is answered.
#[derive(Debug, Default)]
pub(crate) struct Cancellations {
    used: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// All deliveries below this number are given up.
    below: u64,
    given_up: BTreeSet<u64>,
    /// By delivery, and a number of their own.
    waiting: BTreeMap<(u64, u64), Waker>,
    last: u64,
}

impl Cancellations {
    /// The sender gave up on this delivery, which is not answered yet.
    pub(crate) fn cancel(&self, delivery: u64) {
        let mut inner = lock(&self.inner);
        inner.given_up.insert(delivery);
        let mut woken = inner.waiting.split_off(&(delivery, 0));
        if let Some(after) = delivery.checked_add(1) {
            inner.waiting.append(&mut woken.split_off(&(after, 0)));
        }
        self.used.store(true, Ordering::Release);
        drop(inner);
        woken.into_values().for_each(wake);
    }

    /// Nobody waits for any delivery below this number, whether answered or not.
    pub(crate) fn cancel_below(&self, number: u64) {
        let mut inner = lock(&self.inner);
        inner.below = inner.below.max(number);
        inner.given_up = inner.given_up.split_off(&number);
        let waiting = inner.waiting.split_off(&(number, 0));
        let woken = std::mem::replace(&mut inner.waiting, waiting);
        self.used.store(true, Ordering::Release);
        drop(inner);
        woken.into_values().for_each(wake);
    }

    pub(crate) fn is_cancelled(&self, delivery: u64) -> bool {
        self.used.load(Ordering::Acquire) && lock(&self.inner).is_cancelled(delivery)
    }

    /// Waits until the delivery is given up. Cancel-safe.
    pub(crate) async fn cancelled(&self, delivery: u64) {
        let mut place = Place {
            cancellations: self,
            key: None,
        };
        poll_fn(|cx| {
            let mut inner = lock(&self.inner);
            if inner.is_cancelled(delivery) {
                return Poll::Ready(());
            }
            let key = *place.key.get_or_insert((delivery, inner.last + 1));
            inner.last = inner.last.max(key.1);
            let old = inner.waiting.insert(key, cx.waker().clone());
            drop(inner);
            drop(old);
            Poll::Pending
        })
        .await;
    }

    /// The delivery was answered.
    pub(crate) fn forget(&self, delivery: u64) {
        if self.used.load(Ordering::Acquire) {
            lock(&self.inner).given_up.remove(&delivery);
        }
    }
}

impl Inner {
    fn is_cancelled(&self, delivery: u64) -> bool {
        delivery < self.below || self.given_up.contains(&delivery)
    }
}

/// Where a future waits; given up with it.
struct Place<'a> {
    cancellations: &'a Cancellations,
    key: Option<(u64, u64)>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = lock(&self.cancellations.inner).waiting.remove(&key);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_the_delivery_that_was_given_up_is_cancelled() {
        let cancellations = Cancellations::default();
        let mut waiting: Vec<_> = (0..3)
            .map(|delivery| Box::pin(cancellations.cancelled(delivery)))
            .collect();
        for waiting in &mut waiting {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        cancellations.cancel(1);
        assert!(cancellations.is_cancelled(1));
        let over: Vec<_> = waiting
            .iter_mut()
            .map(|waiting| waiting.as_mut().now_or_never().is_some())
            .collect();
        assert_eq!(over, [false, true, false]);
        cancellations.forget(1);
        assert!(!cancellations.is_cancelled(1));
        drop(waiting);
        let inner = lock(&cancellations.inner);
        assert!(inner.given_up.is_empty() && inner.waiting.is_empty());
    }

    #[test]
    fn a_session_that_is_lost_gives_up_what_it_had_delivered_and_no_more() {
        let cancellations = Cancellations::default();
        cancellations.cancel(2);
        let mut before = Box::pin(cancellations.cancelled(4));
        assert!(before.as_mut().now_or_never().is_none());
        cancellations.cancel_below(5);
        assert!(before.now_or_never().is_some());
        assert!(cancellations.is_cancelled(2) && !cancellations.is_cancelled(5));
        assert!(lock(&cancellations.inner).given_up.is_empty());
        cancellations.cancel_below(u64::MAX);
        assert!(cancellations.is_cancelled(5));
    }
}
