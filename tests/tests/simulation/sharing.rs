//! Who shares a link or a node does not wait for another.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use trunkline_core::{
    Audience, CloseCode, CommandError, DisconnectReason, Event, Lane, Message, Outcome,
    SessionInfo, SessionKey, SlowConsumer, Tag,
};
use trunkline_testkit::{NodeIndex, World, echo};

use crate::SECOND;

/// A link of 50 Mbit/s and 20 ms there and back. Its queue holds what the link does in that time.
fn link(seed: u64) -> (World, NodeIndex, NodeIndex, SessionKey) {
    let mut world = World::new(seed);
    world.path.delay = Duration::from_millis(10);
    world.path.rate = Some(50_000_000);
    world.path.queue = Some(125_000);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    (world, server, client, session)
}

/// Sends a small request every 10 ms, and `keep`s another lane busy meanwhile. Returns what 99 % of
/// the replies did not exceed.
fn p99(
    world: &mut World,
    (client, session): (NodeIndex, SessionKey),
    time: Duration,
    mut keep: impl FnMut(&mut World),
) -> Duration {
    let before = world.log(client).len();
    let (end, mut asked) = (world.now() + time, 0);
    while world.now() < end {
        keep(world);
        let now = world.now();
        let request = Message::new(Tag::of("test.Small"), "ping");
        world
            .node(client)
            .request(now, session, request, None)
            .unwrap();
        asked += 1;
        world.run(SECOND / 100, echo);
    }
    world.run(SECOND, echo);
    let latency = |event: &Event| match event {
        Event::Settled {
            outcome: Outcome::Replied { .. },
            after,
            ..
        } => Some(*after),
        _ => None,
    };
    let log = &world.log(client)[before..];
    let mut all: Vec<_> = log.iter().filter_map(|(_, e)| latency(e)).collect();
    assert_eq!(all.len(), asked, "every request got its reply");
    all.sort_unstable();
    all[all.len() * 99 / 100]
}

fn bytes_received(world: &World, node: NodeIndex) -> usize {
    world.bodies(node).iter().map(|body| body.len()).sum()
}

#[test]
fn the_first_of_many_links_sends_before_the_others_are_visited() {
    let mut world = World::new(11);
    let server = world.server();
    for number in 0..20 {
        let client = world.client();
        world.connect(client, server, &format!("guest-{number}"));
    }
    world.run(SECOND, echo);
    let now = world.now();
    let node = world.node(server);
    let message = Message::new(Tag(7), "all");
    let sent = node.broadcast(now, &Audience::Everyone, message, None);
    assert_eq!(sent.unwrap().queued, 20);
    let before = node.metrics(now).links_visited;
    let mut visited = Vec::new();
    while node
        .poll_transmit(now, NonZeroUsize::MIN, &mut Vec::new())
        .is_some()
    {
        visited.push(node.metrics(now).links_visited - before);
    }
    assert_eq!(visited, (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_bulk_transfer_does_not_hold_up_small_requests() {
    let time = 4 * SECOND;
    for (upwards, lane) in [
        (true, Lane::BULK),
        (false, Lane::BULK),
        (true, Lane::new(2).unwrap()),
    ] {
        let (mut world, server, client, session) = link(1);
        let on_server = world.node(server).sessions().next().unwrap().session;
        let unloaded = p99(&mut world, (client, session), time, |_| {});
        let (from, to, by) = if upwards {
            (client, session, server)
        } else {
            (server, on_server, client)
        };
        let start = bytes_received(&world, by);
        let loaded = p99(&mut world, (client, session), time, |world| {
            let now = world.now();
            let bulk = || Message::new(Tag::of("test.Bulk"), vec![0; 256 << 10]).on(lane);
            while world.node(from).send(now, to, bulk()).is_ok() {}
        });
        let moved = bytes_received(&world, by) - start;
        let of_the_link = moved as f64 * 8.0 / 50e6 / (time + SECOND).as_secs_f64();
        assert!(of_the_link > 0.85, "the link was not full: {of_the_link}");
        assert!(
            unloaded >= SECOND / 50 && loaded <= 3 * unloaded,
            "{lane}, upwards {upwards}: p99 {loaded:?} with a bulk transfer, {unloaded:?} without"
        );
    }
}

/// The numbers of the broadcasts that a client was handed.
fn numbers(world: &World, node: NodeIndex) -> Vec<u32> {
    let number = |body: bytes::Bytes| u32::from_be_bytes(body[..4].try_into().unwrap());
    world.bodies(node).into_iter().map(number).collect()
}

/// What a server told its application of a session's best-effort messages that it dropped.
fn told_of_drops(world: &World, server: NodeIndex, of: SessionKey) -> u64 {
    let dropped = |event: &Event| match event {
        Event::Dropped { session, messages } => {
            assert_eq!(*session, of, "no other has lost anything");
            *messages
        }
        _ => 0,
    };
    world.log(server).iter().map(|(_, e)| dropped(e)).sum()
}

/// How many broadcasts are sent, when a client stops reading them, and when it reads again.
const SENT: u32 = 200;
const STOPS: u32 = 20;
const READS_AGAIN: u32 = 120;
/// The broadcasts' keys, in turn.
const KEYS: u32 = 4;

/// A server, ten clients, and numbered broadcasts to all of them, which one client stops reading
/// for a while. Returns the clients, the slow one last.
fn a_client_stops_reading(policy: SlowConsumer) -> (World, NodeIndex, SessionKey, Vec<NodeIndex>) {
    let mut world = World::new(1);
    world.config().slow_consumer = policy;
    world.config().limits.best_effort_bytes = 50_000;
    world.config().limits.deliveries = 10;
    let server = world.server();
    let clients: Vec<_> = (0..10).map(|_| world.client()).collect();
    for (n, client) in clients.iter().enumerate() {
        world.connect(*client, server, &format!("client-{n}"));
    }
    world.run(SECOND, echo);
    let slow = clients[9];
    let is_slow = |s: &SessionInfo| s.client.as_str() == "client-9";
    let session = world.node(server).sessions().find(is_slow).unwrap().session;
    let owed = Rc::new(RefCell::new(Vec::new()));
    let deliveries = owed.clone();
    world.attach(slow, move |_, _, event| {
        if let Event::Message(delivery) = event {
            deliveries.borrow_mut().push(delivery.key);
        }
    });
    for n in 0..SENT {
        let mut body = vec![0; 9_900];
        body[..4].copy_from_slice(&n.to_be_bytes());
        let now = world.now();
        let message = Message::new(Tag::of("test.Said"), body);
        let key = Some(u64::from(n % KEYS));
        let everyone = Audience::Everyone;
        let told = world.node(server).broadcast(now, &everyone, message, key);
        assert!(told.unwrap().queued >= 9);
        for _ in 0..5 {
            world.run(SECOND / 100, echo);
            if (STOPS..READS_AGAIN).contains(&n) {
                continue;
            }
            for key in std::mem::take(&mut *owed.borrow_mut()) {
                // Its link may have ended since, and its deliveries with it.
                let now = world.now();
                world.node(slow).ack(now, key).ok();
            }
        }
    }
    world.run(10 * SECOND, echo);
    (world, server, session, clients)
}

#[test]
fn a_client_that_stops_reading_a_broadcast_meets_the_policy_and_no_other_does() {
    for policy in [
        SlowConsumer::DropNewest,
        SlowConsumer::DropOldest,
        SlowConsumer::KeepLatest,
        SlowConsumer::Disconnect,
    ] {
        let (mut world, server, session, mut clients) = a_client_stops_reading(policy);
        let got = numbers(&world, clients.pop().unwrap());
        for client in clients {
            let all: Vec<_> = (0..SENT).collect();
            assert_eq!(numbers(&world, client), all, "{policy:?}");
        }
        let before: Vec<_> = got.iter().filter(|n| **n < READS_AGAIN).collect();
        let after: Vec<_> = got.iter().filter(|n| **n > READS_AGAIN).collect();
        assert!(
            before.len() > STOPS as usize,
            "{policy:?}: what was on its way is not lost"
        );
        assert!(
            before.len() < READS_AGAIN as usize,
            "{policy:?}: it was never too slow"
        );
        assert!(
            after.contains(&&(SENT - 1)),
            "{policy:?}: it never came back"
        );
        for key in 0..KEYS {
            let of_key = |n: &&u32| policy != SlowConsumer::KeepLatest || **n % KEYS == key;
            let in_order: Vec<_> = got.iter().filter(of_key).collect();
            assert!(in_order.is_sorted_by(|a, b| a < b), "{policy:?}: {got:?}");
        }
        let now = world.now();
        let dropped = world.node(server).metrics(now).best_effort_dropped;
        assert_eq!(
            told_of_drops(&world, server, session),
            dropped,
            "{policy:?}"
        );
        let ended = Event::Disconnected {
            session,
            reason: DisconnectReason::Local {
                code: CloseCode::SLOW_CONSUMER,
                reason: "best-effort messages were not read fast enough".into(),
            },
            retained: true,
        };
        let was_ended = world.log(server).iter().any(|(_, event)| *event == ended);
        assert_eq!(was_ended, policy == SlowConsumer::Disconnect);
        if was_ended {
            continue;
        }
        assert_eq!(got.len() as u64 + dropped, u64::from(SENT), "{policy:?}");
        let newest_first = before.last() == Some(&&(before.len() as u32 - 1));
        assert_eq!(newest_first, policy == SlowConsumer::DropNewest, "{got:?}");
        if policy != SlowConsumer::DropNewest {
            let mut latest = READS_AGAIN - KEYS + 1..=READS_AGAIN;
            assert!(latest.all(|n| got.contains(&n)), "{policy:?}: {got:?}");
        }
    }
}

#[test]
fn a_close_that_leaves_broadcasts_unsent_says_how_many() {
    let mut world = World::new(2);
    world.config().limits.deliveries = 10;
    let server = world.server();
    let client = world.client();
    world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let session = world.node(server).sessions().next().unwrap().session;
    for _ in 0..60 {
        let now = world.now();
        let message = Message::new(Tag::of("test.Said"), vec![0; 10_000]);
        let everyone = Audience::Everyone;
        let told = world.node(server).broadcast(now, &everyone, message, None);
        assert_eq!(told.unwrap().queued, 1);
        world.run(SECOND / 100, |_, _, _| {});
    }
    let now = world.now();
    let node = world.node(server);
    node.close(now, session, CloseCode::NORMAL, "done").unwrap();
    world.run(10 * SECOND, |_, _, _| {});
    let closed = |event: &Event| matches!(event, Event::Closed { .. });
    assert!(closed(&world.log(server).last().unwrap().1));
    let now = world.now();
    let dropped = world.node(server).metrics(now).best_effort_dropped;
    assert!(dropped > 0);
    assert_eq!(told_of_drops(&world, server, session), dropped);
}

#[test]
fn a_broadcast_that_is_too_long_for_a_client_is_dropped_for_it_alone() {
    let mut world = World::new(3);
    let server = world.server();
    let large = world.client();
    world.config().limits.frame_bytes = 8_192;
    let small = world.client();
    world.connect(large, server, "large");
    world.connect(small, server, "small");
    world.run(SECOND, echo);
    for (size, queued) in [(10_000, 1), (1_000, 2)] {
        let now = world.now();
        let message = Message::new(Tag::of("test.Said"), vec![0; size]);
        let everyone = Audience::Everyone;
        let told = world.node(server).broadcast(now, &everyone, message, None);
        let told = told.unwrap();
        assert_eq!((told.queued, told.dropped), (queued, 2 - queued));
        world.run(SECOND, echo);
    }
    assert_eq!(world.bodies(large).len(), 2);
    assert_eq!(world.bodies(small).len(), 1);
    let is_small = |s: &SessionInfo| s.client.as_str() == "small";
    let session = world.node(server).sessions().find(is_small).unwrap();
    let session = session.session;
    assert_eq!(told_of_drops(&world, server, session), 1);
    let now = world.now();
    let message = Message::new(Tag::of("test.Said"), vec![0; 10_000]);
    let refused = world
        .node(server)
        .send_best_effort(now, session, message, None)
        .unwrap_err();
    assert!(
        matches!(refused.error, CommandError::TooLarge { limit: 8_192, .. }),
        "{refused:?}"
    );
    world.run(SECOND, echo);
    let closed = |(_, event): &(_, Event)| matches!(event, Event::Disconnected { .. });
    assert!(!world.log(small).iter().any(closed));
}

#[test]
fn a_broadcast_that_no_queue_takes_drops_nothing_and_disconnects_nobody() {
    for policy in [SlowConsumer::DropOldest, SlowConsumer::Disconnect] {
        let mut world = World::new(4);
        world.config().slow_consumer = policy;
        world.config().limits.best_effort_bytes = 5_000;
        let server = world.server();
        let client = world.client();
        world.connect(client, server, "alice");
        world.run(SECOND, echo);
        for (size, fits) in [(4_000, true), (10_000, false)] {
            let now = world.now();
            let message = Message::new(Tag::of("test.Said"), vec![0; size]);
            let everyone = Audience::Everyone;
            let told = world.node(server).broadcast(now, &everyone, message, None);
            assert_eq!(told.is_ok(), fits, "{policy:?}: {told:?}");
        }
        world.run(SECOND, echo);
        assert_eq!(world.bodies(client).len(), 1, "{policy:?}");
    }
}
