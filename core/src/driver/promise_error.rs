//! Why a promise was not kept.

use super::slot::Stopped;
use crate::{Message, SendError, Status, StatusCode, Tag};

/// Why a promise was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PromiseError {
    /// The peer's application, or the peer on its behalf, did not take the message.
    #[error("rejected: {0}")]
    Rejected(Status),
    /// The deadline passed first.
    #[error("no answer in time")]
    TimedOut,
    /// The promise was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The session was lost or closed.
    #[error("the session was lost; the message {}", if *maybe_delivered { "may have been delivered" } else { "was not delivered" })]
    Lost {
        /// Whether the peer may have the message all the same.
        maybe_delivered: bool,
    },
    /// The promise table was full, and a newer promise took the place.
    #[error("a newer promise took the place of this one: raise limits.promises")]
    Evicted,
    /// The message was not taken at all, and comes back.
    #[error(transparent)]
    Refused(#[from] SendError<Message>),
    /// The reply is not of the type that was asked for, or cannot be decoded.
    #[error("the reply, tagged {tag}, cannot be read as {expected}")]
    Undecodable {
        /// What the reply is.
        tag: Tag,
        /// The full name of the type that was asked for.
        expected: String,
    },
    /// The driver has ended; whether the message left is unknown.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl PromiseError {
    /// Whether the peer may have done what it was asked, or may still do it. Where it has not, sending the message
    /// once more cannot have it done twice. Of rejections those leave it open that say so little:
    /// [`CANCELLED`](StatusCode::CANCELLED), [`UNKNOWN`](StatusCode::UNKNOWN),
    /// [`DEADLINE_EXCEEDED`](StatusCode::DEADLINE_EXCEEDED), [`INTERNAL`](StatusCode::INTERNAL); a handler that has
    /// done something, and rejects the message for all that, does so with one of them or a code of the application's.
    pub fn maybe_delivered(&self) -> bool {
        match self {
            Self::Rejected(status) => matches!(
                status.code,
                StatusCode::CANCELLED
                    | StatusCode::UNKNOWN
                    | StatusCode::DEADLINE_EXCEEDED
                    | StatusCode::INTERNAL
            ),
            Self::Refused(_) => false,
            Self::Lost { maybe_delivered } => *maybe_delivered,
            Self::TimedOut
            | Self::Cancelled
            | Self::Evicted
            | Self::Undecodable { .. }
            | Self::Stopped(_) => true,
        }
    }
}
