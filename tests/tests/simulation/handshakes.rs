//! Handshakes: on bad networks, and of TLS sessions that are resumed.

use std::time::Duration;

use trunkline_core::Event;
use trunkline_core::tap::Signature;
use trunkline_core::trace::{Reader, Record, replay};
use trunkline_testkit::{World, echo};

use crate::SECOND;

/// Every handshake gets through, within the time of a few dials. Among so many are some whose last
/// packets from the client come so late that several of the server's probes are overdue by then:
/// the world checks that this does not make the server spin.
#[test]
fn handshakes_get_through_a_network_that_loses_a_third_in_bursts() {
    for (delay, seed) in [15, 20]
        .into_iter()
        .flat_map(|d| (0..100).map(move |s| (d, s)))
    {
        let mut world = World::new(seed);
        world.path.delay = Duration::from_millis(delay);
        world.path.loss = 0.3;
        world.path.burst = Some(3.0);
        let server = world.server();
        let client = world.client();
        world.connect(client, server, "alice");
        world.run(30 * SECOND, echo);
        let connected = |event: &Event| matches!(event, Event::Connected { .. });
        assert!(
            world.log(client).iter().any(|(_, event)| connected(event)),
            "delay {delay} ms, seed {seed}: {:?}",
            world.log(client)
        );
    }
}

/// How often a server signs for two clients of one node, which come one after the other; its
/// recording is to replay.
fn signatures(server_allows: bool, client_allows: bool) -> usize {
    let mut world = World::new(3);
    world.config().transport.tls_resumption = server_allows;
    world.record();
    let server = world.server();
    world.config().transport.tls_resumption = client_allows;
    let client = world.client();
    for name in ["alice", "bob"] {
        world.connect(client, server, name);
        world.run(SECOND, echo);
    }
    let connected = |event: &Event| matches!(event, Event::Connected { .. });
    let events = world.log(server);
    assert_eq!(
        events.iter().filter(|(_, event)| connected(event)).count(),
        2
    );
    let trace = world.traces(server).remove(0);
    let report = replay(&trace[..], world.now()).unwrap();
    assert!(report.is_identical(), "{report}");
    let mut reader = Reader::new(&trace[..]).unwrap();
    let mut made = 0;
    while let Some((_, record)) = reader.next_record().unwrap() {
        made += usize::from(matches!(record, Record::Signature(Signature::Made { .. })));
    }
    made
}

#[test]
fn a_tls_session_is_resumed_without_a_signature_where_both_ends_allow_it() {
    assert_eq!(signatures(true, true), 1);
    for (server, client) in [(false, false), (true, false), (false, true)] {
        assert_eq!(signatures(server, client), 2, "{server}, {client}");
    }
}
