//! The heads of frames: all of them but what bodies and credentials hold. Recordings above QUIC keep
//! those alone, unless they are told to keep the rest.

use std::hash::Hasher;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::frame::encode_frame;
use crate::tap::{Digest, Marked};

/// Protobuf's key of an envelope's body: field 15, with a length.
const BODY: u8 = (15 << 3) | 2;

/// The same of a field that no envelope will have: its number is reserved.
const RESERVED: u8 = (1 << 3) | 2;

/// A control frame as a node reads it, with zeros for credentials, if it has any. Fields that are not known, or that
/// later ones replace, are not in it: they may hold anything.
pub(crate) fn without_credentials(frame: &Bytes) -> Bytes {
    let Ok(mut control) = wire::Control::decode(frame.clone()) else {
        return frame.clone();
    };
    if let Some(Frame::Hello(hello)) = &mut control.frame {
        hello.credentials = zeros(&hello.credentials);
    }
    control.encode_to_vec().into()
}

/// The first frame of a lane's stream as a node reads it, for the same reason. One that is no `LaneOpen` ends the link
/// with what is wrong about it; of an envelope in its place, the body is zeros.
pub(crate) fn without_unknown_fields(frame: &Bytes) -> Bytes {
    if let Ok(open) = wire::LaneOpen::decode(frame.clone()) {
        return open.encode_to_vec().into();
    }
    let body = wire::body_range(frame);
    let mut frame = frame.to_vec();
    if let Some(body) = body.and_then(|body| frame.get_mut(body)) {
        body.fill(0);
    }
    frame.into()
}

/// An envelope as a node reads it, in writers' order, for the same reason, and as long as it was: a node counts what
/// it has read. What is none stays as it is.
pub(crate) fn in_order(frame: &Bytes) -> Bytes {
    if wire::body_in_order(frame).is_some() {
        return frame.clone();
    }
    let Ok(fields) = wire::generated::Envelope::decode(frame.clone()) else {
        return frame.clone();
    };
    let mut ordered = Vec::new();
    let gone = frame.len().saturating_sub(fields.encoded_len());
    fill(gone, &mut ordered);
    ordered.extend(fields.encode_to_vec());
    let ordered = Bytes::from(ordered);
    let read = |frame: &Bytes| wire::Envelope::decode(frame.clone()).ok();
    match read(&ordered) {
        Some(envelope) if read(frame).as_ref() == Some(&envelope) => ordered,
        _ => frame.clone(),
    }
}

/// Appends a field of zeros that no node knows, of so many bytes. No field has one alone; nor does what is not known.
fn fill(bytes: usize, out: &mut Vec<u8>) {
    let Some(behind_key) = bytes.checked_sub(1).filter(|behind_key| *behind_key > 0) else {
        return;
    };
    // A length is written in more bytes than it takes where what is left behind it would have taken fewer.
    for width in 1..=behind_key {
        let zeros = behind_key - width;
        if zeros >> (7 * width).min(usize::BITS as usize - 1) == 0 {
            out.push(RESERVED);
            let seven = |place: usize| (zeros >> (7 * place)) as u8 & 0x7f;
            out.extend((0..width - 1).map(|place| seven(place) | 0x80));
            out.push(seven(width - 1));
            out.resize(out.len() + zeros, 0);
            return;
        }
    }
}

fn zeros(instead_of: &Bytes) -> Bytes {
    vec![0; instead_of.len()].into()
}

/// A frame whose body was not kept, as if it had been empty; `None`: the frame does not say right before
/// that place how long the body was.
pub(crate) fn without_body(kept: &[u8], marked: &Marked) -> Option<Bytes> {
    let (head, tail) = marked.around(kept);
    let mut said = vec![BODY];
    prost::encode_length_delimiter(marked.length, &mut said).ok()?;
    Some([head.strip_suffix(&said[..])?, tail].concat().into())
}

/// A frame as it stands on a stream, with its length before it.
pub(crate) fn with_length(frame: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(frame.len() + wire::PREFIX_MAX);
    wire::encode_frame_len(frame.len(), &mut out);
    out.extend_from_slice(frame);
    out.freeze()
}

/// The digest of a control frame that this side writes, with its length before it. What may not be
/// told and what QUIC draws counts by its length alone.
pub(crate) fn control_digest(written: &Bytes) -> u64 {
    let read = wire::Control::decode_length_delimited(written.clone());
    let cleared = match read.map(|control| control.frame) {
        Ok(Some(Frame::Hello(mut hello))) if !hello.credentials.is_empty() => {
            hello.credentials = zeros(&hello.credentials);
            Some(Frame::Hello(hello))
        }
        Ok(Some(Frame::Welcome(mut welcome))) if !welcome.redial_id.is_empty() => {
            welcome.redial_id = zeros(&welcome.redial_id);
            Some(Frame::Welcome(welcome))
        }
        _ => None,
    };
    let mut digest = Digest::default();
    match cleared {
        None => digest.write(written),
        frame => {
            let mut out = BytesMut::new();
            encode_frame(&wire::Control { frame }, &mut out);
            digest.write(&out);
        }
    }
    digest.finish()
}

/// The digest of frames that this side writes to a lane, all but their bodies: what they are is
/// written canonically, the body last.
pub(crate) fn lane_digest<'a>(chunks: impl IntoIterator<Item = &'a Bytes>) -> u64 {
    let mut heads = Heads::default();
    for chunk in chunks {
        heads.read(chunk);
    }
    heads.digest.finish()
}

/// Goes through written frames field by field, and over their bodies.
#[derive(Default)]
struct Heads {
    digest: Digest,
    place: Place,
    /// Bytes left of the frame.
    left: usize,
}

/// What the next byte is.
#[derive(Clone, Copy)]
enum Place {
    Length {
        value: usize,
        shift: u32,
    },
    Key,
    Varint,
    Fixed(usize),
    FieldLength {
        body: bool,
        value: usize,
        shift: u32,
    },
    Field(usize),
    Body(usize),
}

impl Default for Place {
    fn default() -> Self {
        Self::Length { value: 0, shift: 0 }
    }
}

impl Heads {
    fn read(&mut self, chunk: &[u8]) {
        let mut rest = self.read_whole_frames(chunk);
        let mut start = rest;
        while let Some((&byte, behind)) = rest.split_first() {
            let (skip, whole) = match self.place {
                Place::Body(length) => (length.min(rest.len()), length),
                Place::Field(length) | Place::Fixed(length) => (length.min(rest.len()), length),
                _ => (0, 0),
            };
            if whole > 0 {
                let is_body = matches!(self.place, Place::Body(_));
                if is_body {
                    let head = &start[..start.len() - rest.len()];
                    self.digest.write(head);
                }
                rest = &rest[skip..];
                self.left = self.left.saturating_sub(skip);
                let remains = whole - skip;
                self.place = match self.place {
                    _ if remains == 0 => self.next_field(),
                    Place::Body(_) => Place::Body(remains),
                    _ => Place::Field(remains),
                };
                if is_body {
                    start = rest;
                }
                continue;
            }
            rest = behind;
            self.byte(byte);
        }
        self.digest.write(start);
    }

    /// Goes over the frames that lie whole in the chunk, as nearly all do; returns what is left of it.
    fn read_whole_frames<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let mut rest = chunk;
        while let Place::Length { value: 0, shift: 0 } = self.place
            && let Ok(wire::FrameLen { prefix, frame }) = wire::decode_frame_len(rest, usize::MAX)
            && let Some((whole, behind)) = rest.split_at_checked(prefix + frame)
            && let Some(body) = whole.get(prefix..).and_then(wire::body_in_order)
        {
            // The body is the last of it.
            let head = whole.get(..prefix + body.start).unwrap_or_default();
            self.digest.write(head);
            rest = behind;
        }
        rest
    }

    fn next_field(&self) -> Place {
        if self.left == 0 {
            Place::default()
        } else {
            Place::Key
        }
    }

    fn byte(&mut self, byte: u8) {
        let more = byte & 0x80 != 0;
        let bits = usize::from(byte & 0x7f);
        if let Place::Length { value, shift } = self.place {
            let value = value | bits.checked_shl(shift).unwrap_or(0);
            if more {
                let shift = shift + 7;
                self.place = Place::Length { value, shift };
            } else {
                self.left = value;
                self.place = self.next_field();
            }
            return;
        }
        self.left = self.left.saturating_sub(1);
        self.place = match self.place {
            // Keys of two bytes are none of an envelope's.
            Place::Key => match byte & 0b111 {
                1 => Place::Fixed(8),
                2 => Place::FieldLength {
                    body: byte == BODY,
                    value: 0,
                    shift: 0,
                },
                5 => Place::Fixed(4),
                _ => Place::Varint,
            },
            Place::FieldLength { body, value, shift } => {
                let value = value | bits.checked_shl(shift).unwrap_or(0);
                match (more, body) {
                    (true, _) => Place::FieldLength {
                        body,
                        value,
                        shift: shift + 7,
                    },
                    (false, _) if value == 0 => self.next_field(),
                    (false, true) => Place::Body(value),
                    (false, false) => Place::Field(value),
                }
            }
            Place::Varint if more => Place::Varint,
            _ => self.next_field(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(promise: u64, body: &[u8]) -> Bytes {
        let header = wire::EnvelopeHeader {
            tag: Some(5),
            promise,
            ..wire::EnvelopeHeader::default()
        };
        let mut out = BytesMut::new();
        header.encode_frame_header(body.len(), &mut out);
        out.extend_from_slice(body);
        out.freeze()
    }

    fn chunked(bytes: &Bytes, size: usize) -> Vec<Bytes> {
        bytes.chunks(size).map(Bytes::copy_from_slice).collect()
    }

    /// Frames of all kinds that a lane has, with such bodies.
    fn lane(fill: u8, lengths: [usize; 3]) -> Bytes {
        let mut all = BytesMut::new();
        encode_frame(&wire::LaneOpen { lane: 3, next: 9 }, &mut all);
        for (n, length) in lengths.into_iter().enumerate() {
            all.extend_from_slice(&message(n as u64, &vec![fill; length]));
        }
        let status = wire::StatusCode(3);
        wire::encode_reject_frame(8, status, "because", &mut all);
        let mut runs = wire::AckRuns::new();
        runs.push(4).unwrap();
        wire::encode_acks_frame(&runs, &mut all);
        all.extend_from_slice(&message(9, &[fill; 3]));
        all.freeze()
    }

    #[test]
    fn a_digest_covers_everything_but_what_bodies_hold_in_any_chunks() {
        let lengths = [0, 200, 70_000];
        let digest = lane_digest(&[lane(1, lengths)]);
        for size in [1, 3, 64, 4_096, 100_000] {
            for fill in [1, 2, 0x7a, 0xff] {
                let chunks = chunked(&lane(fill, lengths), size);
                assert_eq!(lane_digest(&chunks), digest, "{size}, {fill}");
            }
        }
        assert_ne!(lane_digest(&[lane(1, [0, 201, 70_000])]), digest);
        assert_ne!(
            lane_digest(&[message(1, b"x")]),
            lane_digest(&[message(2, b"x")])
        );
    }

    #[test]
    fn a_body_is_found_in_its_frame() {
        let framed = message(5, b"body");
        let frame = framed.slice(1..);
        let end = frame.len();
        assert_eq!(wire::body_range(&frame), Some(end - 4..end));
        assert_eq!(with_length(&frame), framed);
        assert_eq!(wire::body_range(&message(5, b"").slice(1..)), None);
        assert_eq!(wire::body_range(&Bytes::from_static(&[0xff; 4])), None);
    }

    #[test]
    fn what_is_kept_of_a_frame_decodes_without_its_body() {
        for length in [1, 200, 70_000] {
            let frame = lane_frame(&vec![9; length]);
            let body = wire::body_range(&frame).unwrap();
            let kept = frame.slice(..body.start);
            let marked = Marked {
                start: body.start,
                length,
                hash: 0,
            };
            let emptied = wire::Envelope::decode(without_body(&kept, &marked).unwrap()).unwrap();
            let whole = wire::Envelope::decode(marked.made_up(&kept)).unwrap();
            assert_eq!(emptied.header, whole.header);
            assert_eq!(
                (emptied.body.len(), &whole.body[..]),
                (0, &vec![0; length][..])
            );
            let elsewhere = Marked { start: 1, ..marked };
            assert_eq!(without_body(&kept, &elsewhere), None);
        }
    }

    /// A message's frame, without the length before it.
    fn lane_frame(body: &[u8]) -> Bytes {
        let framed = message(5, body);
        let length = wire::decode_frame_len(&framed, usize::MAX).unwrap();
        framed.slice(length.prefix..)
    }

    fn tells(frame: &[u8]) -> bool {
        frame.windows(6).any(|window| window == b"secret")
    }

    /// Whoever forgets `LaneOpen` begins with an envelope, which reads as one.
    #[test]
    fn the_first_frame_of_a_stream_is_what_a_node_reads_of_it() {
        let open = wire::LaneOpen { lane: 3, next: 9 };
        let frame = Bytes::from(open.encode_to_vec());
        assert_eq!(without_unknown_fields(&frame), frame);
        let message = lane_frame(b"secret");
        let kept = without_unknown_fields(&message);
        assert!(!tells(&kept), "{kept:?}");
        let read = |frame: &Bytes| wire::LaneOpen::decode(frame.clone());
        assert_eq!(read(&kept), read(&message));
        // One that cannot be read stays as wrong as it is.
        let request = [&message[..], &[0x08]].concat().into();
        let kept = without_unknown_fields(&request);
        assert_eq!(read(&kept), read(&request));
        assert!(read(&kept).is_err());
    }

    #[test]
    fn an_envelope_has_one_body() {
        let frame = lane_frame(b"others");
        assert_eq!(in_order(&frame), frame);
        let secret = [&[BODY, 6][..], b"secret"].concat();
        let unknown = [&[0x7a + 8, 1, 6][..], b"secret"].concat();
        for before in [secret, unknown] {
            let twice = Bytes::from([&before[..], &frame].concat());
            let kept = in_order(&twice);
            assert!(tells(&twice) && !tells(&kept), "{kept:?}");
            let read = |frame| wire::Envelope::decode(frame).unwrap();
            let (kept, read) = (read(kept), read(twice));
            assert_eq!((kept.header, kept.body), (read.header, read.body));
        }
    }

    /// A node counts what it has read, and says by that when it has received it.
    #[test]
    fn an_envelope_in_order_is_as_long_as_it_was() {
        let frame = lane_frame(b"said");
        for length in (0..400).chain([16_383, 16_384, 16_390, 70_000]) {
            let mut unknown = vec![0x7a + 8, 1];
            prost::encode_length_delimiter(length, &mut unknown).unwrap();
            unknown.resize(unknown.len() + length, b'u');
            let foreign = Bytes::from([&unknown[..], &frame].concat());
            let kept = in_order(&foreign);
            assert_eq!(kept.len(), foreign.len(), "{length}");
            assert!(!kept.windows(2).any(|two| two == b"uu"), "{length}");
            assert_eq!(in_order(&kept), kept, "{length}");
            let read = |frame| wire::Envelope::decode(frame).unwrap();
            assert_eq!(read(kept), read(foreign), "{length}");
        }
    }

    #[test]
    fn credentials_are_gone_and_as_long_as_they_were() {
        let hello = |credentials: &'static [u8]| {
            let hello = wire::Hello {
                client_id: "anna".into(),
                credentials: Bytes::from_static(credentials),
                ..wire::Hello::default()
            };
            let frame = Some(Frame::Hello(hello));
            Bytes::from(wire::Control { frame }.encode_to_vec())
        };
        assert_eq!(without_credentials(&hello(b"secret")), hello(&[0; 6]));
        assert_eq!(without_credentials(&hello(b"")), hello(b""));
        // The last of several counts, and what is not known of a frame counts for nothing.
        let twice = [&hello(b"secret")[..], &hello(b"")].concat();
        let unknown = [&[0x7a, 6][..], b"secret"].concat();
        for frame in [[&twice[..], &unknown].concat(), unknown] {
            let frame = Bytes::from(frame);
            let kept = without_credentials(&frame);
            assert!(!tells(&kept), "{kept:?}");
            let read = wire::Control::decode(frame).unwrap();
            if read.frame.is_none() {
                assert!(kept.is_empty());
            }
        }
        let digest = |credentials| control_digest(&with_length(&hello(credentials)));
        assert_eq!(digest(b"secret"), digest(b"others"));
        assert_ne!(digest(b"secret"), digest(b"short"));
    }
}
