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
        Event::Connected { client, .. } | Event::Refused { client, .. } => {
            *client = renamed(client);
        }
        _ => {}
    }
    event
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]
mod tests {
    use std::time::Duration;

    use trunkline_core::{
        AdmissionRequest, CloseCode, Delivery, DeliveryKey, Expects, Key, Lane, LinkKey, Message,
        PromiseKey, SessionKey, Tag, UndeliveredReason,
    };

    use super::*;

    const TAG: Tag = Tag::of("test.Said");

    fn bytes() -> Bytes {
        Bytes::copy_from_slice(b"on the heap, as what came from a peer")
    }

    /// Where all that is shared by an event's copies lies in memory.
    fn places(event: &Event) -> Vec<*const u8> {
        match event {
            Event::Message(delivery) => vec![delivery.body.as_ptr()],
            Event::Undelivered { message, .. } => vec![message.body.as_ptr()],
            Event::Settled {
                outcome: Outcome::Replied { body, .. },
                ..
            } => vec![body.as_ptr()],
            Event::Admission(request) => {
                let name = request.client.as_str().as_ptr();
                vec![request.credentials.as_ptr(), name]
            }
            Event::Connected { client, .. } | Event::Refused { client, .. } => {
                vec![client.as_str().as_ptr()]
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the world keeps of an event is none of the node's memory: neither bodies nor names, also
    /// of clients that were turned away.
    #[test]
    fn a_kept_event_shares_nothing_with_the_node() {
        let name = ClientId::new("a client with a name of some length").unwrap();
        let address = ([10, 0, 0, 1], 4_433).into();
        let key = Key {
            slot: 0,
            generation: 0,
        };
        let session = SessionKey(key);
        let events = [
            Event::Message(Delivery {
                key: DeliveryKey { session, number: 0 },
                lane: Lane::DEFAULT,
                tag: TAG,
                body: bytes(),
                expects: Expects::Nothing,
                timeout: None,
            }),
            Event::Undelivered {
                session,
                message: Message::new(TAG, bytes()),
                reason: UndeliveredReason::SessionLost,
                maybe_delivered: false,
            },
            Event::Settled {
                promise: PromiseKey { session, number: 1 },
                outcome: Outcome::Replied {
                    tag: TAG,
                    body: bytes(),
                },
                after: Duration::ZERO,
            },
            Event::Admission(Box::new(AdmissionRequest {
                link: LinkKey(key),
                client: name.clone(),
                address,
                credentials: bytes(),
                certificates: Vec::new(),
                agent: String::new(),
            })),
            Event::Refused {
                link: LinkKey(key),
                client: name.clone(),
                address,
                code: CloseCode::REFUSED,
                reason: "not on the list".to_owned(),
            },
            Event::Connected {
                session,
                client: name,
                address,
                epoch: 1,
                resumed: false,
            },
        ];
        for event in events {
            let kept = own(&event);
            assert_eq!(kept, event);
            assert_eq!(places(&event.clone()), places(&event), "clones share it");
            for (kept, given) in places(&kept).iter().zip(places(&event)) {
                assert_ne!(*kept, given, "{event:?}");
            }
        }
    }
}
