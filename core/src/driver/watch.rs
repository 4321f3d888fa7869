//! A value that one side sets and any number of futures wait on.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Locks whatever happened to an earlier holder: the data behind these locks is valid between
/// any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the task's waker unless it is there already.
pub(crate) fn enrol(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

/// A value that one side sets and any number of futures wait on.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    inner: Mutex<(T, Vec<Waker>)>,
}

impl<T: Clone> Watch<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            inner: Mutex::new((value, Vec::new())),
        }
    }

    pub(crate) fn get(&self) -> T {
        lock(&self.inner).0.clone()
    }

    /// Sets the value and wakes all who wait.
    pub(crate) fn set(&self, value: T) {
        let wakers = {
            let mut inner = lock(&self.inner);
            inner.0 = value;
            std::mem::take(&mut inner.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until `wanted` finds something in the value. Cancel-safe.
    pub(crate) async fn find<R>(&self, mut wanted: impl FnMut(&T) -> Option<R>) -> R {
        poll_fn(|cx| {
            let mut inner = lock(&self.inner);
            let (value, wakers) = &mut *inner;
            if let Some(found) = wanted(value) {
                return Poll::Ready(found);
            }
            enrol(wakers, cx);
            Poll::Pending
        })
        .await
    }
}
