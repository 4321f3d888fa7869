//! How much memory nodes hold, where the program has an allocator that counts.
//!
//! A library cannot bring one, for a program has one allocator: whoever has one that counts says so
//! with [`count_by`]. A node's memory is then what was allocated in calls of it and not freed in
//! calls of it. What goes in or out with a call is copied on the way, so that each side frees its
//! own.

use std::cell::Cell;
use std::sync::OnceLock;

use bytes::Bytes;
use trunkline_core::{ClientId, Event, Outcome};

/// Runs something, and says how many bytes it allocated more than it freed, on its thread.
pub type Counter = fn(&mut dyn FnMut()) -> i64;

static COUNTER: OnceLock<Counter> = OnceLock::new();

thread_local! {
    /// What was counted since it was last taken.
    static COUNTED: Cell<i64> = const { Cell::new(0) };
}

/// Has the memory of all simulated nodes counted from now on; the first counter stays.
///
/// ```ignore
/// count_by(|f| allocation_counter::measure(f).bytes_current);
/// ```
pub fn count_by(counter: Counter) {
    COUNTER.get_or_init(|| counter);
}

pub(crate) fn is_counted() -> bool {
    COUNTER.get().is_some()
}

/// Calls a node.
pub(crate) fn counted<T>(call: impl FnOnce() -> T) -> T {
    let Some(counter) = COUNTER.get() else {
        return call();
    };
    let (mut call, mut returned) = (Some(call), None);
    let bytes = counter(&mut || returned = call.take().map(|call| call()));
    COUNTED.set(COUNTED.get() + bytes);
    #[allow(
        clippy::expect_used,
        reason = "a counter that does not run what it counts"
    )]
    returned.expect("the counter runs what it is given")
}

/// Takes what was counted.
pub(crate) fn take() -> i64 {
    COUNTED.take()
}

pub(crate) fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The same name in memory of its own.
fn renamed(client: &ClientId) -> ClientId {
    #[allow(clippy::expect_used, reason = "it was found good before")]
    ClientId::new(client.as_str()).expect("a client id names a client")
}

/// The same event in memory of its own.
pub(crate) fn own(event: &Event) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::Message(delivery) => delivery.body = copied(&delivery.body),
        Event::Undelivered { message, .. } => message.body = copied(&message.body),
        Event::Settled {
            outcome: Outcome::Replied { body, .. },
            ..
        } => *body = copied(body),
        Event::Admission(request) => {
            request.credentials = copied(&request.credentials);
            request.client = renamed(&request.client);
        }
        Event::Connected { client, .. } => *client = renamed(client),
        _ => {}
    }
    event
}
