//! Sessions and their links; and limits.

use trunkline_core::{AdmissionRequest, LinkState, Timeouts};

use crate::World;

use super::*;

const LINK: LinkKey = LinkKey(SESSION.0);

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

/// Nothing need be said while an application decides about an admission.
#[test]
fn whoever_waits_to_be_let_in_may_be_silent_meanwhile() {
    let heartbeat = Config::default().heartbeat;
    let silence = heartbeat.interval * heartbeat.misses;
    for (asks, expected) in [(true, vec![]), (false, vec![8])] {
        let mut history = History::new();
        if asks {
            let request = AdmissionRequest {
                link: LINK,
                client: name(),
                address: ([10, 0, 0, 2], 4_433).into(),
                credentials: Bytes::new(),
                certificates: Vec::new(),
                agent: String::new(),
            };
            history.tell(SERVER, Event::Admission(Box::new(request)));
        }
        history.pass(silence - SECOND);
        history.oracle.admits(SERVER, LINK);
        history.connected(2, true);
        history.pass(SECOND);
        history.tell(SERVER, Event::HeartbeatTimeout { session: SESSION });
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
