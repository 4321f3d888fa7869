//! What travels: messages, deliveries, and what becomes of promises.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Status;
use crate::id::{DeliveryKey, Hidden, Lane, Tag};

/// What a message counts for beside its body, in bytes: a share for its own memory, so that empty messages
/// are not free.
pub(crate) const OVERHEAD: usize = 64;

/// A message to send. Its `Debug` text has its body's length, and nothing of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// The lane to take. `None`: the default lane, or, for requests above 64 KiB, the bulk lane.
    pub lane: Option<Lane>,
    /// What the body is.
    pub tag: Tag,
    /// The body, commonly protobuf.
    pub body: Bytes,
}

impl Message {
    /// A message for the lane that its kind and size call for.
    pub fn new(tag: Tag, body: impl Into<Bytes>) -> Self {
        Self {
            lane: None,
            tag,
            body: body.into(),
        }
    }

    /// The same on that lane.
    pub fn on(self, lane: Lane) -> Self {
        Self {
            lane: Some(lane),
            ..self
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("lane", &self.lane)
            .field("tag", &self.tag)
            .field("body", &Hidden(self.body.len()))
            .finish()
    }
}

/// What the sender of a message waits for, and so how it is answered. Each message is, whatever stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expects {
    /// Nothing, as with best effort. It owes a [`Node::ack`](crate::Node::ack) all the same: that makes room in its lane,
    /// and a peer that closes its session counts on what it sent so having been dealt with.
    Nothing,
    /// That the application accepts it: [`Node::ack`](crate::Node::ack), or [`Node::reject`](crate::Node::reject).
    Ack,
    /// A reply: [`Node::reply`](crate::Node::reply), or [`Node::reject`](crate::Node::reject).
    Reply,
}

/// A message that arrived. Its `Debug` text has its body's length, and nothing of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// What to answer.
    pub key: DeliveryKey,
    /// The lane that it took.
    pub lane: Lane,
    /// What the body is.
    pub tag: Tag,
    /// The body.
    pub body: Bytes,
    /// What the sender waits for.
    pub expects: Expects,
    /// How long the sender still waited when it wrote the message, if it said so.
    pub timeout: Option<Duration>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("key", &self.key)
            .field("lane", &self.lane)
            .field("tag", &self.tag)
            .field("body", &Hidden(self.body.len()))
            .field("expects", &self.expects)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Why a message that no promise waits for came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UndeliveredReason {
    /// Its session is over, or is being closed: there is nobody to send it to.
    SessionOver,
    /// The server had lost the session. A new one has taken its place, to which it may be sent again, unless this
    /// side is closing it.
    SessionLost,
    /// The peer takes no message of that size, or has no such lane, which was not known when it was sent: it
    /// would come back each time.
    NotTaken,
}

impl fmt::Display for UndeliveredReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionOver => "its session is over",
            Self::SessionLost => "the server has lost its session",
            Self::NotTaken => "the peer takes none of that size, or has no such lane",
        })
    }
}

/// What became of a promise. Its `Debug` text has a reply's length, and nothing of it.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The peer's application accepted the message.
    Acked,
    /// The peer's application replied.
    Replied {
        /// What the body is.
        tag: Tag,
        /// The reply.
        body: Bytes,
    },
    /// The peer's application rejected the message; or it never left, for it turned out to be larger
    /// than the peer takes (`INVALID_ARGUMENT`).
    Rejected(Status),
    /// The deadline passed first.
    TimedOut,
    /// `cancel` was called, or the future that waited was dropped.
    Cancelled,
    /// The session was lost or closed.
    Lost {
        /// Whether the peer may have the message all the same.
        maybe_delivered: bool,
    },
    /// A newer promise took its place ([`crate::PromisesFull::EvictOldest`]).
    Evicted,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acked => f.write_str("Acked"),
            Self::Replied { tag, body } => f
                .debug_struct("Replied")
                .field("tag", tag)
                .field("body", &Hidden(body.len()))
                .finish(),
            Self::Rejected(status) => f.debug_tuple("Rejected").field(status).finish(),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Cancelled => f.write_str("Cancelled"),
            Self::Lost { maybe_delivered } => f
                .debug_struct("Lost")
                .field("maybe_delivered", maybe_delivered)
                .finish(),
            Self::Evicted => f.write_str("Evicted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Key, SessionKey};

    #[test]
    fn no_body_shows_in_a_debug_text() {
        let (tag, body) = (Tag::of("a"), Bytes::from_static(b"topsecret"));
        let key = DeliveryKey {
            session: SessionKey(Key {
                slot: 0,
                generation: 0,
            }),
            number: 1,
        };
        let delivery = Delivery {
            key,
            lane: Lane::DEFAULT,
            tag,
            body: body.clone(),
            expects: Expects::Ack,
            timeout: None,
        };
        let shown = [
            format!("{:?}", Message::new(tag, body.clone())),
            format!("{delivery:?}"),
            format!("{:?}", Outcome::Replied { tag, body }),
        ];
        for shown in shown {
            assert!(shown.contains("body: <9 bytes>"), "{shown}");
            assert!(!shown.contains("topsecret"), "{shown}");
        }
    }
}
