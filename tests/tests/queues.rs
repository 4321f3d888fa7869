//! Much that is under way fills no queue that it need not fill, and uses all of the path.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use trunkline_core::{Event, Lane, Message, PromiseKey, Tag};
use trunkline_testkit::{World, echo};

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

/// A path with room for 64 MB in its queue. Large messages are acked, or come back.
fn run(delay: Duration, rate: u64, under_way: usize, come_back: bool, time: Duration) -> Ran {
    let mut world = World::new(11);
    let config = world.config();
    config.limits.lane_window_bytes = 32 << 20;
    config.limits.outbox_bytes = 64 << 20;
    config.limits.delivery_bytes = 64 << 20;
    config.transport.stream_receive_window = 32 << 20;
    world.path.delay = delay;
    world.path.rate = Some(rate);
    world.path.queue = Some(64_000_000);
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
