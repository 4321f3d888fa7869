//! What is lost, and why.

use trunkline_core::{Limits, Status};
use trunkline_proto::ENVELOPE_OVERHEAD_MAX;

use super::*;

/// In the same instant, and what was sent before.
#[test]
fn what_is_lost_with_a_session_is_lost_when_it_is() {
    for (late, after, expected) in [
        (false, false, vec![]),
        (true, false, vec![1, 4]),
        // What was sent since would have to be over.
        (false, true, vec![1, 6]),
    ] {
        let mut history = History::new();
        let sends = |history: &mut History| {
            history.send(1, ACK);
            history.send(2, Waits::Not);
        };
        if !after {
            sends(&mut history);
        }
        history.is_lost();
        if after {
            sends(&mut history);
        }
        if late {
            history.pass(TICK);
        }
        history.comes_back(sent(2), UndeliveredReason::SessionLost, true);
        history.settles(Outcome::Lost {
            maybe_delivered: true,
        });
        assert_eq!(history.finish(), expected);
    }
}

#[test]
fn what_is_lost_as_a_session_ends_has_the_end_behind_it() {
    let lost = Outcome::Lost {
        maybe_delivered: true,
    };
    for promised in [true, false] {
        for (over, late, expected) in [
            (true, false, vec![]),
            (false, true, vec![6]),
            (true, true, vec![6]),
        ] {
            let mut history = History::new();
            history.send(1, if promised { ACK } else { Waits::Not });
            if promised {
                history.settles(lost.clone());
            } else {
                history.comes_back(sent(1), UndeliveredReason::SessionOver, true);
            }
            if late {
                history.pass(TICK);
            }
            if over {
                history.is_over();
            } else {
                history.tell(CLIENT, Event::Writable { session: SESSION });
            }
            assert_eq!(history.broken(), expected);
        }
    }
}

/// Looked for in the end as well: nothing may be told any more.
#[test]
fn in_the_end_what_was_said_to_be_over_is() {
    for over in [true, false] {
        let mut history = History::new();
        history.send(1, Waits::Not);
        history.comes_back(sent(1), UndeliveredReason::SessionOver, true);
        if over {
            history.is_over();
        }
        let expected: &[u8] = if over { &[] } else { &[6] };
        assert_eq!(history.finish(), expected);
    }
}

#[test]
fn nothing_is_refused_by_a_peer_that_takes_it() {
    let rejected = || {
        let status = Status::new(StatusCode::INVALID_ARGUMENT, "too large");
        Outcome::Rejected(status)
    };
    let small: fn(&mut Limits) = |limits| limits.frame_bytes = ENVELOPE_OVERHEAD_MAX + 19;
    let few: fn(&mut Limits) = |limits| limits.lanes = 0;
    let roomy: fn(&mut Limits) = |limits| limits.frame_bytes = ENVELOPE_OVERHEAD_MAX + 20;
    for (limit, takes_it) in [(small, false), (few, false), (roomy, true)] {
        let mut config = Config::default();
        limit(&mut config.limits);
        let mut history = History::new();
        history.oracle.started(history.now, SERVER, &config);
        history.send(1, ACK);
        history.send(2, Waits::Not);
        history.comes_back(sent(2), UndeliveredReason::NotTaken, false);
        history.settles(rejected());
        let expected: &[u8] = if takes_it { &[1, 4] } else { &[] };
        assert_eq!(history.broken(), expected);
    }
}
