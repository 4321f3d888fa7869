//! Promises: settled once, in time, as they were answered.

use trunkline_core::PromisesFull;

use super::*;

#[test]
fn a_reply_is_as_it_was_given() {
    let given = (tag_of(7), body(7, 30));
    for (tag, body, expected) in [
        (tag_of(7), body(7, 30), vec![]),
        (Tag(!tag_of(7).0), body(7, 30), vec![4]),
        (tag_of(7), body(7, 31), vec![4]),
    ] {
        let mut history = History::new();
        history.send(1, Waits::ForReply(PROMISE, None));
        let key = history.comes(1, Expects::Reply);
        let answer = Answer::Reply(given.0, given.1.clone());
        history.oracle.answered(history.now, SERVER, key, answer);
        history.settles(Outcome::Replied { tag, body });
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn a_promise_settles_as_it_was_answered() {
    for (answered, outcome, expected) in [
        (true, Outcome::Acked, vec![]),
        (false, Outcome::Acked, vec![4]),
        (true, Outcome::Cancelled, vec![4]),
        (true, Outcome::Evicted, vec![4]),
        (true, Outcome::TimedOut, vec![4]),
    ] {
        let mut history = History::new();
        history.send(1, ACK);
        let key = history.comes_within(1, Expects::Ack, SECOND);
        if answered {
            history
                .oracle
                .answered(history.now, SERVER, key, Answer::Ack);
        }
        history.settles(outcome);
        assert_eq!(history.finish(), expected);
    }
}

#[test]
fn a_promise_settles_once() {
    let mut history = History::new();
    history.send(1, ACK);
    let key = history.comes_within(1, Expects::Ack, SECOND);
    history
        .oracle
        .answered(history.now, SERVER, key, Answer::Ack);
    history.settles(Outcome::Acked);
    assert!(history.broken().is_empty());
    history.settles(Outcome::Acked);
    assert_eq!(history.broken(), [4]);
}

#[test]
fn a_promise_settles_by_its_deadline() {
    for (after, expected) in [(SECOND, vec![]), (SECOND + 2 * TICK, vec![4])] {
        let mut history = History::new();
        history.send(1, ACK);
        history.pass(after);
        history.settles(Outcome::TimedOut);
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn in_the_end_every_promise_has_settled() {
    for settles in [true, false] {
        let mut history = History::new();
        history.send(1, Waits::ForAck(PROMISE, None));
        let key = history.comes(1, Expects::Ack);
        history
            .oracle
            .answered(history.now, SERVER, key, Answer::Ack);
        if settles {
            history.settles(Outcome::Acked);
        }
        let expected: &[u8] = if settles { &[] } else { &[7] };
        assert_eq!(history.finish(), expected);
    }
}

/// A full session, a full node, and neither; and a node that evicts nothing.
#[test]
fn a_promise_is_evicted_for_want_of_room_alone() {
    let evicts = PromisesFull::EvictOldest;
    for (own, in_all, full, expected) in [
        (2, 9, evicts, vec![]),
        (9, 2, evicts, vec![]),
        (3, 3, evicts, vec![4]),
        (2, 2, PromisesFull::Refuse, vec![4]),
    ] {
        let mut history = History::with_promises(own, in_all, full);
        for number in 1..4 {
            history.promised(number);
        }
        history.settles(Outcome::Evicted);
        assert_eq!(history.broken(), expected);
    }
}

/// However late their application hears of it, one of them makes room for one.
#[test]
fn a_promise_makes_room_for_one() {
    let mut history = History::with_promises(2, 9, PromisesFull::EvictOldest);
    for number in 1..5 {
        history.promised(number);
    }
    for number in 1..3 {
        history.is_evicted(number);
        assert!(history.broken().is_empty());
    }
    history.is_evicted(3);
    assert_eq!(history.broken(), [4]);
}

/// What has settled leaves room, and so does what was given up.
#[test]
fn promises_that_have_settled_take_no_room() {
    for (outcome, given_up) in [(Outcome::TimedOut, false), (Outcome::Cancelled, true)] {
        let mut history = History::with_promises(2, 9, PromisesFull::EvictOldest);
        history.send(1, ACK);
        history.promised(2);
        history.pass(SECOND);
        if given_up {
            history.oracle.cancelled(CLIENT, PROMISE);
        }
        history.settles(outcome);
        history.promised(3);
        assert!(history.broken().is_empty());
        history.is_evicted(2);
        assert_eq!(history.broken(), [4]);
    }
}

impl History {
    /// A client that has room for so many promises of its session, and so many in all.
    fn with_promises(own: usize, in_all: usize, full: PromisesFull) -> Self {
        let mut config = Config::default();
        (config.limits.promises, config.limits.promises_total) = (own, in_all);
        config.promises_full = full;
        let mut history = Self::new();
        history.oracle.started(history.now, CLIENT, &config);
        history
    }

    /// The client sends a message, and waits for ever for its ack.
    fn promised(&mut self, number: u64) {
        let promise = PromiseKey { number, ..PROMISE };
        self.send(number, Waits::ForAck(promise, None));
    }

    fn is_evicted(&mut self, number: u64) {
        let evicted = Event::Settled {
            promise: PromiseKey { number, ..PROMISE },
            outcome: Outcome::Evicted,
            after: Duration::ZERO,
        };
        self.tell(CLIENT, evicted);
    }
}
