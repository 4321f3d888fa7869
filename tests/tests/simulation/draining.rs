//! How a server goes away: what it finishes, what it takes meanwhile, and what its clients are told.

use trunkline_core::{
    CloseCode, CommandError, DeliveryKey, DisconnectReason, DrainPlan, Event, PromiseKey, Tag,
};
use trunkline_proto::ALTERNATIVE_MAX;
use trunkline_testkit::{NodeIndex, World, echo, silent};

use crate::{SECOND, message};

/// A client comes whose request the server's application works on.
fn working(world: &mut World, client: NodeIndex, server: NodeIndex) -> (PromiseKey, DeliveryKey) {
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let promise = world.request(client, session, b"work");
    (promise, world.unanswered())
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
    let plan = DrainPlan::within(10 * SECOND);
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
        let plan = DrainPlan::within(deadline);
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
        let plan = DrainPlan::within(300 * SECOND);
        node.drain(now, plan).unwrap();
        world.run(4 * SECOND, silent);
        let local = DisconnectReason::Local {
            code: banned,
            reason: "banned".into(),
        };
        assert_eq!(
            world.disconnects(server).last(),
            Some(&local),
            "{away_before}"
        );
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
    assert_eq!(world.disconnects(client), [told]);
}

#[test]
fn who_is_closed_while_a_drain_waits_for_its_work_is_sent_nothing_more() {
    let (mut world, server, client) = World::pair(6);
    let (_, open) = working(&mut world, client, server);
    let now = world.now();
    let node = world.node(server);
    let plan = DrainPlan::within(10 * SECOND);
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
        "0.0.0.0:443",
        "[::]:443",
        "[::ffff:0.0.0.0]:443",
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
    let plan = DrainPlan::within(10 * SECOND);
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
    assert_eq!(world.disconnects(client), [reason]);
    let at_once =
        |event: &Event| matches!(event, Event::Reconnecting { delay, .. } if *delay < 10 * SECOND);
    assert_eq!(world.count(client, at_once), 0);
}
