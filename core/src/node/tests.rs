//! What can only be seen from inside: how much a call looks at.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use super::*;
use crate::error::{CloseCode, DisconnectReason};
use crate::metrics::Measured;
use crate::quic::{Identity, Roots};
use crate::seed::Seed;

fn origin(now: Instant) -> Origin {
    Origin {
        now,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
        seed: Seed::new([7; 32]),
        keys: None,
    }
}

fn certificate() -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    (params.self_signed(&key).unwrap(), key)
}

/// A client with so many sessions that dial and wait for an answer, drained, and what it has sent last.
fn dialling(sessions: usize) -> (Node, Vec<u8>) {
    let (certificate, _) = certificate();
    let roots = Roots::from_der(vec![certificate.der().clone()], "roots").unwrap();
    let identity = None;
    let roles = Roles {
        server: None,
        client: Some(ClientRole { roots, identity }),
    };
    let now = Instant::now();
    let mut node = Node::new(Config::default(), roles, origin(now)).unwrap();
    for _ in 0..sessions {
        let dial = Dial {
            address: "192.0.2.1:4433".parse().unwrap(),
            server_name: "localhost".into(),
            client: "alice".parse().unwrap(),
            credentials: Default::default(),
            agent: "test".into(),
        };
        node.connect(now, dial).unwrap();
    }
    let sent = drain(&mut node, now);
    (node, sent)
}

/// A server that lets everybody in.
fn serving(now: Instant) -> Node {
    let (certificate, key) = certificate();
    let chain = vec![certificate.der().clone()];
    let identity = Identity::from_der(chain, key.into(), "server").unwrap();
    let server = ServerRole {
        identity,
        admission: Admission::Open,
        client_roots: None,
    };
    let roles = Roles {
        server: Some(server),
        client: None,
    };
    Node::new(Config::default(), roles, origin(now)).unwrap()
}

/// What a client says first.
fn first_packet() -> Input {
    let (_, hello) = dialling(1);
    Input::Datagram(Datagram {
        remote: "192.0.2.1:4433".parse().unwrap(),
        local_ip: None,
        ecn: None,
        data: hello[..].into(),
    })
}

/// Takes out all that the node has to send, and returns the last of it.
fn drain(node: &mut Node, now: Instant) -> Vec<u8> {
    let (mut last, mut buffer) = (Vec::new(), Vec::new());
    while node
        .poll_transmit(now, NonZeroUsize::MIN, &mut buffer)
        .is_some()
    {
        last = std::mem::take(&mut buffer);
    }
    assert_eq!(node.poll_event(), None);
    last
}

#[test]
fn an_idle_node_says_when_it_wants_its_timeout_without_looking_at_its_sessions() {
    for sessions in [1, 10_000] {
        let (node, _) = dialling(sessions);
        assert!(node.timers.len() >= sessions, "each has its deadline");
        let before = node.timers.examined();
        assert!(node.poll_timeout().is_some_and(|at| at > node.now));
        assert!(matches!(node.timeout_reason(), Some(Owner::Link(_))));
        let examined = node.timers.examined() - before;
        assert_eq!(examined, 2, "one for each question, of {sessions} sessions");
    }
}

#[test]
fn a_timeout_looks_at_those_whose_deadline_has_come() {
    let (mut node, _) = dialling(10_000);
    let before = (node.timers.examined(), node.metrics.links_visited);
    let early = node.now + Duration::from_millis(1);
    assert!(node.poll_timeout().is_some_and(|at| at > early));
    node.handle_input(early, Input::Timeout);
    assert_eq!(node.poll_event(), None);
    assert_eq!(
        node.poll_transmit(early, NonZeroUsize::MIN, &mut Vec::new()),
        None
    );
    // Both looked at the next deadline, and there it ended.
    let after = (node.timers.examined(), node.metrics.links_visited);
    assert_eq!((after.0 - before.0, after.1 - before.1), (2, 0));
}

/// Where QUIC has had enough of an ended connection and so has the node, at once, for its timeout came
/// late: whoever says it, QUIC has to be told.
#[test]
fn nothing_is_left_of_a_link_that_nobody_was_admitted_over_however_late_timeouts_come() {
    for late in (0..500).step_by(10).map(Duration::from_millis) {
        let mut now = Instant::now();
        let mut node = serving(now);
        node.handle_input(now, first_packet());
        drain(&mut node, now);
        assert_eq!(node.endpoint.open_connections(), 1);
        while let Some(deadline) = node.poll_timeout() {
            now = deadline.max(now) + late;
            node.handle_input(now, Input::Timeout);
            drain(&mut node, now);
        }
        assert_eq!(node.endpoint.open_connections(), 0, "{late:?}");
        assert_eq!((node.links.len(), node.half_open.all()), (0, 0), "{late:?}");
    }
}

#[test]
fn lines_of_whom_a_node_does_not_let_in_are_bounded() {
    let mut now = Instant::now();
    let mut node = serving(now);
    node.handle_input(now, first_packet());
    let (link, _) = node.links.iter().next().unwrap();
    for _ in 0..60 {
        let client = "mallory".parse().unwrap();
        node.refused(link, client, CloseCode::REFUSED, "no");
    }
    assert_eq!(node.strangers.left_out(), 10);
    // Whom nobody knows by name has less room.
    let stranger = "192.0.2.1:4433".parse().unwrap();
    let reason = DisconnectReason::Certificate("it is missing".into());
    for _ in 0..6 {
        node.not_let_in(now, stranger, &reason);
    }
    assert_eq!(node.strangers.left_out(), 11);
    // A second later it is said how many there were, whatever the node does then.
    now += Duration::from_secs(1);
    node.handle_input(now, Input::Timeout);
    assert_eq!(node.strangers.left_out(), 0);
}

#[test]
fn a_handshake_that_nobody_goes_on_with_is_counted_and_is_no_refusal() {
    let mut now = Instant::now();
    let mut node = serving(now);
    node.handle_input(now, first_packet());
    drain(&mut node, now);
    while let Some(deadline) = node.poll_timeout() {
        now = deadline.max(now);
        node.handle_input(now, Input::Timeout);
        drain(&mut node, now);
    }
    let counted = node.metrics(now);
    assert_eq!((counted.links_closed, counted.handshakes_timed_out), (1, 1));
    assert_eq!(counted.admissions_refused, 0);
    // Its line is a detail, and has been written.
    assert_eq!(node.strangers.written(), (0, 1));
}

#[test]
fn a_debug_text_tells_what_a_node_is_and_nothing_of_its_seed() {
    let (node, _) = dialling(2);
    let text = format!("{node:?}");
    for part in ["admission: None", "dials: true", "sessions: 2", "links: 2"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("7, 7") && !text.contains("0707"), "{text}");
    let sessions: Vec<_> = node.sessions().map(|own| own.session.to_string()).collect();
    assert_eq!(sessions, ["0v0", "1v0"]);
}

#[test]
fn answers_for_which_there_is_no_room_are_counted() {
    let now = Instant::now();
    let mut node = serving(now);
    node.drain(now, DrainPlan::within(Duration::from_secs(1)))
        .unwrap();
    let Input::Datagram(first) = first_packet() else {
        unreachable!()
    };
    for port in 1..=1_100 {
        let (remote, data) = (([192, 0, 2, 1], port).into(), first.data.clone());
        let datagram = Datagram {
            remote,
            data,
            ..first
        };
        node.handle_input(now, Input::Datagram(datagram));
    }
    let counted = node.metrics(now);
    assert_eq!(counted.incoming_refused, 1_100);
    assert_eq!(counted.responses_dropped, 1_100 - 1_024);
}

#[test]
fn what_becomes_of_a_socket_is_counted_by_its_owner() {
    let now = Instant::now();
    let mut shards = [serving(now), serving(now)];
    for shard in &mut shards {
        shard.count_unsent(3);
        shard.count_receive_failed();
    }
    let [one, other] = &shards;
    let all = Measured::sum([one.measured(now), other.measured_at_the_end()]);
    assert_eq!((all.datagrams_unsent, all.receives_failed), (6, 2));
    assert_eq!((all.shards_started, all.shards_running), (2, 1));
    let described = |name: &str| {
        let mut all = all.described_counters();
        all.find(|(counter, ..)| *counter == name).unwrap()
    };
    let help = "Times that receiving from the socket failed.";
    assert_eq!(described("receives_failed"), ("receives_failed", help, 2));
}
