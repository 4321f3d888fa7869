//! Frames: envelopes of messages, and lists of acks.

use bytes::{Bytes, BytesMut};
use trunkline_proto::{AckRuns, Envelope, EnvelopeHeader, Kind, encode_acks_frame};

/// The header of an ordinary acked message in the middle of a session.
pub(crate) fn header() -> EnvelopeHeader {
    EnvelopeHeader {
        kind: Kind::Message,
        tag: None,
        promise: 1_000_000,
        timeout_ms: 10_000,
    }
}

/// An envelope of it, as it stands in a frame behind the length.
pub(crate) fn frame() -> Bytes {
    let mut frame = BytesMut::new();
    header().encode_frame_header(128, &mut frame);
    let prefix = frame.len() + 128 - header().encoded_len(128);
    frame.resize(frame.len() + 128, 0x5a);
    frame.split_off(prefix).freeze()
}

/// Reads an envelope.
pub(crate) fn decode(frame: Bytes) -> Envelope {
    Envelope::decode(frame).unwrap()
}

/// Writes what stands before a body.
pub(crate) fn encode(mut out: BytesMut) -> BytesMut {
    header().encode_frame_header(128, &mut out);
    out
}

/// Acks of so many promises, with a gap after each eighth.
pub(crate) fn acks(count: u64) -> BytesMut {
    let mut runs = AckRuns::default();
    for number in 0..count {
        runs.push(1_000_000 + number + number / 8).unwrap();
    }
    let mut out = BytesMut::new();
    encode_acks_frame(&runs, &mut out);
    out
}
