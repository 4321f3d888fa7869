//! Panics of runs, caught without a word on the terminal.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// What a panic of this thread said, while it is being watched for.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
    static WATCHED: RefCell<bool> = const { RefCell::new(false) };
}

/// What a closure returns, or what it panicked with and where.
pub(super) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if WATCHED.with(|watched| *watched.borrow()) {
                let message = info.payload_as_str().unwrap_or("a panic without words");
                let place = info.location().map_or_else(String::new, |place| {
                    format!("{}:{}: ", place.file(), place.line())
                });
                SAID.with(|said| *said.borrow_mut() = Some(format!("{place}{message}")));
            } else {
                usual(info);
            }
        }));
    });
    WATCHED.with(|watched| *watched.borrow_mut() = true);
    let done = panic::catch_unwind(AssertUnwindSafe(f));
    WATCHED.with(|watched| *watched.borrow_mut() = false);
    done.map_err(|_| {
        SAID.with(|said| said.borrow_mut().take())
            .unwrap_or_default()
    })
}
