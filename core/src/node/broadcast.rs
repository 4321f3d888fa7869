//! Best effort: messages that are gone with the link, to one session or to many.

use std::iter::Sum;
use std::time::Instant;

use bytes::Bytes;

use crate::error::{CloseCode, CommandError, DisconnectReason, SendError};
use crate::id::{GroupName, SessionKey};
use crate::link::lanes::best_effort_frame;
use crate::message::{Message, OVERHEAD};
use crate::planted::{Bug, in_random_order, planted};
use crate::tap::{Call, Letter};

use super::messages::ENVELOPE;
use super::{Event, Node};

/// Whom a broadcast is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Audience {
    /// Every session of the node, **also those that it has dialled itself**: from a node that both serves and dials, as a
    /// gateway does, its servers get what is meant for its clients. There, put the clients into a
    /// [group](crate::Node::join), which takes in no others.
    Everyone,
    /// The sessions of a group.
    Group(GroupName),
}

impl Audience {
    /// The name of a group, as it is recorded.
    fn group(&self) -> Option<&str> {
        match self {
            Self::Everyone => None,
            Self::Group(group) => Some(group.as_str()),
        }
    }
}

/// What became of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// Sessions for which it was queued.
    pub queued: usize,
    /// Messages that were dropped for it: by the policy for slow consumers, or this one where it is
    /// longer than what the peer takes.
    pub dropped: usize,
    /// Sessions without a link, which miss it.
    pub away: usize,
}

impl Sum for Broadcast {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, more| Self {
            queued: sum.queued + more.queued,
            dropped: sum.dropped + more.dropped,
            away: sum.away + more.away,
        })
    }
}

impl Node {
    /// Sends a message that is gone with the link, or if the peer is too slow. A session that has no link misses it,
    /// which only metrics tell.
    ///
    /// `key`: with [`SlowConsumer::KeepLatest`](crate::SlowConsumer::KeepLatest), this message takes the place of one that
    /// has the same key and waits still, as the next position of the same thing does. Other policies do not look at it.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], and [`CommandError::TooLarge`] if the session could never take it.
    pub fn send_best_effort(
        &mut self,
        now: Instant,
        to: SessionKey,
        message: Message,
        key: Option<u64>,
    ) -> Result<(), SendError<Message>> {
        let call = || Call::SendBestEffort {
            to,
            message: Letter::from(&message),
            key,
        };
        let now = self.enter(now, call);
        let Some(session) = self.sessions.get(to) else {
            return Err(SendError {
                message,
                error: CommandError::UnknownSession,
            });
        };
        let limit = session.peer.frame_bytes;
        let frame = self.best_effort_frame(message, limit)?;
        self.offer(now, to, frame, key, &mut Broadcast::default());
        Ok(())
    }

    /// Sends a best-effort message to many sessions; it is encoded once. [`Audience::Everyone`] includes sessions that this
    /// node has dialled. `key` is that of [`Node::send_best_effort`].
    ///
    /// # Errors
    /// [`CommandError::TooLarge`] if no session could take it, and then none gets it. That an audience is empty is no error.
    pub fn broadcast(
        &mut self,
        now: Instant,
        audience: &Audience,
        message: Message,
        key: Option<u64>,
    ) -> Result<Broadcast, SendError<Message>> {
        let call = || Call::Broadcast {
            group: audience.group(),
            message: Letter::from(&message),
            key,
        };
        let now = self.enter(now, call);
        self.announce(now, audience, None, message, key)
    }

    /// As [`Node::broadcast`], to all but one session of the audience: who says something in a group does not want
    /// it back. That session counts neither as queued nor as dropped nor as away. One that is not in the audience, or
    /// not there, is no error: then the message goes to all.
    ///
    /// # Errors
    /// Those of [`Node::broadcast`].
    pub fn broadcast_except(
        &mut self,
        now: Instant,
        audience: &Audience,
        except: SessionKey,
        message: Message,
        key: Option<u64>,
    ) -> Result<Broadcast, SendError<Message>> {
        let call = || Call::BroadcastExcept {
            except,
            group: audience.group(),
            message: Letter::from(&message),
            key,
        };
        let now = self.enter(now, call);
        self.announce(now, audience, Some(except), message, key)
    }

    fn announce(
        &mut self,
        now: Instant,
        audience: &Audience,
        except: Option<SessionKey>,
        message: Message,
        key: Option<u64>,
    ) -> Result<Broadcast, SendError<Message>> {
        let frame = self.best_effort_frame(message, usize::MAX)?;
        self.metrics.broadcasts += 1;
        let mut members: Vec<SessionKey> = match audience {
            Audience::Everyone => self.sessions.iter().map(|(key, _)| key).collect(),
            Audience::Group(group) => self.groups.members(group).collect(),
        };
        if let Some(except) = except {
            members.retain(|member| *member != except);
        }
        if planted(Bug::IterateAtRandom) {
            members = in_random_order(members);
        }
        let mut outcome = Broadcast::default();
        for member in members {
            self.offer(now, member, frame.clone(), key, &mut outcome);
        }
        Ok(outcome)
    }

    /// `limit`: what the peer takes, if there is one.
    fn best_effort_frame(
        &self,
        message: Message,
        limit: usize,
    ) -> Result<Bytes, SendError<Message>> {
        let limits = &self.config.limits;
        // What no queue takes, were it empty, must not push out or disconnect anybody.
        let queue = limits.best_effort_bytes.saturating_sub(OVERHEAD);
        let limit = limit.min(limits.frame_bytes).min(queue);
        let size = message.body.len() + ENVELOPE;
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
                .is_some_and(|entry| entry.link.is_up())
        });
        let Some(link) = up.filter(|_| !session.is_closed_to_sends()) else {
            outcome.away += 1;
            self.metrics.best_effort_away += 1;
            return;
        };
        if frame.len() > session.peer.frame_bytes {
            // The peer would end the link for it, and the session with it.
            outcome.dropped += 1;
            self.metrics.best_effort_dropped += 1;
            session.dropped += 1;
            self.mark(link);
            return;
        }
        let limit = self.config.limits.best_effort_bytes;
        let queue = &mut session.conversation.best_effort;
        if planted(Bug::BroadcastTwiceAfterResume) && session.tokens.epoch > 1 {
            queue.offer(frame.clone(), key, limit, self.config.slow_consumer);
        }
        let offer = queue.offer(frame, key, limit, self.config.slow_consumer);
        outcome.queued += usize::from(offer.queued);
        outcome.dropped += offer.dropped as usize;
        self.metrics.best_effort_sent += u64::from(offer.queued);
        self.metrics.traffic(now, u64::from(offer.queued));
        self.metrics.best_effort_dropped += offer.dropped;
        session.dropped += offer.dropped;
        if offer.slow && !queue.slow {
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
            let text = "best-effort messages were not read fast enough";
            self.end_link(now, link, code, text, DisconnectReason::local(code, text));
        }
        self.mark(link);
    }

    /// Tells how many more messages were dropped once their consumer is slow no longer.
    pub(super) fn report_dropped(&mut self, key: SessionKey) {
        let session = self.sessions.get_mut(key);
        let Some(session) = session.filter(|s| !s.conversation.best_effort.slow) else {
            return;
        };
        let messages = std::mem::take(&mut session.dropped);
        if messages > 0 {
            self.events.push(Event::Dropped {
                session: key,
                messages,
            });
        }
    }
}
