//! Where an envelope's body stands, for those who want to know no more of it.

use std::ops::Range;

use bytes::Bytes;

use crate::envelope::{Envelope, key};

/// Where in an envelope's frame, without its length prefix, its body stands; `None`: it has none, or the
/// frame is no envelope. What stands in writers' order is passed over and not looked at, which costs
/// a fraction of [`Envelope::decode`]; so a kind that this version does not know has a body here, too.
pub fn body_range(frame: &Bytes) -> Option<Range<usize>> {
    if let Some(range) = body_in_order(frame) {
        return (!range.is_empty()).then_some(range);
    }
    // Fields stand in another order, or some that this version does not know.
    let body = Envelope::decode(frame.clone()).ok()?.body;
    if body.is_empty() {
        return None;
    }
    // A slice of the frame, and not a copy.
    let start = (body.as_ptr() as usize).checked_sub(frame.as_ptr() as usize)?;
    let range = start..start + body.len();
    (range.end <= frame.len()).then_some(range)
}

/// The same for writers' order alone, and of an empty range where there is no body. `None`: fields come
/// in another order, or some are unknown or broken.
pub fn body_in_order(frame: &[u8]) -> Option<Range<usize>> {
    let mut rest = frame;
    if let Some(value) = behind(key::KIND, rest) {
        rest = varint(value)?.1;
    }
    if let Some(value) = behind(key::TAG, rest) {
        rest = value.get(8..)?;
    }
    for key in [key::PROMISE, key::TIMEOUT_MS, key::STATUS] {
        if let Some(value) = behind(key, rest) {
            rest = varint(value)?.1;
        }
    }
    for key in [key::REASON, key::ACKS_PACKED] {
        if let Some(value) = behind(key, rest) {
            let (length, value) = varint(value)?;
            rest = value.get(usize::try_from(length).ok()?..)?;
        }
    }
    let length = match behind(key::BODY, rest) {
        Some(value) => {
            let (length, value) = varint(value)?;
            rest = value;
            usize::try_from(length).ok()?
        }
        None => 0,
    };
    (rest.len() == length).then(|| frame.len() - length..frame.len())
}

/// What stands behind that key, if it is what comes next.
#[inline]
fn behind(key: u8, rest: &[u8]) -> Option<&[u8]> {
    match rest.split_first() {
        Some((next, value)) if *next == key => Some(value),
        _ => None,
    }
}

/// A varint, and what stands behind it.
#[inline]
fn varint(rest: &[u8]) -> Option<(u64, &[u8])> {
    // Most have one byte or two.
    match rest {
        [byte, behind @ ..] if *byte < 0x80 => Some(((*byte).into(), behind)),
        [low, high, behind @ ..] if *high < 0x80 => {
            let value = u64::from(low & 0x7f) | u64::from(*high) << 7;
            Some((value, behind))
        }
        _ => long_varint(rest),
    }
}

fn long_varint(rest: &[u8]) -> Option<(u64, &[u8])> {
    let (value, length) = crate::varint::decode(rest).ok()?;
    rest.get(length..).map(|behind| (value, behind))
}
