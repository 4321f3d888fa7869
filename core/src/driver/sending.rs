//! The futures of sending.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use prost::{Message as Encode, Name};

use super::command::{Command, Wanted};
use super::peer::Peer;
use super::promise_error::PromiseError;
use super::slot::Stopped;
use super::tag::tag_of;
use super::waiter::{Settlement, Waiter, wait};
use crate::{CommandError, Message, Outcome, SendError, Tag};

/// Waits for room in the outbox. Cancel-safe: dropped while it waits for room, the message is not
/// sent, unless room came at the same moment.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Sent {
    /// What to give back should the driver end; set while waiting.
    kept: Option<Message>,
    pending: Pending,
}

impl Sent {
    pub(crate) fn new(pending: Pending) -> Self {
        Self {
            kept: None,
            pending,
        }
    }
}

impl Future for Sent {
    type Output = Result<(), SendError<Message>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(message) = this.pending.unsent.take() {
            let message = match this.pending.peer.check(message) {
                Ok(message) => message,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let Err(SendError { message, .. }) = this.pending.peer.post_unwaited(message) else {
                return Poll::Ready(Ok(()));
            };
            this.kept = Some(message.clone());
            this.pending.unsent = Some(message);
        }
        match ready!(this.pending.poll(cx)) {
            Settlement::Refused(error) => Poll::Ready(Err(error)),
            Settlement::Stopped if let Some(message) = this.kept.take() => {
                Poll::Ready(Err(SendError {
                    message,
                    error: CommandError::UnknownSession,
                }))
            }
            Settlement::Accepted | Settlement::Promise(_) | Settlement::Stopped => {
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Waits for an ack. Not cancel-safe: dropping it cancels the promise, so that the peer, which is
/// told, does not start the work; but it may have done it already.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Acking {
    pending: Pending,
}

impl Acking {
    pub(crate) fn new(pending: Pending) -> Self {
        Self { pending }
    }
}

impl Future for Acking {
    type Output = Result<(), PromiseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let settlement = ready!(self.pending.poll(cx));
        Poll::Ready(outcome(settlement).map(drop))
    }
}

/// Waits for a reply. Not cancel-safe: dropping it cancels the request, so that the peer, which is
/// told, does not start the work, and a running handler sees the cancellation.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Asking<T> {
    pending: Pending,
    reply: PhantomData<fn() -> T>,
}

impl<T> Asking<T> {
    pub(crate) fn new(pending: Pending) -> Self {
        Self {
            pending,
            reply: PhantomData,
        }
    }
}

impl<T: Reading> Future for Asking<T> {
    type Output = Result<T::Reply, PromiseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let settlement = ready!(self.pending.poll(cx));
        Poll::Ready(outcome(settlement).and_then(|(tag, body)| T::read(tag, body)))
    }
}

/// How a reply is read.
pub trait Reading: sealed::Sealed {
    /// What comes of it.
    type Reply;

    /// Reads it.
    #[doc(hidden)]
    fn read(tag: Tag, body: Bytes) -> Result<Self::Reply, PromiseError>;
}

/// A reply is decoded as that type.
#[derive(Debug)]
pub struct Typed<R>(PhantomData<fn() -> R>);

/// A reply is taken as it came.
#[derive(Debug)]
pub struct Raw;

impl<R: Encode + Name + Default + 'static> Reading for Typed<R> {
    type Reply = R;

    fn read(tag: Tag, body: Bytes) -> Result<R, PromiseError> {
        let undecodable = || PromiseError::Undecodable {
            tag,
            expected: R::full_name(),
        };
        if tag != tag_of::<R>() {
            return Err(undecodable());
        }
        R::decode(body).map_err(|_| undecodable())
    }
}

impl Reading for Raw {
    type Reply = (Tag, Bytes);

    fn read(tag: Tag, body: Bytes) -> Result<Self::Reply, PromiseError> {
        Ok((tag, body))
    }
}

mod sealed {
    pub trait Sealed {}
    impl<R> Sealed for super::Typed<R> {}
    impl Sealed for super::Raw {}
}

/// The part that all futures here share: a message that is sent when it is first polled.
#[derive(Debug)]
pub(crate) struct Pending {
    peer: Peer,
    wanted: Wanted,
    /// Before the first poll.
    unsent: Option<Message>,
    /// From then on, until it is settled.
    waiter: Option<Waiter>,
}

impl Pending {
    pub(crate) fn new(peer: Peer, message: Message, wanted: Wanted) -> Self {
        Self {
            peer,
            wanted,
            unsent: Some(message),
            waiter: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Settlement> {
        if let Some(waiter) = &self.waiter {
            let settlement = ready!(waiter.poll(cx));
            if let Some(waiter) = self.waiter.take() {
                waiter.recycle();
            }
            return Poll::Ready(settlement);
        }
        let Some(message) = self.unsent.take() else {
            return Poll::Ready(Settlement::Stopped);
        };
        if let Some(error) = self.peer.fault(&message) {
            return Poll::Ready(Settlement::Refused(SendError { message, error }));
        }
        let (ticket, waiter) = wait(message, self.wanted, cx.waker());
        let send = Command::Send(self.peer.session(), ticket);
        if let Err(refused) = self.peer.0.desk.mailbox.post(send) {
            // It hears of that here, and needs no wake-up.
            waiter.abandon();
            drop(refused);
            return Poll::Ready(Settlement::Stopped);
        }
        self.waiter = Some(waiter);
        Poll::Pending
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take()
            && waiter.abandon()
        {
            let abandon = Command::Abandon(self.peer.session(), waiter);
            // A driver that has ended needs to know nothing.
            let _ = self.peer.0.desk.mailbox.post(abandon);
        }
    }
}

fn outcome(settlement: Settlement) -> Result<(Tag, Bytes), PromiseError> {
    Err(match settlement {
        Settlement::Promise(Outcome::Acked) | Settlement::Accepted => {
            return Ok((Tag(0), Bytes::new()));
        }
        Settlement::Promise(Outcome::Replied { tag, body }) => return Ok((tag, body)),
        Settlement::Promise(Outcome::Rejected(status)) => PromiseError::Rejected(status),
        Settlement::Promise(Outcome::TimedOut) => PromiseError::TimedOut,
        Settlement::Promise(Outcome::Cancelled) => PromiseError::Cancelled,
        Settlement::Promise(Outcome::Lost { maybe_delivered }) => {
            PromiseError::Lost { maybe_delivered }
        }
        Settlement::Promise(Outcome::Evicted) => PromiseError::Evicted,
        Settlement::Refused(error) => PromiseError::Refused(error),
        Settlement::Stopped => PromiseError::Stopped(Stopped),
    })
}
