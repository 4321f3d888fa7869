//! Sending, as values to be awaited.

use std::future::{IntoFuture, Ready, ready};
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use prost::{Message as Encode, Name};

use super::command::{Command, Wanted};
use super::peer::Peer;
use super::promise_error::PromiseError;
use super::sending::{Acking, Asking, Pending, Raw, Sent, Typed};
use crate::{Lane, Message, SendError, Tag};

/// A message that waits to be awaited; see [`Peer::send`].
#[must_use = "nothing is sent before this is awaited"]
#[derive(Debug)]
pub struct Outgoing {
    peer: Peer,
    message: Message,
}

impl Outgoing {
    pub(crate) fn new(peer: Peer, message: Message) -> Self {
        Self { peer, message }
    }

    /// Takes that lane instead of the default one.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.message.lane = Some(lane);
        self
    }

    /// Waits until the peer's application has accepted the message: its handler returned `Ok`. Not
    /// cancel-safe: dropped, the promise is cancelled ([`Acking`]).
    ///
    /// It waits for [`crate::Timeouts::promise`] (30 s), which an outage may outlast, and withdraws the message
    /// then: see [`Acked::timeout`].
    pub fn acked(self) -> Acked {
        Acked {
            outgoing: self,
            timeout: None,
        }
    }

    /// Sends it without keeping it: it is gone with the link, or if the peer is too slow
    /// ([`crate::SlowConsumer`]).
    pub fn best_effort(self) -> BestEffort {
        BestEffort {
            outgoing: self,
            key: None,
        }
    }
}

impl IntoFuture for Outgoing {
    type Output = Result<(), SendError<Message>>;
    type IntoFuture = Sent;

    fn into_future(self) -> Sent {
        let Self { peer, message } = self;
        Sent::new(Pending::new(peer, message, Wanted::Room))
    }
}

/// A message whose ack is to be awaited; see [`Outgoing::acked`].
#[must_use = "nothing is sent before this is awaited"]
#[derive(Debug)]
pub struct Acked {
    outgoing: Outgoing,
    timeout: Option<Duration>,
}

impl Acked {
    /// Takes that lane instead of the default one.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.outgoing = self.outgoing.lane(lane);
        self
    }

    /// How long to wait, room in the outbox included; otherwise [`crate::Timeouts::promise`] (30 s). With
    /// no time at all it is over at once; with [`Duration::MAX`] it waits for as long as the session lasts,
    /// outages of up to [`crate::Timeouts::retention`] included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for Acked {
    type Output = Result<(), PromiseError>;
    type IntoFuture = Acking;

    fn into_future(self) -> Acking {
        let Outgoing { peer, message } = self.outgoing;
        Acking::new(Pending::new(peer, message, Wanted::Ack(self.timeout)))
    }
}

/// A request that waits to be awaited; see [`Peer::request`].
#[must_use = "nothing is sent before this is awaited"]
#[derive(Debug)]
pub struct Request<R> {
    outgoing: Outgoing,
    timeout: Option<Duration>,
    reply: PhantomData<fn() -> R>,
}

impl<R> Request<R> {
    pub(crate) fn new(peer: Peer, message: Message) -> Self {
        Self {
            outgoing: Outgoing::new(peer, message),
            timeout: None,
            reply: PhantomData,
        }
    }

    /// Takes that lane instead of the one that its size calls for.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.outgoing = self.outgoing.lane(lane);
        self
    }

    /// How long to wait, room in the outbox included; otherwise [`crate::Timeouts::promise`] (30 s). The
    /// peer learns how much of it is left, and does not start work that comes too late. With no time
    /// at all it is over at once; with [`Duration::MAX`] it waits for as long as the session lasts.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Awaited, gives the reply's tag and body as they came.
    pub fn raw(self) -> Asking<Raw> {
        self.asking()
    }

    fn asking<T>(self) -> Asking<T> {
        let Outgoing { peer, message } = self.outgoing;
        Asking::new(Pending::new(peer, message, Wanted::Reply(self.timeout)))
    }
}

impl<R: Encode + Name + Default + 'static> IntoFuture for Request<R> {
    type Output = Result<R, PromiseError>;
    type IntoFuture = Asking<Typed<R>>;

    fn into_future(self) -> Asking<Typed<R>> {
        self.asking()
    }
}

/// A request that is encoded already; see [`Peer::request_raw`].
#[must_use = "nothing is sent before this is awaited"]
#[derive(Debug)]
pub struct RawRequest(Request<()>);

impl RawRequest {
    pub(crate) fn new(peer: Peer, message: Message) -> Self {
        Self(Request::new(peer, message))
    }

    /// How long to wait; see [`Request::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }
}

impl IntoFuture for RawRequest {
    type Output = Result<(Tag, Bytes), PromiseError>;
    type IntoFuture = Asking<Raw>;

    fn into_future(self) -> Asking<Raw> {
        self.0.raw()
    }
}

/// A best-effort message; see [`Outgoing::best_effort`].
#[must_use = "nothing is sent before this is awaited"]
#[derive(Debug)]
pub struct BestEffort {
    outgoing: Outgoing,
    key: Option<u64>,
}

impl BestEffort {
    /// A waiting message of the same key is replaced by this one, with
    /// [`crate::SlowConsumer::KeepLatest`].
    pub fn key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// Sends it; there is nothing to wait for. It comes back if the session is closed, or if what
    /// was sent before it is too much for the driver to have looked at yet.
    pub fn now(self) -> Result<(), SendError<Message>> {
        let Self {
            outgoing: Outgoing { peer, message },
            key,
        } = self;
        let message = peer.check(Message {
            lane: None,
            ..message
        })?;
        peer.post_left(message, |peer, message| Command::SendBestEffort {
            peer,
            message,
            key,
        })
    }
}

impl IntoFuture for BestEffort {
    type Output = Result<(), SendError<Message>>;
    type IntoFuture = Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        ready(self.now())
    }
}
