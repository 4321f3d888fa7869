//! The hot path: an envelope, written by hand, byte for byte what prost writes.
//!
//! Reading is in `reader.rs`; what an envelope may hold in which lane is in `place.rs`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::acks::{AckRuns, Acked, AcksError, acked};
use crate::generated::Kind;
use crate::length::frame_len_len;
use crate::limits::{FRAME_MAX, REASON_MAX};
use crate::status::StatusCode;
use crate::varint;

/// Each field's number and wire type, as they stand before its value.
pub(crate) mod key {
    pub(crate) const KIND: u8 = 2 << 3;
    pub(crate) const TAG: u8 = (3 << 3) | 1;
    pub(crate) const PROMISE: u8 = 4 << 3;
    pub(crate) const TIMEOUT_MS: u8 = 5 << 3;
    pub(crate) const STATUS: u8 = 6 << 3;
    pub(crate) const REASON: u8 = (7 << 3) | 2;
    pub(crate) const ACKS: u8 = 8 << 3;
    pub(crate) const ACKS_PACKED: u8 = (8 << 3) | 2;
    pub(crate) const BODY: u8 = (15 << 3) | 2;
}

/// The most that an envelope adds to a body, in bytes, length prefix excluded: kind, tag, promise,
/// timeout, and the body's own key and length.
pub const ENVELOPE_OVERHEAD_MAX: usize = (1 + 1) + (1 + 8) + (1 + 10) + (1 + 5) + (1 + 3);

/// The most that stands in a frame before bytes that follow, a status and the longest length
/// included, in bytes.
const HEAD_MAX: usize = ENVELOPE_OVERHEAD_MAX + 2 * (1 + varint::encoded_len(u64::MAX));

/// A body of so many bytes fits into a frame whatever its envelope holds.
pub const BODY_MAX: usize = FRAME_MAX - ENVELOPE_OVERHEAD_MAX;

/// All of an envelope that stands before its body, for messages, requests and replies. What its stream
/// says in its place is not in it: its number, and its tag if that is the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeHeader {
    /// What the envelope is.
    pub kind: Kind,
    /// What the body is: see [`crate::tag`]. `None`: what the last envelope of the stream said that had
    /// one, 0 before that.
    pub tag: Option<u64>,
    /// The promise that waits for this message's answer (0: none), or that this answer settles.
    pub promise: u64,
    /// How long the sender still waits, in milliseconds; 0: for ever.
    pub timeout_ms: u32,
}

impl Default for EnvelopeHeader {
    /// A message without anything.
    fn default() -> Self {
        Self {
            kind: Kind::Message,
            tag: None,
            promise: 0,
            timeout_ms: 0,
        }
    }
}

impl EnvelopeHeader {
    /// The length of the frame that this header and a body of `body_len` bytes make, in bytes,
    /// without its length prefix: what [`FRAME_MAX`] bounds.
    pub const fn encoded_len(&self, body_len: usize) -> usize {
        self.fields_len() + bytes_len(body_len)
    }

    /// The same with its length prefix: what goes onto the stream.
    pub const fn encoded_frame_len(&self, body_len: usize) -> usize {
        let frame = self.encoded_len(body_len);
        frame_len_len(frame) + frame
    }

    /// Writes the frame up to its body: the length prefix, all fields, the body's key and length.
    /// Exactly `body_len` bytes of body must follow on the stream.
    pub fn encode_frame_header(&self, body_len: usize, out: &mut BytesMut) {
        let mut head = Head::default();
        self.write_fields(&mut head);
        head.length(key::BODY, body_len);
        head.begin_frame(body_len, out);
    }

    const fn fields_len(&self) -> usize {
        varint_len(self.kind as u64)
            + if self.tag.is_none() { 0 } else { 9 }
            + varint_len(self.promise)
            + varint_len(self.timeout_ms as u64)
    }

    fn write_fields(&self, head: &mut Head) {
        head.number(key::KIND, self.kind as u64);
        if let Some(tag) = self.tag {
            head.byte(key::TAG);
            head.few(tag.to_le_bytes(), size_of::<u64>());
        }
        head.number(key::PROMISE, self.promise);
        head.number(key::TIMEOUT_MS, self.timeout_ms.into());
    }
}

/// What stands at the beginning of a frame, in a place of its own first: a buffer that grows looks
/// at its room for each byte.
struct Head {
    bytes: [u8; HEAD_ROOM],
    /// Where the fields end.
    end: usize,
}

/// Before the fields there is room for the frame's length, and behind them for what is written in eights.
const LENGTH_ROOM: usize = varint::encoded_len(u64::MAX);
const HEAD_ROOM: usize = LENGTH_ROOM + HEAD_MAX + 8;

/// Values below it are written with their key, in one step.
const SMALL: u64 = 1 << 28;

impl Default for Head {
    fn default() -> Self {
        Self {
            bytes: [0; HEAD_ROOM],
            end: LENGTH_ROOM,
        }
    }
}

impl Head {
    /// There is room for the longest head.
    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.end) {
            *place = byte;
            self.end += 1;
        }
    }

    /// Adds the first `len` of the bytes.
    fn few<const N: usize>(&mut self, bytes: [u8; N], len: usize) {
        let rest = self.bytes.get_mut(self.end..).unwrap_or_default();
        if let Some(place) = rest.first_chunk_mut() {
            *place = bytes;
            self.end += len;
        }
    }

    fn varint_by_bytes(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// A field that is left out if it is 0.
    fn number(&mut self, key: u8, value: u64) {
        if let 1..SMALL = value {
            let (value, len) = varint::up_to_four(value as u32);
            let field = u64::from(value) << 8 | u64::from(key);
            self.few(field.to_le_bytes(), 1 + len);
        } else if value != 0 {
            self.byte(key);
            self.varint_by_bytes(value);
        }
    }

    /// The key and length of bytes that follow, if any do.
    fn length(&mut self, key: u8, len: usize) {
        self.number(key, len as u64);
    }

    /// Writes it, and before it the length of the frame that it makes with what follows.
    fn begin_frame(mut self, following: usize, out: &mut BytesMut) {
        let end = self.end;
        let length = (end - LENGTH_ROOM + following) as u64;
        let start = LENGTH_ROOM - varint::encoded_len(length);
        // Not in fours: the fields stand right behind it.
        self.end = start;
        self.varint_by_bytes(length);
        out.extend_from_slice(&self.bytes[start..end]);
    }
}

/// Writes a complete REJECT frame. Of the reason, the first [`REASON_MAX`] bytes go.
pub fn encode_reject_frame(promise: u64, status: StatusCode, reason: &str, out: &mut BytesMut) {
    let header = EnvelopeHeader {
        kind: Kind::Reject,
        promise,
        ..EnvelopeHeader::default()
    };
    let reason = clip_reason(reason);
    let mut head = Head::default();
    header.write_fields(&mut head);
    head.number(key::STATUS, status.0.into());
    head.length(key::REASON, reason.len());
    head.begin_frame(reason.len(), out);
    out.put_slice(reason.as_bytes());
}

/// Writes a complete ACKS frame.
pub fn encode_acks_frame(acks: &AckRuns, out: &mut BytesMut) {
    let header = EnvelopeHeader {
        kind: Kind::Acks,
        ..EnvelopeHeader::default()
    };
    let packed = acks
        .numbers()
        .iter()
        .map(|&number| varint::encoded_len(number))
        .sum();
    let mut head = Head::default();
    header.write_fields(&mut head);
    head.length(key::ACKS_PACKED, packed);
    head.begin_frame(packed, out);
    out.reserve(packed);
    for &number in acks.numbers() {
        varint::encode(number, out);
    }
}

/// As much of the text as a reason may have: [`REASON_MAX`] bytes, cut between characters.
pub fn clip_reason(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_MAX)]
}

/// An envelope as it was read: see [`Envelope::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What stands before the body.
    pub header: EnvelopeHeader,
    /// REJECT: why; [`StatusCode::UNKNOWN`] if the sender gave no code.
    pub status: StatusCode,
    /// REJECT: why, for people; at most [`REASON_MAX`] bytes.
    pub reason: String,
    /// ACKS: the promises that are settled, as runs; see [`Envelope::acked`].
    pub acks: Vec<u64>,
    /// The body: a slice of the frame, not a copy.
    pub body: Bytes,
}

impl Default for Envelope {
    /// What an empty frame holds: a message without anything.
    fn default() -> Self {
        Self {
            header: EnvelopeHeader::default(),
            status: StatusCode::UNKNOWN,
            reason: String::new(),
            acks: Vec::new(),
            body: Bytes::new(),
        }
    }
}

impl Envelope {
    /// The runs of promises that an ACKS envelope settles; checked before the first is given.
    pub fn acked(&self) -> Result<Acked<'_>, AcksError> {
        acked(&self.acks)
    }
}

const fn varint_len(value: u64) -> usize {
    if value == 0 {
        0
    } else {
        1 + varint::encoded_len(value)
    }
}

const fn bytes_len(len: usize) -> usize {
    if len == 0 {
        0
    } else {
        1 + varint::encoded_len(len as u64) + len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated;
    use proptest::prelude::*;
    use prost::Message;

    /// Numbers of every encoded length, zero and the largest included.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..=64_u32).prop_map(|(value, shift)| value.checked_shr(shift).unwrap_or(0))
    }

    fn header() -> impl Strategy<Value = EnvelopeHeader> {
        let kind = (0..=4).prop_map(|kind| Kind::try_from(kind).unwrap());
        let tag = proptest::option::of(number());
        (kind, tag, number(), number()).prop_map(|(kind, tag, promise, timeout)| EnvelopeHeader {
            kind,
            tag,
            promise,
            timeout_ms: timeout as u32,
        })
    }

    fn plain(header: EnvelopeHeader) -> generated::Envelope {
        let EnvelopeHeader {
            kind,
            tag,
            promise,
            timeout_ms,
        } = header;
        generated::Envelope {
            kind: kind.into(),
            tag,
            promise,
            timeout_ms,
            ..generated::Envelope::default()
        }
    }

    proptest! {
        #[test]
        fn a_header_and_its_body_are_what_prost_writes(header in header(), body: Vec<u8>) {
            let mut frame = BytesMut::new();
            header.encode_frame_header(body.len(), &mut frame);
            frame.put_slice(&body);
            prop_assert_eq!(frame.len(), header.encoded_frame_len(body.len()));
            let expected = generated::Envelope { body: body.into(), ..plain(header) };
            prop_assert_eq!(header.encoded_len(expected.body.len()), expected.encoded_len());
            prop_assert_eq!(&frame[..], &expected.encode_length_delimited_to_vec()[..]);
        }

        #[test]
        fn a_reject_is_what_prost_writes(promise in number(), status: u32, reason: String) {
            let mut frame = BytesMut::new();
            encode_reject_frame(promise, StatusCode(status), &reason, &mut frame);
            let header = EnvelopeHeader { kind: Kind::Reject, promise, ..EnvelopeHeader::default() };
            let reason = clip_reason(&reason).to_owned();
            let expected = generated::Envelope { status, reason, ..plain(header) };
            prop_assert_eq!(&frame[..], &expected.encode_length_delimited_to_vec()[..]);
        }

        #[test]
        fn acks_are_what_prost_writes(
            promises in proptest::collection::btree_set(1..100_000_u64, 0..300),
        ) {
            let mut acks = AckRuns::new();
            for promise in promises {
                acks.push(promise).unwrap();
            }
            let mut frame = BytesMut::new();
            encode_acks_frame(&acks, &mut frame);
            let header = EnvelopeHeader { kind: Kind::Acks, ..EnvelopeHeader::default() };
            let expected = generated::Envelope { acks: acks.numbers().to_vec(), ..plain(header) };
            prop_assert_eq!(&frame[..], &expected.encode_length_delimited_to_vec()[..]);
        }
    }

    #[test]
    fn the_largest_body_fits_whatever_the_header_holds() {
        let header = EnvelopeHeader {
            kind: Kind::Acks,
            tag: Some(u64::MAX),
            promise: u64::MAX,
            timeout_ms: u32::MAX,
        };
        assert_eq!(header.encoded_len(BODY_MAX), FRAME_MAX);
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(clip_reason("short"), "short");
        let long = format!("{}\u{e9}", "x".repeat(REASON_MAX - 1));
        assert_eq!(clip_reason(&long), "x".repeat(REASON_MAX - 1));
    }
}
