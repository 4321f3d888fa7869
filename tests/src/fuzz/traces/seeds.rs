//! What the corpus began with: both sides' traces of short conversations, whole and damaged.

use std::time::Duration;

use trunkline_core::Tag;
use trunkline_core::tap::{Body, Call, Letter};
use trunkline_core::trace::{Beginning, Header, Reader, Record, Writer};

use crate::world::echo;
use crate::{NodeIndex, Recording};

use super::super::two_nodes::{null_world, without_discovery};
use super::START;

pub(in super::super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for number in 0..6 {
        for trace in conversation(number, Recording::Wire) {
            seeds.extend(damaged(&trace));
        }
    }
    for recording in [Recording::Link, Recording::LinkWithBodies] {
        for number in 0..6 {
            for trace in conversation(number, recording) {
                seeds.extend(above_quic(&trace, number));
            }
        }
    }
    seeds.push(seed(0, 700, &slim(&announcing(100_000))));
    seeds
}

/// The trace of a node that is told of a body of so many bytes, of which it says no more.
fn announcing(length: usize) -> Vec<u8> {
    let trace = conversation(0, Recording::Link).remove(0);
    let reader = Reader::new(&trace[..]).expect("a recording");
    let mut writer = Writer::new(Vec::new(), reader.header()).expect("memory");
    let message = Letter {
        lane: None,
        tag: Tag(1),
        body: Body::Marked { length, hash: 2 },
    };
    let call = Call::Broadcast {
        group: None,
        message,
        key: None,
    };
    let record = Record::Call { at: 3, call };
    writer.write(&record).expect("memory");
    writer.into_inner()
}

/// What both nodes recorded; the higher the number, the more there was.
fn conversation(number: u8, recording: Recording) -> Vec<Vec<u8>> {
    let mut world = null_world(number.into());
    without_discovery(world.config());
    world.record_at(recording);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(Duration::from_millis(20), echo);
    for place in 0..number {
        world.request(client, session, &[place; 10]);
        world.run(Duration::from_millis(4), echo);
    }
    if number % 2 == 1 {
        world.path.cut = true;
        world.send_acked(client, session, b"lost at first");
        world.run(Duration::from_millis(700), echo);
        world.path.cut = false;
        world.run(Duration::from_secs(3), echo);
    }
    if number % 3 == 2 {
        world.kill(server);
        world.kill(client);
    }
    let traces = |node: NodeIndex| world.traces(node);
    [server, client].into_iter().flat_map(traces).collect()
}

fn seed(flags: u8, cut: u16, trace: &[u8]) -> Vec<u8> {
    let mut out = vec![flags];
    out.extend(cut.to_be_bytes());
    out.extend(trace);
    out
}

fn damaged(trace: &[u8]) -> Vec<Vec<u8>> {
    let mut seeds = vec![
        seed(0, 1_000, trace),
        seed(1, u16::MAX, trace),
        seed(1, 5, &trace[..trace.len() * 2 / 3]),
        seed(1, 9, &trace[..20]),
    ];
    let end = trace.len();
    for at in [3, 9, 12, 40, end - 60, end - 5, end - 6, end - 7] {
        let mut damaged = trace.to_vec();
        damaged[at] ^= 4;
        seeds.push(seed(0, 90, &damaged));
        seeds.push(seed(1, 90, &damaged));
    }
    seeds
}

/// Bits of an input's flags: what else is asked of the trace.
const SHRINK: u8 = 2;
const WHAT_IF: u8 = 4;

fn above_quic(trace: &[u8], number: u8) -> Vec<Vec<u8>> {
    let whole = slim(trace);
    let mut seeds = vec![
        seed(0, 300, &whole),
        seed(SHRINK, 400, &slim(&part(trace, 12, 1))),
        seed(SHRINK, 400, &slim(&part(trace, 30, 1))),
        seed(WHAT_IF | number << 3, 500, &whole),
        seed(WHAT_IF | (number + 6) << 3, 500, &whole),
        // Checksums are put right as if it began with its node.
        seed(1, 600, &slim(&part(trace, 8, 9))),
    ];
    let end = whole.len();
    for at in [end - 9, end - 14, end - 33, end - 60] {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        seeds.push(seed(SHRINK | WHAT_IF, 90, &damaged));
    }
    seeds
}

/// A trace's first records, the first of them with that number.
fn part(trace: &[u8], records: usize, first: u64) -> Vec<u8> {
    let mut reader = Reader::new(trace).expect("a recording");
    let header = Header {
        beginning: Beginning { first, clock: 0 },
        ..reader.header().clone()
    };
    let mut writer = Writer::new(Vec::new(), &header).expect("memory");
    for _ in 0..records {
        if let Some((_, record)) = reader.next_record().expect("a recording") {
            writer.write(&record).expect("memory");
        }
    }
    writer.into_inner()
}

/// The same trace, without the settings in its header: it is replayed with those that are the default.
fn slim(trace: &[u8]) -> Vec<u8> {
    let mut at = START;
    let length = number(trace, &mut at);
    // Behind the length stands a byte that it is checked by.
    at += 1;
    let end = at + length;
    let mut body = Vec::new();
    while at < end {
        let entry = at;
        let name = number(trace, &mut at);
        let is_setting = trace[at..].starts_with(b"config.");
        at += name;
        let value = number(trace, &mut at);
        at += value;
        if !is_setting {
            body.extend_from_slice(&trace[entry..at]);
        }
    }
    let mut out = trace[..START].to_vec();
    let mut length = body.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.push(super::check_of(body.len(), 0));
    out.extend(&body);
    out.extend(super::sum_of(0, &body));
    out.extend(&trace[end + super::SUM..]);
    out
}

fn number(trace: &[u8], at: &mut usize) -> usize {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = trace[*at];
        *at += 1;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}
