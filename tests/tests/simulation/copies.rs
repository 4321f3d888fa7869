//! What a thin link says on a lossy path goes twice, and nothing else does.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use trunkline_core::{Event, Message, Tag};
use trunkline_testkit::{World, echo};

use crate::SECOND;

const MILLISECOND: Duration = Duration::from_millis(1);

/// What came of a conversation.
struct Ran {
    /// How long each request took, in order.
    latencies: Vec<Duration>,
    datagrams: u64,
}

impl Ran {
    fn part(&self, part: f64) -> Duration {
        self.latencies[(self.latencies.len() as f64 * part) as usize]
    }
}

/// So many requests of so many bytes are always under way, on a path like this; three runs of a quarter of a
/// minute, for a thousandth of one is too little to tell of.
fn converse(copies: bool, delay: Duration, loss: f64, under_way: usize, size: usize) -> Ran {
    let runs = [7, 8, 9].map(|seed| run(seed, copies, delay, loss, under_way, size));
    let datagrams = runs.iter().map(|ran| ran.datagrams).sum();
    let mut latencies: Vec<_> = runs.into_iter().flat_map(|ran| ran.latencies).collect();
    latencies.sort_unstable();
    Ran {
        latencies,
        datagrams,
    }
}

fn run(seed: u64, copies: bool, delay: Duration, loss: f64, under_way: usize, size: usize) -> Ran {
    let mut world = World::new(seed);
    world.config().transport.copies_on_loss = copies;
    world.path.delay = delay;
    let [server, client] = [world.server(), world.client()];
    let session = world.connect(client, server, "anna");
    world.run(SECOND, echo);
    world.path.loss = loss;
    // So that not all go and come at one time. It makes some overtake others, which QUIC takes for
    // losses.
    world.path.jitter = if loss > 0.0 {
        delay / 8
    } else {
        Duration::ZERO
    };
    let asked = || Message::new(Tag::of("test.Ping"), Bytes::from(vec![7; size]));
    let mut made = BTreeMap::new();
    let before = world.traffic().sent;
    for _ in 0..under_way {
        let now = world.now();
        let promise = world.node(client).request(now, session, asked(), None);
        made.insert(promise.unwrap(), now);
    }
    let mut latencies = Vec::new();
    world.run(15 * SECOND, |node, now, event| {
        echo(node, now, event);
        let Event::Settled { promise, .. } = event else {
            return;
        };
        let at = made.remove(promise).unwrap();
        latencies.push(now - at);
        let promise = node.request(now, session, asked(), None).unwrap();
        made.insert(promise, now);
    });
    Ran {
        latencies,
        datagrams: world.traffic().sent - before,
    }
}

#[test]
fn what_is_lost_once_on_a_lossy_path_is_hardly_late() {
    let [off, on] = [false, true].map(|on| converse(on, 25 * MILLISECOND, 0.02, 32, 128));
    let [before, after] = [&off, &on].map(|ran| [0.5, 0.9, 0.99, 0.999].map(|p| ran.part(p)));
    println!("{before:?} without, {after:?} with copies");
    assert!(
        before[1] > 100 * MILLISECOND,
        "one loss, one more round trip"
    );
    assert!(after[1] < 60 * MILLISECOND);
    assert!(after[2] < before[2].mul_f64(0.8));
    assert!(after[3] < before[3].mul_f64(0.9));
    // More requests in the same time take more datagrams, and each goes twice.
    let more = on.latencies.len() as f64 / off.latencies.len() as f64;
    let sent = on.datagrams as f64 / off.datagrams as f64;
    assert!(sent < 2.1 * more, "{sent} times the datagrams");
}

#[test]
fn where_nothing_is_lost_or_little_is_gained_nothing_goes_twice() {
    for (name, delay, loss, under_way, size, most) in [
        ("a healthy path", 25 * MILLISECOND, 0.0, 32, 128, 1.01),
        ("a near one", MILLISECOND, 0.02, 32, 128, 1.01),
        // For moments its window is so small that it sends as little as a thin link does.
        ("one that is full", 25 * MILLISECOND, 0.02, 32, 20_000, 1.25),
    ] {
        let [off, on] = [false, true].map(|on| converse(on, delay, loss, under_way, size));
        let [off_each, on_each] =
            [off, on].map(|ran| ran.datagrams as f64 / ran.latencies.len() as f64);
        let ratio = on_each / off_each;
        println!("{name}: {ratio}");
        assert!(
            (0.9..most).contains(&ratio),
            "{name}: {ratio} times as many"
        );
    }
}
