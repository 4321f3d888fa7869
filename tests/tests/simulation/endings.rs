//! How things end: promises, limits, cancels, slow consumers, lost sessions.

use trunkline_core::{
    Audience, CommandError, DisconnectReason, Event, Expects, GroupName, Outcome, Status,
    StatusCode,
};
use trunkline_testkit::{NodeIndex, World, echo, silent};

use crate::{SECOND, message};

#[test]
fn every_outcome_of_a_promise_is_reached_once() {
    let (mut world, server, client) = World::pair(1);
    let session = world.connect(client, server, "alice");
    let acked = world.send_acked(client, session, b"ack me");
    let replied = world.request(client, session, b"reply");
    world.run(SECOND, echo);
    let rejected = world.request(client, session, b"reject");
    world.run(SECOND, |node, now, event| {
        if let Event::Message(delivery) = event {
            let status = Status::new(StatusCode::NOT_FOUND, "no such thing");
            node.reject(now, delivery.key, status).unwrap();
        }
    });
    let now = world.now();
    let node = world.node(client);
    let timed_out = node
        .request(now, session, message("slow"), Some(SECOND))
        .unwrap();
    let cancelled = node
        .request(now, session, message("not wanted"), None)
        .unwrap();
    world.run(SECOND / 2, silent);
    let now = world.now();
    world.node(client).cancel(now, cancelled).unwrap();
    assert_eq!(
        world.node(client).cancel(now, cancelled),
        Err(CommandError::UnknownPromise)
    );
    world.run(2 * SECOND, silent);
    let told = |event: &Event| matches!(event, Event::Cancelled { .. });
    assert_eq!(world.log(server).iter().filter(|(_, e)| told(e)).count(), 2);
    let lost = world.send_acked(client, session, b"lost");
    world.run(SECOND, silent);
    world.kill(server);
    world.start_process(server);
    world.run(60 * SECOND, echo);
    for (promise, outcome) in [
        (acked, "Acked"),
        (replied, "Replied reply"),
        (timed_out, "TimedOut"),
        (cancelled, "Cancelled"),
        (lost, "Lost { maybe_delivered: true }"),
    ] {
        assert_eq!(world.outcome(client, promise).as_deref(), Some(outcome));
    }
    assert!(
        world
            .outcome(client, rejected)
            .unwrap()
            .contains("no such thing")
    );
    assert_eq!(world.node(client).metrics(now).promises, 0);
}

#[test]
fn a_full_promise_table_refuses_or_evicts_as_configured() {
    for evict in [false, true] {
        let mut world = World::new(2);
        world.config().limits.promises = 2;
        if evict {
            world.config().promises_full = trunkline_core::PromisesFull::EvictOldest;
        }
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "alice");
        let first = world.send_acked(client, session, b"1");
        let second = world.send_acked(client, session, b"2");
        let now = world.now();
        let third = world
            .node(client)
            .send_acked(now, session, message("3"), None);
        if evict {
            let third = third.unwrap();
            world.run(SECOND, echo);
            assert_eq!(world.outcome(client, first).as_deref(), Some("Evicted"));
            assert_eq!(world.outcome(client, second).as_deref(), Some("Acked"));
            assert_eq!(world.outcome(client, third).as_deref(), Some("Acked"));
        } else {
            let refused = third.unwrap_err();
            assert_eq!(refused.error, CommandError::PromisesFull);
            assert_eq!(refused.message, message("3"));
            world.run(SECOND, echo);
            let writable = |event: &Event| matches!(event, Event::Writable { .. });
            assert!(world.log(client).iter().any(|(_, e)| writable(e)));
        }
    }
}

#[test]
fn a_full_outbox_hands_the_message_back_and_says_when_there_is_room() {
    let mut world = World::new(3);
    world.config().limits.outbox_bytes = 10_000;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let now = world.now();
    let body = vec![7; 4_000];
    world
        .node(client)
        .send(now, session, message(body.clone()))
        .unwrap();
    world
        .node(client)
        .send(now, session, message(body.clone()))
        .unwrap();
    let refused = world
        .node(client)
        .send(now, session, message(body.clone()))
        .unwrap_err();
    assert_eq!(
        (refused.error, refused.message),
        (CommandError::OutboxFull, message(body.clone()))
    );
    world.run(SECOND, echo);
    assert!(
        world
            .log(client)
            .iter()
            .any(|(_, e)| matches!(e, Event::Writable { .. }))
    );
    let now = world.now();
    world
        .node(client)
        .send(now, session, message(body))
        .unwrap();
}

#[test]
fn a_message_over_a_mebibyte_is_refused_before_it_is_queued() {
    let (mut world, server, client) = World::pair(4);
    let session = world.connect(client, server, "alice");
    let now = world.now();
    let body = vec![0; (1 << 20) + 1];
    let refused = world
        .node(client)
        .send(now, session, message(body))
        .unwrap_err();
    assert!(
        matches!(refused.error, CommandError::TooLarge { .. }),
        "{refused}"
    );
    assert_eq!(
        world
            .node(client)
            .session_info(session)
            .unwrap()
            .queued_bytes,
        0
    );
    let largest = vec![9; (1 << 20) - 64];
    let promise = world.send_acked(client, session, &largest);
    world.run(5 * SECOND, echo);
    assert_eq!(world.outcome(client, promise).as_deref(), Some("Acked"));
    assert_eq!(world.bodies(server), [bytes::Bytes::from(largest)]);
}

#[test]
fn a_client_does_not_join_a_group_of_its_own() {
    let (mut world, server, client) = World::pair(7);
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let group = GroupName::new("room").unwrap();
    let now = world.now();
    let joined = world.node(client).join(now, session, &group);
    assert_eq!(joined, Err(CommandError::NotOfAClient));
    assert_eq!(world.node(client).members(&group).count(), 0);
}

#[test]
fn a_broadcast_reaches_the_group_alone_and_in_order() {
    let mut world = World::new(7);
    let server = world.server();
    let clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    for (n, client) in clients.iter().enumerate() {
        world.connect(*client, server, &format!("client-{n}"));
    }
    world.run(SECOND, echo);
    let group = GroupName::new("room").unwrap();
    let now = world.now();
    let sessions: Vec<_> = world.node(server).sessions().collect();
    for session in sessions.iter().filter(|s| s.client.as_str() != "client-2") {
        world
            .node(server)
            .join(now, session.session, &group)
            .unwrap();
    }
    for n in 0..10 {
        let audience = Audience::Group(group.clone());
        let sent = world
            .node(server)
            .broadcast(now, &audience, message(vec![n]), None)
            .unwrap();
        assert_eq!((sent.queued, sent.dropped, sent.away), (2, 0, 0));
    }
    world.run(SECOND, echo);
    for (n, client) in clients.iter().enumerate() {
        let got: Vec<_> = world.bodies(*client).iter().map(|b| b[0]).collect();
        assert_eq!(
            got,
            if n == 2 {
                vec![]
            } else {
                (0..10).collect::<Vec<u8>>()
            }
        );
    }
}

#[test]
fn a_client_that_stops_reading_loses_broadcasts_and_holds_nobody_up() {
    let mut world = World::new(8);
    world.config().limits.best_effort_bytes = 20_000;
    world.config().limits.deliveries = 10;
    let server = world.server();
    let (slow, quick) = (world.client(), world.client());
    world.connect(slow, server, "slow");
    world.connect(quick, server, "quick");
    world.run(SECOND, echo);
    let mut dropped = 0;
    for _ in 0..500 {
        let now = world.now();
        let sent =
            world
                .node(server)
                .broadcast(now, &Audience::Everyone, message(vec![1; 1_000]), None);
        dropped += sent.unwrap().dropped;
        world.run(SECOND / 20, |node, now, event| {
            let reads = node.sessions().any(|s| s.client.as_str() == "quick");
            if reads {
                echo(node, now, event);
            }
        });
    }
    assert!(dropped > 100, "{dropped}");
    assert_eq!(world.bodies(quick).len(), 500);
    assert!(world.bodies(slow).len() < 100);
    assert!(
        world
            .log(server)
            .iter()
            .any(|(_, e)| matches!(e, Event::SlowConsumer { .. }))
    );
}

#[test]
fn a_handler_that_does_not_answer_holds_its_lane_back_and_no_other() {
    let mut world = World::new(9);
    world.config().limits.deliveries = 5;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let now = world.now();
    for n in 0..50 {
        world
            .node(client)
            .send(now, session, message(vec![n]))
            .unwrap();
    }
    world.run(SECOND, silent);
    assert_eq!(
        world.bodies(server).len(),
        5,
        "only so many are handed over unanswered"
    );
    let lane = trunkline_core::Lane::new(2).unwrap();
    let now = world.now();
    world
        .node(client)
        .send(now, session, message("other").on(lane))
        .unwrap();
    world.run(SECOND, |node, now, event| {
        if let Event::Message(delivery) = event {
            assert_eq!(delivery.expects, Expects::Nothing);
            node.ack(now, delivery.key).unwrap();
        }
    });
    assert_eq!(world.bodies(server).last().unwrap(), "other");
    let owed: Vec<_> = world
        .log(server)
        .iter()
        .filter_map(|(_, e)| match e {
            Event::Message(d) if d.lane == trunkline_core::Lane::DEFAULT => Some(d.key),
            _ => None,
        })
        .collect();
    let now = world.now();
    for key in owed {
        world.node(server).ack(now, key).unwrap();
    }
    world.run(SECOND, echo);
    assert_eq!(world.bodies(server).len(), 51);
}

#[test]
fn a_client_that_nobody_answers_gives_up_when_told_to() {
    let mut world = World::new(10);
    world.config().redial.max_attempts = Some(2);
    let server = world.server();
    let client = world.client();
    world.kill(server);
    let session = world.connect(client, server, "alice");
    let promise = world.send_acked(client, session, b"never");
    world.run(120 * SECOND, echo);
    let end = world.log(client).last().unwrap().1.clone();
    assert_eq!(
        end,
        Event::Closed {
            session,
            reason: DisconnectReason::ConnectTimeout
        }
    );
    let outcome = Outcome::Lost {
        maybe_delivered: false,
    };
    assert_eq!(world.outcome(client, promise), Some(format!("{outcome:?}")));
}

#[test]
fn a_full_event_queue_stops_reading_and_everything_arrives_once_it_is_drained() {
    let mut world = World::new(11);
    world.config().limits.event_messages = 3;
    let server = world.server();
    let clients: Vec<_> = (0..5).map(|_| world.client()).collect();
    let mut promises = Vec::new();
    for (n, client) in clients.iter().enumerate() {
        let session = world.connect(*client, server, &format!("client-{n}"));
        for _ in 0..40 {
            promises.push((*client, world.send_acked(*client, session, b"x")));
        }
    }
    world.run(10 * SECOND, echo);
    assert_eq!(world.bodies(server).len(), 200);
    for (client, promise) in promises {
        assert_eq!(world.outcome(client, promise).as_deref(), Some("Acked"));
    }
}

fn writable(world: &World, node: NodeIndex, session: trunkline_core::SessionKey) -> bool {
    let event = Event::Writable { session };
    world.log(node).iter().any(|(_, e)| *e == event)
}

#[test]
fn a_session_refused_for_the_nodes_promises_hears_when_another_session_frees_some() {
    let mut world = World::new(12);
    world.config().limits.promises_total = 2;
    let server = world.server();
    let client = world.client();
    let greedy = world.connect(client, server, "greedy");
    let refused = world.connect(client, server, "refused");
    // Once both are up, nothing of its own tells the refused session of room.
    world.run(SECOND, echo);
    world.send_acked(client, greedy, b"1");
    world.send_acked(client, greedy, b"2");
    let now = world.now();
    let full = world
        .node(client)
        .send_acked(now, refused, message("3"), None)
        .unwrap_err();
    assert_eq!(full.error, CommandError::PromisesFull);
    world.run(SECOND, echo);
    assert!(writable(&world, client, refused));
}

#[test]
fn a_lost_session_has_room_again_and_says_so() {
    let mut world = World::new(13);
    world.config().limits.outbox_bytes = 10_000;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    world.path.cut = true;
    let now = world.now();
    while world
        .node(client)
        .send(now, session, message(vec![1; 4_000]))
        .is_ok()
    {}
    world.kill(server);
    world.start_process(server);
    world.path.cut = false;
    assert!(!writable(&world, client, session));
    world.run(120 * SECOND, echo);
    let lost = |event: &Event| matches!(event, Event::SessionLost { .. });
    assert!(world.log(client).iter().any(|(_, e)| lost(e)));
    assert!(writable(&world, client, session));
}

#[test]
fn a_key_from_before_a_loss_never_means_something_from_after_it() {
    let (mut world, server, client) = World::pair(14);
    let session = world.connect(client, server, "alice");
    world.run(SECOND, silent);
    let old_promise = world.send_acked(client, session, b"before");
    let delivered = |world: &World| {
        let mut keys = world
            .log(client)
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Message(delivery) => Some(delivery.key),
                _ => None,
            });
        (keys.next(), keys.next())
    };
    let tell = |world: &mut World| {
        let now = world.now();
        let to = world.node(server).sessions().next().unwrap().session;
        world
            .node(server)
            .send_acked(now, to, message("told"), None)
            .unwrap()
    };
    tell(&mut world);
    world.run(SECOND, silent);
    let old_delivery = delivered(&world).0.unwrap();
    world.kill(server);
    world.start_process(server);
    world.run(60 * SECOND, silent);
    let new_promise = world.send_acked(client, session, b"after");
    let told = tell(&mut world);
    world.run(SECOND, silent);
    assert!(delivered(&world).1.is_some_and(|new| new != old_delivery));
    let now = world.now();
    let node = world.node(client);
    assert_eq!(
        node.ack(now, old_delivery),
        Err(CommandError::UnknownDelivery)
    );
    assert_eq!(
        node.cancel(now, old_promise),
        Err(CommandError::UnknownPromise)
    );
    world.run(SECOND, silent);
    assert_eq!(world.outcome(client, new_promise), None);
    assert_eq!(
        world.outcome(server, told),
        None,
        "nobody has answered it yet"
    );
}
