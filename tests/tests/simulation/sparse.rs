//! Little traffic on a session: what it costs in datagrams, and that nobody waits for what is put off.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use trunkline_core::{CloseCode, Config, DrainPlan, Event, PromiseKey, SessionKey};
use trunkline_testkit::{NodeIndex, World, echo, silent};

use crate::SECOND;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A server and a client that have been connected for so long that QUIC has nothing left to find out.
fn rested(seed: u64) -> (World, NodeIndex, NodeIndex, SessionKey) {
    let (mut world, server, client) = World::pair(seed);
    let session = world.connect(client, server, "alice");
    world.run(5 * SECOND, silent);
    (world, server, client, session)
}

fn of_server(world: &mut World, server: NodeIndex) -> SessionKey {
    world.node(server).sessions().next().unwrap().session
}

/// Replies to the first message that the server was handed.
fn answer(world: &mut World, server: NodeIndex) {
    let mut log = world.log(server).iter();
    let delivery = log.find_map(|(_, event)| match event {
        Event::Message(delivery) => Some(delivery.clone()),
        _ => None,
    });
    let (now, delivery) = (world.now(), delivery.unwrap());
    let node = world.node(server);
    node.reply(now, delivery.key, delivery.tag, delivery.body)
        .unwrap();
}

/// How many datagrams twenty promises take in both directions, one each quarter of a second.
fn datagrams_of_twenty(
    seed: u64,
    promise: impl Fn(&mut World, NodeIndex, SessionKey) -> PromiseKey,
) -> u64 {
    let (mut world, server, client, session) = rested(seed);
    let datagrams = |world: &mut World| world.sent(client, server) + world.sent(server, client);
    let before = datagrams(&mut world);
    for _ in 0..20 {
        let promise = promise(&mut world, client, session);
        world.run(250 * MILLISECOND, echo);
        assert!(world.outcome(client, promise).is_some());
    }
    datagrams(&mut world) - before
}

#[test]
fn what_is_answered_now_and_then_takes_three_datagrams() {
    let request = datagrams_of_twenty(1, |world, client, session| {
        world.request(client, session, b"now and then")
    });
    let acked = datagrams_of_twenty(2, |world, client, session| {
        world.send_acked(client, session, b"now and then")
    });
    for took in [request, acked] {
        // Request, reply, acknowledgement; and now and then something else: one heartbeat at most, and the
        // last receipts.
        assert!((60..=66).contains(&took), "{took} datagrams");
    }
}

#[test]
fn a_heartbeat_takes_two_datagrams() {
    let (mut world, server, client, _) = rested(9);
    let datagrams = |world: &mut World| (world.sent(client, server), world.sent(server, client));
    let before = datagrams(&mut world);
    let left = Rc::new(RefCell::new(Vec::new()));
    let seen = left.clone();
    world.observe(move |observed| seen.borrow_mut().push(observed.at));
    world.run(20 * 15 * SECOND, silent);
    let after = datagrams(&mut world);
    assert_eq!((after.0 - before.0, after.1 - before.1), (20, 20));
    // The answer leaves when the heartbeat has come.
    for both in left.borrow().chunks(2) {
        assert_eq!(both[1] - both[0], world.path.delay);
    }
}

#[test]
fn what_acknowledges_many_clients_leaves_at_few_moments() {
    const CLIENTS: u32 = 8;
    let mut world = World::new(10);
    let server = world.server();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = world.client();
            let session = world.connect(client, server, &format!("client-{number}"));
            (client, session)
        })
        .collect();
    world.run(5 * SECOND, silent);
    let left = Rc::new(RefCell::new(Vec::new()));
    let seen = left.clone();
    world.observe(move |observed| {
        if observed.from == server {
            seen.borrow_mut().push((observed.at, observed.to));
        }
    });
    // Each at another time, all within a little more than a millisecond.
    for (client, session) in clients {
        world.send(client, session, "one way").unwrap();
        world.run(MILLISECOND / 5, silent);
    }
    world.run(100 * MILLISECOND, silent);
    let left = left.borrow();
    let to: BTreeSet<_> = left.iter().map(|(_, to)| *to).collect();
    let at: BTreeSet<_> = left.iter().map(|(at, _)| *at).collect();
    assert_eq!(to.len(), CLIENTS as usize);
    assert!(at.len() <= 2, "{left:?}");
}

#[test]
fn who_closes_does_not_wait_for_receipts_that_are_put_off() {
    let (mut world, server, client, session) = rested(3);
    world.request(client, session, b"the last one");
    world.run(100 * MILLISECOND, echo);
    let (key, now) = (of_server(&mut world, server), world.now());
    let node = world.node(server);
    node.close(now, key, CloseCode::NORMAL, "enough").unwrap();
    world.run(100 * MILLISECOND, echo);
    assert_eq!(world.node(server).sessions().count(), 0);
    assert_eq!(world.node(client).sessions().count(), 0);
}

#[test]
fn who_closes_says_at_once_what_it_has_put_off() {
    let (mut world, server, client, session) = rested(6);
    world.request(client, session, b"the last one");
    world.run(200 * MILLISECOND, echo);
    let now = world.now();
    let node = world.node(client);
    node.close(now, session, CloseCode::NORMAL, "enough")
        .unwrap();
    // There and back.
    world.run(2 * world.path.delay + MILLISECOND, echo);
    assert_eq!(world.node(server).sessions().count(), 0);
    assert_eq!(world.node(client).sessions().count(), 0);
}

#[test]
fn the_last_reply_is_reported_with_close() {
    let (mut world, server, client, session) = rested(7);
    world.request(client, session, b"takes its time");
    world.run(100 * MILLISECOND, silent);
    let now = world.now();
    let node = world.node(client);
    node.close(now, session, CloseCode::NORMAL, "enough")
        .unwrap();
    world.run(100 * MILLISECOND, silent);
    answer(&mut world, server);
    // The reply, and Close there and back.
    world.run(3 * world.path.delay + MILLISECOND, silent);
    assert_eq!(world.node(server).sessions().count(), 0);
    assert_eq!(world.node(client).sessions().count(), 0);
}

#[test]
fn who_drains_does_not_either_whatever_is_answered_meanwhile() {
    let (mut world, server, client, session) = rested(4);
    let open = world.request(client, session, b"takes its time");
    world.run(100 * MILLISECOND, silent);
    let now = world.now();
    let plan = DrainPlan::within(10 * SECOND);
    world.node(server).drain(now, plan).unwrap();
    world.run(SECOND, silent);
    assert_eq!(world.node(server).sessions().count(), 1);
    answer(&mut world, server);
    world.run(100 * MILLISECOND, silent);
    assert!(world.outcome(client, open).unwrap().starts_with("Replied"));
    assert_eq!(world.node(server).sessions().count(), 0);
}

/// How many of so many promises, all made at once, settle within a second, with these settings at the server
/// and, if `both`, at the client.
fn settle(
    set: impl Fn(&mut Config),
    both: bool,
    promise: impl Fn(&mut World, NodeIndex, SessionKey) -> PromiseKey,
    count: usize,
) -> usize {
    let mut world = World::new(5);
    let usual = world.config().clone();
    set(world.config());
    let server = world.server();
    if !both {
        *world.config() = usual;
    }
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let promises: Vec<_> = (0..count)
        .map(|_| promise(&mut world, client, session))
        .collect();
    world.run(SECOND, echo);
    let settled = |promise: &&_| world.outcome(client, **promise).is_some();
    promises.iter().filter(settled).count()
}

#[test]
fn a_server_with_room_for_few_answers_does_not_wait_either() {
    let ask = |world: &mut World, client, session| world.request(client, session, &[7; 100]);
    assert_eq!(settle(|c| c.limits.outbox_messages = 4, false, ask, 40), 40);
    assert_eq!(
        settle(|c| c.limits.lane_window_bytes = 1_024, false, ask, 40),
        40
    );
}

#[test]
fn nor_does_one_whose_acks_weigh_more_than_they_are_long() {
    let send = |world: &mut World, client, session| world.send_acked(client, session, b"short");
    let settled = settle(|c| c.limits.lane_window_bytes = 10_000, true, send, 600);
    assert_eq!(settled, 600);
}

/// A pair as [`rested`], a second after one of the client's heartbeats.
fn between_heartbeats(seed: u64) -> (World, NodeIndex, NodeIndex, SessionKey) {
    let (mut world, server, client, session) = rested(seed);
    let sent = world.sent(client, server);
    while world.sent(client, server) == sent {
        world.run(100 * MILLISECOND, silent);
    }
    world.run(SECOND, silent);
    (world, server, client, session)
}

/// How many datagrams the two have sent, and whether `at` keeps an answer still.
fn sent_and_kept(world: &mut World, ends: [NodeIndex; 2], at: NodeIndex) -> (u64, bool) {
    let sent = world.sent(ends[0], ends[1]) + world.sent(ends[1], ends[0]);
    let mut sessions = world.node(at).sessions();
    (sent, sessions.any(|session| session.answer_bytes > 0))
}

#[test]
fn what_is_put_off_goes_with_the_next_heartbeat() {
    let (mut world, server, client, session) = between_heartbeats(11);
    let look = |world: &mut World| sent_and_kept(world, [client, server], server);
    let (before, _) = look(&mut world);
    world.request(client, session, b"the last one for long");
    world.run(10 * SECOND, echo);
    assert_eq!(look(&mut world), (before + 3, true));
    // Two heartbeats, and an answer each.
    world.run(20 * SECOND, silent);
    assert_eq!(look(&mut world), (before + 7, false));
}

#[test]
fn what_a_server_has_put_off_goes_with_the_answer_to_a_heartbeat() {
    let (mut world, server, client, _) = between_heartbeats(12);
    let look = |world: &mut World| sent_and_kept(world, [client, server], client);
    let session = of_server(&mut world, server);
    let (before, _) = look(&mut world);
    world.request(server, session, b"the last one for long");
    world.run(10 * SECOND, echo);
    assert_eq!(look(&mut world), (before + 3, true));
    // The answer is acknowledged, for what it takes along.
    world.run(8 * SECOND, silent);
    assert_eq!(look(&mut world), (before + 6, false));
}
