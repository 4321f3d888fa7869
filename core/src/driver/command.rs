//! What handles and handlers ask of the driver.

use std::fmt;
use std::iter::Sum;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::finding::Finding;
use super::peer::Peer;
use super::resolve::Redirect;
use super::server::Place;
use super::slot::Filler;
use super::waiter::{Ticket, Waiter};
use crate::id::Hidden;
use crate::{
    Audience, Broadcast, CloseCode, DeliveryKey, DrainPlan, LinkKey, Message, Node, Refusal,
    SendError, SessionKey, Status, Tag,
};

/// What handles and handlers ask of the driver.
pub(crate) enum Command {
    /// Queue the message that stands with this ticket.
    Send(SessionKey, Ticket),
    /// Queue a message that nobody waits for.
    SendUnwaited {
        /// To whom; the message counts in its front.
        peer: Peer,
        message: Message,
    },
    /// Queue a best-effort message.
    SendBestEffort {
        /// To whom; the message counts in its front.
        peer: Peer,
        message: Message,
        key: Option<u64>,
    },
    /// Nobody waits for this message of the session any more.
    Abandon(SessionKey, Waiter),
    /// What a delivery owed.
    Answer(DeliveryKey, Answer),
    /// What the application decided about a link, and has found out about its client.
    Decide(LinkKey, Result<Finding, Refusal>),
    /// Where the next dial of a client goes first, and other addresses of that server.
    Redirect(Redirect),
    /// Queue a best-effort message for many.
    Broadcast(Box<Announcement>),
    /// A look at the node.
    Look(Look),
    /// A rare change to the node: of groups, of what it shows.
    Change(Change),
    /// Close a session.
    Close(SessionKey, CloseCode, String),
    /// Leave gracefully, and tell when it is done.
    Drain(DrainPlan, Filler<Drained>),
    /// Close every session, then end.
    Stop(CloseCode, String),
}

/// A message on its way to an outbox, in the driver's hands.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) message: Message,
    pub(crate) wanted: Wanted,
    pub(crate) sender: Sender,
}

impl Submission {
    /// One whose sender has gone on.
    pub(crate) fn unwaited(peer: Peer, message: Message) -> Self {
        Self {
            message,
            wanted: Wanted::Room,
            sender: Sender::Left(peer),
        }
    }
}

/// What the sender of a message waits for, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing but room in the outbox.
    #[default]
    Room,
    /// An ack.
    Ack(Option<Duration>),
    /// A reply.
    Reply(Option<Duration>),
}

impl Wanted {
    /// The same with what is left until the deadline, if there is one.
    pub(crate) fn by(self, deadline: Option<Instant>, now: Instant) -> Self {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        match self {
            Self::Room => Self::Room,
            Self::Ack(timeout) => Self::Ack(left.or(timeout)),
            Self::Reply(timeout) => Self::Reply(left.or(timeout)),
        }
    }
}

/// Who hears what becomes of a message.
#[derive(Debug)]
pub(crate) enum Sender {
    /// Whoever holds this ticket's other end.
    Waits(Ticket),
    /// Nobody waits: the message was taken on behalf of this peer's outbox, and counts in the peer's
    /// front until it stands there. If it never does, hooks and events tell.
    Left(Peer),
}

/// A message for many, and who hears what became of it.
pub(crate) struct Announcement {
    pub(crate) audience: Audience,
    /// Who does not get it; of one driver at most.
    pub(crate) except: Option<SessionKey>,
    pub(crate) message: Message,
    pub(crate) key: Option<u64>,
    pub(crate) filler: Filler<Result<Broadcast, SendError<Message>>>,
    /// Kept until it is sent by all drivers, or given up.
    pub(crate) place: Arc<Place>,
}

/// A look at the node.
pub(crate) type Look = Box<dyn FnOnce(&Node, Instant) + Send>;

/// A change to the node.
pub(crate) type Change = Box<dyn FnOnce(&mut Node, Instant) + Send>;

/// What becomes of a command while a broadcast that was asked for earlier waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    /// It goes by lanes of its own, and is done.
    Passes,
    /// It goes by the same lane, or may concern who hears the broadcast: it waits behind it.
    Follows,
    /// The same, and so does what is then sent to that session.
    Closes(SessionKey),
    /// The broadcast is to wait no longer, for the time to end has begun.
    Ends,
}

impl Command {
    /// The session whose outbox it fills.
    pub(crate) fn sends_to(&self) -> Option<SessionKey> {
        match self {
            Self::Send(session, _) => Some(*session),
            Self::SendUnwaited { peer, .. } => Some(peer.session()),
            _ => None,
        }
    }

    pub(crate) fn meanwhile(&self) -> Meanwhile {
        match self {
            Self::Send(..)
            | Self::SendUnwaited { .. }
            | Self::Abandon(..)
            | Self::Answer(..)
            | Self::Look(_)
            | Self::Redirect(..) => Meanwhile::Passes,
            Self::SendBestEffort { .. }
            | Self::Broadcast(_)
            | Self::Decide(..)
            | Self::Change(_) => Meanwhile::Follows,
            Self::Close(session, ..) => Meanwhile::Closes(*session),
            Self::Drain(..) | Self::Stop(..) => Meanwhile::Ends,
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Send(..) => "Send",
            Self::SendUnwaited { .. } => "SendUnwaited",
            Self::SendBestEffort { .. } => "SendBestEffort",
            Self::Abandon(..) => "Abandon",
            Self::Answer(..) => "Answer",
            Self::Decide(..) => "Decide",
            Self::Redirect(..) => "Redirect",
            Self::Broadcast(_) => "Broadcast",
            Self::Look(_) => "Look",
            Self::Change(_) => "Change",
            Self::Close(..) => "Close",
            Self::Drain(..) => "Drain",
            Self::Stop(..) => "Stop",
        };
        f.write_str(name)
    }
}

/// The answer to a delivery. Its `Debug` text has a reply's length, and nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// The application has it.
    Ack,
    /// The reply to a request: what its body is, and the body.
    Reply(Tag, Bytes),
    /// The application does not take it.
    Reject(Status),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ack => f.write_str("Ack"),
            Self::Reply(tag, body) => f
                .debug_tuple("Reply")
                .field(tag)
                .field(&Hidden(body.len()))
                .finish(),
            Self::Reject(status) => f.debug_tuple("Reject").field(status).finish(),
        }
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that finished in time.
    pub finished: u64,
    /// Sessions that the deadline cut off, or whose link was gone before the peer had said that it holds the last
    /// answers, which may be 20 s after it had them.
    pub cut_off: u64,
}

impl Sum for Drained {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, more| Self {
            finished: sum.finished + more.finished,
            cut_off: sum.cut_off + more.cut_off,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reply_shows_in_a_debug_text() {
        let answer = Answer::Reply(Tag(7), Bytes::from_static(b"topsecret"));
        let shown = format!("{answer:?}");
        assert_eq!(shown, "Reply(0000000000000007, <9 bytes>)");
    }
}
