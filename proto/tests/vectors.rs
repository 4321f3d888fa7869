//! `vectors.json` and this crate agree, in both directions. The vectors were not made by this
//! crate: they stand for what an implementation in another language reads and writes.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod vectors {
    pub(crate) mod message;
}

use std::collections::BTreeSet;
use std::fs;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use serde_json::Value;
use trunkline_proto::{
    AckRuns, CloseCode, Control, Envelope, EnvelopeHeader, FRAME_MAX, FRAME_MIN, FrameLenError,
    Kind, LaneOpen, Position, StatusCode, acked, decode_frame_len, encode_acks_frame,
    encode_reject_frame, generated, lane_in, tag,
};
use vectors::message::{control, envelope, hex, lane_open, number};

fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'a>(file: &'a Value, name: &str) -> &'a [Value] {
    let list = file[name].as_array().unwrap();
    assert!(!list.is_empty(), "{name} is empty");
    list
}

/// What a receiver does with the bytes of a vector: the message, or the code that it closes with.
/// `Ok(None)` is a control frame that is ignored.
fn receive(vector: &Value) -> Result<Option<Read>, CloseCode> {
    let bytes = hex(&vector["bytes"]);
    let place = vector["place"].as_str().unwrap();
    let announced = vector["frame_bytes"]
        .as_u64()
        .map_or(FRAME_MAX, |bytes| bytes as usize);
    let limit = if place == "control" {
        FRAME_MIN
    } else {
        announced
    };
    let length = decode_frame_len(&bytes, limit).map_err(|error| error.close_code().unwrap())?;
    assert_eq!(bytes.len(), length.prefix + length.frame, "one whole frame");
    let frame = bytes.slice(length.prefix..);
    match place {
        "control" => {
            let control = Control::decode(frame).map_err(|_| CloseCode::UNDECODABLE)?;
            Ok(control.frame.is_some().then_some(Read::Control(control)))
        }
        "lane_open" => {
            let open = LaneOpen::decode(frame).map_err(|_| CloseCode::UNDECODABLE)?;
            let lanes = vector["lanes"].as_u64().unwrap_or(4) as u8;
            lane_in(open.lane, lanes).ok_or(CloseCode::UNKNOWN_LANE)?;
            Ok(Some(Read::LaneOpen(open)))
        }
        "envelope" => {
            let envelope = Envelope::decode(frame).map_err(|error| error.close_code())?;
            let lane = vector["lane"].as_u64().unwrap() as u8;
            envelope
                .check_place(lane)
                .map_err(|error| error.close_code())?;
            envelope.acked().map_err(|_| CloseCode::UNDECODABLE)?;
            Ok(Some(Read::Envelope(envelope)))
        }
        place => panic!("what is {place}?"),
    }
}

#[derive(Debug, PartialEq)]
enum Read {
    Control(Control),
    LaneOpen(LaneOpen),
    Envelope(Envelope),
}

/// What a vector's description says, and the bytes that it makes.
fn describe(vector: &Value) -> (Option<Read>, Bytes) {
    let message = &vector["message"];
    if message.is_null() {
        return (None, Bytes::new());
    }
    match vector["place"].as_str().unwrap() {
        "control" => {
            let control = control(message);
            let bytes = control.encode_length_delimited_to_vec();
            (Some(Read::Control(control)), bytes.into())
        }
        "lane_open" => {
            let open = lane_open(message);
            (
                Some(Read::LaneOpen(open)),
                open.encode_length_delimited_to_vec().into(),
            )
        }
        _ => {
            let plain = envelope(message);
            let bytes = write(&plain);
            assert_eq!(
                bytes,
                plain.encode_length_delimited_to_vec(),
                "hand-written and generated differ"
            );
            let read = Envelope {
                header: header(&plain),
                status: if plain.status == 0 {
                    StatusCode::UNKNOWN
                } else {
                    StatusCode(plain.status)
                },
                reason: plain.reason,
                acks: plain.acks,
                body: plain.body,
            };
            (Some(Read::Envelope(read)), bytes)
        }
    }
}

fn header(plain: &generated::Envelope) -> EnvelopeHeader {
    let kind = Kind::try_from(plain.kind).unwrap();
    let generated::Envelope {
        tag,
        promise,
        timeout_ms,
        ..
    } = *plain;
    EnvelopeHeader {
        kind,
        tag,
        promise,
        timeout_ms,
    }
}

/// The hand-written encoders.
fn write(plain: &generated::Envelope) -> Bytes {
    let mut out = BytesMut::new();
    match plain.kind() {
        Kind::Message | Kind::Request | Kind::Reply => {
            header(plain).encode_frame_header(plain.body.len(), &mut out);
            out.extend_from_slice(&plain.body);
        }
        Kind::Reject => {
            let status = StatusCode(plain.status);
            encode_reject_frame(plain.promise, status, &plain.reason, &mut out);
        }
        Kind::Acks => {
            let mut runs = AckRuns::new();
            for promise in acked(&plain.acks).unwrap().flatten() {
                runs.push(promise).unwrap();
            }
            encode_acks_frame(&runs, &mut out);
        }
    }
    out.freeze()
}

#[test]
fn each_frame_is_read_as_described() {
    for vector in list(&file(), "frames") {
        assert_eq!(
            receive(vector),
            Ok(describe(vector).0),
            "{}",
            vector["name"]
        );
    }
}

#[test]
fn each_description_is_written_as_its_frame() {
    let file = file();
    let canonical = list(&file, "frames")
        .iter()
        .filter(|vector| vector["decode_only"].is_null());
    assert!(canonical.clone().count() > 30);
    for vector in canonical {
        assert_eq!(
            describe(vector).1,
            hex(&vector["bytes"]),
            "{}",
            vector["name"]
        );
    }
}

#[test]
fn what_is_only_read_is_written_otherwise() {
    let file = file();
    let mut frames = list(&file, "frames").iter();
    assert!(frames.all(|vector| {
        let canonical = describe(vector).1 == hex(&vector["bytes"]);
        canonical
            != vector["decode_only"]
                .as_bool()
                .unwrap_or(vector["message"].is_null())
    }));
}

#[test]
fn each_envelope_of_a_stream_has_its_number_and_its_tag() {
    for vector in list(&file(), "streams") {
        let mut bytes = hex(&vector["bytes"]);
        let mut next = || {
            let length = decode_frame_len(&bytes, FRAME_MAX).ok()?;
            bytes.advance(length.prefix);
            Some(bytes.split_to(length.frame))
        };
        let open = LaneOpen::decode(next().unwrap()).unwrap();
        assert_eq!(u64::from(open.lane), number(&vector["lane"]));
        let mut position = Position::opening(open.next);
        for expected in list(vector, "envelopes") {
            let envelope = Envelope::decode(next().unwrap()).unwrap();
            envelope.check_place(open.lane as u8).unwrap();
            let (its_number, its_tag) = position.pass(envelope.header.tag);
            assert_eq!(its_number, number(&expected["number"]), "{expected}");
            let tag = format!("{its_tag:016x}");
            assert_eq!(tag, expected["tag"].as_str().unwrap(), "{expected}");
            assert_eq!(envelope.body, hex(&expected["body"]), "{expected}");
        }
        assert_eq!(next(), None, "{}", vector["name"]);
    }
}

#[test]
fn each_fault_closes_with_its_code() {
    for vector in list(&file(), "faults") {
        let close = &vector["close"];
        let code = CloseCode(number(&close["code"]) as u32);
        assert_eq!(
            code.name(),
            close["name"].as_str().unwrap(),
            "{}",
            vector["name"]
        );
        assert_eq!(receive(vector), Err(code), "{}", vector["name"]);
    }
}

#[test]
fn what_is_incomplete_is_waited_for() {
    for vector in list(&file(), "incomplete") {
        let bytes = hex(&vector["bytes"]);
        match decode_frame_len(&bytes, FRAME_MAX) {
            Err(error) => assert_eq!(error, FrameLenError::Incomplete, "{vector}"),
            Ok(length) => assert!(bytes.len() < length.prefix + length.frame, "{vector}"),
        }
    }
}

#[test]
fn tags_are_the_hashes_of_their_names() {
    for vector in list(&file(), "tags") {
        let name = vector["name"].as_str().unwrap();
        assert_eq!(
            format!("{:016x}", tag(name)),
            vector["tag"].as_str().unwrap(),
            "{name}"
        );
    }
}

#[test]
fn every_kind_of_frame_has_a_vector_of_its_own_name() {
    let file = file();
    let vectors = || list(&file, "frames").iter().chain(list(&file, "faults"));
    let names: BTreeSet<&str> = vectors()
        .map(|vector| vector["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), vectors().count(), "a name stands twice");
    let seen: BTreeSet<String> = list(&file, "frames")
        .iter()
        .filter_map(|vector| match describe(vector).0? {
            Read::Control(control) => Some(format!("{:?}", control.frame?)),
            Read::LaneOpen(_) => Some("LaneOpen".into()),
            Read::Envelope(envelope) => Some(format!("{:?}", envelope.header.kind)),
        })
        .map(|shown| shown.split('(').next().unwrap().to_owned())
        .collect();
    let all = "Acks Cancel Close Drain Heartbeat Hello LaneOpen Message Ready Receipts Reject Reply Request Welcome";
    assert_eq!(seen, all.split(' ').map(str::to_owned).collect());
}
