//! What handles and handlers ask of the driver.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::mailbox::{Ticket, Wanted};
use super::slot::Filler;
use crate::{
    CloseCode, DeliveryKey, DrainPlan, LinkKey, Message, Node, Refusal, SessionKey, Status, Tag,
};

/// What handles and handlers ask of the driver.
pub(crate) enum Command {
    /// Queue a message.
    Send {
        session: SessionKey,
        message: Message,
        wanted: Wanted,
        /// Who waits; nobody does for a message that was accepted on behalf of the outbox.
        ticket: Option<Ticket>,
    },
    /// Queue a best-effort message.
    SendBestEffort {
        session: SessionKey,
        message: Message,
        key: Option<u64>,
    },
    /// Nobody waits for this any more.
    Abandon(Ticket),
    /// What a delivery owed.
    Answer(DeliveryKey, Answer),
    /// What the application decided about a link.
    Decide(LinkKey, Result<(), Refusal>),
    /// Where the next dial of a client goes.
    Redirect(SessionKey, SocketAddr),
    /// Anything rare: a look at the node, groups, a broadcast.
    With(Look),
    /// Close a session.
    Close(SessionKey, CloseCode, String),
    /// Leave gracefully, and tell when it is done.
    Drain(DrainPlan, Filler<Drained>),
    /// Close every session, then end.
    Stop(CloseCode, String),
}

/// A look at the node, or a change to it.
pub(crate) type Look = Box<dyn FnOnce(&mut Node, Instant) + Send>;

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Send { .. } => "Send",
            Self::SendBestEffort { .. } => "SendBestEffort",
            Self::Abandon(_) => "Abandon",
            Self::Answer(..) => "Answer",
            Self::Decide(..) => "Decide",
            Self::Redirect(..) => "Redirect",
            Self::With(_) => "With",
            Self::Close(..) => "Close",
            Self::Drain(..) => "Drain",
            Self::Stop(..) => "Stop",
        };
        f.write_str(name)
    }
}

/// The answer to a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The application has it.
    Ack,
    /// The reply to a request: what its body is, and the body.
    Reply(Tag, Bytes),
    /// The application does not take it.
    Reject(Status),
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that finished in time.
    pub finished: u64,
    /// Sessions that the deadline cut off.
    pub cut_off: u64,
}
