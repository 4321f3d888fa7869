//! Sending reliably, and answering: the messages whose fate is known.

use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_proto as wire;

use crate::config::PromisesFull;
use crate::error::{CommandError, SendError, Status};
use crate::id::{DeliveryKey, Lane, PromiseKey, SessionKey, Tag};
use crate::message::{Message, Outcome};
use crate::planted::{Bug, planted};
use crate::promise::Awaits;
use crate::session::Answer;
use crate::tap::{Body, Call, Letter};

use super::{Node, TimeoutReason};

/// The shortest time that a promise is given.
const SHORTEST: Duration = Duration::from_millis(1);

/// Who gives a promise so much time or more, 584 years, gives it no deadline. It is as much as a recording can
/// tell.
const FOREVER: Duration = Duration::from_nanos(u64::MAX);

/// An envelope's fields, its body aside, take at most so many bytes.
pub(super) const ENVELOPE: usize = wire::ENVELOPE_OVERHEAD_MAX;

impl Node {
    /// Sends a message reliably. What a lost session leaves undelivered comes back as
    /// [`crate::Event::Undelivered`].
    pub fn send(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
    ) -> Result<(), SendError<Message>> {
        let call = || Call::Send {
            to,
            message: Letter::from(&message),
        };
        let now = self.enter(now, call);
        self.enqueue(now, to, message, None, None).map(drop)
    }

    /// Sends a message reliably and waits for the peer's application to accept it, for `timeout`
    /// or, if that is `None`, for [`crate::Timeouts::promise`]. With a millisecond or less, no time at all included,
    /// it is over a millisecond later; with [`Duration::MAX`] it waits for as long as the session lasts.
    pub fn send_acked(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
        timeout: Option<Duration>,
    ) -> Result<PromiseKey, SendError<Message>> {
        let call = || Call::SendAcked {
            to,
            message: Letter::from(&message),
            timeout,
        };
        let now = self.enter(now, call);
        self.promised(now, to, message, Awaits::Ack, timeout)
    }

    /// Sends a request and waits for the reply, for `timeout` or, if that is `None`, for
    /// [`crate::Timeouts::promise`]; as [`Node::send_acked`] does.
    pub fn request(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
        timeout: Option<Duration>,
    ) -> Result<PromiseKey, SendError<Message>> {
        let call = || Call::Request {
            to,
            message: Letter::from(&message),
            timeout,
        };
        let now = self.enter(now, call);
        self.promised(now, to, message, Awaits::Reply, timeout)
    }

    /// Queues a message. Returns the number of its promise; 0: there is none.
    pub(super) fn enqueue(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
        awaits: Option<Awaits>,
        timeout: Option<Duration>,
    ) -> Result<u64, SendError<Message>> {
        let bulk = awaits == Some(Awaits::Reply) && message.body.len() > wire::BULK_ABOVE;
        let lane = message
            .lane
            .unwrap_or(if bulk { Lane::BULK } else { Lane::DEFAULT });
        if let Err(error) = self.may_enqueue(to, lane, message.body.len(), awaits) {
            return Err(SendError { message, error });
        }
        let timeout = match timeout {
            Some(timeout) => timeout.max(SHORTEST),
            None => self.config.timeouts.promise,
        };
        let lasts = if planted(Bug::TimeOutAtOnce) {
            Duration::ZERO
        } else {
            timeout
        };
        let deadline = (awaits.is_some() && !timeout.is_zero() && timeout < FOREVER)
            .then(|| now.checked_add(lasts))
            .flatten();
        let Some(session) = self.sessions.get_mut(to) else {
            let error = CommandError::UnknownSession;
            return Err(SendError { message, error });
        };
        let Message { tag, body, .. } = message;
        let number = session
            .conversation
            .enqueue(self.age, lane, awaits, deadline, tag, body);
        match awaits {
            Some(Awaits::Reply) => self.metrics.requests_sent += 1,
            _ => self.metrics.messages_sent += 1,
        }
        self.metrics.traffic(now, 1);
        if let Some(number) = number {
            self.promises += 1;
            let promise = session.conversation.promises.get_mut(number);
            if let (Some(promise), Some(deadline)) = (promise, deadline) {
                let owner = PromiseKey {
                    session: to,
                    number,
                };
                let (place, watch) = self.promise_deadlines.set(deadline, timeout, owner);
                promise.timer = Some(place);
                if let Some(watch) = watch {
                    let owner = TimeoutReason::Promises(timeout);
                    self.timers.set(watch, owner, deadline);
                }
            }
        }
        self.room.account(session);
        if let Some(link) = session.link {
            self.mark(link);
        }
        Ok(number.unwrap_or(0))
    }

    fn may_enqueue(
        &mut self,
        to: SessionKey,
        lane: Lane,
        size: usize,
        awaits: Option<Awaits>,
    ) -> Result<(), CommandError> {
        let limits = &self.config.limits;
        let session = self
            .sessions
            .get_mut(to)
            .ok_or(CommandError::UnknownSession)?;
        if session.is_closed_to_sends() {
            return Err(CommandError::Closing);
        }
        // Before the first link it is not known what the peer has; two lanes it has for sure.
        let lanes = if session.tokens.epoch > 0 {
            limits.lanes.min(session.peer.lanes)
        } else {
            limits.lanes
        };
        if lane.number() >= lanes {
            return Err(CommandError::UnknownLane);
        }
        let limit = limits.frame_bytes.min(session.peer.frame_bytes);
        // What no outbox takes, were it empty, would wait for ever.
        let limit = limit
            .min(limits.outbox_bytes)
            .min(limits.outbox_bytes_total);
        if size + ENVELOPE > limit {
            return Err(CommandError::TooLarge {
                size: size + ENVELOPE,
                limit,
            });
        }
        let conversation = &mut session.conversation;
        let own = conversation.lanes.usage().is_full(size, limits);
        let shared = self.room.outbox_bytes + size > limits.outbox_bytes_total;
        if own || shared {
            self.owe_outbox(to, size, own, shared);
            self.metrics.outbox_full += 1;
            return Err(CommandError::OutboxFull);
        }
        let own = conversation.promises.len() >= limits.promises;
        let shared = self.promises >= limits.promises_total;
        if awaits.is_some() && (own || shared) {
            let oldest = conversation.promises.first_number();
            match (self.config.promises_full, oldest) {
                (PromisesFull::EvictOldest, Some(oldest)) => {
                    self.metrics.promises_evicted += 1;
                    self.tell_cancelled(PromiseKey {
                        session: to,
                        number: oldest,
                    });
                    self.settle(to, oldest, Outcome::Evicted);
                    self.room_again(to);
                }
                _ => {
                    self.owe_promise(to, shared);
                    self.metrics.promises_full += 1;
                    return Err(CommandError::PromisesFull);
                }
            }
        }
        Ok(())
    }

    /// Accepts a delivery: the sender's promise, if it made one, settles as [`Outcome::Acked`].
    ///
    /// # Errors
    /// [`CommandError::IsARequest`], and then the answer is still owed: reply to it or [reject](Node::reject) it.
    /// [`CommandError::UnknownDelivery`], and then none is.
    pub fn ack(&mut self, now: Instant, delivery: DeliveryKey) -> Result<(), CommandError> {
        let now = self.enter(now, || Call::Ack { delivery });
        let session = self
            .sessions
            .get_mut(delivery.session)
            .ok_or(CommandError::UnknownDelivery)?;
        let conversation = &mut session.conversation;
        let deliveries = &mut conversation.deliveries;
        if deliveries
            .get(delivery.number)
            .is_some_and(|owed| owed.is_request && !owed.cancelled)
        {
            return Err(CommandError::IsARequest);
        }
        let owed = deliveries
            .take(delivery.number)
            .ok_or(CommandError::UnknownDelivery)?;
        conversation.ack(&owed);
        self.metrics.acks_sent += u64::from(owed.promise != 0);
        self.goes_on(now, delivery.session);
        Ok(())
    }

    /// Replies to a request. Of `body`, what it is a slice of is kept until the peer has said that it holds the reply, which
    /// may be 20 s later where little is said.
    ///
    /// # Errors
    /// [`CommandError::TooLarge`] if the peer takes no reply of that size, or [`CommandError::NotARequest`]; and then the
    /// answer is still owed, though `body` is gone: [reject](Node::reject) the delivery, or give another. What is
    /// never answered takes its place in the lane until the session ends, and its sender waits for as long as its
    /// promise lasts. [`CommandError::UnknownDelivery`], and then none is owed.
    pub fn reply(
        &mut self,
        now: Instant,
        delivery: DeliveryKey,
        tag: Tag,
        body: impl Into<Bytes>,
    ) -> Result<(), CommandError> {
        let body = body.into();
        let call = || Call::Reply {
            delivery,
            tag,
            body: Body::Whole(&body),
        };
        let now = self.enter(now, call);
        let limit = self.config.limits.frame_bytes;
        let session = self
            .sessions
            .get_mut(delivery.session)
            .ok_or(CommandError::UnknownDelivery)?;
        let owed = session.conversation.deliveries.get(delivery.number);
        let owed = owed.ok_or(CommandError::UnknownDelivery)?;
        if !owed.is_request {
            return Err(CommandError::NotARequest);
        }
        let limit = limit.min(session.peer.frame_bytes);
        if body.len() + ENVELOPE > limit {
            return Err(CommandError::TooLarge {
                size: body.len() + ENVELOPE,
                limit,
            });
        }
        session
            .conversation
            .answer(delivery.number, Answer::Reply(tag, body));
        self.room.account(session);
        self.metrics.replies_sent += 1;
        self.metrics.traffic(now, 1);
        self.goes_on(now, delivery.session);
        Ok(())
    }

    /// Rejects a delivery, whichever answer it expects: the sender's promise, if it made one, settles as
    /// [`Outcome::Rejected`].
    ///
    /// # Errors
    /// [`CommandError::UnknownDelivery`] if no answer is owed: it was given, or the session is gone.
    pub fn reject(
        &mut self,
        now: Instant,
        delivery: DeliveryKey,
        mut status: Status,
    ) -> Result<(), CommandError> {
        let call = || Call::Reject {
            delivery,
            code: status.code,
            reason: &status.reason,
        };
        let now = self.enter(now, call);
        status
            .reason
            .truncate(wire::clip_reason(&status.reason).len());
        let session = self
            .sessions
            .get_mut(delivery.session)
            .ok_or(CommandError::UnknownDelivery)?;
        if !session
            .conversation
            .answer(delivery.number, Answer::Reject(status))
        {
            return Err(CommandError::UnknownDelivery);
        }
        self.metrics.rejects_sent += 1;
        self.goes_on(now, delivery.session);
        Ok(())
    }
}
