//! Commands that differ from the one before in their body alone, as those of one turn mostly do: their
//! records hold nothing else.

use std::time::Duration;

use super::Record;
use super::codec::Decoder;
use crate::id::{DeliveryKey, Lane, SessionKey, Tag};
use crate::tap::{Body, Call, Letter, Level};

/// All of a command but its time and its body, of those commands that come in crowds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outline {
    Send(Letterhead),
    SendAcked(Letterhead, Option<Duration>),
    Request(Letterhead, Option<Duration>),
    Ack(DeliveryKey),
    Reply(DeliveryKey, Tag),
}

/// All of a message but its body, and whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Letterhead {
    to: SessionKey,
    lane: Option<Lane>,
    tag: Tag,
}

impl Outline {
    /// That of a command, and the command's body, if it has one.
    #[inline]
    pub(super) fn of<'a>(record: &Record<'a>) -> Option<(Self, Option<Body<'a>>)> {
        let Record::Call { call, .. } = record else {
            return None;
        };
        let head = |to, message: Letter<'a>| {
            let Letter { lane, tag, body } = message;
            (Letterhead { to, lane, tag }, Some(body))
        };
        Some(match *call {
            Call::Send { to, message } => {
                let (head, body) = head(to, message);
                (Self::Send(head), body)
            }
            Call::SendAcked {
                to,
                message,
                timeout,
            } => {
                let (head, body) = head(to, message);
                (Self::SendAcked(head, timeout), body)
            }
            Call::Request {
                to,
                message,
                timeout,
            } => {
                let (head, body) = head(to, message);
                (Self::Request(head, timeout), body)
            }
            Call::Ack { delivery } => (Self::Ack(delivery), None),
            Call::Reply {
                delivery,
                tag,
                body,
            } => (Self::Reply(delivery, tag), Some(body)),
            _ => return None,
        })
    }

    /// That of the command that goes on behind this one: it is the same, or about the next delivery.
    #[inline]
    pub(super) fn next(self) -> Self {
        let next = |delivery: DeliveryKey| DeliveryKey {
            number: delivery.number.wrapping_add(1),
            ..delivery
        };
        match self {
            Self::Ack(delivery) => Self::Ack(next(delivery)),
            Self::Reply(delivery, tag) => Self::Reply(next(delivery), tag),
            same => same,
        }
    }

    /// Reads what the record of a command holds that is so outlined.
    pub(super) fn decode<'a>(self, level: Level, from: &mut Decoder<'a>) -> Option<Call<'a>> {
        let mut letter = |head: Letterhead| {
            let Letterhead { lane, tag, .. } = head;
            let body = from.body(level)?;
            Some(Letter { lane, tag, body })
        };
        Some(match self {
            Self::Send(head) => Call::Send {
                to: head.to,
                message: letter(head)?,
            },
            Self::SendAcked(head, timeout) => Call::SendAcked {
                to: head.to,
                message: letter(head)?,
                timeout,
            },
            Self::Request(head, timeout) => Call::Request {
                to: head.to,
                message: letter(head)?,
                timeout,
            },
            Self::Ack(delivery) => Call::Ack { delivery },
            Self::Reply(delivery, tag) => Call::Reply {
                delivery,
                tag,
                body: from.body(level)?,
            },
        })
    }
}
