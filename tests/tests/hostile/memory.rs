//! What an admitted peer can make a node keep: bounded by what is configured, whatever the peer
//! does and does not do. Measured as what the allocator has given out and not got back, the raw
//! peer's own memory included.

use std::fmt::Display;
use std::time::Duration;

use trunkline_core::MetricsSnapshot;
use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{Cancel, CloseCode, Heartbeat, Receipt, Receipts};
use trunkline_testkit::raw_peer::{RawSettings, StreamId, control as control_frame, envelope};
use trunkline_testkit::{NodeIndex, World};

use crate::siege::Siege;

const TICK: Duration = Duration::from_millis(50);
const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const OUTBOX_BYTES: usize = 1 << 20;

/// A server with limits that a test can fill quickly.
fn small(seed: u64) -> Siege {
    Siege::of(small_world(seed))
}

/// The same, which keeps no session without a link.
fn forgetful(seed: u64) -> Siege {
    let mut world = small_world(seed);
    world.config().timeouts.retention = Duration::ZERO;
    Siege::of(world)
}

fn small_world(seed: u64) -> World {
    let mut world = World::new(seed);
    let config = world.config();
    config.limits.outbox_bytes = OUTBOX_BYTES;
    config.limits.lane_window_bytes = 256 << 10;
    config.limits.deliveries = 256;
    config.limits.delivery_bytes = 256 << 10;
    config.transport.stream_receive_window = 64 << 10;
    world
}

/// What came of an attack.
struct Attack {
    /// How much more memory is in use after it than before.
    grown: i64,
    before: MetricsSnapshot,
    after: MetricsSnapshot,
}

impl Attack {
    /// How much of something the server has counted meanwhile.
    fn counted(&self, of: impl Fn(&MetricsSnapshot) -> u64) -> u64 {
        of(&self.after) - of(&self.before)
    }

    #[track_caller]
    fn grew_less_than(&self, most: i64, by: impl Display) {
        assert!(self.grown < most, "{} bytes for {by}", self.grown);
    }
}

/// Whoever is not read any more is alive all the same.
fn beat(siege: &mut Siege, peer: NodeIndex) {
    let beat = Frame::Heartbeat(Heartbeat::default());
    let control = siege.link(peer).control_stream();
    siege.link(peer).write(control, &control_frame(beat));
}

/// What the server holds of answers is all that it may.
#[track_caller]
fn filled(attack: &Attack) {
    let held = attack.after.answer_bytes;
    assert!(held >= OUTBOX_BYTES, "{held} bytes of answers");
}

fn measured(siege: &mut Siege, attack: impl FnOnce(&mut Siege)) -> Attack {
    siege.paces(Duration::from_secs(5));
    let before = siege.metrics();
    let used = allocation_counter::measure(|| attack(siege));
    Attack {
        grown: used.bytes_current,
        before,
        after: siege.metrics(),
    }
}

/// An attack of so many rounds, all of which the peer's link outlives: what it does is allowed.
fn allowed(
    siege: &mut Siege,
    peer: NodeIndex,
    rounds: u32,
    mut attack: impl FnMut(&mut Siege, u32),
) -> Attack {
    let server = siege.server;
    measured(siege, |siege| {
        for round in 0..rounds {
            if round % 100 == 0 {
                beat(siege, peer);
            }
            attack(siege, round);
            siege.run(TICK);
            siege.world.clear_log(server);
            let ended = siege.link(peer).ended();
            assert_eq!(ended, None, "in round {round} of {rounds}");
        }
    })
}

/// An attack that ends each link at once, with that code, and goes on over further links of further sessions.
fn punished(
    siege: &mut Siege,
    peer: NodeIndex,
    links: u32,
    code: CloseCode,
    mut attack: impl FnMut(&mut Siege),
) -> Attack {
    let server = siege.server;
    let before = siege.count(code);
    let came = measured(siege, |siege| {
        for _ in 0..links {
            attack(siege);
            siege.run(TICK);
            siege.closed(peer, code);
            siege.admitted_again(peer);
            siege.world.raw(peer).forget_ended();
            siege.world.clear_log(server);
        }
        // In which both sides forget the last ones.
        siege.run(Duration::from_secs(4));
        siege.world.raw(peer).forget_ended();
    });
    assert_eq!(siege.count(code) - before, u64::from(links));
    came
}

/// An admitted peer that lets its streams fill up: `window` bytes each.
fn reads_nothing(siege: &mut Siege, window: u32) -> NodeIndex {
    let settings = RawSettings {
        stream_window: window,
        ..RawSettings::default()
    };
    let peer = siege.admitted_with(&settings);
    siege.link(peer).set_reads(false);
    peer
}

fn request(number: u64, body: usize) -> Envelope {
    Envelope {
        kind: Kind::Request.into(),
        promise: number + 1,
        body: vec![7; body].into(),
        ..Envelope::default()
    }
}

fn acked_message(number: u64) -> Envelope {
    Envelope {
        kind: Kind::Message.into(),
        ..request(number, 1)
    }
}

/// Throws away what came, so that it does not count.
fn discard(siege: &mut Siege, peer: NodeIndex) {
    let streams: Vec<_> = siege.link(peer).received().keys().copied().collect();
    for stream in streams {
        siege.link(peer).take_frames(stream);
    }
}

fn receipt(siege: &mut Siege, peer: NodeIndex, lane: u32, next: u64) {
    let receipts = vec![Receipt { lane, next }];
    siege
        .link(peer)
        .send_control(Frame::Receipts(Receipts { receipts }));
}

/// Writes envelopes one after another, a part of one at a time if need be.
struct Feed {
    stream: StreamId,
    next: u64,
    rest: Vec<u8>,
}

impl Feed {
    fn new(siege: &mut Siege, peer: NodeIndex, lane: u32) -> Self {
        Self {
            stream: siege.link(peer).open_lane(lane, 0),
            next: 0,
            rest: Vec::new(),
        }
    }

    fn write(&mut self, siege: &mut Siege, peer: NodeIndex, count: u32, make: fn(u64) -> Envelope) {
        for _ in 0..count {
            if self.rest.is_empty() {
                self.rest = envelope(&make(self.next));
                self.next += 1;
            }
            let written = siege.link(peer).write(self.stream, &self.rest);
            self.rest.drain(..written);
            if !self.rest.is_empty() {
                return;
            }
        }
    }
}

#[test]
fn heartbeats_do_not_pile_up() {
    let mut siege = small(81);
    let peer = siege.admitted();
    let control = siege.link(peer).control_stream();
    let beats: Vec<u8> = (0..1_000)
        .flat_map(|number| {
            let beat = Heartbeat { number };
            control_frame(Frame::Heartbeat(beat))
        })
        .collect();
    let mut sent = 0;
    let attack = allowed(&mut siege, peer, 200, |siege, _| {
        sent += siege.link(peer).write(control, &beats);
    });
    let read = attack.counted(|metrics| metrics.frames_in);
    attack.grew_less_than(512 * KIB, format_args!("{read} heartbeats"));
    assert!(sent > 640 << 10, "{sent} bytes: they were not read");
    assert!(read > 100_000, "{read} of {sent} bytes were read");
    siege.unharmed();
}

#[test]
fn receipts_that_nobody_reads_do_not_pile_up() {
    let mut siege = forgetful(82);
    let peer = reads_nothing(&mut siege, 1_024);
    let server = siege.server;
    // One message after another, each with a receipt of its own, until that is too much: twenty-five
    // minutes of them.
    let links = 27;
    let attack = punished(&mut siege, peer, links, CloseCode::FLOODED, |siege| {
        siege.link(peer).set_reads(false);
        let mut feed = Feed::new(siege, peer, 0);
        while siege.link(peer).ended().is_none() && feed.next < 2_000 {
            if feed.next.is_multiple_of(100) {
                beat(siege, peer);
            }
            feed.write(siege, peer, 1, |_| Envelope::default());
            siege.run(TICK);
            siege.world.clear_log(server);
        }
    });
    let taken = attack.counted(|metrics| metrics.messages_received);
    attack.grew_less_than(512 * KIB, format_args!("{taken} messages"));
    assert!(taken >= 30_000, "{taken}");
    siege.unharmed();
}

#[test]
fn replies_that_nobody_takes_do_not_pile_up() {
    for reads in [true, false] {
        let mut siege = small(83);
        let peer = siege.admitted();
        siege.link(peer).set_reads(reads);
        let mut feed = Feed::new(&mut siege, peer, 0);
        let attack = allowed(&mut siege, peer, 400, |siege, _| {
            feed.write(siege, peer, 60, |number| request(number, 1_000));
            discard(siege, peer);
        });
        let taken = attack.counted(|metrics| metrics.requests_received);
        // The outbox's own limit, what is under way, and what the peer may send ahead.
        attack.grew_less_than(4 * MIB, format_args!("{taken} requests"));
        filled(&attack);
        assert!(taken >= 1_000, "{taken}");
        siege.unharmed();
    }
}

#[test]
fn acks_that_nobody_takes_do_not_pile_up() {
    let mut siege = small(84);
    let peer = siege.admitted();
    let mut feed = Feed::new(&mut siege, peer, 0);
    let attack = allowed(&mut siege, peer, 1_000, |siege, _| {
        feed.write(siege, peer, 500, acked_message);
        discard(siege, peer);
    });
    let acked = attack.counted(|metrics| metrics.acks_sent);
    attack.grew_less_than(2 * MIB, format_args!("{acked} acks"));
    filled(&attack);
    assert!(acked > 100_000, "{acked}");
    siege.unharmed();
}

#[test]
fn streams_that_come_and_go_leave_nothing_behind() {
    let links = 200;
    let mut siege = forgetful(85);
    let peer = siege.admitted();
    let mut opened = 0;
    let attack = punished(
        &mut siege,
        peer,
        links,
        CloseCode::PROTOCOL_VIOLATION,
        |siege| {
            let link = siege.link(peer);
            while let Some(stream) = link.open_unidirectional() {
                link.finish(stream);
                opened += 1;
            }
        },
    );
    attack.grew_less_than(256 * KIB, format_args!("{opened} streams"));
    assert!(opened >= 5 * links, "{opened}");
    assert_eq!(
        attack.counted(|metrics| metrics.sessions_closed),
        u64::from(links)
    );
    siege.unharmed();
}

#[test]
fn messages_that_nobody_answers_are_held_within_their_limits() {
    let mut siege = small(86);
    siege.ignores_messages();
    let peer = siege.admitted();
    let mut feeds: Vec<_> = (0..4)
        .map(|lane| Feed::new(&mut siege, peer, lane))
        .collect();
    let attack = allowed(&mut siege, peer, 200, |siege, _| {
        for feed in &mut feeds {
            feed.write(siege, peer, 2_000, |number| request(number, 1));
        }
    });
    let sent: u64 = feeds.iter().map(|feed| feed.next).sum();
    let handed = attack.counted(|metrics| metrics.requests_received);
    // Four lanes of 64 KiB that are not read, and as many deliveries as may be owed.
    attack.grew_less_than(2 * MIB, format_args!("{sent} requests"));
    assert!(handed >= 4 * 256, "{handed} were handed over");
    assert!(sent > 20_000, "{sent} fill no window");
    siege.unharmed();
}

#[test]
fn half_a_million_small_messages_leave_nothing_behind() {
    let mut siege = small(87);
    let peer = siege.admitted();
    let mut feeds: Vec<_> = (0..4)
        .map(|lane| Feed::new(&mut siege, peer, lane))
        .collect();
    let attack = allowed(&mut siege, peer, 125, |siege, _| {
        for feed in &mut feeds {
            feed.write(siege, peer, 1_000, |_| Envelope::default());
        }
        discard(siege, peer);
    });
    let sent: u64 = feeds.iter().map(|feed| feed.next).sum();
    let taken = attack.counted(|metrics| metrics.messages_received);
    attack.grew_less_than(256 * KIB, format_args!("{taken} messages"));
    assert!(taken >= 500_000, "{taken} of {sent}");
    siege.unharmed();
}

#[test]
fn promises_that_are_made_and_cancelled_leave_nothing_behind() {
    for ahead in [false, true] {
        let mut siege = small(88);
        let peer = siege.admitted();
        let mut feed = Feed::new(&mut siege, peer, 0);
        let mut answers = None;
        let mut taken = 0;
        let attack = allowed(&mut siege, peer, 500, |siege, _| {
            let promises = feed.next + 1..feed.next + 201;
            if !ahead {
                feed.write(siege, peer, 200, |number| request(number, 10));
            }
            for promise in promises {
                siege
                    .link(peer)
                    .send_control(Frame::Cancel(Cancel { promise }));
            }
            if ahead {
                siege.run(TICK);
                feed.write(siege, peer, 200, |number| request(number, 10));
            }
            // It takes what is answered all the same.
            if answers.is_none() {
                let lanes = siege.link(peer).lanes();
                answers = lanes
                    .iter()
                    .find(|(open, _)| open.lane == 64)
                    .map(|(_, id)| *id);
            }
            if let Some(stream) = answers {
                taken += siege.link(peer).take_frames(stream).len() as u64;
                receipt(siege, peer, 64, taken - 1);
            }
        });
        let handed = attack.counted(|metrics| metrics.requests_received);
        let early = attack.counted(|metrics| metrics.cancelled_early);
        attack.grew_less_than(256 * KIB, format_args!("{} requests", feed.next));
        assert_eq!(feed.next, 100_000);
        assert!(handed + early >= 100_000, "{handed} and {early}");
        assert!(early > 0 && taken > 1, "{early} and {taken}");
        siege.unharmed();
    }
}
