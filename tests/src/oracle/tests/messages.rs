//! Messages: whole, once, in order, to whom they were sent.

use super::*;

#[test]
fn what_was_sent_is_handed_over_or_given_back() {
    for comes in [true, false] {
        let mut history = History::new();
        history.send(1, Waits::Not);
        if comes {
            history.comes(1, Expects::Nothing);
        }
        let expected: &[u8] = if comes { &[] } else { &[1] };
        assert_eq!(history.finish(), expected);
    }
}

#[test]
fn what_came_is_not_given_back_as_what_cannot_have_come() {
    for maybe_delivered in [true, false] {
        let mut history = History::new();
        history.send(1, Waits::Not);
        history.comes(1, Expects::Nothing);
        history.is_lost();
        history.comes_back(sent(1), UndeliveredReason::SessionLost, maybe_delivered);
        let expected: &[u8] = if maybe_delivered { &[] } else { &[1] };
        assert_eq!(history.finish(), expected);
    }
}

/// Bytes of another's, and another's tag.
#[test]
fn what_comes_is_what_was_sent() {
    let sound = said(1, Expects::Nothing);
    let mixed_up = [body(1, 20).slice(..12), body(2, 20).slice(12..)].concat();
    let other_bytes = Delivery {
        body: mixed_up.into(),
        ..sound.clone()
    };
    let other_tag = Delivery {
        tag: Tag(!tag_of(1).0),
        ..sound.clone()
    };
    for (delivery, expected) in [
        (sound, vec![]),
        (other_bytes, vec![2]),
        (other_tag, vec![2]),
    ] {
        let mut history = History::new();
        history.send(1, Waits::Not);
        history.is_handed(delivery);
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn what_comes_back_is_what_was_sent() {
    let sound = sent(1);
    let mut other_bytes = sound.body.to_vec();
    other_bytes[19] ^= 1;
    let other_bytes = Message {
        body: other_bytes.into(),
        ..sound.clone()
    };
    let other_tag = Message {
        tag: Tag(!tag_of(1).0),
        ..sound.clone()
    };
    let other_lane = sound.clone().on(Lane::BULK);
    for (message, expected) in [
        (sound, vec![]),
        (other_bytes, vec![1]),
        (other_tag, vec![1]),
        (other_lane, vec![1]),
    ] {
        let mut history = History::new();
        history.send(1, Waits::Not);
        history.is_lost();
        history.comes_back(message, UndeliveredReason::SessionLost, true);
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn who_is_asked_hears_how_long_the_sender_waits_at_most() {
    let millis = Duration::from_millis;
    let request = |patience| Waits::ForReply(PROMISE, patience);
    for (waits, expects, told, expected) in [
        (ACK, Expects::Ack, Some(SECOND), vec![]),
        (ACK, Expects::Ack, Some(SECOND / 2), vec![]),
        (ACK, Expects::Ack, Some(SECOND + millis(1)), vec![4]),
        (ACK, Expects::Ack, None, vec![4]),
        (Waits::Not, Expects::Nothing, None, vec![]),
        (Waits::Not, Expects::Nothing, Some(millis(1)), vec![4]),
        (request(None), Expects::Reply, None, vec![]),
        (request(None), Expects::Reply, Some(millis(1)), vec![4]),
        (request(Some(Duration::MAX)), Expects::Reply, None, vec![]),
        (
            request(Some(millis(1) / 2)),
            Expects::Reply,
            Some(millis(1)),
            vec![],
        ),
    ] {
        let mut history = History::new();
        history.send(1, waits);
        let timeout = told;
        history.is_handed(Delivery {
            timeout,
            ..said(1, expects)
        });
        assert_eq!(history.broken(), expected, "{waits:?}, {told:?}");
    }
}

/// Only the latest cancels are told again after a resume: the others are repeated as what has no time left.
#[test]
fn of_a_request_that_was_given_up_no_time_is_left() {
    for given_up in [true, false] {
        let mut history = History::new();
        history.send(1, Waits::ForReply(PROMISE, None));
        if given_up {
            history.oracle.cancelled(CLIENT, PROMISE);
            history.settles(Outcome::Cancelled);
        }
        history.comes_within(1, Expects::Reply, Duration::from_millis(1));
        let expected: &[u8] = if given_up { &[] } else { &[4] };
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn a_message_comes_once_also_after_a_resume() {
    for again in [false, true] {
        let mut history = History::new();
        history.send(1, Waits::Not);
        history.send(2, Waits::Not);
        history.comes(1, Expects::Nothing);
        history.connected(2, true);
        if again {
            // Under another delivery's key, as a node would hand it over that forgot the first.
            history.is_handed(Delivery {
                key: delivery(9),
                ..said(1, Expects::Nothing)
            });
        }
        history.comes(2, Expects::Nothing);
        let expected: &[u8] = if again { &[2] } else { &[] };
        assert_eq!(history.finish(), expected);
    }
}

#[test]
fn a_lane_keeps_its_order() {
    for (order, expected) in [([1, 2], vec![]), ([2, 1], vec![3, 3])] {
        let mut history = History::new();
        history.send(1, Waits::Not);
        history.send(2, Waits::Not);
        for number in order {
            history.comes(number, Expects::Nothing);
        }
        // The later one came too soon, and the earlier one too late.
        assert_eq!(history.finish(), expected);
    }
}

/// A node that drains rejects what somebody waits for, and takes what nobody does.
#[test]
fn whoever_drains_may_leave_out_what_is_waited_for_and_nothing_else() {
    for (drains, waits, expected) in [
        (true, ACK, vec![]),
        (true, Waits::Not, vec![3]),
        (false, ACK, vec![3]),
    ] {
        let mut history = History::new();
        history.send(1, waits);
        history.send(2, Waits::Not);
        if drains {
            history.oracle.drains(history.now, SERVER, SECOND);
        }
        history.comes(2, Expects::Nothing);
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn best_effort_may_have_gaps_and_never_goes_back() {
    for (order, expected) in [([1, 3], vec![]), ([3, 1], vec![3])] {
        let mut history = History::new();
        for number in 1..4 {
            let body = body(number, 20);
            history
                .oracle
                .sent_best_effort(history.now, CLIENT, &[SESSION], &body, None);
        }
        for number in order {
            history.is_handed(Delivery {
                lane: Lane::BEST_EFFORT,
                ..said(number, Expects::Nothing)
            });
        }
        assert_eq!(history.finish(), expected);
    }
}
