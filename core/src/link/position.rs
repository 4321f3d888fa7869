//! Where a lane's stream has got to. That says what its envelopes leave out.

use crate::id::Tag;

/// Where the reader of a lane's stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of the next envelope.
    next: u64,
    /// What an envelope is without a tag of its own.
    tag: Tag,
}

impl Position {
    /// Before the first envelope of a stream, which has that number.
    pub(crate) const fn opening(next: u64) -> Self {
        Self { next, tag: Tag(0) }
    }

    /// Passes an envelope in which that tag stands: its number, and its tag.
    pub(crate) fn pass(&mut self, tag: Option<u64>) -> (u64, Tag) {
        let number = self.next;
        // The numbers of the best-effort lane mean nothing, and may begin anywhere.
        self.next = number.wrapping_add(1);
        if let Some(tag) = tag {
            self.tag = Tag(tag);
        }
        (number, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_has_the_number_of_its_place_and_the_tag_before_it() {
        let mut position = Position::opening(7);
        let read = [None, Some(5), None, Some(0), None].map(|tag| position.pass(tag));
        let tags = [0, 5, 5, 0, 0].map(Tag);
        assert_eq!(read.map(|(_, tag)| tag), tags);
        assert_eq!(read.map(|(number, _)| number), [7, 8, 9, 10, 11]);
    }

    #[test]
    fn numbers_that_mean_nothing_may_be_the_largest() {
        let mut position = Position::opening(u64::MAX);
        assert_eq!(
            [position.pass(None).0, position.pass(None).0],
            [u64::MAX, 0]
        );
    }
}
