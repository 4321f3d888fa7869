//! How sessions end in order: close, and drain.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::time::Duration;

use trunkline_core::{
    Admission, CloseCode, CommandError, DeliveryKey, DisconnectReason, DrainPlan, Event, LinkState,
    Message, Node, PromiseKey, Refusal, Tag,
};
use trunkline_proto::ALTERNATIVE_MAX;
use trunkline_testkit::{NodeIndex, World, echo, silent};

const SECOND: Duration = Duration::from_secs(1);

fn message(body: impl Into<bytes::Bytes>) -> Message {
    Message::new(Tag::of("test.Said"), body)
}

/// A client comes whose request the server's application works on.
fn working(world: &mut World, client: NodeIndex, server: NodeIndex) -> (PromiseKey, DeliveryKey) {
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let promise = world.request(client, session, b"work");
    let mut open = None;
    world.run(SECOND / 10, |_, _, event| {
        if let Event::Message(delivery) = event {
            open = Some(delivery.key);
        }
    });
    (promise, open.unwrap())
}

/// A drain that takes so long at most.
fn within(deadline: Duration) -> DrainPlan {
    DrainPlan {
        deadline,
        retry_after: None,
        alternative: None,
    }
}

#[test]
fn closing_loses_nothing_that_was_sent_before() {
    let (mut world, server, client) = World::pair(5);
    world.path.loss = 0.2;
    world.path.delay = Duration::from_millis(20);
    let session = world.connect(client, server, "alice");
    let now = world.now();
    for n in 0..200_u32 {
        world
            .node(client)
            .send(now, session, message(n.to_be_bytes().to_vec()))
            .unwrap();
    }
    world.run(SECOND, echo);
    let now = world.now();
    world
        .node(client)
        .close(now, session, CloseCode::NORMAL, "done")
        .unwrap();
    let late = world
        .node(client)
        .send(now, session, message("late"))
        .unwrap_err();
    assert_eq!(late.error, CommandError::Closing);
    world.run(20 * SECOND, echo);
    let got: Vec<_> = world.bodies(server).iter().map(|b| b.to_vec()).collect();
    assert_eq!(
        got,
        (0..200_u32)
            .map(|n| n.to_be_bytes().to_vec())
            .collect::<Vec<_>>()
    );
    for node in [client, server] {
        assert!(
            world
                .log(node)
                .iter()
                .any(|(_, e)| matches!(e, Event::Closed { .. }))
        );
        assert_eq!(world.node(node).sessions().count(), 0);
    }
}

#[test]
fn a_draining_server_finishes_what_is_in_flight_and_its_client_starts_over_elsewhere() {
    let (mut world, server, client) = World::pair(6);
    let (promise, open) = working(&mut world, client, server);
    let now = world.now();
    let plan = DrainPlan {
        deadline: 10 * SECOND,
        retry_after: Some(5 * SECOND),
        alternative: Some("elsewhere:1".into()),
    };
    world.node(server).drain(now, plan).unwrap();
    world.run(SECOND, silent);
    let now = world.now();
    world.node(server).reply(now, open, Tag(1), "done").unwrap();
    world.run(SECOND, silent);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied done")
    );
    let drained = Event::Drained {
        finished: 1,
        cut_off: 0,
    };
    assert!(
        world.log(server).iter().any(|(_, e)| *e == drained),
        "{:?}",
        world.log(server)
    );
    let delays: Vec<_> = world
        .log(client)
        .iter()
        .filter_map(|(_, e)| match e {
            Event::Reconnecting { delay, .. } => Some(*delay),
            _ => None,
        })
        .collect();
    assert!(
        delays.first().is_some_and(|delay| *delay >= 5 * SECOND),
        "{delays:?}"
    );
}

#[test]
fn who_still_works_for_a_client_can_send_to_it_while_its_server_drains() {
    let (mut world, server, client) = World::pair(6);
    let _ = world.connect(client, server, "idle");
    let (promise, open) = working(&mut world, client, server);
    let now = world.now();
    let plan = within(10 * SECOND);
    let mut others = world.node(server).sessions().map(|info| info.session);
    let idle = others.find(|key| *key != open.session).unwrap();
    drop(others);
    world.node(server).drain(now, plan).unwrap();
    let node = world.node(server);
    let refused = node.send(now, idle, message("nobody works for it"));
    assert_eq!(refused.unwrap_err().error, CommandError::Closing);
    node.send(now, open.session, message("half of it")).unwrap();
    let asked = node
        .request(now, open.session, message("how many?"), None)
        .unwrap();
    world.run(SECOND, echo);
    let heard = world.bodies(client);
    assert_eq!(heard, [&b"half of it"[..], b"how many?"]);
    assert_eq!(
        world.outcome(server, asked).as_deref(),
        Some("Replied how many?")
    );
    let now = world.now();
    let node = world.node(server);
    node.reply(now, open, Tag(1), "done").unwrap();
    let late = node.send(now, open.session, message("late"));
    assert_eq!(late.unwrap_err().error, CommandError::Closing);
    world.run(SECOND, silent);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied done")
    );
    let drained = Event::Drained {
        finished: 2,
        cut_off: 0,
    };
    assert!(world.log(server).iter().any(|(_, e)| *e == drained));
}

#[test]
fn a_drain_leaves_a_session_that_is_being_closed_as_it_is() {
    for (deadline, ends_after) in [(60 * SECOND, 5), (2 * SECOND, 2)] {
        let (mut world, server, client) = World::pair(6);
        let (_, open) = working(&mut world, client, server);
        let now = world.now();
        let node = world.node(server);
        let banned = CloseCode(1_001);
        node.close(now, open.session, banned, "banned").unwrap();
        let plan = within(deadline);
        node.drain(now, plan).unwrap();
        let refused = node.send(now, open.session, message("more"));
        assert_eq!(refused.unwrap_err().error, CommandError::Closing);
        world.run(120 * SECOND, silent);
        let log = world.log(server).iter();
        let mut ends = log.filter_map(|(at, event)| match event {
            Event::Closed { reason, .. } => Some((*at - now, reason.clone())),
            _ => None,
        });
        let (after, reason) = ends.next().unwrap();
        assert_eq!(after.as_secs(), ends_after);
        let local = DisconnectReason::Local {
            code: banned,
            reason: "banned".into(),
        };
        assert_eq!(reason, local);
        let drained = |event: &Event| matches!(event, Event::Drained { .. });
        assert_eq!(world.count(server, drained), 1);
    }
}

#[test]
fn a_drain_does_not_wait_for_a_closing_session_that_nobody_comes_back_to() {
    for away_before in [true, false] {
        let mut world = World::new(6);
        world.config().heartbeat.interval = SECOND;
        world.config().heartbeat.misses = 2;
        let (server, client) = (world.server(), world.client());
        let (_, open) = working(&mut world, client, server);
        world.kill(client);
        if away_before {
            world.run(5 * SECOND, silent);
        }
        let now = world.now();
        let node = world.node(server);
        let banned = CloseCode(1_001);
        node.close(now, open.session, banned, "banned").unwrap();
        let plan = within(300 * SECOND);
        node.drain(now, plan).unwrap();
        world.run(4 * SECOND, silent);
        let local = DisconnectReason::Local {
            code: banned,
            reason: "banned".into(),
        };
        assert_eq!(ends(&world, server).last(), Some(&local), "{away_before}");
        let drained = Event::Drained {
            finished: 0,
            cut_off: 1,
        };
        assert!(world.log(server).iter().any(|(_, e)| *e == drained));
    }
}

#[test]
fn who_is_closed_in_a_drain_is_told_why() {
    let (mut world, server, client) = World::pair(6);
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    world.request(client, session, b"work");
    world.run(SECOND, silent);
    let served = world.node(server).sessions().next().unwrap().session;
    let now = world.now();
    let node = world.node(server);
    let plan = DrainPlan {
        deadline: 60 * SECOND,
        retry_after: Some(SECOND),
        alternative: None,
    };
    node.drain(now, plan).unwrap();
    let banned = CloseCode(1_001);
    node.close(now, served, banned, "banned").unwrap();
    world.run(30 * SECOND, silent);
    let told = DisconnectReason::Peer {
        code: banned,
        reason: "banned".into(),
        retry_after: None,
    };
    assert_eq!(ends(&world, client), [told]);
}

#[test]
fn who_is_closed_while_a_drain_waits_for_its_work_is_sent_nothing_more() {
    let (mut world, server, client) = World::pair(6);
    let (_, open) = working(&mut world, client, server);
    let now = world.now();
    let node = world.node(server);
    let plan = within(10 * SECOND);
    node.drain(now, plan).unwrap();
    let best_effort = message("as it goes");
    node.send_best_effort(now, open.session, best_effort, None)
        .unwrap();
    let code = CloseCode::NORMAL;
    node.close(now, open.session, code, "done").unwrap();
    let refused = node.send(now, open.session, message("more"));
    assert_eq!(refused.unwrap_err().error, CommandError::Closing);
    world.run(SECOND, silent);
    assert_eq!(world.bodies(client), [&b"as it goes"[..]]);
}

#[test]
fn a_drain_that_sends_clients_nowhere_does_not_begin() {
    let (mut world, server, _) = World::pair(5);
    let now = world.now();
    let long = format!("{}:1", "a".repeat(ALTERNATIVE_MAX));
    for nowhere in [
        "",
        "there",
        ":1",
        "there:",
        "there:0",
        "there:65536",
        "th\nere:1",
        "::1",
        "2001:db8::1",
        "[::1]",
        "[::1]:0",
        "http://there:80",
        "there:+80",
        &long,
    ] {
        let plan = DrainPlan {
            deadline: SECOND,
            retry_after: None,
            alternative: Some(nowhere.into()),
        };
        let refused = world.node(server).drain(now, plan);
        assert_eq!(
            refused,
            Err(CommandError::InvalidAlternative),
            "{nowhere:?}"
        );
    }
    for there in ["there:1", "10.0.0.1:65535", "[::1]:4433"] {
        let (mut world, server, _) = World::pair(6);
        let now = world.now();
        let plan = DrainPlan {
            deadline: SECOND,
            retry_after: None,
            alternative: Some(there.into()),
        };
        world.node(server).drain(now, plan).unwrap();
    }
}

#[test]
fn what_comes_to_a_draining_server_is_rejected_where_somebody_waits_and_taken_where_nobody_does() {
    let (mut world, server, client) = World::pair(7);
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    // Work that is never done holds the drain up.
    world.request(client, session, b"work");
    world.run(SECOND, silent);
    let now = world.now();
    let plan = within(10 * SECOND);
    world.node(server).drain(now, plan).unwrap();
    world.run(SECOND, silent);
    let (before, now) = (world.log(server).len(), world.now());
    let late = [
        world.request(client, session, b"late"),
        world.send_acked(client, session, b"late too"),
    ];
    let unwatched = message(&b"unwatched"[..]);
    world.node(client).send(now, session, unwatched).unwrap();
    world.run(SECOND, silent);
    for promise in late {
        let outcome = world.outcome(client, promise).unwrap();
        assert!(outcome.contains("going away"), "{outcome}");
    }
    let bodies = world.log(server)[before..]
        .iter()
        .filter_map(|(_, e)| match e {
            Event::Message(delivery) => Some(delivery.body.clone()),
            _ => None,
        });
    assert_eq!(bodies.collect::<Vec<_>>(), [&b"unwatched"[..]]);
}

#[test]
fn when_both_sides_close_at_once_the_servers_code_counts() {
    let (mut world, server, client) = World::pair(8);
    let own = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let session = world.node(server).sessions().next().unwrap().session;
    let now = world.now();
    let (of_server, of_client) = (CloseCode(1_001), CloseCode(1_002));
    let node = world.node(server);
    node.close(now, session, of_server, "server").unwrap();
    let node = world.node(client);
    node.close(now, own, of_client, "client").unwrap();
    world.run(10 * SECOND, silent);
    let reason = DisconnectReason::Local {
        code: of_server,
        reason: "server".into(),
    };
    let closed = Event::Closed { session, reason };
    assert_eq!(world.log(server).last().unwrap().1, closed);
    let closed = |event: &Event| matches!(event, Event::Closed { .. });
    assert!(closed(&world.log(client).last().unwrap().1));
}

/// A world whose links die and come back within fractions of a second.
fn quick(seed: u64) -> World {
    let mut world = World::new(seed);
    world.config().heartbeat.interval = Duration::from_millis(100);
    world.config().redial.first = Duration::from_millis(100);
    world
}

#[test]
fn closing_goes_on_over_the_next_link_when_one_breaks() {
    let mut world = quick(6);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    world.path.cut = true;
    for n in 0..20 {
        world.send(client, session, vec![n]).unwrap();
    }
    let now = world.now();
    let code = CloseCode::NORMAL;
    world
        .node(client)
        .close(now, session, code, "done")
        .unwrap();
    world.run(SECOND, echo);
    let broke = |e: &Event| matches!(e, Event::Disconnected { retained: true, .. });
    assert!(world.count(client, broke) > 0);
    world.path.cut = false;
    world.run(10 * SECOND, echo);
    let got: Vec<_> = world.bodies(server).iter().map(|b| b[0]).collect();
    assert_eq!(got, (0..20).collect::<Vec<_>>());
    for node in [client, server] {
        assert_eq!(world.node(node).sessions().count(), 0);
    }
    let back = |e: &Event| matches!(e, Event::Undelivered { .. });
    assert_eq!(world.count(client, back), 0);
}

#[test]
fn closing_gives_up_in_time_when_no_link_comes_back() {
    let mut world = quick(7);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    world.path.cut = true;
    world.send(client, session, vec![1]).unwrap();
    let now = world.now();
    let code = CloseCode::NORMAL;
    world
        .node(client)
        .close(now, session, code, "done")
        .unwrap();
    world.run(5 * SECOND + Duration::from_millis(1), echo);
    let (closed, end) = world.log(client).last().unwrap().clone();
    assert_eq!(closed - now, 5 * SECOND);
    let local = DisconnectReason::Local {
        code,
        reason: "done".into(),
    };
    let reason = local;
    assert_eq!(end, Event::Closed { session, reason });
    let back = |e: &Event| {
        matches!(
            e,
            Event::Undelivered {
                maybe_delivered: true,
                ..
            }
        )
    };
    assert_eq!(world.count(client, back), 1);
}

#[test]
fn a_peer_that_closes_gets_what_was_on_its_way_to_it() {
    let mut world = World::new(8);
    world.path.delay = Duration::from_millis(50);
    world.path.loss = 0.1;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let now = world.now();
    let code = CloseCode::NORMAL;
    let there = world.node(server).sessions().next().unwrap().session;
    for n in 0..500_u16 {
        world.send(server, there, n.to_be_bytes().to_vec()).unwrap();
    }
    world
        .node(client)
        .close(now, session, code, "done")
        .unwrap();
    world.run(10 * SECOND, echo);
    let expected: Vec<_> = (0..500_u16).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(world.bodies(client), expected);
    let back = |e: &Event| matches!(e, Event::Undelivered { .. });
    assert_eq!(world.count(server, back), 0);
    for node in [client, server] {
        assert_eq!(world.node(node).sessions().count(), 0);
    }
}

/// Why a session's links have ended so far.
fn ends(world: &World, node: NodeIndex) -> Vec<DisconnectReason> {
    let ends = world.log(node).iter().filter_map(|(_, event)| match event {
        Event::Disconnected { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    ends.collect()
}

#[test]
fn a_client_that_is_refused_for_a_while_does_not_wait_for_its_own_application() {
    let mut world = quick(9);
    world.admission = Admission::Ask;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let mut asked = 0;
    let retry_after = Some(30 * SECOND);
    let mut refuse_the_second = |node: &mut Node, now, event: &Event| {
        let Event::Admission(request) = event else {
            return;
        };
        asked += 1;
        if asked == 2 {
            let refusal = Refusal {
                reason: "later".into(),
                retry_after,
            };
            node.refuse(now, request.link, refusal).unwrap();
        } else {
            node.admit(now, request.link).unwrap();
        }
    };
    world.run(SECOND, &mut refuse_the_second);
    let there = world.node(server).sessions().next().unwrap().session;
    world.send(server, there, b"work".to_vec()).unwrap();
    world.run(SECOND, &mut refuse_the_second);
    assert_eq!(world.bodies(client).len(), 1);
    world.path.cut = true;
    world.run(SECOND, &mut refuse_the_second);
    world.path.cut = false;
    world.run(90 * SECOND, &mut refuse_the_second);
    assert_eq!(asked, 3, "{:?}", world.log(client));
    let refused = DisconnectReason::Peer {
        code: CloseCode::REFUSED,
        reason: "later".into(),
        retry_after,
    };
    assert_eq!(ends(&world, client).last(), Some(&refused));
    let lost = |event: &Event| matches!(event, Event::SessionLost { .. } | Event::Closed { .. });
    assert_eq!(world.count(client, lost), 0);
    let info = world.node(client).session_info(session).unwrap();
    assert_eq!((info.state, info.epoch), (LinkState::Connected, 2));
}

#[test]
fn a_session_that_its_client_has_closed_is_not_kept_because_a_handler_is_slow() {
    let (mut world, server, client) = World::pair(10);
    let own = world.connect(client, server, "alice");
    world.run(SECOND, silent);
    world.send(client, own, b"work".to_vec()).unwrap();
    world.run(SECOND, silent);
    let mut handled = None;
    for (_, event) in world.log(server) {
        if let Event::Message(delivery) = event {
            handled = Some(delivery.key);
        }
    }
    let (now, code) = (world.now(), CloseCode(1_000));
    let node = world.node(client);
    node.close(now, own, code, "done").unwrap();
    // The client takes its leave after 5 s, when its patience is over.
    world.run(6 * SECOND, silent);
    assert_eq!(world.node(server).sessions().count(), 0);
    let reason = DisconnectReason::Peer {
        code,
        reason: "done".into(),
        retry_after: None,
    };
    let session = handled.unwrap().session;
    let closed = Event::Closed { session, reason };
    assert_eq!(world.log(server).last().unwrap().1, closed);
    let now = world.now();
    let late = world.node(server).ack(now, handled.unwrap());
    assert_eq!(late, Err(CommandError::UnknownDelivery));
}

#[test]
fn a_client_whose_handler_outlasts_a_drain_is_told_when_to_come_back() {
    let (mut world, server, client) = World::pair(11);
    world.connect(client, server, "alice");
    world.run(SECOND, silent);
    let there = world.node(server).sessions().next().unwrap().session;
    world.send(server, there, b"work".to_vec()).unwrap();
    world.run(SECOND, silent);
    assert_eq!(world.bodies(client).len(), 1);
    let now = world.now();
    let retry_after = Some(10 * SECOND);
    let plan = DrainPlan {
        deadline: 2 * SECOND,
        retry_after,
        alternative: None,
    };
    world.node(server).drain(now, plan).unwrap();
    world.run(3 * SECOND, silent);
    let reason = DisconnectReason::Peer {
        code: CloseCode::GOING_AWAY,
        reason: "the server is going away".into(),
        retry_after,
    };
    assert_eq!(ends(&world, client), [reason]);
    let at_once =
        |event: &Event| matches!(event, Event::Reconnecting { delay, .. } if *delay < 10 * SECOND);
    assert_eq!(world.count(client, at_once), 0);
}
