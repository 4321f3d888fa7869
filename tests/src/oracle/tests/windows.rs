//! Messages that wait at whoever they came to say nothing of their sender's life when they are handed over.

use trunkline_core::Config;

use crate::swarm::{Action, Kind, Plan, Step, run_recorded};
use crate::{Certificates, Recording};

use super::*;

/// An application that answers seldom is handed one message at a time: its node reads the third when the
/// client has been silent for 78 seconds, and QUIC gives the client up 13 seconds later.
#[test]
fn a_peer_is_dead_however_late_its_messages_are_handed_over() {
    let mut config = Config::default();
    config.limits.deliveries = 1;
    let (node, client, session) = (SERVER, CLIENT, 0);
    let send = |node: usize, count: usize| Action::Send {
        node,
        session,
        kind: Kind::Told,
        lane: None,
        size: 20,
        count,
    };
    let answer = || Action::Answer {
        node,
        count: 1,
        rejects: false,
    };
    let cut = |cut: bool| Action::Cut {
        from: node,
        to: client,
        both: true,
        cut,
    };
    let steps = [
        (
            0,
            Action::Connect {
                client,
                server: node,
            },
        ),
        (1, Action::Hold { node, holds: true }),
        (1, send(client, 3)),
        (2, cut(true)),
        // QUIC counts from the first that it says in vain.
        (3, send(node, 1)),
        (40, answer()),
        (80, answer()),
        (100, cut(false)),
    ];
    let steps = steps.map(|(at, action)| Step {
        at: SECOND * at,
        action,
    });
    let plan = Plan {
        servers: 1,
        clients: 1,
        server: config.clone(),
        client: config,
        asks: false,
        steps: steps.into(),
        ..Plan::new(1)
    };
    let ran = run_recorded(&plan, &Certificates::new().unwrap(), Some(Recording::Wire));
    let events = ran.recorded.unwrap().events;
    let times = |what: &str| -> Vec<&str> {
        let lines = events.lines().filter(|line| line.contains(what));
        lines.map(|line| line.split(' ').next().unwrap()).collect()
    };
    assert_eq!(times("node 0: Message")[..3], ["1.001s", "40s", "80s"]);
    assert_eq!(times("node 0: HeartbeatTimeout"), ["93s"]);
    assert_eq!((ran.violations, ran.panicked), (vec![], None), "{events}");
}

/// What came in a lane that had room came now, however long ago it was sent: so it is in most runs.
#[test]
fn a_peer_whose_message_found_room_was_heard_when_it_was_handed_over() {
    let heartbeat = Config::default().heartbeat;
    let silence = heartbeat.interval * heartbeat.misses;
    for (deliveries, bytes, answers_late, expected) in [
        (1, 1_000, true, vec![]),
        (1, 1_000, false, vec![8]),
        (2, 1_000, true, vec![8]),
        // Each weighs as much as its body, and some more.
        (2, 20, true, vec![]),
    ] {
        let mut config = Config::default();
        (config.limits.deliveries, config.limits.delivery_bytes) = (deliveries, bytes);
        let mut history = History::served_by(&config);
        history.send(1, Waits::Not);
        history.send(2, Waits::Not);
        let first = history.comes(1, Expects::Nothing);
        if !answers_late {
            history.answers(first);
        }
        history.pass(SECOND);
        if answers_late {
            history.answers(first);
        }
        history.comes(2, Expects::Nothing);
        history.pass(silence - SECOND);
        let session = SESSION;
        history.tell(SERVER, Event::HeartbeatTimeout { session });
        assert_eq!(history.broken(), expected, "{deliveries}, {bytes}");
    }
}

/// Then it was heard when it sent it, and not before.
#[test]
fn a_peer_whose_message_waited_lived_when_it_was_sent() {
    let heartbeat = Config::default().heartbeat;
    let silence = heartbeat.interval * heartbeat.misses;
    for (after, expected) in [(silence, vec![]), (silence - SECOND, vec![8])] {
        let mut config = Config::default();
        config.limits.deliveries = 1;
        let mut history = History::served_by(&config);
        history.send(1, Waits::Not);
        let first = history.comes(1, Expects::Nothing);
        history.pass(10 * SECOND);
        history.send(2, Waits::Not);
        history.pass(after);
        history.answers(first);
        history.comes(2, Expects::Nothing);
        let session = SESSION;
        history.tell(SERVER, Event::HeartbeatTimeout { session });
        assert_eq!(history.broken(), expected);
    }
}

impl History {
    /// A client that has come to a server of that configuration with its session.
    fn served_by(config: &Config) -> Self {
        let mut history = Self::new();
        history.oracle.started(history.now, SERVER, config);
        history.connected(2, true);
        history
    }

    /// The server's application accepts a message.
    fn answers(&mut self, delivery: DeliveryKey) {
        let now = self.now;
        self.oracle.answered(now, SERVER, delivery, Answer::Ack);
    }
}
