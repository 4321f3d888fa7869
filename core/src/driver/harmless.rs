//! What is the application's, and must not end what calls, wakes or drops it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::logged::logged;

/// Does it, whatever becomes of it: a panic is a line in the log, which says what it was.
pub(crate) fn harmless(what: &str, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        logged(|| tracing::error!("{what} panicked"));
    }
}

/// Wakes somebody. An executor of the application's may panic in that, once it has ended, and others are still to be woken.
pub(crate) fn wake(waker: Waker) {
    harmless("a waker", || waker.wake());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Ended;

    impl Wake for Ended {
        fn wake(self: Arc<Self>) {
            panic!("the event loop has ended");
        }
    }

    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_else_asleep() {
        let counts = Arc::new(Counts(AtomicUsize::new(0)));
        let wakers = [Arc::new(Ended).into(), counts.clone().into()];
        wakers.into_iter().for_each(wake);
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
    }
}
