//! Who shares a link or a node does not wait for another.

#![allow(clippy::unwrap_used, reason = "tests end by panicking")]

use std::time::Duration;

use trunkline_core::{Event, Lane, Message, Outcome, SessionKey, Tag};
use trunkline_testkit::{NodeIndex, World, echo};

const SECOND: Duration = Duration::from_secs(1);

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
