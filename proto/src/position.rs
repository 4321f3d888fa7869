//! What an envelope leaves out because its place in its stream says it.

/// Where the reader of a lane's stream is: it gives each envelope its number and its tag (PROTOCOL.md, sections
/// 8 and 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    number: u64,
    tag: u64,
}

impl Position {
    /// Before the first envelope of a stream, whose number is [`LaneOpen::next`](crate::LaneOpen::next).
    pub const fn opening(next: u64) -> Self {
        Self {
            number: next,
            tag: 0,
        }
    }

    /// Passes an envelope in which that tag stands, or none: its number, and its tag. The numbers of the
    /// best-effort lane mean nothing.
    pub fn pass(&mut self, tag: Option<u64>) -> (u64, u64) {
        let number = self.number;
        // What means nothing may begin anywhere.
        self.number = number.wrapping_add(1);
        self.tag = tag.unwrap_or(self.tag);
        (number, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_mean_nothing_may_be_the_largest() {
        let mut position = Position::opening(u64::MAX);
        let numbers = [position.pass(None).0, position.pass(None).0];
        assert_eq!(numbers, [u64::MAX, 0]);
    }
}
