//! Much that is under way fills no queue that it need not fill, and uses all of the path.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{Event, Lane, Message, Node, PromiseKey, Tag};
use trunkline_testkit::{Path, World, echo};

const MILLISECOND: Duration = Duration::from_millis(1);
const LARGE: usize = 1_000_000;
const GIGABIT: u64 = 1_000_000_000;

/// What came of large messages, some of them always under way, and small requests beside them.
struct Ran {
    /// Large ones a second.
    large: f64,
    /// How long the small requests took.
    small: Vec<Duration>,
}

/// A path with room for 64 MB in its queue.
fn on_a_path(delay: Duration, rate: u64) -> World {
    let mut world = World::new(11);
    let config = world.config();
    config.limits.lane_window_bytes = 32 << 20;
    config.limits.outbox_bytes = 64 << 20;
    config.limits.delivery_bytes = 64 << 20;
    config.transport.stream_receive_window = 32 << 20;
    world.path.delay = delay;
    world.path.rate = Some(rate);
    world.path.queue = Some(64_000_000);
    world
}

/// Large messages a second, acked, half a minute after the path has become longer.
fn longer(before: Duration, after: Duration) -> f64 {
    let mut world = on_a_path(before, GIGABIT / 4);
    let [server, client] = [world.server(), world.client()];
    let session = world.connect(client, server, "anna");
    let body = Bytes::from(vec![1; LARGE]);
    let large = || Message::new(Tag::of("test.Large"), body.clone()).on(Lane::BULK);
    for _ in 0..16 {
        let now = world.now();
        let sent = world.node(client).send_acked(now, session, large(), None);
        sent.unwrap();
    }
    let done = Cell::new(0);
    let mut go_on = |node: &mut Node, now: Instant, event: &Event| {
        echo(node, now, event);
        if let Event::Settled { .. } = event {
            done.set(done.get() + 1);
            node.send_acked(now, session, large(), None).unwrap();
        }
    };
    world.run(Duration::from_secs(1), &mut go_on);
    *world.direction(client, server) = Path {
        delay: after,
        ..world.path
    };
    *world.direction(server, client) = Path {
        delay: after,
        ..world.path
    };
    world.run(Duration::from_secs(30), &mut go_on);
    let before = done.get();
    world.run(Duration::from_secs(2), &mut go_on);
    f64::from(done.get() - before) / 2.0
}

/// Large messages are acked, or come back.
fn run(delay: Duration, rate: u64, under_way: usize, come_back: bool, time: Duration) -> Ran {
    let mut world = on_a_path(delay, rate);
    let [server, client] = [world.server(), world.client()];
    let session = world.connect(client, server, "anna");
    world.run(10 * delay, echo);
    let small = || Message::new(Tag::of("test.Ping"), Bytes::from_static(&[7; 100]));
    let body = Bytes::from(vec![1; LARGE]);
    let large = || Message::new(Tag::of("test.Large"), body.clone()).on(Lane::BULK);
    let mut many = BTreeSet::<PromiseKey>::new();
    for _ in 0..under_way {
        let now = world.now();
        let node = world.node(client);
        let sent = match come_back {
            true => node.request(now, session, large(), None),
            false => node.send_acked(now, session, large(), None),
        };
        many.insert(sent.unwrap());
    }
    let (mut asked, mut latencies, mut done) = (None, Vec::new(), 0);
    let mut before = world.now();
    let request = world.node(client).request(before, session, small(), None);
    asked.replace(request.unwrap());
    world.run(time, |node, now, event| {
        echo(node, now, event);
        let Event::Settled { promise, .. } = event else {
            return;
        };
        if many.remove(promise) {
            done += 1;
            let sent = match come_back {
                true => node.request(now, session, large(), None),
                false => node.send_acked(now, session, large(), None),
            };
            many.insert(sent.unwrap());
        } else if asked == Some(*promise) {
            latencies.push(now - before);
            before = now;
            asked = Some(node.request(now, session, small(), None).unwrap());
        }
    });
    // The one that is not answered yet has waited for so long already.
    latencies.push(world.now() - before);
    latencies.sort();
    Ran {
        large: f64::from(done) / time.as_secs_f64(),
        small: latencies,
    }
}

#[test]
fn small_messages_do_not_wait_behind_much_on_a_short_path() {
    let ran = run(MILLISECOND / 10, GIGABIT, 16, false, 400 * MILLISECOND);
    assert!(ran.large > 100.0, "{} of 125 MB/s", ran.large);
    let worst = *ran.small.last().unwrap();
    println!(
        "{} MB/s, {} requests, {worst:?} at worst",
        ran.large,
        ran.small.len()
    );
    assert!(ran.small.len() > 50, "{} requests", ran.small.len());
    // Half a megabyte takes 4.2 ms; all that is under way, 128.
    assert!(worst < 10 * MILLISECOND, "{worst:?}");
}

#[test]
fn a_long_path_is_used() {
    let ran = run(
        50 * MILLISECOND,
        GIGABIT / 4,
        16,
        false,
        3_000 * MILLISECOND,
    );
    println!("{} MB/s", ran.large);
    assert!(ran.large > 20.0, "{} of 31 MB/s", ran.large);
}

#[test]
fn both_directions_are_used_at_a_time() {
    let ran = run(MILLISECOND / 10, GIGABIT, 16, true, 400 * MILLISECOND);
    println!("{} MB/s", ran.large);
    assert!(ran.large > 80.0, "{} of 125 MB/s each way", ran.large);
}

#[test]
fn both_directions_of_a_long_path_are_used_at_a_time() {
    let ran = run(50 * MILLISECOND, GIGABIT / 4, 16, true, 3_000 * MILLISECOND);
    println!("{} MB/s", ran.large);
    // The first replies leave a second after the beginning.
    assert!(ran.large > 12.0, "{} of 31 MB/s each way", ran.large);
}

#[test]
fn a_path_that_becomes_much_longer_is_used_again() {
    let ran = longer(MILLISECOND, 20 * MILLISECOND);
    println!("{ran} MB/s");
    assert!(ran > 20.0, "{ran} of 31 MB/s");
}
