//! Frames that are too long, cannot be decoded, or do not belong where they come.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use prost::Message;
use trunkline_proto::control::Frame;
use trunkline_proto::generated::Envelope;
use trunkline_proto::{CloseCode, Heartbeat, LaneOpen, Limits, Receipt, Receipts, Welcome};
use trunkline_testkit::World;
use trunkline_testkit::raw_peer::{RawLink, RawSettings, frame, hello, length};

use crate::siege::Siege;
use crate::table::{Fault, commit};

const SECOND: Duration = Duration::from_secs(1);

/// Field 100, a varint: nothing that version 1 knows.
const UNKNOWN_FIELD: [u8; 3] = [0xa0, 0x06, 0x01];

fn on_control(link: &mut RawLink, bytes: &[u8]) {
    let control = link.control_stream();
    link.send(control, bytes);
}

#[test]
fn a_frame_that_is_too_long_is_refused_on_its_prefix_alone() {
    let faults = [
        Fault {
            name: "control, one byte more than 4 KiB",
            act: |link| on_control(link, &length(4_097)),
            code: CloseCode::FRAME_TOO_LARGE,
            says: "4097 bytes was announced: at most 4096",
        },
        Fault {
            name: "control, 2^62",
            act: |link| on_control(link, &length(1 << 62)),
            code: CloseCode::UNDECODABLE,
            says: "length takes more than 4 bytes",
        },
        Fault {
            name: "a lane, one byte more than 1 MiB",
            act: |link| {
                let lane = link.open_lane(0, 0);
                link.send(lane, &length((1 << 20) + 1));
            },
            code: CloseCode::FRAME_TOO_LARGE,
            says: "1048577 bytes was announced: at most 1048576",
        },
        Fault {
            name: "a lane, 2^62",
            act: |link| {
                let lane = link.open_lane(0, 0);
                link.send(lane, &length(1 << 62));
            },
            code: CloseCode::UNDECODABLE,
            says: "length takes more than 4 bytes",
        },
        Fault {
            name: "a lane, four bytes that announce a fifth",
            act: |link| {
                let lane = link.open_lane(1, 0);
                link.send(lane, &[0x80; 4]);
            },
            code: CloseCode::UNDECODABLE,
            says: "length takes more than 4 bytes",
        },
        Fault {
            name: "a stream's first frame, one byte more than 1 MiB",
            act: |link| {
                let stream = link.open_unidirectional().unwrap();
                link.send(stream, &length((1 << 20) + 1));
            },
            code: CloseCode::FRAME_TOO_LARGE,
            says: "at most 1048576",
        },
    ];
    commit(&mut Siege::new(1), &faults);
}

#[test]
fn what_the_receiver_has_announced_is_its_limit() {
    let mut world = World::new(2);
    world.config().limits.frame_bytes = 65_536;
    let mut siege = Siege::of(world);
    let largest = Envelope {
        body: vec![7; 65_536 - 4].into(),
        ..Envelope::default()
    };
    assert_eq!(largest.encoded_len(), 65_536);
    let peer = siege.admitted();
    let limits = siege
        .link(peer)
        .control()
        .into_iter()
        .find_map(|frame| match frame {
            Frame::Welcome(welcome) => welcome.limits,
            _ => None,
        });
    assert_eq!(
        limits,
        Some(Limits {
            frame_bytes: 65_536,
            lanes: 4
        })
    );
    let lane = siege.link(peer).open_lane(0, 0);
    siege.link(peer).send_envelope(lane, &largest);
    siege.run(SECOND);
    let longest = siege
        .world
        .bodies(siege.server)
        .iter()
        .map(bytes::Bytes::len)
        .max();
    assert_eq!(longest, Some(65_532));
    let faults = [Fault {
        name: "one byte more than announced",
        act: |link| {
            let lane = link.open_lane(0, 0);
            link.send(lane, &length(65_537));
        },
        code: CloseCode::FRAME_TOO_LARGE,
        says: "65537 bytes was announced: at most 65536",
    }];
    commit(&mut siege, &faults);
}

/// The least that a peer may announce is what a node then sends it at most; less counts as that.
#[test]
fn a_node_sends_no_longer_frame_than_its_peer_has_announced() {
    for announced in [0, 1, 4_096] {
        let mut siege = Siege::new(3);
        let peer = siege.raw(&RawSettings::default());
        let mut hello = hello("small", 1);
        hello.limits = Some(Limits {
            frame_bytes: announced,
            lanes: 0,
        });
        siege.link(peer).hello(&hello);
        siege.run(SECOND);
        let (server, now) = (siege.server, siege.world.now());
        let sessions: Vec<_> = siege.world.node(server).sessions().collect();
        let session = sessions
            .iter()
            .find(|session| session.client.as_str() == "small")
            .unwrap();
        let node = siege.world.node(server);
        let message = |size| trunkline_core::Message::new(trunkline_core::Tag(1), vec![7; size]);
        let refused = node.send(now, session.session, message(4_096)).unwrap_err();
        assert!(
            matches!(
                refused.error,
                trunkline_core::CommandError::TooLarge { limit: 4_096, .. }
            ),
            "{refused}"
        );
        let lane = trunkline_core::Lane::new(2).unwrap();
        let refused = node
            .send(now, session.session, message(1).on(lane))
            .unwrap_err();
        assert_eq!(refused.error, trunkline_core::CommandError::UnknownLane);
        node.send(now, session.session, message(4_000)).unwrap();
        siege.run(SECOND);
        let longest = siege
            .link(peer)
            .envelopes(0)
            .iter()
            .map(Envelope::encoded_len)
            .max();
        assert!(
            longest.is_some_and(|longest| longest > 4_000 && longest <= 4_096),
            "{longest:?}"
        );
        siege.unharmed();
    }
}

#[test]
fn frames_in_the_wrong_state_break_the_protocol() {
    let faults = [
        Fault {
            name: "a second hello",
            act: |link| link.hello(&hello("again", 9)),
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "Hello is not expected while the link is in use",
        },
        Fault {
            name: "a client's welcome",
            act: |link| link.send_control(Frame::Welcome(Welcome::default())),
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "Welcome is not expected while the link is in use",
        },
        Fault {
            name: "a message among the answers",
            act: |link| {
                let lane = link.open_lane(64, 0);
                link.send_envelope(lane, &Envelope::default());
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "does not carry",
        },
        Fault {
            name: "bytes that are no protobuf",
            act: |link| on_control(link, &frame(b"GET / HTTP/1.1")),
            code: CloseCode::UNDECODABLE,
            says: "a control frame is not protobuf",
        },
        Fault {
            name: "a first frame that is no LaneOpen",
            act: |link| {
                let stream = link.open_unidirectional().unwrap();
                link.send(stream, &frame(&[0xff; 3]));
            },
            code: CloseCode::UNDECODABLE,
            says: "a stream's first frame is no LaneOpen",
        },
        Fault {
            name: "nesting as deep as a frame can hold",
            act: |link| {
                let mut nested = Vec::new();
                while nested.len() < 3_900 {
                    let mut outer = vec![0x0a];
                    outer.extend(length(nested.len() as u64));
                    outer.extend(&nested);
                    nested = outer;
                }
                on_control(link, &frame(&nested));
            },
            code: CloseCode::UNDECODABLE,
            says: "a control frame is not protobuf",
        },
    ];
    commit(&mut Siege::new(4), &faults);
}

/// One list entry of vectors.json.
struct Vector {
    name: String,
    place: String,
    lane: u32,
    bytes: Vec<u8>,
    code: CloseCode,
}

/// The faults of vectors.json, by what the receiver has announced: lanes, and the longest frame.
fn vectors() -> BTreeMap<(u8, usize), Vec<Vector>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/vectors.json");
    let file: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut vectors: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for vector in file["faults"].as_array().unwrap() {
        let number = |field: &str| vector[field].as_u64();
        let digits = vector["bytes"].as_str().unwrap();
        let bytes = (0..digits.len()).step_by(2);
        let announced = (
            number("lanes").unwrap_or(4) as u8,
            number("frame_bytes").unwrap_or(1 << 20) as usize,
        );
        vectors.entry(announced).or_default().push(Vector {
            name: vector["name"].as_str().unwrap().to_owned(),
            place: vector["place"].as_str().unwrap().to_owned(),
            lane: number("lane").unwrap_or(0) as u32,
            bytes: bytes
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
                .collect(),
            code: CloseCode(vector["close"]["code"].as_u64().unwrap() as u32),
        });
    }
    vectors
}

#[test]
fn every_fault_of_the_vectors_ends_a_link_of_a_node_as_it_says() {
    let mut committed = 0;
    for ((lanes, frame_bytes), vectors) in vectors() {
        let mut world = World::new(5);
        world.config().limits.lanes = lanes;
        world.config().limits.frame_bytes = frame_bytes;
        let mut siege = Siege::of(world);
        for vector in vectors {
            let peer = siege.admitted();
            let before = siege.count(vector.code);
            let link = siege.link(peer);
            let stream = match vector.place.as_str() {
                "control" => link.control_stream(),
                "lane_open" => link.open_unidirectional().unwrap(),
                _ => link.open_lane(vector.lane, 0),
            };
            link.send(stream, &vector.bytes);
            siege.run(SECOND / 5);
            let reason = siege.closed(peer, vector.code);
            assert!(!reason.is_empty(), "{}", vector.name);
            assert_eq!(siege.count(vector.code), before + 1, "{}", vector.name);
            committed += 1;
        }
        siege.unharmed();
    }
    assert!(committed > 30, "{committed}");
}

#[test]
fn what_a_later_version_may_add_is_ignored() {
    let mut siege = Siege::new(6);
    let peer = siege.raw(&RawSettings::default());
    let link = siege.link(peer);
    // Before the hello: a frame without any member, and one with a member that nobody knows.
    on_control(link, &frame(&[]));
    on_control(link, &frame(&[0xa2, 0x06, 0x02, 0x08, 0x01]));
    let mut bytes = hello("future", 1).encode_to_vec();
    bytes.extend(UNKNOWN_FIELD);
    let mut control = vec![0x0a];
    control.extend(length(bytes.len() as u64));
    control.extend(bytes);
    control.extend(UNKNOWN_FIELD);
    on_control(link, &frame(&control));
    let lane = link.open_unidirectional().unwrap();
    let mut open = LaneOpen { lane: 0, next: 0 }.encode_to_vec();
    open.extend(UNKNOWN_FIELD);
    link.send(lane, &frame(&open));
    let mut request = Envelope {
        kind: 1,
        promise: 1,
        body: "still understood".into(),
        ..Envelope::default()
    }
    .encode_to_vec();
    request.extend(UNKNOWN_FIELD);
    // Text and fixed numbers are skipped as well.
    request.extend([0xa2, 0x06, 0x02, b'h', b'i', 0xa5, 0x06, 1, 2, 3, 4]);
    request.extend([0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8]);
    link.send(lane, &frame(&request));
    siege.run(SECOND);
    on_control(siege.link(peer), &frame(&[0xa2, 0x06, 0x00]));
    on_control(siege.link(peer), &frame(&[]));
    siege.run(SECOND);
    let link = siege.link(peer);
    assert_eq!(link.ended(), None);
    assert_eq!(link.envelopes(64)[0].body, "still understood");
    siege.unharmed();
}

/// A frame that nobody understands is a sign of life all the same; a lane's frame with all fields
/// at their defaults is a message.
#[test]
fn frames_of_no_length_are_signs_of_life_and_messages() {
    let mut siege = Siege::new(7);
    let peer = siege.admitted();
    let lane = siege.link(peer).open_unidirectional().unwrap();
    // LaneOpen and two envelopes: lane 0 from number 0, then numbers 0 and 1.
    siege.link(peer).send(lane, &[0, 0, 0]);
    for _ in 0..10 {
        on_control(siege.link(peer), &[0; 1_000]);
        siege.run(10 * SECOND);
    }
    assert_eq!(siege.link(peer).ended(), None, "heard of for 100 s");
    let empty = siege
        .world
        .bodies(siege.server)
        .iter()
        .filter(|body| body.is_empty())
        .count();
    assert_eq!(empty, 2);
    siege.unharmed();
}

#[test]
fn a_part_of_a_frame_and_then_silence_is_silence() {
    let mut siege = Siege::new(8);
    let parts: [fn(&mut RawLink); 3] = [
        |link| on_control(link, &[0x05]),
        |link| {
            let lane = link.open_lane(0, 0);
            link.send(lane, &length(1_000));
            link.send(lane, &[7; 500]);
        },
        |link| {
            let stream = link.open_unidirectional().unwrap();
            link.send(stream, &[0x80]);
        },
    ];
    let peers = parts.map(|part| {
        let peer = siege.admitted();
        part(siege.link(peer));
        peer
    });
    // A byte now and then is no frame: it keeps nobody alive.
    let dripping = siege.admitted();
    let lane = siege.link(dripping).open_lane(0, 0);
    siege.link(dripping).send(lane, &length(1_000));
    let before = siege.metrics();
    for _ in 0..44 {
        siege.link(dripping).send(lane, &[7]);
        siege.run(SECOND);
    }
    assert_eq!(
        siege.link(dripping).ended(),
        None,
        "not within three intervals"
    );
    siege.link(dripping).write(lane, &[7]);
    siege.run(2 * SECOND);
    for peer in peers.into_iter().chain([dripping]) {
        let reason = siege.closed(peer, CloseCode::HEARTBEAT_TIMEOUT);
        assert!(reason.contains("nothing was heard"), "{reason}");
    }
    assert_eq!(
        siege.metrics().heartbeat_timeouts,
        before.heartbeat_timeouts + 4
    );
    siege.unharmed();
}

/// Each byte is a frame, and none of them comes to anything.
#[test]
fn who_says_nothing_over_and_over_is_read_slowly_and_harms_nobody() {
    let mut siege = Siege::new(10);
    let silent = siege.raw(&RawSettings::default());
    let peer = siege.admitted();
    let before = siege.metrics();
    let mut written = [0, 0];
    for _ in 0..100 {
        for (peer, written) in [silent, peer].into_iter().zip(&mut written) {
            let link = siege.link(peer);
            let control = link.control_stream();
            *written += link.write(control, &[0; 200_000]);
        }
        siege.run(SECOND / 50);
    }
    let after = siege.metrics();
    let read = after.frames_in - before.frames_in;
    // Flow control holds both of them, and neither is ended before its time.
    assert!(
        written[0] < 400_000 && written[1] < 3_000_000,
        "{written:?}"
    );
    assert!((150_000..=300_000).contains(&read), "{read} in 2 s");
    assert!(after.reads_throttled > before.reads_throttled + 2_000);
    assert_eq!(siege.link(peer).ended(), None);
    assert_eq!(siege.link(silent).ended(), None);
    siege.unharmed();
}

#[test]
fn floods_of_small_frames_are_worked_off_in_turns() {
    let mut siege = Siege::new(9);
    let peer = siege.admitted();
    let lane = siege.link(peer).open_lane(0, 0);
    let before = siege.metrics();
    for _ in 0..20 {
        let link = siege.link(peer);
        for number in 0..1_000 {
            link.send_control(Frame::Heartbeat(Heartbeat { number }));
            // Receipts for nothing are ignored.
            let receipts = vec![Receipt::default(); 10];
            link.send_control(Frame::Receipts(Receipts { receipts }));
        }
        link.send_envelope(lane, &Envelope::default());
        siege.run(SECOND);
    }
    assert_eq!(siege.link(peer).ended(), None);
    let after = siege.metrics();
    assert!(after.frames_in - before.frames_in >= 20 * 2_001);
    assert!(after.messages_received - before.messages_received >= 20);
    siege.unharmed();
}
