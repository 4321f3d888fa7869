//! Datagrams that are nothing, or were something once.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use trunkline_proto::control::Frame;
use trunkline_proto::generated::Envelope;
use trunkline_proto::{Cancel, CloseCode, Heartbeat, Receipt, Receipts};
use trunkline_testkit::raw_peer::{Ended, RawSettings, control, envelope, lane_open, length};
use trunkline_testkit::{NodeIndex, Random, World};

use crate::siege::Siege;

const SECOND: Duration = Duration::from_secs(1);

fn bytes(random: &mut Random, length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random.next_u64().to_be_bytes())
        .flatten()
        .take(length)
        .collect()
}

/// Any address but those of the nodes.
fn address(random: &mut Random) -> SocketAddr {
    let [a, b, c, d, ..] = random.next_u64().to_be_bytes();
    (Ipv4Addr::new(172, 16 | a & 15, b, c), u16::from(d) + 1).into()
}

/// Datagrams with random bytes behind every kind of first byte, of any length there is.
#[test]
fn a_million_random_datagrams_have_no_effect() {
    let mut siege = Siege::new(71);
    let mut random = Random::new(71);
    let before = siege.metrics();
    for round in 0..200_u32 {
        for _ in 0..5_000 {
            let length = (random.next_u64() % 1_500) as usize;
            let mut datagram = bytes(&mut random, length);
            if let [first, rest @ ..] = &mut datagram[..] {
                match round % 4 {
                    // An Initial, as far as its header goes.
                    0 => {
                        *first = 0xc0 | *first & 0x0f;
                        rest.iter_mut()
                            .zip([0, 0, 0, 1, 8])
                            .for_each(|(at, byte)| *at = byte);
                    }
                    // Another QUIC version, or none.
                    1 => *first |= 0x80,
                    // For a connection that nobody has.
                    2 => *first = 0x40 | *first & 0x3f,
                    _ => {}
                }
            }
            // Some for the honest client, and some that claim to be between it and its server.
            let (server, client) = (siege.server, siege.victim_node());
            let (from, to) = match random.next_u64() % 4 {
                0 => (address(&mut random), client),
                1 => (siege.world.address(server), client),
                2 => (siege.world.address(client), server),
                _ => (address(&mut random), server),
            };
            siege.world.inject(from, to, &datagram);
        }
        siege.run(SECOND / 10);
    }
    let after = siege.metrics();
    let came = after.datagrams_in - before.datagrams_in;
    let at_client = siege.victim_metrics().datagrams_in;
    assert!(
        came >= 400_000 && came + at_client >= 1_000_000,
        "{came} and {at_client}"
    );
    assert_eq!((after.sessions, after.connected), (1, 1));
    assert_eq!(after.sessions_opened, before.sessions_opened);
    assert_eq!(
        after.links_opened, before.links_opened,
        "no datagram has begun a link"
    );
    // What is answered at all (a reset, another version) is never more than what came.
    let [came, went] = [
        after.bytes_in - before.bytes_in,
        after.bytes_out - before.bytes_out,
    ];
    assert!(went < came, "{went} bytes for {came}");
    siege.unharmed();
}

/// The first flight of a real handshake, with a bit turned, a part cut off, or sent again.
#[test]
fn damaged_and_repeated_handshakes_leave_nothing_behind() {
    let mut siege = Siege::new(72);
    let flight = first_datagrams(&mut siege);
    assert!(!flight.is_empty());
    let mut random = Random::new(72);
    let before = siege.metrics();
    for round in 0..50_u64 {
        for datagram in &flight {
            for _ in 0..20 {
                let mut damaged = datagram.clone();
                match random.next_u64() % 3 {
                    0 => {
                        let at = random.next_u64() as usize % damaged.len();
                        damaged[at] ^= 1 << (round % 8);
                    }
                    1 => damaged.truncate(random.next_u64() as usize % damaged.len()),
                    _ => damaged.extend_from_slice(datagram),
                }
                let from = address(&mut random);
                siege.world.inject(from, siege.server, &damaged);
            }
        }
        siege.run(SECOND / 10);
    }
    // Some of it was good enough to begin with; nothing of it comes to an end.
    siege.run(12 * SECOND);
    let after = siege.metrics();
    assert!(after.datagrams_in > before.datagrams_in + 1_000);
    assert_eq!(after.sessions, 1);
    let left = after.links_opened - before.links_opened;
    assert!(left > 0);
    siege.run(60 * SECOND);
    let gone = siege.metrics().links_closed - before.links_closed;
    assert_eq!(left, gone, "every link that was begun is gone");
    siege.unharmed();
}

/// What a client sends first, recorded on its way to a server that is not there.
fn first_datagrams(siege: &mut Siege) -> Vec<Vec<u8>> {
    let nobody: NodeIndex = siege.world.client();
    let peer = siege.world.raw_client(nobody, &RawSettings::default());
    let now = siege.world.now();
    siege.world.raw(peer).take_datagrams(now)
}

/// Valid frames with some bytes changed, and bytes that never were frames: a link ends with a number
/// or goes on, and the node always does.
#[test]
fn noise_on_the_streams_of_admitted_peers_ends_their_links_with_a_number() {
    let mut siege = Siege::new(74);
    let mut random = Random::new(74);
    let mut ended = BTreeMap::new();
    for _ in 0..400 {
        let peer = siege.admitted();
        let at = random.next_u64();
        let link = siege.link(peer);
        let stream = match at % 3 {
            0 => link.control_stream(),
            1 => link.open_lane([0, 1, 64, 65, 66][at as usize / 3 % 5], 0),
            _ => link.open_unidirectional().unwrap(),
        };
        for _ in 0..20 {
            let noise = noise(&mut random);
            siege.link(peer).write(stream, &noise);
        }
        siege.run(SECOND / 10);
        match siege.link(peer).ended() {
            None => *ended.entry(None).or_insert(0) += 1,
            Some(Ended::Application { code, reason }) => {
                assert!(!reason.is_empty());
                *ended.entry(Some(*code)).or_insert(0) += 1;
            }
            other => panic!("{other:?}"),
        }
        // Those that live are not to keep the later ones waiting.
        let now = siege.world.now();
        siege.link(peer).close(now, 0, b"");
    }
    let faults = [
        CloseCode::FRAME_TOO_LARGE,
        CloseCode::UNDECODABLE,
        CloseCode::SEQUENCE_GAP,
        CloseCode::UNKNOWN_LANE,
        CloseCode::PROTOCOL_VIOLATION,
        CloseCode::FLOODED,
        CloseCode::BAD_RECEIPT,
    ]
    .map(|code| u64::from(code.0));
    for code in ended.keys().flatten() {
        assert!(faults.contains(code), "{ended:?}");
    }
    assert!(ended.len() > 4, "{ended:?}");
    siege.unharmed();
}

/// A frame that is right but for some of its bytes, or nothing of the kind.
fn noise(random: &mut Random) -> Vec<u8> {
    let number = random.next_u64() >> (random.next_u64() % 64);
    let lane = (number % 70) as u32;
    let mut frame = match random.next_u64() % 8 {
        0 => control(Frame::Heartbeat(Heartbeat { number })),
        1 => control(Frame::Cancel(Cancel { promise: number })),
        2 => {
            let receipts = vec![Receipt { lane, next: number }];
            control(Frame::Receipts(Receipts { receipts }))
        }
        3 => lane_open(lane, number),
        4 => envelope(&Envelope {
            tag: (!number.is_multiple_of(3)).then_some(number),
            kind: (number % 6) as i32,
            promise: number,
            body: bytes(random, 20).into(),
            ..Envelope::default()
        }),
        5 => envelope(&Envelope {
            kind: 4,
            acks: vec![number, number % 70_000],
            ..Envelope::default()
        }),
        6 => bytes(random, 30),
        _ => length(number),
    };
    if random.next_u64().is_multiple_of(2) {
        let at = random.next_u64() as usize % frame.len();
        frame[at] = random.next_u64() as u8;
    }
    frame
}

/// Whoever sees the datagrams of a live link and sends each of them again changes nothing.
#[test]
fn replayed_datagrams_of_a_live_link_change_nothing() {
    let mut world = World::new(73);
    world.path.duplicate = 1.0;
    world.path.jitter = Duration::ZERO;
    let mut siege = Siege::of(world);
    siege.run(20 * SECOND);
    let metrics = siege.metrics();
    assert_eq!(
        metrics.duplicates_dropped, 0,
        "QUIC has dropped them before"
    );
    assert_eq!(metrics.sessions, 1);
    siege.unharmed();
}
