//! What is closed and has nothing under way ends at once, wherever its link is.

use std::time::{Duration, Instant};

use trunkline_core::{
    Admission, CloseCode, DisconnectReason, DrainPlan, Event, LinkState, PromiseKey, SessionKey,
};
use trunkline_testkit::{NodeIndex, World, echo, silent};

use crate::{SECOND, message};

/// Where a client finds nobody to take leave of.
#[derive(Clone, Copy, Debug)]
enum Nobody {
    /// Its server does not run.
    There,
    /// It has not decided about the client.
    Decides,
    /// It has been gone for a minute.
    Left,
}

/// A client that has asked nobody for something within a second, which it has not written.
fn asks(nobody: Nobody) -> (World, NodeIndex, SessionKey, PromiseKey) {
    let mut world = World::new(31);
    if matches!(nobody, Nobody::Decides) {
        world.admission = Admission::Ask;
    }
    let (server, client) = (world.server(), world.client());
    if matches!(nobody, Nobody::There) {
        world.kill(server);
    }
    let session = world.connect(client, server, "alice");
    if matches!(nobody, Nobody::Left) {
        world.run(SECOND, silent);
        world.kill(server);
        world.run(60 * SECOND, silent);
        let is_away = |world: &mut World| {
            let info = world.node(client).session_info(session);
            info.unwrap().state == LinkState::Away
        };
        while !is_away(&mut world) {
            world.run(SECOND / 10, silent);
        }
    }
    let now = world.now();
    // More than goes right behind a Hello.
    let work = message(vec![0; 5_000]);
    let node = world.node(client);
    let asked = node.request(now, session, work, Some(SECOND)).unwrap();
    (world, client, session, asked)
}

/// When the session ended, after that time.
fn closed_after(world: &World, node: NodeIndex, since: Instant) -> Option<Duration> {
    let mut log = world.log(node).iter();
    let closed = log.find(|(_, event)| matches!(event, Event::Closed { .. }))?;
    Some(closed.0 - since)
}

fn drained(world: &World, node: NodeIndex) -> Vec<Event> {
    let log = world.log(node).iter().map(|(_, event)| event);
    log.filter(|event| matches!(event, Event::Drained { .. }))
        .cloned()
        .collect()
}

const FINISHED: Event = Event::Drained {
    finished: 1,
    cut_off: 0,
};

#[test]
fn a_close_does_not_wait_for_what_timed_out_unwritten() {
    let (mut world, client, session, asked) = asks(Nobody::There);
    world.run(2 * SECOND, silent);
    assert_eq!(world.outcome(client, asked).as_deref(), Some("TimedOut"));
    let now = world.now();
    let code = CloseCode::NORMAL;
    let node = world.node(client);
    node.close(now, session, code, "done").unwrap();
    world.run(Duration::ZERO, silent);
    let reason = DisconnectReason::Local {
        code,
        reason: "done".into(),
    };
    let closed = Event::Closed { session, reason };
    assert_eq!(world.log(client).last(), Some(&(now, closed)));
}

#[test]
fn a_drain_does_not_wait_for_what_timed_out_unwritten() {
    let (mut world, client, ..) = asks(Nobody::There);
    world.run(2 * SECOND, silent);
    let now = world.now();
    let plan = DrainPlan::within(60 * SECOND);
    world.node(client).drain(now, plan).unwrap();
    world.run(Duration::ZERO, silent);
    assert_eq!(drained(&world, client), [FINISHED]);
}

/// Behind the close, and in the middle of a drain.
#[test]
fn who_waits_without_a_link_for_what_times_out_or_is_given_up_ends_with_it() {
    for nobody in [Nobody::There, Nobody::Decides, Nobody::Left] {
        for given_up in [false, true] {
            for drains in [false, true] {
                let (mut world, client, session, asked) = asks(nobody);
                world.run(SECOND / 2, silent);
                let now = world.now();
                let node = world.node(client);
                if drains {
                    let plan = DrainPlan::within(60 * SECOND);
                    node.drain(now, plan).unwrap();
                } else {
                    node.close(now, session, CloseCode::NORMAL, "done").unwrap();
                }
                if given_up {
                    node.cancel(now, asked).unwrap();
                }
                world.run(SECOND, silent);
                let after = if given_up { Duration::ZERO } else { SECOND / 2 };
                let case = (nobody, given_up, drains);
                assert_eq!(closed_after(&world, client, now), Some(after), "{case:?}");
                let told = if drains { vec![FINISHED] } else { Vec::new() };
                assert_eq!(drained(&world, client), told, "{case:?}");
            }
        }
    }
}

/// A server's session whose client is away, and whose last message is dealt with meanwhile.
#[test]
fn who_waits_without_a_link_for_its_own_application_ends_with_its_last_answer() {
    let (mut world, server, client) = World::pair(32);
    world.config().timeouts.close = 60 * SECOND;
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    world.send(client, session, "work").unwrap();
    let delivery = world.unanswered();
    world.kill(client);
    world.run(60 * SECOND, silent);
    let now = world.now();
    let node = world.node(server);
    node.close(now, delivery.session, CloseCode::NORMAL, "done")
        .unwrap();
    assert_eq!(node.sessions().count(), 1);
    node.ack(now, delivery).unwrap();
    world.run(Duration::ZERO, silent);
    assert_eq!(closed_after(&world, server, now), Some(Duration::ZERO));
}
