//! Promises: settled once, in time, as they were answered.

use trunkline_core::PromisesFull;

use super::*;

#[test]
fn a_reply_is_as_it_was_given() {
    let given = (tag_of(7), body(7, 30));
    for (tag, body, expected) in [
        (tag_of(7), body(7, 30), vec![]),
        (tag_of(1), body(7, 30), vec![4]),
        (tag_of(7), body(7, 31), vec![4]),
    ] {
        let mut history = History::new();
        history.send(1, Waits::ForReply(PROMISE, None));
        let key = history.comes(1, Expects::Reply);
        let answer = Answer::Reply(given.0, given.1.clone());
        history.oracle.answered(SERVER, key, answer);
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
            history.oracle.answered(SERVER, key, Answer::Ack);
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
    history.oracle.answered(SERVER, key, Answer::Ack);
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
        history.oracle.answered(SERVER, key, Answer::Ack);
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
        let mut config = Config::default();
        (config.limits.promises, config.limits.promises_total) = (own, in_all);
        config.promises_full = full;
        let mut history = History::new();
        history.oracle.started(history.now, CLIENT, &config);
        history.send(1, ACK);
        let second = PromiseKey {
            number: 2,
            ..PROMISE
        };
        history.send(2, Waits::ForAck(second, None));
        history.settles(Outcome::Evicted);
        assert_eq!(history.broken(), expected);
    }
}

/// What has settled leaves room.
#[test]
fn promises_that_have_settled_take_no_room() {
    let mut config = Config::default();
    config.limits.promises = 2;
    config.promises_full = PromisesFull::EvictOldest;
    let mut history = History::new();
    history.oracle.started(history.now, CLIENT, &config);
    history.send(1, ACK);
    history.pass(SECOND);
    history.settles(Outcome::TimedOut);
    for number in [2, 3] {
        let promise = PromiseKey { number, ..PROMISE };
        history.send(number, Waits::ForAck(promise, None));
    }
    let evicted = |number| Event::Settled {
        promise: PromiseKey { number, ..PROMISE },
        outcome: Outcome::Evicted,
        after: Duration::ZERO,
    };
    history.tell(CLIENT, evicted(2));
    assert!(history.broken().is_empty());
    history.tell(CLIENT, evicted(3));
    assert_eq!(history.broken(), [4]);
}
