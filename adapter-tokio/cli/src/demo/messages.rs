//! The message types of the demonstration.

use prost::{Message, Name};

use crate::impair::Direction;

const PACKAGE: &str = "trunkline.demo.v1";

/// A question that has one right answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Add {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(int64, tag = "2")]
    pub(crate) left: i64,
    #[prost(int64, tag = "3")]
    pub(crate) right: i64,
}

/// The answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sum {
    #[prost(int64, tag = "1")]
    pub(crate) value: i64,
}

/// A message that is acked.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Note {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
}

/// A broadcast.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct News {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
}

impl Add {
    /// The question of that number.
    pub(crate) fn new(number: u64) -> Self {
        let left = number as i64;
        Self {
            number,
            left,
            right: 2 * left,
        }
    }

    pub(crate) fn is_genuine(&self) -> bool {
        *self == Self::new(self.number)
    }

    /// The right answer.
    pub(crate) fn sum(&self) -> i64 {
        self.left.wrapping_add(self.right)
    }
}

impl Note {
    /// The message of that number, to or from that client.
    pub(crate) fn new(client: &str, direction: Direction, number: u64) -> Self {
        let text = match direction {
            Direction::Up => format!("message {number} from {client} to the server"),
            Direction::Down => format!("message {number} from the server to {client}"),
        };
        Self { number, text }
    }

    /// Whether it is what was sent under its number: not another client's, not another way's.
    pub(crate) fn is_genuine(&self, client: &str, direction: Direction) -> bool {
        *self == Self::new(client, direction, self.number)
    }
}

impl News {
    /// The broadcast of that number.
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            text: format!("broadcast {number}"),
        }
    }

    pub(crate) fn is_genuine(&self) -> bool {
        *self == Self::new(self.number)
    }
}

macro_rules! names {
    ($($message:ident)*) => {
        $(impl Name for $message {
            const NAME: &'static str = stringify!($message);
            const PACKAGE: &'static str = PACKAGE;
        })*
    };
}

names!(Add Sum Note News);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_went_astray_or_was_changed_is_told_apart() {
        let note = Note::new("alice", Direction::Up, 7);
        assert!(note.is_genuine("alice", Direction::Up));
        assert!(!note.is_genuine("bob", Direction::Up));
        assert!(!note.is_genuine("alice", Direction::Down));
        let renumbered = Note { number: 8, ..note };
        assert!(!renumbered.is_genuine("alice", Direction::Up));
    }

    #[test]
    fn a_question_has_one_right_answer() {
        let add = Add::new(14);
        assert!(add.is_genuine());
        assert_eq!(add.sum(), 42);
        assert!(!Add { right: 1, ..add }.is_genuine());
    }
}
