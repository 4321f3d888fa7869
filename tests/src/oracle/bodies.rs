//! What is in messages: all of it follows from their numbers, so that nothing of one is taken for a part
//! of another.

use bytes::Bytes;
use trunkline_core::Tag;

/// Spreads a number over all bits (the golden ratio, as in Fibonacci hashing). Odd, so that no two numbers
/// become one.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A body of `size` bytes, and 8 at least, that begins with a message's number. What follows is from the
/// number and each byte's place.
pub fn body(number: u64, size: usize) -> Bytes {
    let size = size.max(8);
    let mut body = Vec::with_capacity(size + 7);
    body.extend_from_slice(&number.to_be_bytes());
    for place in 1..size.div_ceil(8) {
        body.extend_from_slice(&filling(number, place));
    }
    body.truncate(size);
    body.into()
}

/// The number that a [`body`] begins with.
pub fn number_of(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The tag of the message of that number: one of a few, so that it is often that of the one before, and 0 among
/// them.
pub fn tag_of(number: u64) -> Tag {
    Tag(mixed(!number) % 3)
}

/// Whether it is a [`body`] as it was given.
pub(super) fn is_whole(body: &[u8]) -> bool {
    let Some((head, rest)) = body.split_first_chunk() else {
        return false;
    };
    let number = u64::from_be_bytes(*head);
    let mut pieces = (1..).zip(rest.chunks(8));
    pieces.all(|(place, piece)| filling(number, place).starts_with(piece))
}

/// The eight bytes of a body at that place, counted in eights.
fn filling(number: u64, place: usize) -> [u8; 8] {
    mixed(number ^ (place as u64).rotate_left(32)).to_le_bytes()
}

fn mixed(number: u64) -> u64 {
    let spread = number.wrapping_mul(SPREAD);
    spread ^ spread >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_of_its_size_and_its_number() {
        for size in [0, 7, 8, 9, 15, 16, 17, 1_000] {
            let body = body(7, size);
            assert_eq!(body.len(), size.max(8));
            assert_eq!(number_of(&body), Some(7));
            assert!(is_whole(&body));
        }
        assert!(!is_whole(&[0; 7]));
    }

    #[test]
    fn bytes_that_are_changed_moved_repeated_or_of_another_show() {
        let whole = body(7, 100);
        for at in 8..whole.len() {
            let mut changed = whole.to_vec();
            changed[at] ^= 1;
            assert!(!is_whole(&changed), "byte {at}");
        }
        let mut moved = whole.to_vec();
        moved[8..64].rotate_left(8);
        let mut repeated = whole.to_vec();
        repeated.copy_within(8..16, 16);
        let mut foreign = whole.to_vec();
        foreign[40..].copy_from_slice(&body(8, 100)[40..]);
        for broken in [moved, repeated, foreign] {
            assert!(!is_whole(&broken));
        }
    }

    #[test]
    fn tags_are_few_and_each_follows_each() {
        let pairs = (0..1_000).map(|number| (tag_of(number), tag_of(number + 1)));
        assert_eq!(pairs.collect::<std::collections::BTreeSet<_>>().len(), 9);
    }
}
