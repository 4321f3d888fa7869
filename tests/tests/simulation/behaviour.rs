//! What the delivery rules promise, in virtual time.

use std::time::Duration;

use trunkline_core::{Event, Lane, Message, Tag, UndeliveredReason};
use trunkline_testkit::{Path, World, echo, silent};

use crate::SECOND;

#[test]
fn the_first_reply_takes_two_round_trips() {
    let (mut world, server, client) = World::pair(1);
    world.path.delay = Duration::from_millis(50);
    let session = world.connect(client, server, "alice");
    let promise = world.request(client, session, b"ping");
    world.run(Duration::from_millis(199), echo);
    assert_eq!(world.outcome(client, promise), None);
    world.run(Duration::from_millis(10), echo);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied ping")
    );
}

#[test]
fn what_is_sent_during_a_cut_arrives_once_and_in_order_after_it() {
    let (mut world, server, client) = World::pair(2);
    let session = world.connect(client, server, "alice");
    let mut promises = vec![world.send_acked(client, session, b"0")];
    world.run(SECOND, echo);
    world.path.cut = true;
    for n in 1..100 {
        promises.push(world.send_acked(client, session, n.to_string().as_bytes()));
        world.run(SECOND, echo);
    }
    world.path.cut = false;
    world.run(120 * SECOND, echo);
    for promise in promises {
        assert_eq!(world.outcome(client, promise).as_deref(), Some("Acked"));
    }
    let got: Vec<_> = world
        .bodies(server)
        .iter()
        .map(|b| String::from_utf8_lossy(b).into_owned())
        .collect();
    assert_eq!(got, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    let resumed = world
        .log(client)
        .iter()
        .any(|(_, e)| matches!(e, Event::Connected { resumed: true, .. }));
    assert!(resumed, "the session was resumed");
}

#[test]
fn a_restarted_server_is_noticed_and_nothing_starts_over_in_silence() {
    let (mut world, server, client) = World::pair(3);
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let promise = world.send_acked(client, session, b"unanswered");
    world.run(SECOND, silent);
    world.kill(server);
    assert_eq!(world.send(client, session, b"unsaid".to_vec()), Ok(()));
    world.start_process(server);
    let restarted = world.now();
    world.run(60 * SECOND, echo);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Lost { maybe_delivered: true }")
    );
    let log = world.log(client);
    let at = |wanted: fn(&Event) -> bool| {
        log.iter()
            .find(|(at, e)| *at >= restarted && wanted(e))
            .map(|(at, _)| *at - restarted)
    };
    let lost = at(|e| matches!(e, Event::SessionLost { .. })).unwrap();
    let reason = UndeliveredReason::SessionLost;
    let unsaid =
        |e: &Event| matches!(e, Event::Undelivered { reason: found, .. } if *found == reason);
    assert_eq!(world.count(client, unsaid), 1);
    let back = at(|e| matches!(e, Event::Connected { resumed: false, .. })).unwrap();
    assert!(
        lost <= back && back < 20 * SECOND,
        "lost after {lost:?}, back after {back:?}"
    );
}

#[test]
fn two_hundred_clients_on_a_bad_network_lose_and_reorder_nothing() {
    const CLIENTS: usize = 200;
    const MESSAGES: usize = 10;
    let lanes = [Lane::DEFAULT, Lane::new(2).unwrap(), Lane::new(3).unwrap()];
    let mut world = World::new(6);
    world.path = Path {
        delay: Duration::from_millis(100),
        jitter: Duration::from_millis(20),
        loss: 0.1,
        reorder: 0.2,
        duplicate: 0.1,
        corrupt: 0.07,
        ..Path::default()
    };
    let server = world.server();
    let mut promises = Vec::new();
    for n in 0..CLIENTS {
        let client = world.client();
        let session = world.connect(client, server, &format!("client-{n}"));
        for i in 0..MESSAGES {
            for (lane, on) in lanes.into_iter().enumerate() {
                let body = format!("{n} {lane} {i}");
                let message = Message::new(Tag::of("test.Said"), body).on(on);
                let now = world.now();
                let node = world.node(client);
                let promise = node.send_acked(now, session, message, Some(Duration::MAX));
                promises.push((client, promise.unwrap()));
            }
        }
    }
    world.run(60 * SECOND, echo);
    for (client, promise) in promises {
        assert_eq!(world.outcome(client, promise).as_deref(), Some("Acked"));
    }
    let mut next = vec![[0; 3]; CLIENTS];
    for body in world.bodies(server) {
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut numbers = text.split(' ').map(|part| part.parse::<usize>().unwrap());
        let [client, lane, number] = std::array::from_fn(|_| numbers.next().unwrap());
        assert_eq!(number, next[client][lane], "client {client}, lane {lane}");
        next[client][lane] += 1;
    }
    assert!(next.iter().flatten().all(|count| *count == MESSAGES));
    let traffic = world.traffic();
    let happened = [
        traffic.lost,
        traffic.reordered,
        traffic.duplicated,
        traffic.corrupted,
    ];
    assert!(happened.iter().all(|count| *count > 500), "{traffic:?}");
}
