//! What whoever drives a node goes by: what is owed, whose a session is, and when a node is done.

use std::collections::{BTreeMap, BTreeSet};

use trunkline_core::{
    Admission, CloseCode, CommandError, Dial, DisconnectReason, DrainPlan, Event, Message,
    SessionKey, Status, StatusCode, Tag,
};
use trunkline_testkit::{World, silent};

use crate::SECOND;

/// Nothing of a reply that is too large is left, but the answer is owed, until the delivery is rejected.
#[test]
fn an_answer_that_was_refused_is_owed_until_another_is_given() {
    let (mut world, server, client) = World::pair(1);
    let session = world.connect(client, server, "alice");
    let promise = world.request(client, session, b"all of it");
    let delivery = world.unanswered();
    let now = world.now();
    let node = world.node(server);
    let refused = node.reply(now, delivery, Tag(1), vec![0; 2 << 20]);
    let Err(CommandError::TooLarge { .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(node.ack(now, delivery), Err(CommandError::IsARequest));
    assert_eq!(node.metrics(now).deliveries, 1);
    world.run(SECOND, silent);
    assert_eq!(world.outcome(client, promise), None);
    let now = world.now();
    let node = world.node(server);
    let status = Status::new(StatusCode::INTERNAL, "too much");
    node.reject(now, delivery, status).unwrap();
    assert_eq!(node.metrics(now).deliveries, 0);
    world.run(SECOND, silent);
    let outcome = world.outcome(client, promise).unwrap();
    assert!(outcome.contains("too much"), "{outcome}");
}

/// Also that of a message which nobody waits for, and of one that is gone with its link.
#[test]
fn every_message_owes_an_answer() {
    let (mut world, server, client) = World::pair(2);
    let session = world.connect(client, server, "alice");
    world.run(SECOND, silent);
    let now = world.now();
    let node = world.node(client);
    let said = || Message::new(Tag(1), "said");
    node.send(now, session, said()).unwrap();
    node.send_best_effort(now, session, said(), None).unwrap();
    let mut came = Vec::new();
    world.run(SECOND, |_, _, event| {
        if let Event::Message(delivery) = event {
            came.push(delivery.key);
        }
    });
    assert_eq!(came.len(), 2);
    for owed in (0..came.len()).rev() {
        let now = world.now();
        let node = world.node(server);
        node.ack(now, came[owed]).unwrap();
        assert_eq!(node.metrics(now).deliveries, owed);
    }
}

/// What tells its peers is to be sent when the events have been told, and perhaps again.
#[test]
fn a_node_is_done_when_it_waits_for_nothing() {
    for drains in [false, true] {
        let (mut world, server, client) = World::pair(4);
        world.path.delay = SECOND / 50;
        let session = world.connect(client, server, "alice");
        world.run(SECOND, silent);
        let leaving = if drains { server } else { client };
        if drains {
            // It is cut off in the end, for nobody answers what its client asks.
            world.request(client, session, b"?");
            world.run(SECOND / 10, silent);
        }
        let now = world.now();
        let node = world.node(leaving);
        if drains {
            node.drain(now, DrainPlan::within(SECOND / 10)).unwrap();
        } else {
            node.close(now, session, CloseCode::NORMAL, "done").unwrap();
        }
        let mut told = false;
        world.run(SECOND, |node, _, event| {
            let last = match event {
                Event::Drained { .. } => drains,
                Event::Closed { session: own, .. } => !drains && *own == session,
                _ => false,
            };
            if last {
                told = true;
                assert!(node.poll_timeout().is_some(), "after {event}");
            }
        });
        assert!(told);
        assert_eq!(world.node(leaving).poll_timeout(), None, "drains: {drains}");
        world.kill(leaving);
        // The other one knows, and does not wait for heartbeats.
        let gone = |event: &Event| match event {
            Event::Disconnected { reason, .. } => matches!(reason, DisconnectReason::Peer { .. }),
            _ => false,
        };
        let other = if drains { client } else { server };
        assert_eq!(world.count(other, gone), 1);
    }
}

/// There is no way back, but for what is under way.
#[test]
fn a_node_that_has_drained_dials_nobody() {
    let (mut world, server, client) = World::pair(5);
    world.connect(client, server, "alice");
    world.run(SECOND, silent);
    let now = world.now();
    let plan = DrainPlan::within(SECOND);
    world.node(client).drain(now, plan.clone()).unwrap();
    world.run(5 * SECOND, silent);
    let address = world.address(server);
    let now = world.now();
    let node = world.node(client);
    let dial = Dial::new(address, "localhost", "alice".parse().unwrap());
    assert_eq!(node.connect(now, dial), Err(CommandError::Closing));
    assert_eq!(node.drain(now, plan), Err(CommandError::Closing));
}

/// Two sessions of one client, whose tokens are of different users, and that are decided about in another order than they
/// came in.
#[test]
fn what_an_admission_finds_out_comes_to_the_session_that_it_made_or_resumed() {
    let mut world = World::new(3);
    world.admission = Admission::Ask;
    let (server, client) = (world.server(), world.client());
    let address = world.address(server);
    for token in ["user", "admin"] {
        let dial = Dial {
            address,
            server_name: "localhost".into(),
            client: "bob".parse().unwrap(),
            credentials: token.into(),
            agent: "testkit".into(),
        };
        let now = world.now();
        world.node(client).connect(now, dial).unwrap();
    }
    let (mut asked, mut admitted) = (Vec::new(), BTreeMap::new());
    world.run(SECOND, |_, _, event| {
        if let Event::Admission(request) = event {
            asked.push(request.clone());
        }
    });
    let now = world.now();
    let node = world.node(server);
    for request in asked.iter().rev() {
        assert_eq!(
            node.carried_by(request.link),
            None,
            "it is not admitted yet"
        );
        node.admit(now, request.link).unwrap();
        let connected = node.carried_by(request.link).unwrap();
        admitted.insert(connected, request.credentials.clone());
    }
    let of_bob = |world: &mut World| -> Vec<SessionKey> {
        world
            .node(server)
            .sessions_of(&"bob".parse().unwrap())
            .collect()
    };
    let sessions = of_bob(&mut world);
    assert_eq!(sessions.len(), 2);

    // Each says which token it has shown: to its server, which knows it by the session.
    let mut users = BTreeMap::new();
    world.run(SECOND, |_, _, event| {
        if let Event::Connected { session, epoch, .. } = event {
            users.extend(
                admitted
                    .remove(&(*session, *epoch))
                    .map(|user| (*session, user)),
            );
        }
    });
    assert_eq!((users.len(), admitted.len()), (2, 0));
    let own: Vec<_> = world
        .node(client)
        .sessions()
        .map(|own| own.session)
        .collect();
    for (own, token) in own.into_iter().zip(["user", "admin"]) {
        world.send(client, own, token).unwrap();
    }
    let mut said = 0;
    world.run(SECOND, |_, _, event| {
        if let Event::Message(message) = event {
            assert_eq!(users[&message.key.session], message.body);
            said += 1;
        }
    });
    assert_eq!(said, 2);

    // Over another link they are what they were, with the next epoch.
    world.path.loss = 1.0;
    world.run(60 * SECOND, silent);
    world.path.loss = 0.0;
    let mut resumed = Vec::new();
    world.run(60 * SECOND, |node, now, event| {
        if let Event::Admission(request) = event {
            node.admit(now, request.link).unwrap();
            resumed.extend(node.carried_by(request.link));
        }
    });
    // In the order of their hellos.
    let again = of_bob(&mut world);
    let next_epoch: Vec<_> = again.iter().map(|session| (*session, 2)).collect();
    assert_eq!(resumed, next_epoch);
    let (before, after) = (BTreeSet::from_iter(sessions), BTreeSet::from_iter(again));
    assert_eq!(before, after);
    let nobody = "alice".parse().unwrap();
    assert_eq!(world.node(server).sessions_of(&nobody).count(), 0);
}
