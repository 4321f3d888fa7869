//! Which lanes exist, and which envelopes belong into which.

use crate::close::CloseCode;
use crate::envelope::Envelope;
use crate::generated::Kind;
use crate::limits::{LANE_ANSWERS, LANE_BEST_EFFORT, LANE_BULK_ANSWERS, LANES_MAX};

/// The lane of that number on the wire, where the receiver announced `lanes` lanes for the
/// application; `None` if there is none ([`CloseCode::UNKNOWN_LANE`]).
pub fn lane_in(number: u32, lanes: u8) -> Option<u8> {
    let number = u8::try_from(number).ok()?;
    let exists = number < lanes.min(LANES_MAX)
        || matches!(number, LANE_ANSWERS | LANE_BULK_ANSWERS | LANE_BEST_EFFORT);
    exists.then_some(number)
}

/// An envelope that does not belong where it came. The link is closed with
/// [`CloseCode::PROTOCOL_VIOLATION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misplaced {
    /// The lane does not carry this kind.
    #[error("lane {lane} does not carry envelopes of kind {kind:?}")]
    Kind {
        /// The envelope's kind.
        kind: Kind,
        /// The lane that it came in.
        lane: u8,
    },
    /// A request or an answer names no promise.
    #[error("an envelope of kind {0:?} names no promise")]
    NoPromise(Kind),
    /// A best-effort message asks for an ack.
    #[error("a best-effort message asks for an ack: nobody would keep it")]
    BestEffortPromise,
}

impl Misplaced {
    /// The code to close the link with.
    pub const fn close_code(&self) -> CloseCode {
        CloseCode::PROTOCOL_VIOLATION
    }
}

impl Envelope {
    /// Checks that the envelope belongs into the lane that it came in, and names a promise where
    /// it must. An ACKS envelope's list has a check of its own: [`Envelope::acked`].
    pub fn check_place(&self, lane: u8) -> Result<(), Misplaced> {
        let kind = self.header.kind;
        let fits = match kind {
            Kind::Message => lane < LANES_MAX || lane == LANE_BEST_EFFORT,
            Kind::Request => lane < LANES_MAX,
            Kind::Reply | Kind::Reject => matches!(lane, LANE_ANSWERS | LANE_BULK_ANSWERS),
            Kind::Acks => lane == LANE_ANSWERS,
        };
        if !fits {
            return Err(Misplaced::Kind { kind, lane });
        }
        match (kind, self.header.promise) {
            (Kind::Request | Kind::Reply | Kind::Reject, 0) => Err(Misplaced::NoPromise(kind)),
            (Kind::Message, 1..) if lane == LANE_BEST_EFFORT => Err(Misplaced::BestEffortPromise),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::EnvelopeHeader;

    fn envelope(kind: Kind, promise: u64) -> Envelope {
        Envelope {
            header: EnvelopeHeader {
                kind,
                promise,
                ..Default::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn only_announced_lanes_and_the_three_fixed_ones_exist() {
        let exist: Vec<u32> = (0..1000)
            .filter(|&number| lane_in(number, 4).is_some())
            .collect();
        assert_eq!(exist, [0, 1, 2, 3, 64, 65, 66]);
        assert_eq!(lane_in(61, 62), Some(61));
        assert_eq!(lane_in(62, 255), None);
        assert_eq!(lane_in(256, 62), None);
    }

    #[test]
    fn each_kind_has_its_lanes() {
        let lanes_of = |kind| -> Vec<u8> {
            let promise = u64::from(kind != Kind::Message);
            (0..=255)
                .filter(|&lane| envelope(kind, promise).check_place(lane).is_ok())
                .collect()
        };
        assert_eq!(
            lanes_of(Kind::Message),
            (0..62).chain([66]).collect::<Vec<_>>()
        );
        assert_eq!(lanes_of(Kind::Request), (0..62).collect::<Vec<_>>());
        assert_eq!(lanes_of(Kind::Reply), [64, 65]);
        assert_eq!(lanes_of(Kind::Reject), [64, 65]);
        assert_eq!(lanes_of(Kind::Acks), [64]);
    }

    #[test]
    fn requests_and_answers_name_a_promise_and_best_effort_none() {
        for (kind, lane) in [(Kind::Request, 0), (Kind::Reply, 64), (Kind::Reject, 65)] {
            assert_eq!(
                envelope(kind, 0).check_place(lane),
                Err(Misplaced::NoPromise(kind))
            );
        }
        assert_eq!(
            envelope(Kind::Message, 1).check_place(66),
            Err(Misplaced::BestEffortPromise)
        );
        assert_eq!(envelope(Kind::Message, 1).check_place(0), Ok(()));
    }
}
