//! What an admitted peer can make a node keep: bounded by what is configured, whatever the peer
//! does and does not do. Measured as what the allocator has given out and not got back, the raw
//! peer's own memory included.

use std::time::Duration;

use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{Cancel, CloseCode, Heartbeat, Receipt, Receipts};
use trunkline_testkit::raw_peer::{
    Ended, RawSettings, StreamId, control as control_frame, envelope,
};
use trunkline_testkit::{NodeIndex, World};

use crate::siege::Siege;

const TICK: Duration = Duration::from_millis(50);
const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;

/// A server with limits that a test can fill quickly.
fn small(seed: u64) -> Siege {
    let mut world = World::new(seed);
    let config = world.config();
    config.limits.outbox_bytes = 1 << 20;
    config.limits.lane_window_bytes = 256 << 10;
    config.limits.deliveries = 256;
    config.limits.delivery_bytes = 256 << 10;
    config.transport.stream_receive_window = 64 << 10;
    Siege::of(world)
}

/// How much more memory is in use after the attack than before. The attack ends early when the
/// peer's link does; then it must have been told that it went too far.
fn growth(
    siege: &mut Siege,
    peer: NodeIndex,
    rounds: u32,
    attack: impl FnMut(&mut Siege, u32),
) -> i64 {
    let mut attack = attack;
    let server = siege.server;
    siege.paces(Duration::from_secs(5));
    let used = allocation_counter::measure(|| {
        for round in 0..rounds {
            if siege.link(peer).ended().is_some() {
                break;
            }
            if round % 100 == 0 {
                // Whoever is not read any more is to be alive all the same.
                let beat = Frame::Heartbeat(Heartbeat::default());
                let control = siege.link(peer).control_stream();
                siege.link(peer).write(control, &control_frame(beat));
            }
            attack(siege, round);
            siege.run(TICK);
            siege.world.clear_log(server);
        }
    });
    if let Some(ended) = siege.link(peer).ended() {
        let codes = [
            CloseCode::FLOODED,
            CloseCode::SLOW_CONSUMER,
            CloseCode::PROTOCOL_VIOLATION,
        ];
        let told = codes.map(|code| u64::from(code.0));
        assert!(
            matches!(ended, Ended::Application { code, .. } if told.contains(code)),
            "{ended:?}"
        );
    }
    used.bytes_current
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

fn request(seq: u64, body: usize) -> Envelope {
    Envelope {
        seq,
        kind: Kind::Request.into(),
        promise: seq + 1,
        body: vec![7; body].into(),
        ..Envelope::default()
    }
}

fn acked_message(seq: u64) -> Envelope {
    Envelope {
        kind: Kind::Message.into(),
        ..request(seq, 1)
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
    let grown = growth(&mut siege, peer, 200, |siege, _| {
        sent += siege.link(peer).write(control, &beats);
    });
    assert!(
        grown < 512 * KIB,
        "{grown} bytes for {sent} bytes of heartbeats"
    );
    assert!(sent > 640 << 10, "{sent} bytes: they were not read");
    siege.unharmed();
}

#[test]
fn receipts_that_nobody_reads_do_not_pile_up() {
    let mut siege = small(82);
    let peer = reads_nothing(&mut siege, 1_024);
    let mut feed = Feed::new(&mut siege, peer, 0);
    // One message after another, each with a receipt of its own: twenty-five minutes of them.
    let grown = growth(&mut siege, peer, 30_000, |siege, _| {
        feed.write(siege, peer, 1, |seq| Envelope {
            seq,
            ..Envelope::default()
        });
    });
    assert!(
        grown < 512 * KIB,
        "{grown} bytes for {} messages",
        feed.next
    );
    siege.unharmed();
}

#[test]
fn replies_that_nobody_takes_do_not_pile_up() {
    for reads in [true, false] {
        let mut siege = small(83);
        let peer = siege.admitted();
        siege.link(peer).set_reads(reads);
        let mut feed = Feed::new(&mut siege, peer, 0);
        let before = siege.metrics().requests_received;
        let grown = growth(&mut siege, peer, 400, |siege, _| {
            feed.write(siege, peer, 60, |seq| request(seq, 1_000));
            discard(siege, peer);
        });
        let taken = siege.metrics().requests_received - before;
        // The outbox's own limit, what is under way, and what the peer may send ahead.
        assert!(grown < 4 * MIB, "{grown} bytes for {taken} requests");
        siege.unharmed();
    }
}

#[test]
fn acks_that_nobody_takes_do_not_pile_up() {
    let mut siege = small(84);
    let peer = siege.admitted();
    let mut feed = Feed::new(&mut siege, peer, 0);
    let grown = growth(&mut siege, peer, 1_000, |siege, _| {
        feed.write(siege, peer, 500, acked_message);
        discard(siege, peer);
    });
    assert!(grown < 2 * MIB, "{grown} bytes for {} messages", feed.next);
    siege.unharmed();
}

#[test]
fn streams_that_come_and_go_leave_nothing_behind() {
    let mut siege = small(85);
    let peer = siege.admitted();
    let mut opened = 0;
    let grown = growth(&mut siege, peer, 2_000, |siege, _| {
        let link = siege.link(peer);
        while let Some(stream) = link.open_unidirectional() {
            link.finish(stream);
            opened += 1;
        }
    });
    assert!(grown < 256 * KIB, "{grown} bytes for {opened} streams");
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
    let grown = growth(&mut siege, peer, 200, |siege, _| {
        for feed in &mut feeds {
            feed.write(siege, peer, 2_000, |seq| request(seq, 1));
        }
    });
    let sent: u64 = feeds.iter().map(|feed| feed.next).sum();
    assert_eq!(siege.link(peer).ended(), None, "it is only held back");
    // Four lanes of 64 KiB that are not read, and as many deliveries as may be owed.
    assert!(grown < 2 * MIB, "{grown} bytes for {sent} requests");
    siege.unharmed();
}

#[test]
fn half_a_million_small_messages_leave_nothing_behind() {
    let mut siege = small(87);
    let peer = siege.admitted();
    let mut feeds: Vec<_> = (0..4)
        .map(|lane| Feed::new(&mut siege, peer, lane))
        .collect();
    let grown = growth(&mut siege, peer, 125, |siege, _| {
        for feed in &mut feeds {
            feed.write(siege, peer, 1_000, |seq| Envelope {
                seq,
                ..Envelope::default()
            });
        }
        discard(siege, peer);
    });
    let sent: u64 = feeds.iter().map(|feed| feed.next).sum();
    assert_eq!(siege.link(peer).ended(), None);
    assert!(sent >= 500_000, "{sent}");
    assert!(grown < 256 * KIB, "{grown} bytes for {sent} messages");
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
        let grown = growth(&mut siege, peer, 500, |siege, _| {
            let promises = feed.next + 1..feed.next + 201;
            if !ahead {
                feed.write(siege, peer, 200, |seq| request(seq, 10));
            }
            for promise in promises {
                siege
                    .link(peer)
                    .send_control(Frame::Cancel(Cancel { promise }));
            }
            if ahead {
                siege.run(TICK);
                feed.write(siege, peer, 200, |seq| request(seq, 10));
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
        assert_eq!(siege.link(peer).ended(), None);
        assert!(
            grown < 256 * KIB,
            "{grown} bytes for {} requests",
            feed.next
        );
        siege.unharmed();
    }
}
