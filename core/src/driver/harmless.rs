//! What is the application's, and must not end what calls, wakes or drops it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use super::runtime::{Runtime, tell_panic};
use crate::logged::logged;

/// Does it, whatever becomes of it. If it panics, the log says what has, and so does a runtime that is to know.
pub(crate) fn harmless(what: &str, runtime: Option<&dyn Runtime>, work: impl FnOnce()) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else {
        return;
    };
    let said = words(&*panic);
    logged(|| tracing::error!(said, "{what} panicked"));
    if let Some(runtime) = runtime {
        tell_panic(runtime, what, &*panic);
    }
}

/// What a panic says, if it says anything.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or_default()
}

/// Wakes somebody. An executor of the application's may panic in that, once it has ended, and others are still to be woken.
pub(crate) fn wake(waker: Waker) {
    harmless("a waker", None, || waker.wake());
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

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let panic = |work: fn()| catch_unwind(work).unwrap_err();
        assert_eq!(words(&*panic(|| panic!("plain"))), "plain");
        assert_eq!(words(&*panic(|| panic!("{} words", 2))), "2 words");
        assert_eq!(words(&*panic(|| std::panic::panic_any(7))), "");
    }
}
