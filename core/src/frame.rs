//! Length-delimited frames on a stream: a protobuf varint that says how many bytes follow.

use std::collections::VecDeque;
use std::mem;

use bytes::{Buf, Bytes, BytesMut};
use trunkline_proto as wire;

/// What is reserved at first for a frame that has not arrived whole.
const FIRST_RESERVATION: usize = 4 << 10;

/// Room for a whole frame is made once this part of it, one in so many, has arrived: nobody makes this
/// side reserve more than so many times what they sent, and a large frame is copied hardly more than
/// once.
const EARNEST: usize = 8;

/// Bytes that are no frames. The stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The frame is longer than allowed.
    #[error("a frame of {size} bytes was announced: at most {limit} are allowed here")]
    TooLarge {
        /// The length that was announced, in bytes.
        size: usize,
        /// The longest that is allowed.
        limit: usize,
    },
    /// The length prefix does not end.
    #[error("a frame's length takes more than {} bytes", wire::PREFIX_MAX)]
    BadLength,
}

/// Appends a frame of that message.
pub(crate) fn encode_frame<M: prost::Message>(message: &M, out: &mut BytesMut) {
    let written = message.encode_length_delimited(out);
    debug_assert!(written.is_ok(), "a BytesMut grows as needed");
}

/// Cuts a stream into frames.
///
/// A frame that lies in one chunk is a slice of it. One that does not is put together in a buffer
/// that grows with what has arrived, whatever length was announced. Once `next` has returned
/// `None`, the reader holds no chunk, and on a boundary between frames no memory at all.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// What is read next.
    chunk: Bytes,
    /// What follows it.
    further: VecDeque<Bytes>,
    /// Bytes of `chunk` and `further`.
    unread: usize,
    length: Length,
    /// The part of a frame that came in chunks of before.
    body: Vec<u8>,
}

/// What is known of the length of the next frame.
#[derive(Clone, Copy, Debug)]
enum Length {
    /// These bytes of the prefix have been read.
    Partial { value: usize, bytes: u8 },
    /// The whole prefix has.
    Known(usize),
}

impl Default for Length {
    fn default() -> Self {
        Self::Partial { value: 0, bytes: 0 }
    }
}

impl FrameReader {
    /// Adds what arrived next.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.unread += chunk.len();
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.further.push_back(chunk);
        }
    }

    /// The next frame, without its prefix, if it has arrived whole. `limit` is the longest that
    /// is allowed now, in bytes; it is checked before anything is kept of a frame. After an error,
    /// the same error comes again.
    pub(crate) fn next(&mut self, limit: usize) -> Result<Option<Bytes>, FrameError> {
        if let Some((length, prefix)) = self.length_of_next()
            && length <= limit
            && self.chunk.len() >= prefix + length
            && self.body.is_empty()
        {
            // Nearly always all of it is there.
            let mut frame = self.chunk.split_to(prefix + length);
            frame.advance(prefix);
            self.unread -= prefix + length;
            if self.chunk.is_empty() {
                self.next_chunk();
            }
            return Ok(Some(frame));
        }
        let Some(length) = self.read_length()? else {
            return Ok(None);
        };
        if length > limit {
            return Err(FrameError::TooLarge {
                size: length,
                limit,
            });
        }
        let frame = self.read_body(length);
        if frame.is_some() {
            self.length = Length::default();
        }
        Ok(frame)
    }

    /// Bytes that arrived and are not yet part of a frame that was returned.
    #[cfg(test)]
    pub(crate) fn buffered(&self) -> usize {
        let prefix = match self.length {
            Length::Partial { bytes, .. } => usize::from(bytes),
            Length::Known(_) => 0,
        };
        self.unread + self.body.len() + prefix
    }

    /// Whether the stream may end here: nothing of a further frame has arrived.
    #[cfg(test)]
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.unread == 0 && matches!(self.length, Length::Partial { bytes: 0, .. })
    }

    /// The length of a frame that begins here, and how many bytes say so, if they are one or two.
    fn length_of_next(&self) -> Option<(usize, usize)> {
        let Length::Partial { bytes: 0, .. } = self.length else {
            return None;
        };
        match *self.chunk {
            [a, ..] if a < 0x80 => Some((usize::from(a), 1)),
            [a, b, ..] if b < 0x80 => Some((usize::from(a & 0x7f) | usize::from(b) << 7, 2)),
            _ => None,
        }
    }

    fn read_length(&mut self) -> Result<Option<usize>, FrameError> {
        while let Length::Partial { value, bytes } = self.length {
            if usize::from(bytes) == wire::PREFIX_MAX {
                return Err(FrameError::BadLength);
            }
            let Some(byte) = self.chunk.first().copied() else {
                return Ok(None);
            };
            self.advance(1);
            let value = value | usize::from(byte & 0x7f) << (7 * bytes);
            let complete = byte & 0x80 == 0;
            self.length = if complete {
                Length::Known(value)
            } else {
                Length::Partial {
                    value,
                    bytes: bytes + 1,
                }
            };
        }
        match self.length {
            Length::Known(length) => Ok(Some(length)),
            Length::Partial { .. } => Ok(None),
        }
    }

    fn read_body(&mut self, length: usize) -> Option<Bytes> {
        if self.body.is_empty() && self.chunk.len() >= length {
            let frame = self.chunk.split_to(length);
            self.unread -= length;
            if self.chunk.is_empty() {
                self.next_chunk();
            }
            return Some(frame);
        }
        self.reserve(length);
        while self.body.len() < length && !self.chunk.is_empty() {
            let part = self.chunk.len().min(length - self.body.len());
            self.body.extend_from_slice(&self.chunk[..part]);
            self.advance(part);
        }
        (self.body.len() == length).then(|| mem::take(&mut self.body).into())
    }

    /// Makes room for what has arrived of a frame, and for as much again, or for all of it, if enough
    /// of it has arrived; never for more than the frame has.
    fn reserve(&mut self, length: usize) {
        let arrived = (self.body.len() + self.unread).min(length);
        if arrived > self.body.capacity() {
            let room = match length.div_ceil(EARNEST) {
                earnest if arrived >= earnest => length,
                _ => arrived
                    .max(2 * self.body.capacity())
                    .max(FIRST_RESERVATION)
                    .min(length),
            };
            self.body.reserve_exact(room - self.body.len());
        }
    }

    /// Skips bytes of the chunk.
    fn advance(&mut self, bytes: usize) {
        self.chunk.advance(bytes);
        self.unread -= bytes;
        if self.chunk.is_empty() {
            self.next_chunk();
        }
    }

    /// Goes on to the next chunk, now that this one is used up.
    fn next_chunk(&mut self) {
        // Assigned even if nothing follows: an empty slice would keep its whole chunk alive.
        self.chunk = self.further.pop_front().unwrap_or_default();
        if self.further.is_empty() {
            self.further = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encode_length_delimiter(body.len(), &mut out).unwrap();
        out.extend(body);
        out
    }

    fn all(reader: &mut FrameReader) -> Vec<Bytes> {
        std::iter::from_fn(|| reader.next(LIMIT).unwrap()).collect()
    }

    fn holds_no_memory(reader: &FrameReader) -> bool {
        reader.body.capacity() == 0 && reader.further.capacity() == 0 && reader.chunk.is_empty()
    }

    #[test]
    fn frames_inside_one_chunk_are_slices_of_it() {
        let mut bytes = frame(b"first");
        bytes.extend(frame(b""));
        bytes.extend(frame(b"third"));
        let chunk = Bytes::from(bytes);
        let range = chunk.as_ptr_range();
        let mut reader = FrameReader::default();
        reader.push(chunk.clone());
        let frames = all(&mut reader);
        assert_eq!(frames, [&b"first"[..], b"", b"third"]);
        assert!(range.contains(&frames[0].as_ptr()) && range.contains(&frames[2].as_ptr()));
        assert!(reader.is_at_boundary() && holds_no_memory(&reader));
        drop(frames);
        assert!(
            chunk.is_unique(),
            "a reader at a boundary keeps no chunk alive"
        );
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_prefix_alone() {
        let mut reader = FrameReader::default();
        reader.push(Bytes::from_static(&[0x81, 0x80]));
        assert_eq!(reader.next(16_384), Ok(None));
        reader.push(Bytes::from_static(&[0x01]));
        let error = Err(FrameError::TooLarge {
            size: 16_385,
            limit: 16_384,
        });
        assert_eq!(reader.next(16_384), error);
        assert_eq!(reader.next(16_384), error);
        assert_eq!(reader.body.capacity(), 0);
        assert_eq!(
            reader.next(16_385),
            Ok(None),
            "the limit may be raised by admission"
        );
    }

    #[test]
    fn a_frame_of_exactly_the_limit_is_read() {
        let mut reader = FrameReader::default();
        reader.push(frame(&[7; 4_096]).into());
        assert_eq!(
            reader.next(4_095),
            Err(FrameError::TooLarge {
                size: 4_096,
                limit: 4_095
            })
        );
        assert_eq!(reader.next(4_096).unwrap().unwrap().len(), 4_096);
    }

    #[test]
    fn a_prefix_may_be_longer_than_needed_but_not_than_four_bytes() {
        let mut reader = FrameReader::default();
        reader.push(Bytes::from_static(&[0x82, 0x80, 0x80, 0x00, b'o', b'k']));
        assert_eq!(reader.next(LIMIT), Ok(Some(Bytes::from_static(b"ok"))));
        reader.push(Bytes::from_static(&[0x82, 0x80, 0x80]));
        assert_eq!(reader.next(LIMIT), Ok(None));
        reader.push(Bytes::from_static(&[0x80]));
        assert_eq!(reader.next(LIMIT), Err(FrameError::BadLength));
        reader.push(Bytes::from_static(&[0x00, 0x00]));
        assert_eq!(
            reader.next(LIMIT),
            Err(FrameError::BadLength),
            "an error is final"
        );
    }

    #[test]
    fn memory_follows_what_arrived_and_not_what_was_announced() {
        let bytes = frame(&[7; LIMIT]);
        let mut reader = FrameReader::default();
        for (arrived, chunk) in bytes.chunks(1_000).enumerate() {
            let arrived = arrived * 1_000 + chunk.len();
            reader.push(Bytes::copy_from_slice(chunk));
            let frame = reader.next(LIMIT).unwrap();
            assert_eq!(frame.is_some(), arrived == bytes.len());
            assert!(reader.body.capacity() <= (EARNEST * arrived).clamp(FIRST_RESERVATION, LIMIT));
            assert!(
                reader.chunk.is_empty(),
                "nothing small keeps a large chunk alive"
            );
        }
        assert!(holds_no_memory(&reader));
    }

    #[test]
    fn what_is_buffered_is_counted_with_its_prefix() {
        let mut reader = FrameReader::default();
        reader.push(Bytes::from_static(&[0x80]));
        assert_eq!((reader.next(LIMIT), reader.buffered()), (Ok(None), 1));
        assert!(!reader.is_at_boundary());
        reader.push(Bytes::from_static(&[0x01]));
        reader.push(Bytes::from_static(&[1, 2, 3]));
        assert_eq!(reader.buffered(), 5);
        assert_eq!((reader.next(LIMIT), reader.buffered()), (Ok(None), 3));
        assert!(!reader.is_at_boundary());
    }

    #[test]
    fn an_encoded_message_is_read_back() {
        let message = "x".repeat(300);
        let mut out = BytesMut::new();
        encode_frame(&message, &mut out);
        encode_frame(&String::new(), &mut out);
        let mut reader = FrameReader::default();
        reader.push(out.freeze());
        let frames = all(&mut reader);
        assert_eq!(String::decode(frames[0].clone()).unwrap(), message);
        assert_eq!(frames[1..], [Bytes::new()]);
    }

    fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let short = prop::collection::vec(any::<u8>(), 0..300);
        let long = (0..20_000_usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]);
        prop::collection::vec(prop_oneof![4 => short, 1 => long], 0..12)
    }

    proptest! {
        #[test]
        fn how_a_stream_is_cut_into_chunks_does_not_matter(
            bodies in bodies(),
            sizes in prop::collection::vec(prop_oneof![1..4_usize, 1..3_000_usize], 1..50),
            eager in any::<bool>(),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
            let mut reader = FrameReader::default();
            let mut frames = Vec::new();
            let mut rest = Bytes::from(stream);
            let mut sizes = sizes.into_iter().cycle();
            while !rest.is_empty() {
                let size = sizes.next().unwrap().min(rest.len());
                reader.push(rest.split_to(size));
                if eager {
                    frames.extend(all(&mut reader));
                }
            }
            frames.extend(all(&mut reader));
            prop_assert_eq!(frames, bodies);
            prop_assert_eq!(reader.buffered(), 0);
            prop_assert!(reader.is_at_boundary() && holds_no_memory(&reader));
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            limit in 0..2_000_usize,
        ) {
            let mut reader = FrameReader::default();
            let (mut arrived, mut taken) = (0, 0);
            for chunk in chunks {
                arrived += chunk.len();
                reader.push(chunk.into());
                while let Ok(Some(frame)) = reader.next(limit) {
                    prop_assert!(frame.len() <= limit);
                    taken += frame.len();
                }
                prop_assert!(taken + reader.buffered() <= arrived);
            }
        }
    }
}
