//! Streams of frames, however they are cut: see [`frames`].

use bytes::{Bytes, BytesMut};
use prost::Message;
use trunkline_core::fuzzing::Frames;
use trunkline_proto::generated::Envelope as Plain;
use trunkline_proto::{
    ACK_NUMBERS_MAX, ACKED_MAX, AckRuns, Control, Envelope, FRAME_MAX, FrameLenError, LaneOpen,
    REASON_MAX, acked, decode_frame_len, encode_acks_frame, encode_frame_len, encode_reject_frame,
};

use super::input::Input;
use super::{Reached, conversation};

pub(super) const FLOOR: &[&str] = &[
    "a whole frame",
    "a part of a frame",
    "a frame above the limit",
    "a length without an end",
    "a control frame",
    "no control frame",
    "the opening of a lane",
    "an envelope",
    "no envelope",
    "an envelope with a body",
    "an envelope with a reason",
    "sound acks",
    "unsound acks",
];

/// A stream of frames from the input, of control frames, envelopes and lane openings.
///
/// However the stream is cut into chunks, the same frames come of it, or the same error; none is
/// above the limit, and no two overlap. What a frame decodes to, encoded again, decodes to the
/// same; a list of acks is taken apart and put together to the same, and nothing decodes to more
/// than it was.
///
/// The input: a byte for the limit, a byte for how many cuts there are, the cuts, and the stream.
pub fn frames(data: &[u8]) -> Reached {
    let mut reached = Reached::new();
    let mut input = Input::new(data);
    let limit = input.pick(&[FRAME_MAX, 4_096, 64, 1, 0]);
    let cuts = input.block().to_vec();
    let stream = Bytes::copy_from_slice(input.rest());
    let (whole, ending) = cut(&stream, &[], false, limit);
    for eager in [false, true] {
        let chunked = cut(&stream, &cuts, eager, limit);
        assert_eq!(chunked, (whole.clone(), ending), "cut at {cuts:?}");
    }
    let announced: usize = whole.iter().map(Bytes::len).sum();
    assert!(announced + whole.len() <= stream.len(), "frames overlap");
    assert!(whole.iter().all(|frame| frame.len() <= limit));
    check_lengths(&stream, limit, &whole, ending);
    reached.insert(match ending {
        Ok(()) => "a part of a frame",
        Err(Some(_)) => "a frame above the limit",
        Err(None) => "a length without an end",
    });
    for frame in whole {
        reached.insert("a whole frame");
        control(&frame, &mut reached);
        lane_open(&frame, &mut reached);
        envelope(frame, &mut reached);
    }
    reached
}

/// What nodes have written on their streams.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let talks = conversation::talks().into_iter();
    let streams = talks.flat_map(|talk| talk.streams.into_values());
    for (place, stream) in streams.enumerate() {
        let cuts = [place as u8, 1, 7, 100];
        let limit = if place % 7 == 0 { 1 } else { 0 };
        let mut seed = vec![limit, (place % 5) as u8];
        seed.extend(&cuts[..place % 5]);
        seed.extend(stream);
        seed.truncate(3_000);
        seeds.push(seed);
    }
    seeds
}

/// A frame may be one byte of a stream, and is kept three times over; nothing is held for what a
/// length only announces.
pub(super) fn memory(data: &[u8]) -> u64 {
    (16 << 10) + 256 * data.len() as u64
}

/// How a stream of frames ends: it may go on, or it announced a frame that is too long, or a
/// length that has no end.
type Ending = Result<(), Option<usize>>;

/// What comes of a stream that arrives in pieces of these sizes, and then at once.
fn cut(stream: &Bytes, cuts: &[u8], eager: bool, limit: usize) -> (Vec<Bytes>, Ending) {
    let mut reader = Frames::default();
    let mut frames = Vec::new();
    let mut take = |reader: &mut Frames| {
        loop {
            match reader.next(limit) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    let mut rest = stream.clone();
    let mut ending = Ok(());
    for size in cuts {
        let size = usize::from(*size).min(rest.len());
        reader.push(rest.split_to(size));
        if eager {
            ending = take(&mut reader);
        }
    }
    reader.push(rest);
    let last = take(&mut reader);
    assert!(ending.is_ok() || ending == last, "an error is not final");
    assert_eq!(take(&mut reader), last, "the same is not said twice");
    (frames, last)
}

/// The protocol's own reader of lengths finds the same frames.
fn check_lengths(stream: &[u8], limit: usize, frames: &[Bytes], ending: Ending) {
    let mut rest = stream;
    for frame in frames {
        let length = decode_frame_len(rest, limit);
        let length = length.unwrap_or_else(|error| panic!("{error} before {frame:?}"));
        assert_eq!(length.frame, frame.len());
        rest = &rest[length.prefix..];
        assert_eq!(&rest[..frame.len()], frame);
        rest = &rest[frame.len()..];
        let mut again = BytesMut::new();
        encode_frame_len(frame.len(), &mut again);
        assert!(again.len() <= length.prefix);
    }
    match (decode_frame_len(rest, limit), ending) {
        (Err(FrameLenError::Incomplete), Ok(())) => {}
        (Ok(length), Ok(())) => assert!(rest.len() < length.prefix + length.frame),
        (Err(FrameLenError::TooLong { size, .. }), Err(Some(announced))) => {
            assert_eq!(size, announced);
        }
        (Err(FrameLenError::Malformed), Err(None)) => {}
        (found, ending) => panic!("{found:?} where the reader says {ending:?}"),
    }
}

fn control(frame: &Bytes, reached: &mut Reached) {
    let Ok(read) = Control::decode(frame.clone()) else {
        reached.insert("no control frame");
        return;
    };
    reached.insert("a control frame");
    let again = read.encode_to_vec();
    assert_eq!(Control::decode(&again[..]), Ok(read));
    assert!(again.len() <= encoded_bound(frame.len()));
}

fn lane_open(frame: &Bytes, reached: &mut Reached) {
    let Ok(read) = LaneOpen::decode(frame.clone()) else {
        return;
    };
    reached.insert("the opening of a lane");
    assert_eq!(LaneOpen::decode(&read.encode_to_vec()[..]), Ok(read));
}

/// What was read is never written longer than it may have come.
const fn encoded_bound(read: usize) -> usize {
    // A repeated field may have come packed, and numbers of any message shorter than their
    // length.
    8 * read + 64
}

fn envelope(frame: Bytes, reached: &mut Reached) {
    let length = frame.len();
    let plain = Plain::decode(frame.clone());
    let Ok(read) = Envelope::decode(frame) else {
        reached.insert("no envelope");
        return;
    };
    reached.insert("an envelope");
    assert!(read.acks.len() <= ACK_NUMBERS_MAX.min(length));
    assert!(read.reason.len() <= REASON_MAX.min(length));
    assert!(read.body.len() < length.max(1));
    // The generated reader reads the same, and what it writes is read as the same.
    let plain = plain.unwrap_or_else(|error| panic!("prost refuses {read:?}: {error}"));
    assert_eq!(plain.body, read.body);
    let again = Envelope::decode(plain.encode_to_vec().into());
    assert_eq!(again.as_ref(), Ok(&read));
    if !read.body.is_empty() {
        reached.insert("an envelope with a body");
    }
    let mut out = BytesMut::new();
    read.header.encode_frame_header(read.body.len(), &mut out);
    out.extend_from_slice(&read.body);
    let written = unframed(out);
    let again = Envelope::decode(written);
    let again = again.unwrap_or_else(|error| panic!("{error}: {read:?}"));
    assert_eq!((again.header, &again.body), (read.header, &read.body));
    if !read.reason.is_empty() {
        reached.insert("an envelope with a reason");
        let mut out = BytesMut::new();
        encode_reject_frame(read.header.promise, read.status, &read.reason, &mut out);
        let again = Envelope::decode(unframed(out));
        let again = again.unwrap_or_else(|error| panic!("{error}: {read:?}"));
        assert_eq!((again.status, again.reason), (read.status, read.reason));
    }
    acks(&read.acks, reached);
}

/// A frame without its length.
fn unframed(mut frame: BytesMut) -> Bytes {
    let length = decode_frame_len(&frame, usize::MAX);
    let length = length.unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    assert_eq!(frame.len(), length.prefix + length.frame);
    frame.split_off(length.prefix).freeze()
}

/// Lists of more promises than about so many are not put together again: a few bytes can say 65,536.
const REBUILT_MAX: u64 = 1_000;

fn acks(numbers: &[u64], reached: &mut Reached) {
    let Ok(runs) = acked(numbers) else {
        reached.insert("unsound acks");
        return;
    };
    if numbers.is_empty() {
        return;
    }
    reached.insert("sound acks");
    if runs.clone().map(|run| run.end() - run.start()).sum::<u64>() > REBUILT_MAX {
        return;
    }
    let mut last = 0;
    let mut again = AckRuns::new();
    for promise in runs.flatten() {
        assert!(promise > last, "{numbers:?} do not ascend");
        last = promise;
        let pushed = again.push(promise);
        assert_eq!(pushed, Ok(()), "{promise} of {numbers:?}");
    }
    assert!(again.promises() <= ACKED_MAX);
    let mut out = BytesMut::new();
    encode_acks_frame(&again, &mut out);
    let read = Envelope::decode(unframed(out));
    let read = read.unwrap_or_else(|error| panic!("{error}: {again:?}"));
    assert_eq!(read.acks, again.numbers());
    let same =
        acked(&read.acks).is_ok_and(|a| acked(numbers).is_ok_and(|b| a.flatten().eq(b.flatten())));
    assert!(same, "{numbers:?} became {again:?}");
}
