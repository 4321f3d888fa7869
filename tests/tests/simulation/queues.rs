//! Much that is under way fills no queue that it need not fill, and uses all of the path.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{Event, Lane, Message, Node, PromiseKey, SessionKey, Tag};
use trunkline_testkit::{Path, World, echo};

const MILLISECOND: Duration = Duration::from_millis(1);
const LARGE: usize = 1_000_000;
const GIGABIT: u64 = 1_000_000_000;

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

/// Large messages from a client to a server, some of them always under way, and one small request beside them.
struct Load {
    session: SessionKey,
    /// Whether the large messages come back, or are acked.
    come_back: bool,
    large: Bytes,
    under_way: BTreeSet<PromiseKey>,
    asked: Option<(PromiseKey, Instant)>,
    /// How many large ones are done.
    done: u32,
    /// How long the small requests took.
    small: Vec<Duration>,
}

impl Load {
    fn begin(
        session: SessionKey,
        node: &mut Node,
        now: Instant,
        count: usize,
        come_back: bool,
    ) -> Self {
        let mut load = Self {
            session,
            come_back,
            large: Bytes::from(vec![1; LARGE]),
            under_way: BTreeSet::new(),
            asked: None,
            done: 0,
            small: Vec::new(),
        };
        (0..count).for_each(|_| load.send(node, now));
        load.ask(node, now);
        load
    }

    /// Sends a large message.
    fn send(&mut self, node: &mut Node, now: Instant) {
        let message = Message::new(Tag::of("test.Large"), self.large.clone()).on(Lane::BULK);
        let sent = match self.come_back {
            true => node.request(now, self.session, message, None),
            false => node.send_acked(now, self.session, message, None),
        };
        self.under_way.insert(sent.unwrap());
    }

    /// Sends a small request.
    fn ask(&mut self, node: &mut Node, now: Instant) {
        let message = Message::new(Tag::of("test.Ping"), Bytes::from_static(&[7; 100]));
        let promise = node.request(now, self.session, message, None).unwrap();
        self.asked = Some((promise, now));
    }

    /// What is done is followed by another.
    fn event(&mut self, node: &mut Node, now: Instant, event: &Event) {
        echo(node, now, event);
        let Event::Settled { promise, .. } = event else {
            return;
        };
        if self.under_way.remove(promise) {
            self.done += 1;
            self.send(node, now);
        } else if let Some((asked, at)) = self.asked
            && asked == *promise
        {
            self.small.push(now - at);
            self.ask(node, now);
        }
    }
}

/// Large messages a second, half a minute after the path has become longer.
fn longer(before: Duration, after: Duration) -> f64 {
    let mut world = on_a_path(before, GIGABIT / 4);
    let [server, client] = [world.server(), world.client()];
    let session = world.connect(client, server, "anna");
    let now = world.now();
    let mut load = Load::begin(session, world.node(client), now, 16, false);
    world.run(Duration::from_secs(1), |node, now, event| {
        load.event(node, now, event)
    });
    let path = Path {
        delay: after,
        ..world.path
    };
    *world.direction(client, server) = path;
    *world.direction(server, client) = path;
    world.run(Duration::from_secs(30), |node, now, event| {
        load.event(node, now, event)
    });
    let before = load.done;
    world.run(Duration::from_secs(2), |node, now, event| {
        load.event(node, now, event)
    });
    f64::from(load.done - before) / 2.0
}

/// What came of a load in that time.
struct Ran {
    /// Large messages a second.
    large: f64,
    /// How long the small requests took, the shortest first.
    small: Vec<Duration>,
}

fn run(delay: Duration, rate: u64, under_way: usize, come_back: bool, time: Duration) -> Ran {
    let mut world = on_a_path(delay, rate);
    let [server, client] = [world.server(), world.client()];
    let session = world.connect(client, server, "anna");
    world.run(10 * delay, echo);
    let now = world.now();
    let mut load = Load::begin(session, world.node(client), now, under_way, come_back);
    world.run(time, |node, now, event| load.event(node, now, event));
    // The one that is not answered yet has waited for so long already.
    load.small
        .extend(load.asked.map(|(_, at)| world.now() - at));
    load.small.sort();
    Ran {
        large: f64::from(load.done) / time.as_secs_f64(),
        small: load.small,
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
