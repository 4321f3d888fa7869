//! What becomes of a session: redial, retention, loss, its end.

use std::time::Instant;

use crate::dial::Next;
use crate::error::{CloseCode, DisconnectReason};
use crate::id::{Lane, PromiseKey, SessionId, SessionKey};
use crate::message::{Message, Outcome, UndeliveredReason};
use crate::outbox::{Entry, Kind};
use crate::planted::{Bug, planted};
use crate::session::{Lanes, Pending, Token, Tokens};

use super::link_end::LinkEnd;
use super::{Event, Node, TimeoutReason};

impl Node {
    /// The last of a client session's links has ended: it is dialled again, or ends.
    pub(super) fn after_dial(
        &mut self,
        now: Instant,
        key: SessionKey,
        reason: DisconnectReason,
        end: LinkEnd,
    ) {
        let random = self.random.fraction();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(dialing) = session.dialing.as_mut() else {
            return;
        };
        // Whoever turns a first hello away has made no session for it, unless it has said something in its lanes;
        // of one that asks for a session again, the first may have.
        let first = session.tokens.epoch == 0
            && dialing.offered.is_none()
            && !session.conversation.lanes.has_received();
        if end == LinkEnd::TurnedAway || first && turns_first_away(&reason) {
            dialing.hellos = 0;
        }
        let reason = dialing.race.verdict().unwrap_or(reason);
        let known = dialing.hellos > 0;
        let next = match dialing.after(now, &reason, random) {
            Next::Redial(delay) if end == LinkEnd::WithSession => Next::StartOver(delay),
            next => next,
        };
        let attempt = dialing.backoff.attempt();
        let (Next::Redial(delay) | Next::StartOver(delay)) = next else {
            self.end_session(now, key, reason);
            return;
        };
        if !planted(Bug::ForgetRedialTimer) {
            let owner = TimeoutReason::Session(key);
            self.timers.set(&mut session.timer, owner, now + delay);
        }
        self.events.push(Event::Disconnected {
            session: key,
            reason,
            retained: true,
        });
        if matches!(next, Next::StartOver(_)) && known {
            self.lose_session(key);
            self.name_session(key);
            if let Some(closing) = self.sessions.get(key).and_then(|s| s.closing.as_ref()) {
                // What it waited for is lost: there is nothing to come back for.
                let reason = closing.disconnect_reason();
                self.end_session(now, key, reason);
                return;
            }
        }
        self.metrics.redials += 1;
        self.events.push(Event::Reconnecting {
            session: key,
            attempt,
            delay,
        });
    }

    /// Gives a client session a new name, under which no server knows it.
    pub(super) fn name_session(&mut self, key: SessionKey) {
        let tokens = self.new_tokens();
        if let Some(session) = self.sessions.get_mut(key) {
            session.tokens = tokens;
            if let Some(dialing) = session.dialing.as_mut() {
                dialing.hellos = 0;
                dialing.offered = None;
            }
        }
    }

    pub(super) fn new_tokens(&mut self) -> Tokens {
        let [mut id, mut token] = [[0; 16]; 2];
        self.random.fill(&mut id);
        self.random.fill(&mut token);
        Tokens::new(SessionId(id), 0, Token::new(token))
    }

    /// The server has forgotten a client's session: everything under way settles or comes back,
    /// and the session starts from nothing.
    pub(super) fn lose_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(closing) = &mut session.closing {
            closing.lost |= !session.conversation.is_quiet();
        }
        let (lanes, promises) = session.conversation.renew(&self.config.limits);
        self.metrics.sessions_lost += 1;
        self.events.push(Event::SessionLost { session: key });
        let reason = UndeliveredReason::SessionLost;
        self.give_back(key, lanes, promises, reason);
        self.room_again(key);
    }

    /// A session is gone for good.
    pub(super) fn end_session(&mut self, now: Instant, key: SessionKey, reason: DisconnectReason) {
        let Some(mut session) = self.sessions.remove(key) else {
            return;
        };
        self.timers.cancel(&mut session.timer);
        self.timers.cancel(&mut session.close_timer);
        self.timers.cancel(&mut session.receipt_timer);
        if planted(Bug::LeakMemory) {
            std::mem::forget(vec![0_u8; 100_000]);
        }
        self.groups.leave_all(key);
        self.room.forget(key, &session.room);
        if !session.is_dialled() && !planted(Bug::LeakSessionSlot) {
            self.by_id.remove(&session.tokens.id);
            self.sessions_of.remove(&session.client, key);
        }
        if let Some(dialing) = &mut session.dialing {
            let mut dials = dialing.race.give_up();
            dials.retain(|dial| Some(*dial) != session.link);
            self.end_dials(now, dials);
        }
        if let Some(link) = session.link {
            let (code, text) = (CloseCode::NORMAL, "the session is over");
            self.disown_and_end(now, link, code, text, reason.clone());
        }
        let unsent = session.conversation.best_effort.link_lost();
        self.metrics.best_effort_dropped += unsent;
        let messages = session.dropped + unsent;
        if messages > 0 {
            self.events.push(Event::Dropped {
                session: key,
                messages,
            });
        }
        let lost = session.closing.as_ref().is_some_and(|closing| closing.lost);
        let finished = session.conversation.is_quiet() && !lost;
        let (lanes, promises) = session.conversation.renew(&self.config.limits);
        let over = UndeliveredReason::SessionOver;
        self.give_back(key, lanes, promises, over);
        self.read_the_crowd();
        self.room_for_others();
        self.metrics.sessions_closed += 1;
        self.events.push(Event::Disconnected {
            session: key,
            reason: reason.clone(),
            retained: false,
        });
        self.events.push(Event::Closed {
            session: key,
            reason,
        });
        if self.drains_dialled() == Some(session.is_dialled()) {
            self.one_has_left(finished);
        }
    }

    /// Settles every promise of a conversation that is over, and hands back what was not delivered.
    fn give_back(
        &mut self,
        key: SessionKey,
        lanes: Lanes,
        promises: Pending,
        reason: UndeliveredReason,
    ) {
        for (number, promise) in promises {
            let maybe_delivered = promise.seq.is_some() && !planted(Bug::DenyDelivery);
            self.metrics.promises_lost += 1;
            let key = PromiseKey {
                session: key,
                number,
            };
            self.report_settled(key, promise, Outcome::Lost { maybe_delivered });
        }
        for (lane, entry, maybe_delivered) in lanes.into_entries() {
            // What a promise waited for was reported by it.
            let told = entry.promise == 0 && matches!(entry.kind, Kind::Message);
            if told && !planted(Bug::ForgetUndelivered) {
                self.undelivered(key, lane, entry, reason, maybe_delivered);
            }
        }
    }

    /// Hands back a message that no promise tells of.
    pub(super) fn undelivered(
        &mut self,
        session: SessionKey,
        lane: Lane,
        entry: Entry,
        reason: UndeliveredReason,
        maybe_delivered: bool,
    ) {
        self.metrics.undelivered += 1;
        let message = Message {
            lane: Some(lane),
            tag: entry.tag,
            body: entry.body,
        };
        self.events.push(Event::Undelivered {
            session,
            message,
            reason,
            maybe_delivered,
        });
    }

    pub(super) fn session_timeout(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if session.is_dialled() && session.link.is_some() {
            self.dial_next_address(now, key);
            return;
        }
        if session.is_dialled() {
            if let Err(error) = self.dial(now, key) {
                self.end_session(now, key, DisconnectReason::Transport(error.to_string()));
            }
            return;
        }
        if planted(Bug::FlapLinks)
            && let Some(link) = session.link
        {
            let (code, text) = (CloseCode::HEARTBEAT_TIMEOUT, "the client is not back");
            self.end_link(now, link, code, text, DisconnectReason::HeartbeatTimeout);
            return;
        }
        let text = "the client did not come back in time";
        let reason = DisconnectReason::local(CloseCode::NORMAL, text);
        self.metrics.sessions_lost += 1;
        self.end_session(now, key, reason);
    }
}

/// Whether a server that ends a link so has made no session of a first hello on it.
fn turns_first_away(reason: &DisconnectReason) -> bool {
    matches!(
        reason,
        DisconnectReason::Peer {
            code: CloseCode::REFUSED
                | CloseCode::UNAUTHENTICATED
                | CloseCode::TOO_MANY_SESSIONS
                | CloseCode::ADMISSION_TIMEOUT,
            ..
        }
    )
}
