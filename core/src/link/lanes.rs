//! Envelopes as bytes of a lane's stream.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use trunkline_proto as wire;

use crate::id::Tag;
use crate::outbox::{Entry, Kind};
use crate::planted::{Bug, planted};

/// Bodies from this size on are handed to QUIC as they are; smaller ones are copied together,
/// for a piece costs more than its bytes. Bytes.
const OWN_PIECE: usize = 4 << 10;

/// Bytes that one lane gathers before they go into its stream.
pub(crate) const BATCH: usize = 64 << 10;

/// Frames of one lane, gathered into few pieces.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pieces: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
    /// The tag of the last envelope that has one.
    tag: u64,
    /// What is left until a deadline, which entries of one batch mostly share.
    left: Left,
}

impl Batch {
    /// A batch with room for what is copied of `count` entries like `first`, or of as many as make a
    /// batch. Of large bodies that is the heads: more would stay allocated until the peer has them.
    /// Of the envelopes that it follows, the last one that has a tag has that.
    pub(crate) fn with_room(first: &Entry, count: usize, tag: Tag) -> Self {
        let weight = first.weight();
        let body = first.body.len();
        let copied = if body >= OWN_PIECE {
            weight - body
        } else {
            weight
        };
        let count = count.min(BATCH / weight + 1);
        Self {
            small: BytesMut::with_capacity(count * copied),
            tag: tag.0,
            ..Self::default()
        }
    }

    /// A batch with room for what is copied of frames of so many bytes in all, or of as many as make a batch.
    pub(crate) fn for_frames(bytes: usize) -> Self {
        Self {
            small: BytesMut::with_capacity(bytes.min(BATCH + OWN_PIECE)),
            ..Self::default()
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an entry as a frame, for which its sender waits until `deadline`.
    pub(crate) fn entry(&mut self, now: Instant, deadline: Option<Instant>, entry: &Entry) {
        let before = self.small.len();
        let timeout = self.left.milliseconds(now, deadline);
        match &entry.kind {
            Kind::Message => self.with_body(wire::Kind::Message, timeout, entry),
            Kind::Request => self.with_body(wire::Kind::Request, timeout, entry),
            Kind::Reply => self.with_body(wire::Kind::Reply, timeout, entry),
            Kind::Reject(status) => wire::encode_reject_frame(
                entry.promise,
                status.code,
                &status.reason,
                &mut self.small,
            ),
            Kind::Acks(numbers) => {
                let mut runs = wire::AckRuns::new();
                for number in numbers {
                    // Ascending by construction; a number that is not would be a repeat.
                    runs.push(*number).ok();
                }
                wire::encode_acks_frame(&runs, &mut self.small);
            }
        }
        self.bytes += self.small.len().saturating_sub(before);
    }

    /// Appends a frame that is encoded already.
    pub(crate) fn encoded(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        if frame.len() >= OWN_PIECE {
            self.cut();
            self.pieces.push(frame);
        } else {
            self.small.extend_from_slice(&frame);
        }
    }

    pub(crate) fn into_pieces(mut self) -> Vec<Bytes> {
        self.cut();
        self.pieces
    }

    /// The tag of the last envelope in it, or before it, that has one.
    pub(crate) fn tag(&self) -> Tag {
        Tag(self.tag)
    }

    fn with_body(&mut self, kind: wire::Kind, timeout_ms: u32, entry: &Entry) {
        let Entry { tag, body, .. } = entry;
        let is_same = self.tag == tag.0 || planted(Bug::ForgetTag);
        let header = wire::EnvelopeHeader {
            kind,
            tag: (!is_same).then_some(tag.0),
            promise: entry.promise,
            timeout_ms,
        };
        self.tag = tag.0;
        header.encode_frame_header(body.len(), &mut self.small);
        if body.len() >= OWN_PIECE {
            self.cut();
            self.pieces.push(body.clone());
            self.bytes += body.len();
        } else {
            self.small.extend_from_slice(body);
        }
    }

    /// What is copied so far becomes a piece, on its own where the buffer would stay allocated for little.
    fn cut(&mut self) {
        let (used, room) = (self.small.len(), self.small.capacity());
        if used == 0 {
            return;
        }
        let piece = if room > OWN_PIECE && used < room / 4 {
            let copy = Bytes::copy_from_slice(&self.small);
            self.small.clear();
            copy
        } else {
            self.small.split().freeze()
        };
        self.pieces.push(piece);
    }
}

/// A best-effort message as a frame: the same bytes for every session.
pub(crate) fn best_effort_frame(tag: u64, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    let header = wire::EnvelopeHeader {
        kind: wire::Kind::Message,
        tag: Some(tag),
        promise: 0,
        timeout_ms: 0,
    };
    header.encode_frame_header(body.len(), &mut out);
    out.extend_from_slice(body);
    out.freeze()
}

/// How far a deadline is away, and which at what time that was.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    of: Option<(Instant, Instant)>,
    milliseconds: u32,
}

impl Left {
    /// Milliseconds until the deadline, at least 1; 0: there is none.
    fn milliseconds(&mut self, now: Instant, deadline: Option<Instant>) -> u32 {
        let Some(deadline) = deadline else { return 0 };
        if self.of != Some((now, deadline)) {
            let left = deadline.saturating_duration_since(now).as_millis();
            *self = Self {
                of: Some((now, deadline)),
                milliseconds: u32::try_from(left).unwrap_or(u32::MAX).max(1),
            };
        }
        self.milliseconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: usize) -> Entry {
        Entry {
            kind: Kind::Message,
            tag: Tag(7),
            promise: 1,
            deadline: None,
            body: vec![0; body].into(),
        }
    }

    #[test]
    fn a_tag_is_left_out_where_the_one_before_it_is_the_same() {
        let of = |tag| Entry {
            tag: Tag(tag),
            ..entry(1)
        };
        let acks = Entry {
            kind: Kind::Acks(vec![1]),
            ..of(9)
        };
        let entries = [of(7), of(7), of(8), acks, of(8), of(0)];
        for (before, first) in [(0, Some(7)), (7, None), (8, Some(7))] {
            let mut batch = Batch::with_room(&entries[0], entries.len(), Tag(before));
            for entry in &entries {
                batch.entry(Instant::now(), None, entry);
            }
            assert_eq!(batch.tag(), Tag(0));
            let mut written = batch.into_pieces().concat();
            let mut tags = Vec::new();
            while let Ok(length) = wire::decode_frame_len(&written, 100) {
                let frame = written.drain(..length.prefix + length.frame);
                let frame = frame.skip(length.prefix).collect::<Bytes>();
                tags.push(wire::Envelope::decode(frame).unwrap().header.tag);
            }
            assert_eq!(tags, [first, None, Some(8), None, None, Some(0)]);
        }
    }

    #[test]
    fn what_is_left_is_of_the_deadline_that_was_asked_for() {
        let now = Instant::now();
        let at = |millis| Some(now + std::time::Duration::from_millis(millis));
        let mut left = Left::default();
        for (deadline, milliseconds) in [(at(5), 5), (at(5), 5), (at(7), 7), (None, 0), (at(0), 1)]
        {
            assert_eq!(left.milliseconds(now, deadline), milliseconds);
        }
        let later = now + std::time::Duration::from_millis(2);
        assert_eq!(left.milliseconds(later, at(7)), 5);
    }

    #[test]
    fn heads_of_large_bodies_hold_little_memory() {
        for (body, count, most) in [(100_000, 10_000, 64), (OWN_PIECE, 10_000, 1_200)] {
            let entry = entry(body);
            let mut batch = Batch::with_room(&entry, count, Tag(0));
            assert!(batch.small.capacity() <= most, "{}", batch.small.capacity());
            while batch.bytes() < BATCH {
                batch.entry(Instant::now(), None, &entry);
            }
            assert!(batch.small.capacity() <= most, "they had to move");
        }
    }

    #[test]
    fn small_frames_between_large_bodies_hold_little_memory() {
        let (small, large) = (entry(16), entry(OWN_PIECE));
        let mut batch = Batch::with_room(&small, 100_000, Tag(0));
        let room = batch.small.capacity();
        for _ in 0..8 {
            batch.entry(Instant::now(), None, &small);
            batch.entry(Instant::now(), None, &large);
        }
        assert_eq!(batch.small.capacity(), room, "a piece kept the buffer");
        assert_eq!(batch.into_pieces().len(), 16);
    }

    #[test]
    fn encoded_frames_have_room_from_the_beginning() {
        for (size, count) in [(40, 3), (150, 10_000), (OWN_PIECE - 1, 100)] {
            let frame = Bytes::from(vec![0; size]);
            let mut batch = Batch::for_frames(size * count);
            let room = batch.small.capacity();
            assert!(room <= BATCH + OWN_PIECE, "{room}");
            for _ in 0..count {
                batch.encoded(frame.clone());
                if batch.bytes() >= BATCH {
                    break;
                }
            }
            assert_eq!(batch.small.capacity(), room, "it had to grow");
        }
    }

    #[test]
    fn small_frames_of_a_batch_have_room_from_the_beginning() {
        for (body, count) in [(0, 1), (16, 3), (16, 100_000), (OWN_PIECE - 1, 100)] {
            let entry = entry(body);
            let mut batch = Batch::with_room(&entry, count, Tag(0));
            let room = batch.small.capacity();
            assert!(room <= BATCH + OWN_PIECE + 64, "{room}");
            for _ in 0..count {
                batch.entry(Instant::now(), None, &entry);
                if batch.bytes() >= BATCH {
                    break;
                }
            }
            assert_eq!(batch.small.capacity(), room, "it had to grow");
        }
    }
}
