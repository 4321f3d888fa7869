//! One value for one future: what a rare command is answered through.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::harmless::wake;
use super::watch::lock;

/// The node's driver has ended: the handle was closed, or its runtime was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped: it was closed, or its runtime was dropped")]
pub struct Stopped;

/// Both ends of a slot.
pub(crate) fn slot<T>() -> (Filler<T>, Filled<T>) {
    let shared = Arc::new(Mutex::new(State {
        value: None,
        abandoned: false,
        waker: None,
    }));
    (Filler(shared.clone()), Filled(shared))
}

struct State<T> {
    value: Option<T>,
    abandoned: bool,
    waker: Option<Waker>,
}

/// The end that fills; dropped without having done so, it settles the other end as [`Stopped`].
pub(crate) struct Filler<T>(Arc<Mutex<State<T>>>);

impl<T> Filler<T> {
    pub(crate) fn fill(self, value: T) {
        lock(&self.0).value = Some(value);
    }

    /// Whether somebody still waits.
    #[cfg(feature = "system")]
    pub(crate) fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = lock(&self.0);
            state.abandoned = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            wake(waker);
        }
    }
}

/// The end that waits. Cancel-safe: nothing is lost by dropping it but the answer.
pub(crate) struct Filled<T>(Arc<Mutex<State<T>>>);

impl<T> Future for Filled<T> {
    type Output = Result<T, Stopped>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0);
        if let Some(value) = state.value.take() {
            return Poll::Ready(Ok(value));
        }
        if state.abandoned {
            return Poll::Ready(Err(Stopped));
        }
        let old = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }
}
