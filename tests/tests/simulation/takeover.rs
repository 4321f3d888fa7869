//! A client that has as many sessions as it may, and comes once more.

use trunkline_core::{
    Admission, CloseCode, DisconnectReason, DrainPlan, Event, LinkState, Message, SessionId,
    SessionsFull, Tag,
};
use trunkline_testkit::{NodeIndex, World, silent};

use crate::SECOND;

/// A server that lets each client have so many sessions, the newest ones.
fn serving(seed: u64, sessions_per_client: usize) -> (World, NodeIndex) {
    let mut world = World::new(seed);
    world.config().limits.sessions_per_client = sessions_per_client;
    world.config().sessions_full = SessionsFull::EndOldest;
    let server = world.server();
    (world, server)
}

/// A device of that name comes.
fn device(world: &mut World, server: NodeIndex, name: &str) -> NodeIndex {
    let client = world.client();
    world.connect(client, server, name);
    world.run(SECOND, silent);
    client
}

/// The session that a client has.
fn session(world: &mut World, client: NodeIndex) -> Option<SessionId> {
    let mut up = world.node(client).sessions();
    let info = up.find(|info| info.state == LinkState::Connected)?;
    Some(info.id)
}

/// The sessions that a server keeps, sorted.
fn kept(world: &mut World, server: NodeIndex) -> Vec<SessionId> {
    let mut ids: Vec<_> = world.node(server).sessions().map(|info| info.id).collect();
    ids.sort_unstable();
    ids
}

fn sorted(mut ids: Vec<SessionId>) -> Vec<SessionId> {
    ids.sort_unstable();
    ids
}

/// How sessions of a node ended.
fn ends(world: &World, node: NodeIndex) -> Vec<CloseCode> {
    let log = world.log(node).iter();
    log.filter_map(|(_, event)| match event {
        Event::Closed {
            reason: DisconnectReason::Local { code, .. } | DisconnectReason::Peer { code, .. },
            ..
        } => Some(*code),
        _ => None,
    })
    .collect()
}

#[test]
fn a_device_that_starts_again_is_let_in_at_once_and_what_waited_for_it_comes_back() {
    let (mut world, server) = serving(70, 1);
    let device = device(&mut world, server, "device");
    let old = world.node(server).sessions().next().unwrap();
    world.kill(device);
    let promise = world.send_acked(server, old.session, b"for whom?");
    world.start_process(device);
    world.connect(device, server, "device");
    world.run(SECOND, silent);
    let new = session(&mut world, device).unwrap();
    assert_eq!(kept(&mut world, server), [new]);
    assert_eq!(ends(&world, server), [CloseCode::SUPERSEDED]);
    let outcome = world.outcome(server, promise);
    assert!(
        outcome.as_deref().is_some_and(|o| o.starts_with("Lost")),
        "{outcome:?}"
    );
    // The place is the new one's own.
    world.run(200 * SECOND, silent);
    assert_eq!(session(&mut world, device), Some(new));
    assert_eq!(kept(&mut world, server), [new]);
}

#[test]
fn of_two_copies_of_a_client_the_newer_one_stays_and_the_other_one_stops() {
    let (mut world, server) = serving(71, 1);
    let first = device(&mut world, server, "twin");
    let second = device(&mut world, server, "twin");
    world.run(200 * SECOND, silent);
    let stays = session(&mut world, second).unwrap();
    assert_eq!(kept(&mut world, server), [stays]);
    assert_eq!(ends(&world, first), [CloseCode::SUPERSEDED]);
    assert_eq!(world.node(first).sessions().count(), 0);
}

#[test]
fn who_has_no_link_goes_before_who_is_there_and_the_older_before_the_younger() {
    let (mut world, server) = serving(72, 3);
    let devices = [(); 3].map(|()| device(&mut world, server, "fleet"));
    let [one, two, three] = devices.map(|device| session(&mut world, device).unwrap());
    let other = device(&mut world, server, "another");
    let other = session(&mut world, other).unwrap();
    // The second one's link is found dead.
    for (from, to) in [(devices[1], server), (server, devices[1])] {
        world.cut_after(from, to, Some(0));
    }
    world.run(90 * SECOND, silent);
    let four = device(&mut world, server, "fleet");
    let four = session(&mut world, four).unwrap();
    assert_eq!(
        kept(&mut world, server),
        sorted(vec![one, three, four, other])
    );
    assert_ne!(two, four);
    let five = device(&mut world, server, "fleet");
    let five = session(&mut world, five).unwrap();
    assert_eq!(
        kept(&mut world, server),
        sorted(vec![three, four, five, other])
    );
    assert_eq!(ends(&world, devices[0]), [CloseCode::SUPERSEDED]);
}

#[test]
fn nobody_makes_room_for_another_client() {
    let mut world = World::new(73);
    world.config().limits.sessions = 1;
    world.config().sessions_full = SessionsFull::EndOldest;
    let server = world.server();
    let first = device(&mut world, server, "first");
    let second = device(&mut world, server, "second");
    assert_eq!(session(&mut world, second), None);
    let stays = session(&mut world, first).unwrap();
    assert_eq!(kept(&mut world, server), [stays]);
}

#[test]
fn a_client_whose_session_gave_way_while_it_was_away_takes_the_place_back() {
    let (mut world, server) = serving(74, 1);
    let first = device(&mut world, server, "twin");
    let away = world.node(first).sessions().next().unwrap();
    let request = world.request(first, away.session, b"?");
    for (from, to) in [(first, server), (server, first)] {
        world.cut_after(from, to, Some(0));
    }
    world.run(60 * SECOND, silent);
    let second = device(&mut world, server, "twin");
    for (from, to) in [(first, server), (server, first)] {
        world.cut_after(from, to, None);
    }
    world.run(100 * SECOND, silent);
    let lost = world.count(first, |event| matches!(event, Event::SessionLost { .. }));
    assert_eq!(lost, 1);
    assert!(world.outcome(first, request).is_some());
    let stays = session(&mut world, first).unwrap();
    assert_eq!(kept(&mut world, server), [stays]);
    assert_eq!(ends(&world, second), [CloseCode::SUPERSEDED]);
}

#[test]
fn a_decision_that_comes_late_does_not_let_an_older_hello_end_a_newer_ones_session() {
    let mut world = World::new(75);
    world.admission = Admission::Ask;
    world.config().limits.sessions_per_client = 1;
    world.config().sessions_full = SessionsFull::EndOldest;
    let server = world.server();
    let device = world.client();
    world.connect(device, server, "device");
    let early = world.asked();
    world.kill(device);
    world.start_process(device);
    world.connect(device, server, "device");
    let late = world.asked();
    let now = world.now();
    world.node(server).admit(now, late).unwrap();
    world.run(SECOND, silent);
    let now = world.now();
    world.node(server).admit(now, early).unwrap();
    world.run(SECOND, silent);
    let stays = session(&mut world, device).unwrap();
    assert_eq!(kept(&mut world, server), [stays]);
    assert_eq!(ends(&world, server), []);
    let metrics = |world: &mut World| {
        let now = world.now();
        world.node(server).metrics(now)
    };
    assert_eq!(metrics(&mut world).sessions_replaced, 0);
    assert_eq!(
        metrics(&mut world)
            .closed_by_code
            .get(&CloseCode::SUPERSEDED),
        Some(&1)
    );
}

#[test]
fn what_a_client_said_before_it_closed_is_dealt_with_before_its_next_session_comes_in() {
    let (mut world, server) = serving(76, 1);
    let client = device(&mut world, server, "device");
    let old = world.node(client).sessions().next().unwrap();
    let now = world.now();
    let node = world.node(client);
    let said = Message::new(Tag::of("test.Said"), &b"last words"[..]);
    node.send(now, old.session, said).unwrap();
    node.close(now, old.session, CloseCode::NORMAL, "done")
        .unwrap();
    let open = world.unanswered();
    world.connect(client, server, "device");
    world.run(SECOND, silent);
    assert_eq!(kept(&mut world, server), [old.id]);
    let now = world.now();
    world.node(server).ack(now, open).unwrap();
    world.run(10 * SECOND, silent);
    let new = session(&mut world, client).unwrap();
    assert_eq!(kept(&mut world, server), [new]);
    assert_eq!(ends(&world, server), [CloseCode::NORMAL]);
}

#[test]
fn a_session_that_its_server_closes_ends_as_that_said() {
    let (mut world, server) = serving(77, 1);
    let first = device(&mut world, server, "twin");
    let asks = world.node(first).sessions().next().unwrap();
    world.request(first, asks.session, b"?");
    let open = world.unanswered();
    let now = world.now();
    let node = world.node(server);
    let banned = CloseCode(1_001);
    node.close(now, open.session, banned, "banned").unwrap();
    let second = device(&mut world, server, "twin");
    world.run(10 * SECOND, silent);
    assert_eq!(ends(&world, server), [banned]);
    assert_eq!(ends(&world, first), [banned]);
    let stays = session(&mut world, second).unwrap();
    assert_eq!(kept(&mut world, server), [stays]);
}

#[test]
fn a_server_that_drains_ends_nobody_for_a_newcomer() {
    let (mut world, server) = serving(78, 1);
    let first = device(&mut world, server, "twin");
    let asks = world.node(first).sessions().next().unwrap();
    world.request(first, asks.session, b"?");
    let open = world.unanswered();
    let now = world.now();
    let plan = DrainPlan::within(60 * SECOND);
    world.node(server).drain(now, plan).unwrap();
    let second = device(&mut world, server, "twin");
    assert_eq!(session(&mut world, second), None);
    assert_eq!(kept(&mut world, server), [asks.id]);
    let now = world.now();
    world.node(server).reply(now, open, Tag(1), "!").unwrap();
    world.run(SECOND, silent);
    assert_eq!(ends(&world, server), [CloseCode::GOING_AWAY]);
}

#[test]
fn on_a_full_server_a_client_has_its_own_last_ones_place() {
    let mut world = World::new(79);
    world.config().limits.sessions = 2;
    world.config().sessions_full = SessionsFull::EndOldest;
    let server = world.server();
    let other = device(&mut world, server, "other");
    let restarts = device(&mut world, server, "device");
    world.kill(restarts);
    world.start_process(restarts);
    world.connect(restarts, server, "device");
    world.run(SECOND, silent);
    let new = session(&mut world, restarts).unwrap();
    let other = session(&mut world, other).unwrap();
    assert_eq!(kept(&mut world, server), sorted(vec![new, other]));
}

#[test]
fn a_late_decision_ends_one_that_came_before_it_if_there_is_one() {
    let mut world = World::new(80);
    world.admission = Admission::Ask;
    let config = world.config();
    config.limits.sessions_per_client = 2;
    config.sessions_full = SessionsFull::EndOldest;
    config.heartbeat.interval = SECOND;
    config.timeouts.admission = 60 * SECOND;
    let server = world.server();
    let devices = [(); 3].map(|()| world.client());
    let links = devices.map(|device| {
        world.connect(device, server, "fleet");
        world.asked()
    });
    let admit = |world: &mut World, link| {
        let now = world.now();
        world.node(server).admit(now, link).unwrap();
        world.run(SECOND, silent);
    };
    admit(&mut world, links[0]);
    admit(&mut world, links[2]);
    let away = session(&mut world, devices[2]).unwrap();
    world.kill(devices[2]);
    world.run(10 * SECOND, silent);
    admit(&mut world, links[1]);
    let new = session(&mut world, devices[1]).unwrap();
    assert_eq!(kept(&mut world, server), sorted(vec![away, new]));
    assert_eq!(ends(&world, devices[0]), [CloseCode::SUPERSEDED]);
}

#[test]
fn a_session_that_was_resumed_is_the_newest_again() {
    let (mut world, server) = serving(81, 2);
    let devices = [(); 2].map(|()| device(&mut world, server, "fleet"));
    let [first, second] = devices.map(|device| session(&mut world, device).unwrap());
    for (from, to) in [(devices[0], server), (server, devices[0])] {
        world.cut_after(from, to, Some(0));
    }
    world.run(60 * SECOND, silent);
    for (from, to) in [(devices[0], server), (server, devices[0])] {
        world.cut_after(from, to, None);
    }
    world.run(60 * SECOND, silent);
    assert!(session(&mut world, devices[0]).is_some());
    let third = device(&mut world, server, "fleet");
    let third = session(&mut world, third).unwrap();
    assert_eq!(kept(&mut world, server), sorted(vec![first, third]));
    assert_ne!(second, third);
    assert_eq!(ends(&world, devices[1]), [CloseCode::SUPERSEDED]);
}
