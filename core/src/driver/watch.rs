//! A value that one side sets and any number of futures wait on.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::harmless::wake;

/// Locks whatever happened to an earlier holder: the data behind these locks is valid between
/// any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that one side sets and any number of futures wait on.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    value: T,
    /// How often it was set.
    version: u64,
    waiting: BTreeMap<u64, Waker>,
    last: u64,
}

impl<T: Clone> Watch<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            inner: Mutex::new(Inner {
                value,
                version: 0,
                waiting: BTreeMap::new(),
                last: 0,
            }),
        }
    }

    pub(crate) fn get(&self) -> T {
        lock(&self.inner).value.clone()
    }

    /// Sets the value and wakes all who wait.
    pub(crate) fn set(&self, value: T) {
        let mut woken = Vec::new();
        self.replace(value, &mut woken);
        woken.into_iter().for_each(wake);
    }

    /// Sets the value, and leaves it to the caller to wake those who wait.
    pub(crate) fn replace(&self, value: T, woken: &mut Vec<Waker>) {
        let mut inner = lock(&self.inner);
        inner.value = value;
        inner.version += 1;
        woken.extend(std::mem::take(&mut inner.waiting).into_values());
    }

    /// Waits until `wanted` finds something in the value; it may look at this watch itself.
    /// Cancel-safe.
    pub(crate) async fn find<R>(&self, mut wanted: impl FnMut(&T) -> Option<R>) -> R {
        let mut place = Place {
            watch: self,
            number: None,
        };
        poll_fn(|cx| {
            loop {
                let (value, version) = {
                    let inner = lock(&self.inner);
                    (inner.value.clone(), inner.version)
                };
                if let Some(found) = wanted(&value) {
                    return Poll::Ready(found);
                }
                let mut inner = lock(&self.inner);
                if inner.version == version {
                    let number = *place.number.get_or_insert(inner.last + 1);
                    inner.last = inner.last.max(number);
                    let old = inner.waiting.insert(number, cx.waker().clone());
                    drop(inner);
                    drop(old);
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

/// Where a future waits; given up with it.
struct Place<'a, T> {
    watch: &'a Watch<T>,
    number: Option<u64>,
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = lock(&self.watch.inner).waiting.remove(&number);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_waits_hears_of_the_value_that_it_waits_for() {
        let watch = Watch::new(1);
        let mut found = Box::pin(watch.find(|value| (*value > 2).then_some(*value)));
        assert_eq!(found.as_mut().now_or_never(), None);
        watch.set(2);
        assert_eq!(found.as_mut().now_or_never(), None);
        watch.set(3);
        assert_eq!(found.now_or_never(), Some(3));
    }

    #[test]
    fn who_waits_no_longer_leaves_nothing_behind() {
        let watch = Watch::new(1);
        for _ in 0..10 {
            let found = watch.find(|value| (*value > 2).then_some(()));
            assert_eq!(found.now_or_never(), None);
        }
        assert!(lock(&watch.inner).waiting.is_empty());
    }

    #[test]
    fn who_looks_for_a_value_may_look_at_it_twice() {
        let watch = Watch::new(3);
        let found = watch.find(|value| (watch.get() == *value).then_some(*value));
        assert_eq!(found.now_or_never(), Some(3));
    }
}
