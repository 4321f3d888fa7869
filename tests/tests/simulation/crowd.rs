//! Answers that peers do not take: what all of them may hold together, and who is served meanwhile.

use std::time::Instant;

use trunkline_core::{CloseCode, Event, Node};
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_testkit::raw_peer::{RawSettings, hello};
use trunkline_testkit::{NodeIndex, World};

use crate::SECOND;

const KIB: usize = 1 << 10;
/// What all answers together may take, before those that have most are read no further.
const ALL: usize = 256 * KIB;
/// What a session may be handed before it has answered.
const DELIVERIES: usize = 8;
const REPLY: usize = 8 * KIB;
const REQUESTS: u64 = 200;

/// Answers every request with much more.
fn generous(node: &mut Node, now: Instant, event: &Event) {
    if let Event::Message(delivery) = event {
        let reply = node.reply(now, delivery.key, delivery.tag, vec![7; REPLY]);
        // The session may have ended since.
        reply.ok();
    }
}

/// A client that asks for much, and takes nothing of it: it says of no answer that it holds it.
fn taker_of_nothing(world: &mut World, server: NodeIndex, number: u64) {
    let client = world.raw_client(server, &RawSettings::default());
    world.run(SECOND, generous);
    let link = world.raw(client).link();
    link.hello(&hello(&format!("greedy-{number}"), number));
    let lane = link.open_lane(0, 0);
    for promise in 1..=REQUESTS {
        let request = Envelope {
            kind: Kind::Request as i32,
            tag: Some(7),
            promise,
            ..Envelope::default()
        };
        link.send_envelope(lane, &request);
    }
    world.run(SECOND, generous);
}

/// A server with four such clients.
fn crowded(seed: u64) -> (World, NodeIndex) {
    let mut world = World::new(seed);
    let limits = &mut world.config().limits;
    limits.outbox_bytes_total = ALL;
    limits.deliveries = DELIVERIES;
    let server = world.server();
    for number in 0..4 {
        taker_of_nothing(&mut world, server, number);
    }
    (world, server)
}

#[test]
fn answers_that_nobody_takes_are_held_within_bounds_and_keep_nobody_else_waiting() {
    let (mut world, server) = crowded(1);
    let now = world.now();
    let metrics = world.node(server).metrics(now);
    // Each has its share beyond that, and what it had been handed by then.
    let most = ALL + 4 * (64 * KIB + DELIVERIES * 9 * KIB);
    let held = metrics.answer_bytes;
    assert!((ALL..most).contains(&held), "{held} bytes");
    assert!(metrics.requests_received < 4 * REQUESTS / 4, "{metrics:?}");
    let of_sessions = world.node(server).sessions().map(|info| info.answer_bytes);
    assert_eq!(of_sessions.sum::<usize>(), held);

    let client = world.client();
    let session = world.connect(client, server, "modest");
    world.run(SECOND, generous);
    for _ in 0..20 {
        let promise = world.request(client, session, b"little");
        world.run(SECOND, generous);
        let outcome = world.outcome(client, promise).unwrap();
        assert!(outcome.starts_with("Replied"), "{outcome}");
    }
}

#[test]
fn who_was_left_for_others_is_read_on_once_they_are_gone() {
    let (mut world, server) = crowded(2);
    let now = world.now();
    let before = world.node(server).metrics(now).requests_received;
    let sessions: Vec<_> = world.node(server).sessions().collect();
    for info in &sessions[..3] {
        let node = world.node(server);
        node.close(now, info.session, CloseCode::NORMAL, "enough")
            .unwrap();
    }
    // Nothing comes from the last one meanwhile.
    world.run(10 * SECOND, generous);
    let now = world.now();
    let metrics = world.node(server).metrics(now);
    assert_eq!(metrics.sessions, 1);
    let more = metrics.requests_received - before;
    assert!(more > 5, "{more} requests more");
    assert!(
        metrics.answer_bytes > 150 * KIB,
        "{} bytes",
        metrics.answer_bytes
    );
}
