//! Commands: what an application asks of its node. None changes anything when it returns an error.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::config::PromisesFull;
use crate::dial::Dialing;
use crate::error::{CloseCode, CommandError, DisconnectReason, SendError, Status};
use crate::groups::GroupsFull;
use crate::id::{ClientId, DeliveryKey, GroupName, Lane, PromiseKey, SessionKey, Tag};
use crate::link::Stage;
use crate::link::lanes::best_effort_frame;
use crate::message::{Message, Outcome};
use crate::promise::Awaits;
use crate::quic::Endpoint;
use crate::session::{Answer, BULK_ABOVE, Closing};
use crate::timers::TimerSlot;

use super::tables::Session;
use super::welcome::milliseconds;
use super::{Draining, Event, Node, TimeoutReason};

/// How to reach a server, and as whom.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The server's address.
    pub address: SocketAddr,
    /// The name that its certificate must bear.
    pub server_name: String,
    /// Who this client is.
    pub client: ClientId,
    /// What the server's admission wants to see, at most 2 KiB.
    pub credentials: Bytes,
    /// Name and version of this software, for the server's logs.
    pub agent: String,
}

/// Whom a broadcast is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every session of the node.
    Everyone,
    /// The sessions of a group.
    Group(GroupName),
}

/// What became of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// Sessions for which it was queued.
    pub queued: usize,
    /// Messages that were dropped for it, by the policy for slow consumers.
    pub dropped: usize,
    /// Sessions without a link, which miss it.
    pub away: usize,
}

/// Why a client is not let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for people.
    pub reason: String,
    /// When the client may try again; `None`: it gives up.
    pub retry_after: Option<Duration>,
}

/// How a node goes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// How long what is in flight may take to finish.
    pub deadline: Duration,
    /// When clients are to try again.
    pub retry_after: Option<Duration>,
    /// Where clients are to go instead, as `host:port`.
    pub alternative: Option<String>,
}

/// An envelope's fields, its body aside, take at most so many bytes.
const ENVELOPE: usize = wire::ENVELOPE_OVERHEAD_MAX;

impl Node {
    /// Begins a client session. The key is good until [`Event::Closed`].
    pub fn connect(&mut self, now: Instant, dial: Dial) -> Result<SessionKey, CommandError> {
        let now = self.enter(now);
        let Dial {
            address,
            server_name,
            client,
            credentials,
            agent,
        } = dial;
        if !self.endpoint.has_client_role() {
            return Err(CommandError::NotConfigured("client role"));
        }
        if self.draining.is_some() {
            return Err(CommandError::Closing);
        }
        let shown = credentials.len() + agent.len();
        if shown > wire::CREDENTIALS_MAX {
            return Err(CommandError::CredentialsTooLarge {
                size: shown,
                limit: wire::CREDENTIALS_MAX,
            });
        }
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(CommandError::UndialableAddress(address));
        }
        Endpoint::check_server_name(&server_name)?;
        let tokens = self.new_tokens();
        let dialing = Dialing::new(address, server_name, credentials, agent, self.config.redial);
        let session = Session {
            dialing: Some(dialing),
            ..self.session(client, tokens)
        };
        let key = self.sessions.insert_with(|_| session);
        if let Err(error) = self.dial(now, key) {
            self.sessions.remove(key);
            return Err(error);
        }
        self.metrics.sessions_opened += 1;
        Ok(key)
    }

    /// Where the next dial of a client session goes.
    pub fn redirect(
        &mut self,
        now: Instant,
        session: SessionKey,
        address: SocketAddr,
    ) -> Result<(), CommandError> {
        self.enter(now);
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(CommandError::UndialableAddress(address));
        }
        let session = self
            .sessions
            .get_mut(session)
            .ok_or(CommandError::UnknownSession)?;
        let dialing = session
            .dialing
            .as_mut()
            .ok_or(CommandError::NotConfigured("dialled session"))?;
        dialing.address = address;
        Ok(())
    }

    /// Sends a message reliably. What a lost session leaves undelivered comes back as
    /// [`Event::Undelivered`].
    pub fn send(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
    ) -> Result<(), SendError<Message>> {
        let now = self.enter(now);
        self.enqueue(now, to, message, None, None).map(drop)
    }

    /// Sends a message reliably and waits for the peer's application to accept it, for `timeout`
    /// or, if that is `None`, for [`crate::Timeouts::promise`].
    pub fn send_acked(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
        timeout: Option<Duration>,
    ) -> Result<PromiseKey, SendError<Message>> {
        let now = self.enter(now);
        self.promised(now, to, message, Awaits::Ack, timeout)
    }

    /// Sends a request and waits for the reply, for `timeout` or, if that is `None`, for
    /// [`crate::Timeouts::promise`].
    pub fn request(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
        timeout: Option<Duration>,
    ) -> Result<PromiseKey, SendError<Message>> {
        let now = self.enter(now);
        self.promised(now, to, message, Awaits::Reply, timeout)
    }

    fn promised(
        &mut self,
        now: Instant,
        session: SessionKey,
        message: Message,
        awaits: Awaits,
        timeout: Option<Duration>,
    ) -> Result<PromiseKey, SendError<Message>> {
        match self.enqueue(now, session, message, Some(awaits), timeout)? {
            Some(number) => Ok(PromiseKey { session, number }),
            // A promise was asked for, so there is one.
            None => Ok(PromiseKey { session, number: 0 }),
        }
    }

    fn enqueue(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
        awaits: Option<Awaits>,
        timeout: Option<Duration>,
    ) -> Result<Option<u64>, SendError<Message>> {
        let bulk = awaits == Some(Awaits::Reply) && message.body.len() > BULK_ABOVE;
        let lane = message
            .lane
            .unwrap_or(if bulk { Lane::BULK } else { Lane::DEFAULT });
        if let Err(error) = self.may_enqueue(now, to, lane, message.body.len(), awaits) {
            return Err(SendError { message, error });
        }
        let timeout = timeout.unwrap_or(self.config.timeouts.promise);
        let deadline = (awaits.is_some() && !timeout.is_zero()).then(|| now + timeout);
        let Some(session) = self.sessions.get_mut(to) else {
            return Ok(None);
        };
        let Message { tag, body, .. } = message;
        let number = session
            .conversation
            .enqueue(now, lane, awaits, deadline, tag, body);
        match awaits {
            Some(Awaits::Reply) => self.metrics.requests_sent += 1,
            _ => self.metrics.messages_sent += 1,
        }
        self.metrics.traffic(now, 1);
        if let Some(number) = number {
            self.promises += 1;
            let promise = session.conversation.promises.get_mut(number);
            if let (Some(promise), Some(deadline)) = (promise, deadline) {
                let owner = TimeoutReason::Promise(PromiseKey {
                    session: to,
                    number,
                });
                self.timers.set(&mut promise.timer, owner, deadline);
            }
        }
        self.mark_session(to);
        Ok(number)
    }

    fn may_enqueue(
        &mut self,
        now: Instant,
        to: SessionKey,
        lane: Lane,
        size: usize,
        awaits: Option<Awaits>,
    ) -> Result<(), CommandError> {
        let limits = self.config.limits;
        let session = self
            .sessions
            .get_mut(to)
            .ok_or(CommandError::UnknownSession)?;
        if session.closing.is_some() {
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
        if size + ENVELOPE > limit {
            return Err(CommandError::TooLarge {
                size: size + ENVELOPE,
                limit,
            });
        }
        let conversation = &mut session.conversation;
        let full = |usage: crate::session::Usage| {
            usage.messages >= limits.outbox_messages || usage.bytes + size > limits.outbox_bytes
        };
        if full(conversation.lanes.usage()) {
            let promises = &conversation.promises;
            conversation
                .lanes
                .prune(|e| e.promise == 0 || promises.is_pending(e.promise));
            if full(conversation.lanes.usage()) {
                conversation.owes_writable = true;
                self.metrics.outbox_full += 1;
                return Err(CommandError::OutboxFull);
            }
        }
        if awaits.is_some()
            && (conversation.promises.len() >= limits.promises
                || self.promises >= limits.promises_total)
        {
            let oldest = conversation.promises.oldest();
            match (self.config.promises_full, oldest) {
                (PromisesFull::EvictOldest, Some(oldest)) => {
                    self.metrics.promises_evicted += 1;
                    self.settle(now, to, oldest, Outcome::Evicted);
                }
                _ => {
                    conversation.owes_writable = true;
                    self.metrics.promises_full += 1;
                    return Err(CommandError::PromisesFull);
                }
            }
        }
        Ok(())
    }

    /// Sends a message that is gone with the link, or if the peer is too slow.
    pub fn send_best_effort(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
        key: Option<u64>,
    ) -> Result<(), SendError<Message>> {
        let now = self.enter(now);
        if self.sessions.get(to).is_none() {
            return Err(SendError {
                message,
                error: CommandError::UnknownSession,
            });
        }
        let frame = self.best_effort_frame(message)?;
        self.offer(now, to, frame, key, &mut Broadcast::default());
        Ok(())
    }

    /// Sends a best-effort message to many sessions; it is encoded once.
    pub fn broadcast(
        &mut self,
        now: Instant,
        audience: &Audience,
        message: Message,
        key: Option<u64>,
    ) -> Result<Broadcast, SendError<Message>> {
        let now = self.enter(now);
        let frame = self.best_effort_frame(message)?;
        self.metrics.broadcasts += 1;
        let members: Vec<SessionKey> = match audience {
            Audience::Everyone => self.sessions.iter().map(|(key, _)| key).collect(),
            Audience::Group(group) => self.groups.members(group).collect(),
        };
        let mut outcome = Broadcast::default();
        for member in members {
            self.offer(now, member, frame.clone(), key, &mut outcome);
        }
        Ok(outcome)
    }

    fn best_effort_frame(&self, message: Message) -> Result<Bytes, SendError<Message>> {
        let (size, limit) = (
            message.body.len() + ENVELOPE,
            self.config.limits.frame_bytes,
        );
        if size > limit {
            return Err(SendError {
                message,
                error: CommandError::TooLarge { size, limit },
            });
        }
        Ok(best_effort_frame(message.tag.0, &message.body))
    }

    fn offer(
        &mut self,
        now: Instant,
        to: SessionKey,
        frame: Bytes,
        key: Option<u64>,
        outcome: &mut Broadcast,
    ) {
        let Some(session) = self.sessions.get_mut(to) else {
            return;
        };
        let up = session.link.filter(|link| {
            self.links
                .get(*link)
                .is_some_and(|e| matches!(e.link.stage, Stage::Up))
        });
        let Some(link) = up.filter(|_| session.closing.is_none()) else {
            outcome.away += 1;
            self.metrics.best_effort_away += 1;
            return;
        };
        let limit = self.config.limits.best_effort_bytes;
        let queue = &mut session.conversation.best_effort;
        let offer = queue.offer(frame, key, limit, self.config.slow_consumer);
        outcome.queued += usize::from(offer.queued);
        outcome.dropped += offer.dropped as usize;
        self.metrics.best_effort_sent += u64::from(offer.queued);
        self.metrics.best_effort_dropped += offer.dropped;
        session.dropped += offer.dropped;
        if offer.dropped > 0 && !queue.slow {
            queue.slow = true;
            let queued_bytes = queue.waiting_bytes();
            let messages = std::mem::take(&mut session.dropped);
            self.events.push(Event::SlowConsumer {
                session: to,
                queued_bytes,
            });
            self.events.push(Event::Dropped {
                session: to,
                messages,
            });
        }
        if offer.disconnect {
            let code = CloseCode::SLOW_CONSUMER;
            let reason = "best-effort messages were not read fast enough";
            let local = DisconnectReason::Local {
                code,
                reason: reason.into(),
            };
            self.end_link(now, link, Some((code, reason)), local);
        }
        self.mark(link);
    }

    /// Settles a promise as [`Outcome::Cancelled`], and tells the peer to stop.
    pub fn cancel(&mut self, now: Instant, promise: PromiseKey) -> Result<(), CommandError> {
        let now = self.enter(now);
        self.tell_cancelled(promise);
        if !self.settle(now, promise.session, promise.number, Outcome::Cancelled) {
            return Err(CommandError::UnknownPromise);
        }
        self.metrics.promises_cancelled += 1;
        self.room_again(promise.session);
        Ok(())
    }

    /// Accepts a delivery: the sender's promise, if it made one, settles as [`Outcome::Acked`].
    pub fn ack(&mut self, now: Instant, delivery: DeliveryKey) -> Result<(), CommandError> {
        self.enter(now);
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
        self.mark_session(delivery.session);
        Ok(())
    }

    /// Replies to a request.
    pub fn reply(
        &mut self,
        now: Instant,
        delivery: DeliveryKey,
        tag: Tag,
        body: impl Into<Bytes>,
    ) -> Result<(), CommandError> {
        self.enter(now);
        let body = body.into();
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
        self.metrics.replies_sent += 1;
        self.answer(delivery, Answer::Reply(tag, body))
    }

    /// Rejects a delivery: the sender's promise, if it made one, settles as [`Outcome::Rejected`].
    pub fn reject(
        &mut self,
        now: Instant,
        delivery: DeliveryKey,
        mut status: Status,
    ) -> Result<(), CommandError> {
        self.enter(now);
        status
            .reason
            .truncate(wire::clip_reason(&status.reason).len());
        self.metrics.rejects_sent += 1;
        self.answer(delivery, Answer::Reject(status))
    }

    fn answer(&mut self, delivery: DeliveryKey, answer: Answer) -> Result<(), CommandError> {
        let session = self
            .sessions
            .get_mut(delivery.session)
            .ok_or(CommandError::UnknownDelivery)?;
        let conversation = &mut session.conversation;
        let owed = conversation
            .deliveries
            .take(delivery.number)
            .ok_or(CommandError::UnknownDelivery)?;
        conversation.answer(&owed, answer);
        self.mark_session(delivery.session);
        Ok(())
    }

    /// Puts a session into a group. Membership ends with the session.
    pub fn join(
        &mut self,
        now: Instant,
        session: SessionKey,
        group: &GroupName,
    ) -> Result<(), CommandError> {
        self.enter(now);
        if self.sessions.get(session).is_none() {
            return Err(CommandError::UnknownSession);
        }
        match self.groups.join(session, group) {
            Ok(_) => Ok(()),
            Err(GroupsFull::Groups) => Err(CommandError::TableFull {
                what: "the table of groups",
                field: "limits.groups",
            }),
            Err(GroupsFull::GroupsOfSession) => Err(CommandError::TableFull {
                what: "the session's list of groups",
                field: "limits.groups_per_session",
            }),
        }
    }

    /// Takes a session out of a group. `false`: it was not in it.
    pub fn leave(&mut self, now: Instant, session: SessionKey, group: &GroupName) -> bool {
        self.enter(now);
        self.groups.leave(session, group)
    }

    /// Closes a session once nothing is under way, or after [`crate::Timeouts::close`].
    pub fn close(
        &mut self,
        now: Instant,
        session: SessionKey,
        code: CloseCode,
        reason: impl Into<String>,
    ) -> Result<(), CommandError> {
        let now = self.enter(now);
        let entry = self
            .sessions
            .get(session)
            .ok_or(CommandError::UnknownSession)?;
        if entry.closing.is_some() {
            return Err(CommandError::Closing);
        }
        let closing = Closing {
            code,
            reason: reason.into(),
            retry_after: None,
            said: false,
            draining: false,
        };
        self.begin_close(now, session, closing, self.config.timeouts.close);
        Ok(())
    }

    /// Goes away as a server: nothing new is accepted, clients are told, what is in flight is
    /// finished, and what is not by the deadline comes back. Ends with [`Event::Drained`].
    pub fn drain(&mut self, now: Instant, plan: DrainPlan) -> Result<(), CommandError> {
        let now = self.enter(now);
        if self.draining.is_some() {
            return Err(CommandError::Closing);
        }
        let DrainPlan {
            deadline,
            retry_after,
            alternative,
        } = plan;
        let mut timer = TimerSlot::default();
        self.timers
            .set(&mut timer, TimeoutReason::Drain, now + deadline);
        self.draining = Some(Draining {
            timer,
            finished: 0,
            cut_off: 0,
            reported: false,
        });
        let sessions: Vec<SessionKey> = self.by_id.values().copied().collect();
        for key in sessions {
            let frame = Frame::Drain(wire::Drain {
                deadline_ms: milliseconds(deadline),
                retry_after_ms: retry_after.map_or(0, milliseconds),
                alternative: alternative.clone().unwrap_or_default(),
            });
            if let Some(link) = self.sessions.get(key).and_then(|s| s.link) {
                self.send_control(link, frame);
            }
            let closing = Closing {
                code: CloseCode::GOING_AWAY,
                reason: "the server is going away".into(),
                retry_after,
                said: false,
                draining: true,
            };
            self.begin_close(now, key, closing, deadline);
        }
        self.report_drain();
        Ok(())
    }
}
