//! How many handlers may run in all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use super::watch::{enrol, lock};

/// How many handlers may run in all, whatever session they belong to.
#[derive(Debug)]
pub(crate) struct Permits {
    limit: usize,
    used: AtomicUsize,
    awaited: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Permits {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            awaited: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
    }

    /// A permit, or a wake-up when there may be one.
    pub(crate) fn acquire(self: &Arc<Self>, cx: &Context<'_>) -> Option<Permit> {
        if self.take() {
            return Some(Permit(self.clone()));
        }
        {
            let mut waiting = lock(&self.waiting);
            enrol(&mut waiting, cx);
            self.awaited.store(true, Ordering::SeqCst);
        }
        // One may have been given back before the waker stood there.
        self.take().then(|| Permit(self.clone()))
    }

    fn take(&self) -> bool {
        let one_more = |used| (used < self.limit).then_some(used + 1);
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok()
    }
}

/// The right to run one handler; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::SeqCst);
        if self.0.awaited.swap(false, Ordering::SeqCst) {
            let waiting = std::mem::take(&mut *lock(&self.0.waiting));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_for_a_permit_is_woken_when_one_is_given_back() {
        let permits = Arc::new(Permits::new(1));
        let woken = Arc::new(Count::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let first = permits.acquire(&cx);
        assert!(first.is_some());
        assert!(permits.acquire(&cx).is_none());
        drop(first);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(permits.acquire(&cx).is_some());
    }
}
