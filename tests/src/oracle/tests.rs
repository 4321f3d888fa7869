//! The oracle's own tests: for each invariant a history that keeps it, and one that breaks it in one
//! place.

use std::time::{Duration, Instant};

use trunkline_core::{
    ClientId, CloseCode, Config, Delivery, DeliveryKey, DisconnectReason, Event, Expects, Key,
    Lane, Message, Outcome, PromiseKey, SessionKey, UndeliveredReason,
};

use trunkline_core::{Limits, LinkState, PromisesFull, Status, Timeouts};
use trunkline_proto::ENVELOPE_OVERHEAD_MAX;

use super::*;
use crate::World;

const SECOND: Duration = Duration::from_secs(1);
const SERVER: usize = 0;
const CLIENT: usize = 1;
const SESSION: SessionKey = SessionKey(Key {
    slot: 0,
    generation: 0,
});
/// The promise of the message that is sent first.
const PROMISE: PromiseKey = PromiseKey {
    session: SESSION,
    number: 1,
};

/// A client's session with a server, as an oracle is told of it.
struct History {
    oracle: Oracle,
    now: Instant,
}

impl History {
    fn new() -> Self {
        let now = Instant::now();
        let mut oracle = Oracle::new(now);
        for node in [SERVER, CLIENT] {
            oracle.started(now, node, &Config::default());
        }
        oracle.connects(now, CLIENT, SESSION, &name());
        let mut history = Self { oracle, now };
        history.connected(1, false);
        history
    }

    fn tell(&mut self, node: usize, event: Event) {
        self.oracle.event(self.now, node, &event);
    }

    fn connected(&mut self, epoch: u64, resumed: bool) {
        for node in [SERVER, CLIENT] {
            let connected = Event::Connected {
                session: SESSION,
                client: name(),
                address: ([10, 0, 0, 1], 4_433).into(),
                epoch,
                resumed,
            };
            self.tell(node, connected);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The client sends a message of that number.
    fn send(&mut self, number: u64, waits: Waits) {
        let body = body(number, 20);
        let oracle = &mut self.oracle;
        oracle.sent(self.now, CLIENT, SESSION, Lane::DEFAULT, &body, waits);
    }

    /// The server's application is handed it.
    fn comes(&mut self, number: u64, expects: Expects) -> DeliveryKey {
        self.is_handed(said(number, expects))
    }

    /// The server's application is handed it, and told how long its sender waits.
    fn comes_within(&mut self, number: u64, expects: Expects, timeout: Duration) -> DeliveryKey {
        self.is_handed(Delivery {
            timeout: Some(timeout),
            ..said(number, expects)
        })
    }

    /// The server's application is handed something.
    fn is_handed(&mut self, delivery: Delivery) -> DeliveryKey {
        let key = delivery.key;
        self.tell(SERVER, Event::Message(delivery));
        key
    }

    /// The client's application gets a message back.
    fn comes_back(&mut self, message: Message, reason: UndeliveredReason, maybe_delivered: bool) {
        let given_back = Event::Undelivered {
            session: SESSION,
            message,
            reason,
            maybe_delivered,
        };
        self.tell(CLIENT, given_back);
    }

    /// The client's link or dial has ended, and it dials again.
    fn redials(&mut self, attempt: u32, delay: Duration) {
        self.tell(CLIENT, gone());
        let redials = Event::Reconnecting {
            session: SESSION,
            attempt,
            delay,
        };
        self.tell(CLIENT, redials);
    }

    /// The client's application hears that its server has crashed and lost its session.
    fn is_lost(&mut self) {
        self.oracle.ended(self.now, SERVER);
        self.tell(CLIENT, Event::SessionLost { session: SESSION });
    }

    /// The client's application has closed its session, and that is done.
    fn is_over(&mut self) {
        self.oracle.closes(self.now, CLIENT, SESSION);
        let reason = DisconnectReason::Local {
            code: CloseCode::NORMAL,
            reason: String::new(),
        };
        let session = SESSION;
        self.tell(CLIENT, Event::Closed { session, reason });
    }

    fn settles(&mut self, outcome: Outcome) {
        let settled = Event::Settled {
            promise: PROMISE,
            outcome,
            after: Duration::ZERO,
        };
        self.tell(CLIENT, settled);
    }

    /// Which invariants were broken.
    fn broken(&self) -> Vec<u8> {
        let violations = self.oracle.violations().iter();
        violations.map(|violation| violation.invariant).collect()
    }

    fn finish(mut self) -> Vec<u8> {
        self.oracle.finish(self.now);
        self.broken()
    }
}

fn name() -> ClientId {
    ClientId::new("alice").unwrap()
}

fn delivery(number: u64) -> DeliveryKey {
    DeliveryKey {
        session: SESSION,
        number,
    }
}

/// The session's link has ended, and the session has not.
fn gone() -> Event {
    Event::Disconnected {
        session: SESSION,
        reason: DisconnectReason::ConnectTimeout,
        retained: true,
    }
}

/// A message as it was sent.
fn sent(number: u64) -> Message {
    Message::new(tag_of(number), body(number, 20)).on(Lane::DEFAULT)
}

/// A message as it comes to whom it was sent.
fn said(number: u64, expects: Expects) -> Delivery {
    Delivery {
        key: delivery(number),
        lane: Lane::DEFAULT,
        tag: tag_of(number),
        body: body(number, 20),
        expects,
        timeout: None,
    }
}

const ACK: Waits = Waits::ForAck(PROMISE, Some(SECOND));

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
        tag: tag_of(2),
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
        tag: tag_of(2),
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
                .sent_best_effort(CLIENT, &[SESSION], &body, None);
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
fn nothing_outgrows_its_limit() {
    let mut world = World::new(1);
    let server = world.server();
    let client = world.client();
    for name in ["alice", "bob"] {
        world.connect(client, server, name);
    }
    world.run(SECOND, crate::echo);
    for (sessions, expected) in [(2, vec![]), (1, vec![5])] {
        let mut config = Config::default();
        config.limits.sessions = sessions;
        let mut history = History::new();
        let now = world.now();
        history.oracle.started(now, SERVER, &config);
        history.oracle.look(now, SERVER, world.node(server));
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn a_session_is_lost_with_a_cause_alone() {
    for crashed in [true, false] {
        let mut history = History::new();
        if crashed {
            history.oracle.ended(history.now, SERVER);
        }
        history.pass(SECOND);
        history.tell(CLIENT, Event::SessionLost { session: SESSION });
        let expected: &[u8] = if crashed { &[] } else { &[6] };
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn a_session_begins_anew_with_a_word_of_its_loss() {
    for told in [true, false] {
        let mut history = History::new();
        history.oracle.ended(history.now, SERVER);
        history.pass(SECOND);
        if told {
            history.tell(CLIENT, Event::SessionLost { session: SESSION });
        }
        history
            .oracle
            .started(history.now, SERVER, &Config::default());
        history.connected(1, false);
        let expected: &[u8] = if told { &[] } else { &[6] };
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

#[test]
fn a_peer_is_dead_after_its_intervals_of_silence_and_not_before() {
    let heartbeat = Config::default().heartbeat;
    let silence = heartbeat.interval * heartbeat.misses;
    for (after, expected) in [(silence, vec![]), (silence - SECOND, vec![8])] {
        let mut history = History::new();
        history.pass(after);
        history.tell(CLIENT, Event::HeartbeatTimeout { session: SESSION });
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn redials_keep_to_their_envelope_and_are_drawn() {
    let millis = Duration::from_millis;
    for (delays, expected) in [
        // By default the first lies in 0.5 to 1 s, the second in 1 to 2 s.
        ([millis(700), millis(1_500)], vec![]),
        ([millis(499), millis(1_500)], vec![9]),
        ([millis(700), millis(2_001)], vec![9]),
        ([millis(1_000), millis(2_000)], vec![9]),
    ] {
        let mut history = History::new();
        for (attempt, delay) in (1..).zip(delays) {
            history.redials(attempt, delay);
        }
        assert_eq!(history.broken(), expected);
    }
}

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

/// A closing one has a little longer, for what is under way.
#[test]
fn a_session_that_nobody_comes_back_to_ends_with_its_retention() {
    let Timeouts {
        retention, close, ..
    } = Config::default().timeouts;
    for (after, comes_back, closing, expected) in [
        (retention, false, false, vec![]),
        (retention + 2 * TICK, false, false, vec![6]),
        (retention + 2 * TICK, true, false, vec![]),
        (retention + close, false, true, vec![]),
        (retention + close + 2 * TICK, false, true, vec![6]),
    ] {
        let (mut world, server, client) = World::pair(1);
        world.connect(client, server, "alice");
        world.run(SECOND, crate::echo);
        world.path.cut = true;
        world.run(60 * SECOND, crate::echo);
        let kept = world.node(server).sessions().next().unwrap();
        assert_eq!((kept.session, kept.state), (SESSION, LinkState::Away));
        let mut history = History::new();
        history.tell(SERVER, gone());
        if closing {
            history.oracle.closes(history.now, SERVER, SESSION);
        }
        if comes_back {
            history.connected(2, true);
        }
        history.pass(after);
        let now = history.now;
        history.oracle.look(now, SERVER, world.node(server));
        assert_eq!(history.broken(), expected);
    }
}

/// From one on after a link that held, and otherwise on from the one before.
#[test]
fn redials_are_counted() {
    let stable = Config::default().redial.stable_after;
    for (held, attempt, expected) in [
        (stable - TICK, 2, vec![]),
        (stable - TICK, 1, vec![9]),
        (stable, 1, vec![]),
        (stable, 2, vec![9]),
    ] {
        let mut history = History::new();
        let delay = |attempt: u32| SECOND * 7 / 10 * attempt;
        history.redials(1, delay(1));
        history.pass(SECOND);
        history.connected(2, true);
        history.pass(held);
        history.redials(attempt, delay(attempt));
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn who_is_to_redial_is_not_back_before_that() {
    for (after, expected) in [(SECOND, vec![]), (SECOND / 2, vec![9])] {
        let mut history = History::new();
        history.redials(1, SECOND * 7 / 10);
        history.pass(after);
        history.connected(2, true);
        assert_eq!(history.broken(), expected);
    }
}
