//! A message on its way to the driver, and where its sender waits for what becomes of it: a lock of its own, so
//! that nobody waits for anybody else's, and no allocation for a message where one follows another.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::command::Wanted;
use super::harmless::wake;
use super::watch::lock;
use crate::{Message, Outcome, SendError};

/// What a waiting future is told.
#[derive(Debug)]
pub(crate) enum Settlement {
    /// The message stands in the outbox.
    Accepted,
    /// The promise settled.
    Promise(Outcome),
    /// The message was not taken, and comes back.
    Refused(SendError<Message>),
    /// The driver has ended; whether the message left is unknown.
    Stopped,
}

/// Both ends of a wait, with the message in it.
pub(crate) fn wait(message: Message, wanted: Wanted, waker: &Waker) -> (Ticket, Waiter) {
    // A thread that is ending keeps none.
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
    let shared: Arc<Shared> = spare.ok().flatten().unwrap_or_default();
    shared.place.put(Place::Nowhere);
    let mut inner = lock(&shared.inner);
    inner.message = Some(message);
    inner.wanted = wanted;
    inner.state = State::Waiting(waker.clone());
    drop(inner);
    (Ticket(Some(shared.clone())), Waiter(shared))
}

/// So many are kept for a thread's next messages.
const KEPT: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Arc<Shared>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    place: Note,
}

#[derive(Debug, Default)]
struct Inner {
    /// Until the driver takes it.
    message: Option<Message>,
    wanted: Wanted,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Nobody waits.
    #[default]
    Over,
    Waiting(Waker),
    Settled(Settlement),
}

/// Where the driver has put what a ticket of some session stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere yet.
    #[default]
    Nowhere,
    /// With the node: the promise of that number.
    Promise(u64),
    /// In the session's backlog, at that number.
    Backlog(u64),
}

/// The driver's own note of a place. A sender empties it before the ticket is the driver's, and what hands that
/// over (the mailbox's lock) orders the two, so that it needs no lock itself.
#[derive(Debug, Default)]
struct Note(AtomicU64);

impl Note {
    /// Numbers of promises and in backlogs begin with 1 and are counted one by one.
    fn put(&self, place: Place) {
        let note = match place {
            Place::Nowhere => 0,
            Place::Promise(number) => number << 1,
            Place::Backlog(number) => number << 1 | 1,
        };
        self.0.store(note, Ordering::Relaxed);
    }

    fn place(&self) -> Place {
        match self.0.load(Ordering::Relaxed) {
            0 => Place::Nowhere,
            note if note & 1 == 0 => Place::Promise(note >> 1),
            note => Place::Backlog(note >> 1),
        }
    }
}

/// The driver's end. Dropped without having settled, it settles the other one as
/// [`Settlement::Stopped`].
#[derive(Debug)]
pub(crate) struct Ticket(Option<Arc<Shared>>);

impl Ticket {
    /// Takes the message; `None`: whoever sent it has given up.
    pub(crate) fn take(&self) -> Option<(Message, Wanted)> {
        let mut inner = lock(&self.0.as_ref()?.inner);
        Some((inner.message.take()?, inner.wanted))
    }

    /// Notes where the driver has put what this stands for.
    pub(crate) fn put(&self, place: Place) {
        if let Some(shared) = &self.0 {
            shared.place.put(place);
        }
    }

    /// Tells whoever waits, who is to be woken then.
    pub(crate) fn settle(mut self, settlement: Settlement) -> Option<Waker> {
        self.end(settlement)
    }

    fn end(&mut self, settlement: Settlement) -> Option<Waker> {
        let shared = self.0.take()?;
        let mut inner = lock(&shared.inner);
        let State::Waiting(_) = inner.state else {
            return None;
        };
        let before = std::mem::replace(&mut inner.state, State::Settled(settlement));
        let untaken = inner.message.take();
        drop(inner);
        drop(untaken);
        match before {
            State::Waiting(waker) => Some(waker),
            State::Over | State::Settled(_) => None,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(waker) = self.end(Settlement::Stopped) {
            wake(waker);
        }
    }
}

/// The end of whoever waits.
#[derive(Debug)]
pub(crate) struct Waiter(Arc<Shared>);

impl Waiter {
    /// What became of it, once; afterwards it says [`Settlement::Stopped`].
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Settlement> {
        let mut inner = lock(&self.0.inner);
        if let State::Waiting(waker) = &mut inner.state {
            let old = (!waker.will_wake(cx.waker()))
                .then(|| std::mem::replace(waker, cx.waker().clone()));
            drop(inner);
            drop(old);
            return Poll::Pending;
        }
        match std::mem::take(&mut inner.state) {
            State::Settled(settlement) => Poll::Ready(settlement),
            State::Over | State::Waiting(_) => Poll::Ready(Settlement::Stopped),
        }
    }

    /// Waits no more, and takes the message back if the driver has not looked at it yet; says whether the
    /// driver has still to hear of it.
    pub(crate) fn abandon(&self) -> bool {
        let mut inner = lock(&self.0.inner);
        let untaken = inner.message.take();
        let left = std::mem::take(&mut inner.state);
        drop(inner);
        matches!(left, State::Waiting(_)) && untaken.is_none()
    }

    /// Where the driver has put what this stands for.
    pub(crate) fn place(&self) -> Place {
        self.0.place.place()
    }

    /// Keeps its memory for the thread's next message, if the driver has let go of it.
    pub(crate) fn recycle(self) {
        if Arc::strong_count(&self.0) > 1 {
            return;
        }
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(self.0);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tag;

    fn start() -> (Ticket, Waiter) {
        let message = Message::new(Tag(7), &b"body"[..]);
        wait(message, Wanted::Ack(None), Waker::noop())
    }

    fn poll(waiter: &Waiter) -> Poll<Settlement> {
        waiter.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_future_is_told_once() {
        let (ticket, waiter) = start();
        assert!(poll(&waiter).is_pending());
        assert!(ticket.settle(Settlement::Accepted).is_some());
        assert!(matches!(poll(&waiter), Poll::Ready(Settlement::Accepted)));
        assert!(matches!(poll(&waiter), Poll::Ready(Settlement::Stopped)));
        assert!(!waiter.abandon());
    }

    #[test]
    fn a_ticket_that_is_lost_says_so() {
        let (ticket, waiter) = start();
        drop(ticket);
        assert!(matches!(poll(&waiter), Poll::Ready(Settlement::Stopped)));
    }

    #[test]
    fn who_has_given_up_is_not_woken_and_reported_unless_it_had_settled() {
        let (ticket, waiter) = start();
        assert!(ticket.take().is_some());
        assert!(waiter.abandon());
        assert!(ticket.settle(Settlement::Accepted).is_none());
        let (ticket, waiter) = start();
        ticket.settle(Settlement::Accepted);
        assert!(!waiter.abandon());
    }

    #[test]
    fn a_message_is_taken_once_by_the_driver_or_back() {
        let (ticket, waiter) = start();
        let (message, wanted) = ticket.take().unwrap();
        assert_eq!((message.tag, wanted), (Tag(7), Wanted::Ack(None)));
        assert!(ticket.take().is_none());
        drop((ticket, waiter));
        let (ticket, waiter) = start();
        assert!(!waiter.abandon(), "the driver will not find it");
        assert!(ticket.take().is_none());
    }

    #[test]
    fn places_are_noted_as_they_are() {
        let note = Note::default();
        for number in [1, 2, 3, u64::MAX >> 1] {
            for place in [
                Place::Nowhere,
                Place::Promise(number),
                Place::Backlog(number),
            ] {
                note.put(place);
                assert_eq!(note.place(), place);
            }
        }
    }

    #[test]
    fn memory_is_used_again_once_both_have_let_go() {
        let (ticket, waiter) = start();
        let first = Arc::as_ptr(&waiter.0);
        ticket.put(Place::Backlog(1));
        ticket.settle(Settlement::Accepted);
        assert!(poll(&waiter).is_ready());
        waiter.recycle();
        let (held, next) = start();
        assert_eq!(Arc::as_ptr(&next.0), first);
        assert_eq!(next.place(), Place::Nowhere);
        next.recycle();
        let (_, other) = start();
        assert_ne!(Arc::as_ptr(&other.0), first, "the driver still has it");
        drop(held);
    }

    #[test]
    fn a_burst_leaves_little_memory_behind() {
        for (ticket, waiter) in (0..1_000).map(|_| start()).collect::<Vec<_>>() {
            ticket.settle(Settlement::Accepted);
            waiter.recycle();
        }
        SPARE.with_borrow(|spare| assert_eq!(spare.len(), KEPT));
    }
}
