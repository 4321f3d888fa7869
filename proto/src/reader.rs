//! Reading an envelope: one pass, no copy of the body, nothing allocated for what is only claimed.

use std::ops::Range;

use bytes::{Buf, Bytes};

use crate::acks::{ACK_NUMBERS_MAX, AcksError};
use crate::envelope::{Envelope, EnvelopeHeader, clip_reason, key};
use crate::error::DecodeError;
use crate::generated::Kind;
use crate::status::StatusCode;
use crate::varint::{self, VarintError};

const WIRE_VARINT: u8 = 0;
const WIRE_FIXED64: u8 = 1;
const WIRE_LEN: u8 = 2;
const WIRE_GROUP: u8 = 3;
const WIRE_GROUP_END: u8 = 4;
const WIRE_FIXED32: u8 = 5;

const FIELD_ACKS: u32 = (key::ACKS_PACKED >> 3) as u32;

impl Envelope {
    /// Reads an envelope from a frame without its length prefix. The body is a slice of the frame
    /// and keeps it alive.
    ///
    /// Fields come in any order; of a repeated one the last counts; unknown ones are skipped. That
    /// is protobuf's own meaning of the schema, except that
    /// - a kind that this version does not know is an error, for what cannot be understood cannot
    ///   be answered either;
    /// - groups are an error;
    /// - more than [`ACK_NUMBERS_MAX`] numbers of acks are an error;
    /// - a reason longer than [`crate::REASON_MAX`] is cut;
    /// - a status of 0 is read as [`StatusCode::UNKNOWN`].
    pub fn decode(frame: Bytes) -> Result<Self, DecodeError> {
        // Each field is a variable of its own until the end: what is gathered in a struct is copied
        // once more.
        let EnvelopeHeader {
            kind: _,
            mut tag,
            mut promise,
            mut timeout_ms,
        } = EnvelopeHeader::default();
        let (mut kind, mut status) = (0, StatusCode::UNKNOWN);
        let (mut reason, mut acks, mut body) = (String::new(), Vec::new(), 0..0);
        let mut reader = Reader {
            frame: &frame,
            at: 0,
        };
        // Writers write fields in the order of their numbers, so that these few questions mostly read
        // all there is. The loop knows every field and order, and reads what is left.
        if let Some(field) = reader.pass(key::KIND) {
            kind = reader.varint(field)? as i32;
        }
        if let Some(field) = reader.pass(key::TAG) {
            tag = Some(reader.fixed64(field)?);
        }
        if let Some(field) = reader.pass(key::PROMISE) {
            promise = reader.varint(field)?;
        }
        if let Some(field) = reader.pass(key::TIMEOUT_MS) {
            timeout_ms = reader.varint(field)? as u32;
        }
        if let Some(field) = reader.pass(key::BODY) {
            body = reader.range(field)?;
        }
        while let Some((field, wire_type)) = reader.key()? {
            // A known key is below 128; anything above takes the way of unknown fields.
            match u8::try_from(field << 3 | u32::from(wire_type)) {
                // Protobuf cuts what is longer than the field's type: an enum has 32 bits.
                Ok(key::KIND) => kind = reader.varint(field)? as i32,
                Ok(key::TAG) => tag = Some(reader.fixed64(field)?),
                Ok(key::PROMISE) => promise = reader.varint(field)?,
                Ok(key::TIMEOUT_MS) => timeout_ms = reader.varint(field)? as u32,
                Ok(key::STATUS) => status = StatusCode(reader.varint(field)? as u32),
                Ok(key::REASON) => reason = reader.reason(field)?,
                Ok(key::ACKS) => push_ack(&mut acks, reader.varint(field)?)?,
                Ok(key::ACKS_PACKED) => {
                    let mut packed = Reader {
                        frame: reader.bytes(field)?,
                        at: 0,
                    };
                    while packed.at < packed.frame.len() {
                        push_ack(&mut acks, packed.varint(field)?)?;
                    }
                }
                Ok(key::BODY) => body = reader.range(field)?,
                _ => reader.skip(field, wire_type)?,
            }
        }
        let kind = Kind::try_from(kind).map_err(|_| DecodeError::UnknownKind(kind))?;
        if status == StatusCode(0) {
            status = StatusCode::UNKNOWN;
        }
        Ok(Self {
            header: EnvelopeHeader {
                kind,
                tag,
                promise,
                timeout_ms,
            },
            status,
            reason,
            acks,
            body: if body.is_empty() {
                Bytes::new()
            } else {
                within(frame, body)
            },
        })
    }
}

/// That part of a frame. It takes the frame over, which is cheaper than to share it.
fn within(mut frame: Bytes, part: Range<usize>) -> Bytes {
    frame.truncate(part.end);
    frame.advance(part.start);
    frame
}

fn push_ack(acks: &mut Vec<u64>, number: u64) -> Result<(), DecodeError> {
    if acks.len() == ACK_NUMBERS_MAX {
        return Err(AcksError::TooMany.into());
    }
    acks.push(number);
    Ok(())
}

struct Reader<'a> {
    frame: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next field's number and wire type, or `None` at the end.
    fn key(&mut self) -> Result<Option<(u32, u8)>, DecodeError> {
        if self.at == self.frame.len() {
            return Ok(None);
        }
        let key = self.varint(0)?;
        match u32::try_from(key) {
            Ok(key) if key >= 1 << 3 => Ok(Some((key >> 3, key as u8 & 7))),
            _ => Err(DecodeError::FieldNumber { key }),
        }
    }

    /// Passes that key, if it comes next, and says its field.
    fn pass(&mut self, key: u8) -> Option<u32> {
        let comes = matches!(self.frame.get(self.at), Some(byte) if *byte == key);
        self.at += usize::from(comes);
        comes.then_some(u32::from(key >> 3))
    }

    #[inline(always)]
    fn varint(&mut self, field: u32) -> Result<u64, DecodeError> {
        // Most varints of an envelope have up to four bytes: lengths, and numbers of messages.
        let (value, len) = match *self.frame.get(self.at..).unwrap_or_default() {
            [a, ..] if a < 0x80 => (u64::from(a), 1),
            [a, b, ..] if b < 0x80 => (u64::from(a & 0x7f) | u64::from(b) << 7, 2),
            [a, b, c, ..] if c < 0x80 => {
                let low = u64::from(a & 0x7f) | u64::from(b & 0x7f) << 7;
                (low | u64::from(c) << 14, 3)
            }
            [a, b, c, d, ..] if d < 0x80 => {
                let low = u64::from(a & 0x7f) | u64::from(b & 0x7f) << 7;
                (low | u64::from(c & 0x7f) << 14 | u64::from(d) << 21, 4)
            }
            _ => return self.any_varint(field),
        };
        self.at += len;
        Ok(value)
    }

    fn any_varint(&mut self, field: u32) -> Result<u64, DecodeError> {
        match varint::decode(self.frame.get(self.at..).unwrap_or_default()) {
            Ok((value, len)) => {
                self.at += len;
                Ok(value)
            }
            Err(VarintError::Truncated) => Err(DecodeError::Truncated { field }),
            Err(VarintError::TooLong) => Err(DecodeError::VarintTooLong { field }),
        }
    }

    /// The next `len` bytes: checked against what is there before anything is done with them.
    fn take(&mut self, field: u32, len: u64) -> Result<&'a [u8], DecodeError> {
        let rest = self.frame.get(self.at..).unwrap_or_default();
        let len = usize::try_from(len).map_err(|_| DecodeError::Truncated { field })?;
        let taken = rest.get(..len).ok_or(DecodeError::Truncated { field })?;
        self.at += len;
        Ok(taken)
    }

    fn fixed64(&mut self, field: u32) -> Result<u64, DecodeError> {
        let rest = self.frame.get(self.at..).unwrap_or_default();
        let bytes = rest.first_chunk().ok_or(DecodeError::Truncated { field })?;
        self.at += bytes.len();
        Ok(u64::from_le_bytes(*bytes))
    }

    fn bytes(&mut self, field: u32) -> Result<&'a [u8], DecodeError> {
        let len = self.varint(field)?;
        self.take(field, len)
    }

    /// Where the next bytes stand.
    fn range(&mut self, field: u32) -> Result<Range<usize>, DecodeError> {
        let len = self.bytes(field)?.len();
        Ok(self.at - len..self.at)
    }

    fn reason(&mut self, field: u32) -> Result<String, DecodeError> {
        let text =
            str::from_utf8(self.bytes(field)?).map_err(|_| DecodeError::NotUtf8 { field })?;
        Ok(clip_reason(text).to_owned())
    }

    fn skip(&mut self, field: u32, wire_type: u8) -> Result<(), DecodeError> {
        let known = matches!(field, 2..=FIELD_ACKS | 15);
        match wire_type {
            WIRE_GROUP | WIRE_GROUP_END => Err(DecodeError::Group { field }),
            WIRE_VARINT if !known => self.varint(field).map(drop),
            WIRE_FIXED64 if !known => self.take(field, 8).map(drop),
            WIRE_LEN if !known => self.bytes(field).map(drop),
            WIRE_FIXED32 if !known => self.take(field, 4).map(drop),
            _ => Err(DecodeError::WireType { field, wire_type }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated;
    use crate::limits::REASON_MAX;
    use bytes::{BufMut, BytesMut};
    use proptest::prelude::*;
    use prost::Message;

    /// Fields as a hostile or future peer may write them: any number, any wire type, any order.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![8 => 1..=8_u64, 2 => Just(15), 1 => 9..40_u64, 1 => Just(0), 1 => 0..1_u64 << 30];
        let wire_type = prop_oneof![4 => 0..=2_u64, 1 => 0..=7_u64];
        let value = prop_oneof![0..6_u64, any::<u64>()];
        let bytes = prop_oneof![
            3 => "[a-z]{0,20}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
            1 => proptest::collection::vec(0..4_u8, 0..8),
        ];
        (number, wire_type, any::<bool>(), value, bytes).prop_map(
            |(number, wire, fit, value, bytes)| {
                let wire = match number {
                    3 if fit => 1,
                    7 | 15 if fit => 2,
                    1..=6 if fit => 0,
                    _ => wire,
                };
                let mut out = Vec::new();
                varint::encode(number << 3 | wire, &mut out);
                match wire {
                    0 => varint::encode(value, &mut out),
                    1 => out.put_u64_le(value),
                    2 => {
                        varint::encode(bytes.len() as u64, &mut out);
                        out.extend(bytes);
                    }
                    5 => out.put_u32_le(value as u32),
                    _ => {}
                }
                out
            },
        )
    }

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let fields = proptest::collection::vec(field(), 0..8).prop_map(|fields| fields.concat());
        let damage = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
        let damaged = (
            fields,
            damage,
            proptest::option::weighted(0.2, any::<prop::sample::Index>()),
        );
        let damaged = damaged.prop_map(|(mut bytes, damage, cut)| {
            if let Some((at, byte)) = damage
                && !bytes.is_empty()
            {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes
        });
        prop_oneof![4 => damaged, 1 => proptest::collection::vec(any::<u8>(), 0..60)]
    }

    /// Checks that hand-written and generated reader agree, deliberate differences aside.
    fn compare(frame: Vec<u8>) -> Result<(), TestCaseError> {
        let frame = Bytes::from(frame);
        let read = Envelope::decode(frame.clone());
        let Ok(plain) = generated::Envelope::decode(frame.clone()) else {
            prop_assert!(read.is_err(), "prost rejects what was read as {read:?}");
            return Ok(());
        };
        let read = match read {
            Ok(read) => read,
            Err(DecodeError::UnknownKind(kind)) => {
                prop_assert_eq!(kind, plain.kind);
                prop_assert!(Kind::try_from(kind).is_err());
                return Ok(());
            }
            Err(DecodeError::Acks(AcksError::TooMany)) => {
                prop_assert!(plain.acks.len() > ACK_NUMBERS_MAX);
                return Ok(());
            }
            Err(DecodeError::Group { .. }) => return Ok(()),
            Err(error) => {
                return Err(TestCaseError::fail(format!(
                    "prost reads {plain:?}: {error}"
                )));
            }
        };
        prop_assert_eq!(i32::from(read.header.kind), plain.kind);
        prop_assert_eq!(read.header.tag, plain.tag);
        prop_assert_eq!(read.header.promise, plain.promise);
        prop_assert_eq!(read.header.timeout_ms, plain.timeout_ms);
        prop_assert_eq!(
            read.status.0,
            if plain.status == 0 { 2 } else { plain.status }
        );
        prop_assert_eq!(read.reason, clip_reason(&plain.reason));
        prop_assert_eq!(read.acks, plain.acks);
        prop_assert_eq!(&read.body, &plain.body);
        let range = crate::body_range(&frame).unwrap_or_default();
        prop_assert_eq!(&read.body[..], &frame[range]);
        if !read.body.is_empty() {
            prop_assert!(
                frame.as_ptr_range().contains(&read.body.as_ptr()),
                "the body was copied"
            );
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn any_bytes_are_read_as_prost_reads_them(frame in frame()) {
            compare(frame)?;
        }
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_read_back(
            kind in 0..=4, tag: Option<u64>, promise: u64, timeout_ms: u32, status: u32,
            reason: String, acks: Vec<u64>, body: Vec<u8>,
        ) {
            let body = body.into();
            let plain =
                generated::Envelope { kind, tag, promise, timeout_ms, status, reason, acks, body };
            let frame = plain.encode_to_vec();
            prop_assert!(Envelope::decode(frame.clone().into()).is_ok());
            compare(frame)?;
        }
    }

    fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
        Envelope::decode(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn acks_come_packed_and_singly_and_mixed() {
        let acks = decode(&[0x10, 4, 0x40, 7, 0x42, 2, 8, 9, 0x40, 10, 0x42, 0])
            .unwrap()
            .acks;
        assert_eq!(acks, [7, 8, 9, 10]);
    }

    #[test]
    fn the_last_of_a_repeated_field_counts_even_a_kind() {
        let read = decode(&[
            0x10, 99, 0x20, 1, 0x7a, 1, b'a', 0x10, 1, 0x20, 2, 0x7a, 1, b'b',
        ])
        .unwrap();
        assert_eq!(read.header.kind, Kind::Request);
        assert_eq!(read.header.promise, 2);
        assert_eq!(read.body, "b");
    }

    #[test]
    fn each_fault_is_named() {
        let cases: [(&[u8], DecodeError); 12] = [
            (&[0x20], DecodeError::Truncated { field: 4 }),
            (&[0x80], DecodeError::Truncated { field: 0 }),
            (
                &[0x19, 1, 2, 3, 4, 5, 6, 7],
                DecodeError::Truncated { field: 3 },
            ),
            (&[0x7a, 5, 1], DecodeError::Truncated { field: 15 }),
            (
                &[
                    0x7a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
                ],
                DecodeError::Truncated { field: 15 },
            ),
            (
                &[
                    0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
                ],
                DecodeError::VarintTooLong { field: 4 },
            ),
            (&[0x00], DecodeError::FieldNumber { key: 0 }),
            (
                &[0x22, 0],
                DecodeError::WireType {
                    field: 4,
                    wire_type: 2,
                },
            ),
            (
                &[0x4e],
                DecodeError::WireType {
                    field: 9,
                    wire_type: 6,
                },
            ),
            (&[0x4b, 0x4c], DecodeError::Group { field: 9 }),
            (&[0x3a, 1, 0xff], DecodeError::NotUtf8 { field: 7 }),
            (&[0x10, 5], DecodeError::UnknownKind(5)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(bytes), Err(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn field_number_zero_and_beyond_29_bits_do_not_exist() {
        for key in (0..8).chain([1 << 32, u64::MAX]) {
            let mut frame = Vec::new();
            varint::encode(key, &mut frame);
            frame.extend([0; 8]);
            assert_eq!(decode(&frame), Err(DecodeError::FieldNumber { key }));
        }
    }

    #[test]
    fn an_unbounded_list_of_acks_is_refused() {
        let mut frame = BytesMut::new();
        frame.put_slice(&[0x10, 4]);
        for _ in 0..ACK_NUMBERS_MAX {
            frame.put_slice(&[0x40, 1]);
        }
        assert_eq!(decode(&frame).unwrap().acks.len(), ACK_NUMBERS_MAX);
        frame.put_slice(&[0x42, 1, 1]);
        assert_eq!(decode(&frame), Err(AcksError::TooMany.into()));
    }

    #[test]
    fn a_long_reason_is_cut() {
        let reason = "x".repeat(REASON_MAX + 1);
        let plain = generated::Envelope {
            kind: 3,
            reason,
            ..generated::Envelope::default()
        };
        assert_eq!(
            decode(&plain.encode_to_vec()).unwrap().reason,
            "x".repeat(REASON_MAX)
        );
    }
}
