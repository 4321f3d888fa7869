//! Promises: made with a message, and settled once, whoever decides how.

use std::time::{Duration, Instant};

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::error::{CommandError, SendError};
use crate::id::{LinkKey, PromiseKey, SessionKey};
use crate::message::{Message, Outcome};
use crate::planted::{Bug, planted};
use crate::promise::Awaits;
use crate::session::Timed;
use crate::tap::Call;

use super::control::CANCELS_WAITING_MAX;
use super::{Event, Node, TimeoutReason};

impl Node {
    /// Queues a message, with a promise for it.
    pub(super) fn promised(
        &mut self,
        now: Instant,
        session: SessionKey,
        message: Message,
        awaits: Awaits,
        timeout: Option<Duration>,
    ) -> Result<PromiseKey, SendError<Message>> {
        let number = self.enqueue(now, session, message, Some(awaits), timeout)?;
        Ok(PromiseKey { session, number })
    }

    /// Settles a promise as [`Outcome::Cancelled`], and tells the peer to stop.
    pub fn cancel(&mut self, now: Instant, promise: PromiseKey) -> Result<(), CommandError> {
        let now = self.enter(now, || Call::Cancel { promise });
        self.tell_cancelled(promise);
        if !self.settle(promise.session, promise.number, Outcome::Cancelled) {
            return Err(CommandError::UnknownPromise);
        }
        self.metrics.promises_cancelled += 1;
        self.room_again(promise.session);
        self.goes_on(now, promise.session);
        Ok(())
    }

    /// Promises that were given so much time have come to their end, or some of them have, or they
    /// have settled meanwhile: the watch is not moved with each that does.
    pub(super) fn promise_timeout(&mut self, now: Instant, timeout: Duration) {
        while let Some((deadline, promise)) = self.promise_deadlines.first(timeout) {
            if deadline > now {
                if let Some(watch) = self.promise_deadlines.watch(timeout) {
                    let owner = TimeoutReason::Promises(timeout);
                    self.timers.set(watch, owner, deadline);
                }
                return;
            }
            self.metrics.promises_timed_out += 1;
            self.tell_cancelled(promise);
            self.settle(promise.session, promise.number, Outcome::TimedOut);
            self.room_again(promise.session);
            self.goes_on(now, promise.session);
        }
    }

    /// Settles a promise. `false`: it has settled already.
    pub(super) fn settle(
        &mut self,
        session_key: SessionKey,
        number: u64,
        outcome: Outcome,
    ) -> bool {
        let session = self.sessions.get_mut(session_key);
        let Some(promise) = session.and_then(|s| s.conversation.settle(number)) else {
            return false;
        };
        let key = PromiseKey {
            session: session_key,
            number,
        };
        self.report_settled(key, promise, outcome);
        true
    }

    /// There is room for another promise then: callers look who waits for it, after all that settle at once.
    /// Inlined, so that the event is made in its place.
    #[inline(always)]
    pub(super) fn report_settled(&mut self, promise: PromiseKey, entry: Timed, outcome: Outcome) {
        if let Some(place) = &entry.timer {
            let timers = &mut self.timers;
            self.promise_deadlines
                .cancel(place, |watch| timers.cancel(watch));
        }
        self.promises -= 1;
        let after = self.age.saturating_sub(entry.made);
        if matches!(outcome, Outcome::Acked | Outcome::Replied { .. }) {
            self.metrics.latency.record(after);
        }
        if planted(Bug::SettleTwice) && matches!(outcome, Outcome::TimedOut) {
            self.events.push(Event::Settled {
                promise,
                outcome: outcome.clone(),
                after,
            });
        }
        self.events.push(Event::Settled {
            promise,
            outcome,
            after,
        });
    }

    /// The peer need not answer any more.
    pub(super) fn tell_cancelled(&mut self, promise: PromiseKey) {
        let Some(session) = self.sessions.get_mut(promise.session) else {
            return;
        };
        let conversation = &mut session.conversation;
        let pending = conversation.promises.get(promise.number);
        let written = pending.is_some_and(|pending| pending.seq.is_some());
        if !written || planted(Bug::ForgetCancel) {
            return;
        }
        let up = |link: &LinkKey| {
            let entry = self.links.get(*link);
            entry.is_some_and(|entry| entry.link.is_up())
        };
        let waiting = |link: &LinkKey| {
            let entry = self.links.get(*link);
            entry.map_or(0, |entry| entry.carrier.control_backlog())
        };
        match session.link.filter(up) {
            // It is a hint, and others are worth more.
            Some(link) if waiting(&link) >= CANCELS_WAITING_MAX => {}
            Some(link) => {
                conversation.cancels.told(promise.number);
                self.send_cancel(link, promise.number);
            }
            None => conversation.cancels.later(promise.number),
        }
    }

    pub(super) fn send_cancel(&mut self, link: LinkKey, promise: u64) {
        self.send_control(link, Frame::Cancel(wire::Cancel { promise }));
    }
}
