//! How links and sessions end, and what follows: redial, retention, loss.

use std::time::{Duration, Instant};

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::dial::Next;
use crate::error::{CloseCode, DisconnectReason};
use crate::id::{LinkKey, PromiseKey, SessionId, SessionKey};
use crate::link::{PeerClose, Stage};
use crate::message::{Message, Outcome, UndeliveredReason};
use crate::outbox::Kind;
use crate::planted::{Bug, planted};
use crate::session::{Lanes, Pending, Timed, Token, Tokens};

use super::control::CANCELS_WAITING_MAX;
use super::{Event, Node, TimeoutReason};

/// How long the closing or draining period (RFC 9000, section 10.2) of a link may be. QUIC would take three
/// probe timeouts, which are as long as the peer likes: it makes them by acknowledging late, and then
/// resumes again and again. The price: a peer very far away that has missed why its link was ended is told
/// again by a stateless reset, without the reason.
const CLOSING_MAX: Duration = Duration::from_secs(3);

/// The same for a link that nobody was admitted over, whose place others wait for.
const CLOSING_MAX_HALF_OPEN: Duration = Duration::from_secs(1);

/// What else ended with a link that a client dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkEnd {
    /// Nothing: its session lives.
    Alone,
    /// The server has said that it made no session.
    TurnedAway,
    /// The server has said Close, which ends the session, whatever its code.
    WithSession,
}

impl Node {
    /// Ends a link from this side.
    pub(super) fn end_link(
        &mut self,
        now: Instant,
        key: LinkKey,
        code: CloseCode,
        text: &str,
        reason: DisconnectReason,
    ) {
        let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
            return;
        };
        entry.carrier.close(now, code, wire::clip_reason(text));
        self.metrics.closed(code);
        self.sending.mark(key.0);
        self.link_is_down(now, key, reason);
    }

    /// The same for a link whose session goes on, or ends, without it.
    pub(super) fn disown_and_end(
        &mut self,
        now: Instant,
        key: LinkKey,
        code: CloseCode,
        text: &str,
        reason: DisconnectReason,
    ) {
        if let Some(entry) = self.links.get_mut(key) {
            entry.link.session = None;
        }
        self.end_link(now, key, code, text, reason);
    }

    /// Forgets a link that has been closed for long enough; says whether it did.
    pub(super) fn forget_in_time(&mut self, now: Instant, key: LinkKey) -> bool {
        let Some(entry) = self.links.get_mut(key) else {
            return false;
        };
        let over = entry.link.is_closed() && entry.forget_at.is_some_and(|at| at <= now);
        if over {
            entry.carrier.abandon(&mut self.endpoint);
            self.forget_link(key);
        }
        over
    }

    /// Nothing is left to be said or heard on a link.
    pub(super) fn forget_link(&mut self, key: LinkKey) {
        let Some(mut entry) = self.links.remove(key) else {
            return;
        };
        self.timers.cancel(&mut entry.timer);
        if let Some(network) = &entry.half_open {
            self.half_open.remove(network);
        }
        if let Some(slot) = self.by_handle.get_mut(entry.carrier.handle.0)
            && *slot == Some(key)
        {
            *slot = None;
        }
        self.metrics.links_closed += 1;
    }

    /// A newer link has taken the session over.
    pub(super) fn supersede(&mut self, now: Instant, old: LinkKey) {
        let code = CloseCode::SUPERSEDED;
        let text = "a newer link carries this session on";
        self.disown_and_end(now, old, code, text, DisconnectReason::local(code, text));
    }

    /// A link is over, for whatever reason; its session lives on or not.
    pub(super) fn link_is_down(&mut self, now: Instant, key: LinkKey, reason: DisconnectReason) {
        let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
            return;
        };
        let stage = std::mem::replace(&mut entry.link.stage, Stage::Closed);
        let peer_close = entry.link.peer_close.as_ref();
        let end = match peer_close {
            Some(close) if close.turns_away => LinkEnd::TurnedAway,
            Some(_) if stage.is_up() => LinkEnd::WithSession,
            _ => LinkEnd::Alone,
        };
        let last_word = peer_close
            .filter(|_| end == LinkEnd::WithSession)
            .map(PeerClose::disconnect_reason);
        let closing_max = if entry.half_open.is_some() {
            CLOSING_MAX_HALF_OPEN
        } else {
            CLOSING_MAX
        };
        entry.forget_at = Some(now + closing_max);
        self.metrics.ended(&reason);
        // It has said so before, however the connection ended then.
        let reason = last_word.unwrap_or(reason);
        let Some(session_key) = entry.link.session.take() else {
            if let Stage::Refused(CloseCode::GOING_AWAY) = stage {
                self.one_is_sent_away();
            }
            return;
        };
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        if let Some(dialing) = &mut session.dialing {
            dialing.link_ended(key, &reason);
        }
        if session.link != Some(key) {
            return;
        }
        // A server that drains lets nobody in again.
        let for_good = self.draining.is_some() && session.dialing.is_none();
        session.link = None;
        session.connected_since = None;
        session.receipt_due = false;
        self.timers.cancel(&mut session.receipt_timer);
        let dropped = session.conversation.link_lost();
        self.metrics.best_effort_dropped += dropped;
        let dropped = std::mem::take(&mut session.dropped) + dropped;
        if dropped > 0 {
            self.events.push(Event::Dropped {
                session: session_key,
                messages: dropped,
            });
        }
        if let Some(closing) = session
            .closing
            .as_ref()
            .filter(|_| for_good || session.conversation.is_quiet())
        {
            let reason = closing.disconnect_reason();
            self.end_session(now, session_key, reason);
            return;
        }
        if session.dialing.is_some() {
            if !self.race_goes_on(now, session_key) {
                self.after_dial(now, session_key, reason, end);
            }
        } else if end == LinkEnd::WithSession || said_normal(&reason) {
            self.end_session(now, session_key, reason);
        } else {
            let deadline = now + self.config.timeouts.retention;
            self.timers.set(
                &mut session.timer,
                TimeoutReason::Session(session_key),
                deadline,
            );
            self.events.push(Event::Disconnected {
                session: session_key,
                reason,
                retained: true,
            });
        }
    }

    fn after_dial(
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
            && session.next.is_none()
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
            session.next = None;
            if let Some(dialing) = session.dialing.as_mut() {
                dialing.hellos = 0;
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
        if session.dialing.is_none() && !planted(Bug::LeakSessionSlot) {
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
        let finished = session.conversation.is_quiet();
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
        if session.dialing.is_none() {
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
                self.metrics.undelivered += 1;
                let message = Message {
                    lane: Some(lane),
                    tag: entry.tag,
                    body: entry.body,
                };
                self.events.push(Event::Undelivered {
                    session: key,
                    message,
                    reason,
                    maybe_delivered,
                });
            }
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

    pub(super) fn session_timeout(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if session.dialing.is_some() && session.link.is_some() {
            self.dial_next_address(now, key);
            return;
        }
        if session.dialing.is_some() {
            if let Err(error) = self.dial(now, key) {
                self.end_session(now, key, DisconnectReason::Transport(error.to_string()));
            }
            return;
        }
        let text = "the client did not come back in time";
        let reason = DisconnectReason::local(CloseCode::NORMAL, text);
        self.metrics.sessions_lost += 1;
        self.end_session(now, key, reason);
    }
}

/// Whether the peer's application has closed the session, in one step.
fn said_normal(reason: &DisconnectReason) -> bool {
    let normal = CloseCode::NORMAL;
    matches!(reason, DisconnectReason::Peer { code, .. } if *code == normal)
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
