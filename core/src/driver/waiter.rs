//! Where a future waits for what becomes of its message: a lock of its own, so that nobody waits for
//! anybody else's, and no allocation for a message where one follows another.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::ledger::Place;
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

/// Both ends of a wait.
pub(crate) fn wait(waker: &Waker) -> (Ticket, Waiter) {
    // A thread that is ending keeps none.
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
    let shared = spare.ok().flatten().unwrap_or_default();
    *lock(&shared) = Inner {
        state: State::Waiting(waker.clone()),
        place: Place::Nowhere,
    };
    (Ticket(Some(shared.clone())), Waiter(shared))
}

/// So many are kept for a thread's next messages.
const KEPT: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Arc<Mutex<Inner>>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// The driver's own note.
    place: Place,
}

#[derive(Debug, Default)]
enum State {
    /// Nobody waits.
    #[default]
    Over,
    Waiting(Waker),
    Settled(Settlement),
}

/// The driver's end. Dropped without having settled, it settles the other one as
/// [`Settlement::Stopped`].
#[derive(Debug)]
pub(crate) struct Ticket(Option<Arc<Mutex<Inner>>>);

impl Ticket {
    /// Notes where the driver has put what this stands for.
    pub(crate) fn put(&self, place: Place) {
        if let Some(shared) = &self.0 {
            lock(shared).place = place;
        }
    }

    /// Tells whoever waits, who is to be woken then.
    pub(crate) fn settle(mut self, settlement: Settlement) -> Option<Waker> {
        self.end(settlement)
    }

    fn end(&mut self, settlement: Settlement) -> Option<Waker> {
        let shared = self.0.take()?;
        let mut inner = lock(&shared);
        match std::mem::replace(&mut inner.state, State::Settled(settlement)) {
            State::Waiting(waker) => Some(waker),
            before => {
                let unheard = std::mem::replace(&mut inner.state, before);
                drop(inner);
                drop(unheard);
                None
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(waker) = self.end(Settlement::Stopped) {
            waker.wake();
        }
    }
}

/// The end of whoever waits.
#[derive(Debug)]
pub(crate) struct Waiter(Arc<Mutex<Inner>>);

impl Waiter {
    /// What became of it, once; afterwards it says [`Settlement::Stopped`].
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Settlement> {
        let mut inner = lock(&self.0);
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

    /// Waits no more; says whether the driver has still to hear of it.
    pub(crate) fn abandon(&self) -> bool {
        let left = std::mem::take(&mut lock(&self.0).state);
        matches!(left, State::Waiting(_))
    }

    /// Where the driver has put what this stands for.
    pub(crate) fn place(&self) -> Place {
        lock(&self.0).place
    }

    /// Keeps its memory for the thread's next message, if the driver has let go of it.
    pub(crate) fn recycle(mut self) {
        if Arc::get_mut(&mut self.0).is_none() {
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

    fn poll(waiter: &Waiter) -> Poll<Settlement> {
        waiter.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_future_is_told_once() {
        let (ticket, waiter) = wait(Waker::noop());
        assert!(poll(&waiter).is_pending());
        assert!(ticket.settle(Settlement::Accepted).is_some());
        assert!(matches!(poll(&waiter), Poll::Ready(Settlement::Accepted)));
        assert!(matches!(poll(&waiter), Poll::Ready(Settlement::Stopped)));
        assert!(!waiter.abandon());
    }

    #[test]
    fn a_ticket_that_is_lost_says_so() {
        let (ticket, waiter) = wait(Waker::noop());
        drop(ticket);
        assert!(matches!(poll(&waiter), Poll::Ready(Settlement::Stopped)));
    }

    #[test]
    fn who_has_given_up_is_not_woken_and_reported_unless_it_had_settled() {
        let (ticket, waiter) = wait(Waker::noop());
        assert!(waiter.abandon());
        assert!(ticket.settle(Settlement::Accepted).is_none());
        let (ticket, waiter) = wait(Waker::noop());
        ticket.settle(Settlement::Accepted);
        assert!(!waiter.abandon());
    }

    #[test]
    fn memory_is_used_again_once_both_have_let_go() {
        let (ticket, waiter) = wait(Waker::noop());
        let first = Arc::as_ptr(&waiter.0);
        ticket.put(Place::Backlog(SESSION, 1));
        ticket.settle(Settlement::Accepted);
        assert!(poll(&waiter).is_ready());
        waiter.recycle();
        let (held, next) = wait(Waker::noop());
        assert_eq!(Arc::as_ptr(&next.0), first);
        assert_eq!(next.place(), Place::Nowhere);
        next.recycle();
        let (_, other) = wait(Waker::noop());
        assert_ne!(Arc::as_ptr(&other.0), first, "the driver still has it");
        drop(held);
    }

    #[test]
    fn a_burst_leaves_little_memory_behind() {
        for (ticket, waiter) in (0..1_000).map(|_| wait(Waker::noop())).collect::<Vec<_>>() {
            ticket.settle(Settlement::Accepted);
            waiter.recycle();
        }
        SPARE.with_borrow(|spare| assert_eq!(spare.len(), KEPT));
    }

    const SESSION: crate::SessionKey = crate::SessionKey(crate::Key {
        slot: 3,
        generation: 1,
    });
}
