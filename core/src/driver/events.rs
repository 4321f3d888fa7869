//! Streams of what happens, for as many subscribers as there are.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;

use super::harmless::wake;
use super::watch::lock;
use crate::{Event, Outcome};

/// An item of an [`Events`] stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Something happened.
    Event(Event),
    /// The subscriber was too slow: so many events are missing here.
    Missed(u64),
}

/// A stream of what happens: connections that come and go, messages that come back. It ends with
/// the node. A subscriber that falls more than 4,096 events behind, or 16 MiB of the messages in
/// them, loses the oldest of them, and is told how many ([`Notice::Missed`]). Of [`Event::Refused`], which strangers bring
/// about, none pushes another out: it is missed itself where all is full, or where 256 of them wait.
///
/// ```
/// # use trunkline_core::{Event, driver::{Events, Notice}};
/// # async fn watch(mut events: Events) {
/// while let Some(notice) = events.next().await {
///     if let Notice::Event(Event::Connected { client, address, .. }) = notice {
///         println!("{client} came from {address}");
///     }
/// }
/// # }
/// ```
#[must_use = "what happens is only seen by reading it"]
#[derive(Debug)]
pub struct Events {
    subscription: Arc<Subscription>,
}

impl Events {
    /// Adds what happens all the time to what is told: [`Event::Message`] (the delivery is a copy,
    /// the service answers it), [`Event::Settled`] and [`Event::Sent`].
    pub fn with_messages(self) -> Self {
        lock(&self.subscription.inner).messages = true;
        self
    }

    /// The next event; `None` once the node has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Notice> {
        poll_fn(|cx| self.subscription.poll(cx)).await
    }
}

impl Stream for Events {
    type Item = Notice;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.subscription.poll(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let (queue, waker) = {
            let mut inner = lock(&self.subscription.inner);
            inner.over = true;
            (std::mem::take(&mut inner.queue), inner.waker.take())
        };
        drop((queue, waker));
    }
}

/// Who is told of events.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    count: AtomicUsize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    subscriptions: Vec<Arc<Subscription>>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Subscription {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Event>,
    /// Bytes of the messages in it.
    bytes: usize,
    /// How many clients that were refused it tells of.
    refusals: usize,
    missed: u64,
    messages: bool,
    /// No more will come, or nobody will look.
    over: bool,
    waker: Option<Waker>,
}

/// How many events wait for a subscriber, and how many bytes of messages in them.
const CAPACITY: usize = 4_096;
const BYTES: usize = 16 << 20;

/// How many of them may be of refused clients.
const REFUSALS: usize = 256;

impl Subscribers {
    pub(crate) fn subscribe(&self) -> Events {
        let subscription = Arc::new(Subscription::default());
        let mut list = lock(&self.list);
        // Where nothing happens, nobody else would see that some have left.
        list.subscriptions.retain(|other| !lock(&other.inner).over);
        if list.closed {
            lock(&subscription.inner).over = true;
        } else {
            list.subscriptions.push(subscription.clone());
            self.count
                .store(list.subscriptions.len(), Ordering::Release);
        }
        Events { subscription }
    }

    /// Tells everybody who wants to know.
    pub(crate) fn publish(&self, event: &Event) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let frequent = matches!(
            event,
            Event::Message(_) | Event::Settled { .. } | Event::Sent { .. }
        );
        let (mut woken, mut missed) = (Vec::new(), Vec::new());
        let mut list = lock(&self.list);
        list.subscriptions
            .retain(|subscription| subscription.offer(event, frequent, &mut woken, &mut missed));
        self.count
            .store(list.subscriptions.len(), Ordering::Release);
        drop(list);
        woken.into_iter().for_each(wake);
        // Only now, for what a message's bytes do when they are dropped is the application's.
        drop(missed);
    }

    pub(crate) fn close(&self) {
        let mut list = lock(&self.list);
        list.closed = true;
        self.count.store(0, Ordering::Release);
        let subscriptions = std::mem::take(&mut list.subscriptions);
        drop(list);
        for subscription in subscriptions {
            let waker = {
                let mut inner = lock(&subscription.inner);
                inner.over = true;
                inner.waker.take()
            };
            if let Some(waker) = waker {
                wake(waker);
            }
        }
    }
}

/// Bytes of the message that an event holds.
fn weight(event: &Event) -> usize {
    match event {
        Event::Message(delivery) => delivery.body.len(),
        Event::Undelivered { message, .. } => message.body.len(),
        Event::Settled {
            outcome: Outcome::Replied { body, .. },
            ..
        } => body.len(),
        _ => 0,
    }
}

fn is_refusal(event: &Event) -> bool {
    matches!(event, Event::Refused { .. })
}

impl Subscription {
    /// `false`: nobody listens any more.
    fn offer(
        &self,
        event: &Event,
        frequent: bool,
        woken: &mut Vec<Waker>,
        missed: &mut Vec<Event>,
    ) -> bool {
        let mut inner = lock(&self.inner);
        if inner.over {
            return false;
        }
        if frequent && !inner.messages {
            return true;
        }
        if is_refusal(event) {
            if inner.refusals >= REFUSALS || inner.queue.len() >= CAPACITY {
                inner.missed += 1;
                return true;
            }
            inner.refusals += 1;
        }
        let bytes = weight(event);
        while inner.queue.len() >= CAPACITY || inner.bytes + bytes > BYTES {
            let Some(oldest) = inner.pop() else {
                break;
            };
            missed.push(oldest);
            inner.missed += 1;
        }
        inner.bytes += bytes;
        inner.queue.push_back(event.clone());
        woken.extend(inner.waker.take());
        true
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Notice>> {
        let mut inner = lock(&self.inner);
        if inner.missed > 0 {
            return Poll::Ready(Some(Notice::Missed(std::mem::take(&mut inner.missed))));
        }
        if let Some(event) = inner.pop() {
            return Poll::Ready(Some(Notice::Event(event)));
        }
        if inner.over {
            return Poll::Ready(None);
        }
        let old = inner.waker.replace(cx.waker().clone());
        drop(inner);
        drop(old);
        Poll::Pending
    }
}

impl Inner {
    fn pop(&mut self) -> Option<Event> {
        let event = self.queue.pop_front()?;
        self.bytes -= weight(&event);
        self.refusals -= usize::from(is_refusal(&event));
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;
    use crate::{CloseCode, Key, LinkKey, Message, SessionKey, Tag};

    fn drained(finished: u64) -> Event {
        Event::Drained {
            finished,
            cut_off: 0,
        }
    }

    fn next(events: &Events) -> Poll<Option<Notice>> {
        events
            .subscription
            .poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_slow_subscriber_is_told_how_much_it_missed() {
        let subscribers = Subscribers::default();
        let events = subscribers.subscribe();
        for number in 0..CAPACITY as u64 + 3 {
            subscribers.publish(&drained(number));
        }
        assert_eq!(next(&events), Poll::Ready(Some(Notice::Missed(3))));
        assert_eq!(next(&events), Poll::Ready(Some(Notice::Event(drained(3)))));
    }

    #[test]
    fn large_messages_count_by_their_bytes() {
        let subscribers = Subscribers::default();
        let events = subscribers.subscribe();
        let session = SessionKey(Key {
            slot: 0,
            generation: 0,
        });
        let large = Event::Undelivered {
            session,
            message: Message::new(Tag(1), vec![0; 1 << 20]),
            reason: crate::UndeliveredReason::SessionOver,
            maybe_delivered: false,
        };
        for _ in 0..20 {
            subscribers.publish(&large);
        }
        assert_eq!(next(&events), Poll::Ready(Some(Notice::Missed(4))));
        for _ in 0..16 {
            assert_eq!(
                next(&events),
                Poll::Ready(Some(Notice::Event(large.clone())))
            );
        }
        assert!(next(&events).is_pending());
        assert_eq!(lock(&events.subscription.inner).bytes, 0);
    }

    #[test]
    fn refusals_push_nothing_out_and_do_not_pile_up() {
        let refused = Event::Refused {
            link: LinkKey(Key {
                slot: 0,
                generation: 0,
            }),
            client: "mallory".parse().unwrap(),
            address: ([127, 0, 0, 1], 4433).into(),
            code: CloseCode::REFUSED,
            reason: String::new(),
        };
        let subscribers = Subscribers::default();
        let events = subscribers.subscribe();
        // All is full: what counts is what was there.
        for number in 0..CAPACITY as u64 {
            subscribers.publish(&drained(number));
        }
        subscribers.publish(&refused);
        assert_eq!(next(&events), Poll::Ready(Some(Notice::Missed(1))));
        for number in 0..CAPACITY as u64 {
            assert_eq!(
                next(&events),
                Poll::Ready(Some(Notice::Event(drained(number))))
            );
        }
        // There is room for so many, each time.
        for _ in 0..2 {
            for _ in 0..REFUSALS + 3 {
                subscribers.publish(&refused);
            }
            assert_eq!(next(&events), Poll::Ready(Some(Notice::Missed(3))));
            for _ in 0..REFUSALS {
                let told = Notice::Event(refused.clone());
                assert_eq!(next(&events), Poll::Ready(Some(told)));
            }
            assert!(next(&events).is_pending());
        }
    }

    #[test]
    fn subscribers_that_have_left_do_not_pile_up_where_nothing_happens() {
        let subscribers = Subscribers::default();
        for _ in 0..100 {
            drop(subscribers.subscribe());
        }
        assert!(lock(&subscribers.list).subscriptions.len() <= 1);
    }

    #[test]
    fn whoever_is_woken_may_subscribe_at_once() {
        struct Subscribing(Arc<Subscribers>);
        impl Wake for Subscribing {
            fn wake(self: Arc<Self>) {
                drop(self.0.subscribe());
            }
        }
        let subscribers = Arc::new(Subscribers::default());
        let events = subscribers.subscribe();
        let waker = Waker::from(Arc::new(Subscribing(subscribers.clone())));
        let polled = events.subscription.poll(&Context::from_waker(&waker));
        assert!(polled.is_pending());
        subscribers.publish(&drained(1));
        assert_eq!(next(&events), Poll::Ready(Some(Notice::Event(drained(1)))));
    }

    #[test]
    fn a_stream_gives_what_it_has_and_then_ends_with_the_node() {
        let subscribers = Subscribers::default();
        let events = subscribers.subscribe();
        assert!(next(&events).is_pending());
        subscribers.publish(&drained(1));
        subscribers.close();
        assert_eq!(next(&events), Poll::Ready(Some(Notice::Event(drained(1)))));
        assert_eq!(next(&events), Poll::Ready(None));
        assert_eq!(next(&subscribers.subscribe()), Poll::Ready(None));
    }

    #[test]
    fn a_stream_that_is_dropped_costs_nothing_any_more() {
        let subscribers = Subscribers::default();
        drop(subscribers.subscribe());
        subscribers.publish(&drained(1));
        assert_eq!(subscribers.count.load(Ordering::Acquire), 0);
    }
}
