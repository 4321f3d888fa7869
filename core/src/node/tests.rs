//! What can only be seen from inside: how much a call looks at.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use super::*;
use crate::quic::Roots;
use crate::seed::Seed;

/// A client with so many sessions that dial and wait for an answer, drained.
fn waiting(sessions: usize) -> Node {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let roots = Roots::from_der(vec![certificate.der().clone()], "roots").unwrap();
    let identity = None;
    let roles = Roles {
        server: None,
        client: Some(ClientRole { roots, identity }),
    };
    let now = Instant::now();
    let origin = Origin {
        now,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
        seed: Seed::new([7; 32]),
        keys: None,
    };
    let mut node = Node::new(Config::default(), roles, origin).unwrap();
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
    let mut buffer = Vec::new();
    while node
        .poll_transmit(now, NonZeroUsize::MIN, &mut buffer)
        .is_some()
    {
        buffer.clear();
    }
    assert_eq!(node.poll_event(), None);
    node
}

#[test]
fn an_idle_node_says_when_it_wants_its_timeout_without_looking_at_its_sessions() {
    for sessions in [1, 10_000] {
        let node = waiting(sessions);
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
    let mut node = waiting(10_000);
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
