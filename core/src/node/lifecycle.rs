//! How links and sessions end, and what follows: redial, retention, loss, close, drain.

use std::time::{Duration, Instant};

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::dial::Next;
use crate::error::{CloseCode, CommandError, DisconnectReason, from_peer};
use crate::id::{LinkKey, PromiseKey, SessionId, SessionKey};
use crate::link::{Link, Stage};
use crate::message::{Message, Outcome};
use crate::outbox::Kind;
use crate::promise::Promise;
use crate::session::{Closing, Lanes, Settled, Token, Tokens};
use crate::timers::TimerSlot;

use super::welcome::milliseconds;
use super::{Event, Node, TimeoutReason};

impl Node {
    /// Dials for a client session.
    pub(super) fn dial(&mut self, now: Instant, key: SessionKey) -> Result<(), CommandError> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        let Some(dialing) = &session.dialing else {
            return Ok(());
        };
        let carrier = self
            .endpoint
            .connect(now, dialing.address, &dialing.server_name)?;
        let link = Link::new(now, self.config.timeouts.admission, Some(key));
        let link = self.add_link(link, carrier, false);
        if let Some(session) = self.sessions.get_mut(key) {
            session.link = Some(link);
        }
        Ok(())
    }

    /// Ends a link from this side.
    pub(super) fn end_link(
        &mut self,
        now: Instant,
        key: LinkKey,
        close: Option<(CloseCode, &str)>,
        reason: DisconnectReason,
    ) {
        let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
            return;
        };
        if let Some((code, text)) = close {
            entry.carrier.close(now, code, wire::clip_reason(text));
            self.metrics.closed(code);
        }
        self.sending.mark(key.0);
        self.link_is_down(now, key, reason);
    }

    /// A newer link has taken the session over.
    pub(super) fn supersede(&mut self, now: Instant, old: LinkKey) {
        if let Some(entry) = self.links.get_mut(old) {
            entry.link.session = None;
        }
        let code = CloseCode::SUPERSEDED;
        let reason = "a newer link carries this session on";
        let local = DisconnectReason::Local {
            code,
            reason: reason.into(),
        };
        self.end_link(now, old, Some((code, reason)), local);
    }

    /// A link is over, for whatever reason; its session lives on or not.
    pub(super) fn link_is_down(&mut self, now: Instant, key: LinkKey, reason: DisconnectReason) {
        let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
            return;
        };
        entry.link.stage = Stage::Closed;
        if std::mem::take(&mut entry.half_open) {
            self.half_open -= 1;
        }
        self.metrics.ended(&reason);
        let Some(session_key) = entry.link.session.take() else {
            return;
        };
        let Some(session) = self
            .sessions
            .get_mut(session_key)
            .filter(|s| s.link == Some(key))
        else {
            return;
        };
        session.link = None;
        session.connected_since = None;
        session.receipt_due = false;
        self.timers.cancel(&mut session.receipt_timer);
        let dropped = session.conversation.best_effort.link_lost();
        self.metrics.best_effort_dropped += dropped;
        let dropped = std::mem::take(&mut session.dropped) + dropped;
        if dropped > 0 {
            self.events.push(Event::Dropped {
                session: session_key,
                messages: dropped,
            });
        }
        if let Some(closing) = session.closing.clone() {
            let Closing { code, reason, .. } = closing;
            self.end_session(now, session_key, DisconnectReason::Local { code, reason });
            return;
        }
        if session.dialing.is_some() {
            self.after_dial(now, session_key, reason);
        } else if matches!(
            &reason,
            DisconnectReason::Peer {
                code: CloseCode::NORMAL,
                ..
            }
        ) {
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

    fn after_dial(&mut self, now: Instant, key: SessionKey, reason: DisconnectReason) {
        let random = self.random.fraction();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(dialing) = session.dialing.as_mut() else {
            return;
        };
        if session.tokens.epoch == 0
            && matches!(
                &reason,
                DisconnectReason::Peer {
                    code: CloseCode::REFUSED,
                    ..
                }
            )
        {
            // Whoever refuses a first hello has made no session for it.
            dialing.asked = false;
        }
        let next = dialing.after(now, &reason, random);
        let attempt = dialing.backoff.attempt();
        let (Next::Redial(delay) | Next::StartOver(delay)) = next else {
            self.end_session(now, key, reason);
            return;
        };
        self.timers
            .set(&mut session.timer, TimeoutReason::Session(key), now + delay);
        self.events.push(Event::Disconnected {
            session: key,
            reason,
            retained: true,
        });
        if matches!(next, Next::StartOver(_)) {
            self.lose_session(now, key);
            self.name_session(key);
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
                dialing.asked = false;
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
    pub(super) fn lose_session(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let (lanes, promises) = session.conversation.renew(&self.config.limits);
        self.metrics.sessions_lost += 1;
        self.events.push(Event::SessionLost { session: key });
        self.give_back(now, key, lanes, promises);
        self.room_again(key);
    }

    /// A session is gone for good.
    pub(super) fn end_session(&mut self, now: Instant, key: SessionKey, reason: DisconnectReason) {
        let Some(mut session) = self.sessions.remove(key) else {
            return;
        };
        self.timers.cancel(&mut session.timer);
        self.timers.cancel(&mut session.receipt_timer);
        self.groups.leave_all(key);
        self.short_of_promises.remove(&key);
        if session.dialing.is_none() {
            self.by_id.remove(&session.tokens.id);
            if let Some(count) = self.sessions_of.get_mut(&session.client) {
                *count -= 1;
                if *count == 0 {
                    self.sessions_of.remove(&session.client);
                }
            }
        }
        if let Some(link) = session.link {
            if let Some(entry) = self.links.get_mut(link) {
                entry.link.session = None;
            }
            self.end_link(
                now,
                link,
                Some((CloseCode::NORMAL, "the session is over")),
                reason.clone(),
            );
        }
        let finished = session.conversation.is_quiet();
        let (lanes, promises) = session.conversation.renew(&self.config.limits);
        self.give_back(now, key, lanes, promises);
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
        if let Some(draining) = &mut self.draining {
            *(if finished {
                &mut draining.finished
            } else {
                &mut draining.cut_off
            }) += 1;
            self.report_drain();
        }
    }

    /// Settles every promise of a conversation that is over, and hands back what was not delivered.
    fn give_back(
        &mut self,
        now: Instant,
        key: SessionKey,
        lanes: Lanes,
        promises: Vec<(u64, Promise<TimerSlot>)>,
    ) {
        for (number, promise) in promises {
            let maybe_delivered = promise.written.is_some();
            self.metrics.promises_lost += 1;
            let settled = Settled {
                promise,
                outcome: Outcome::Lost { maybe_delivered },
            };
            self.report_settled(
                now,
                PromiseKey {
                    session: key,
                    number,
                },
                settled,
            );
        }
        for (lane, entry, maybe_delivered) in lanes.into_entries() {
            // What a promise waited for was reported by it.
            if entry.promise == 0 && matches!(entry.kind, Kind::Message) {
                self.metrics.undelivered += 1;
                let message = Message {
                    lane: Some(lane),
                    tag: entry.tag,
                    body: entry.body,
                };
                self.events.push(Event::Undelivered {
                    session: key,
                    message,
                    maybe_delivered,
                });
            }
        }
    }

    /// Settles a promise. `false`: it has settled already.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        session_key: SessionKey,
        number: u64,
        outcome: Outcome,
    ) -> bool {
        let session = self.sessions.get_mut(session_key);
        let Some(settled) = session.and_then(|s| s.conversation.settle(number, outcome)) else {
            return false;
        };
        self.report_settled(
            now,
            PromiseKey {
                session: session_key,
                number,
            },
            settled,
        );
        true
    }

    fn report_settled(&mut self, now: Instant, promise: PromiseKey, settled: Settled) {
        let Settled {
            promise: mut entry,
            outcome,
        } = settled;
        self.timers.cancel(&mut entry.timer);
        self.promises -= 1;
        let after = now.saturating_duration_since(entry.made);
        if matches!(outcome, Outcome::Acked | Outcome::Replied { .. }) {
            self.metrics.latency.record(after);
        }
        self.events.push(Event::Settled {
            promise,
            outcome,
            after,
        });
        if self.promises <= self.config.limits.promises_total / 2 {
            for session in std::mem::take(&mut self.short_of_promises) {
                self.room_again(session);
            }
        }
    }

    /// The peer need not answer any more.
    pub(super) fn tell_cancelled(&mut self, promise: PromiseKey) {
        let Some(session) = self.sessions.get(promise.session) else {
            return;
        };
        let written = session
            .conversation
            .promises
            .get(promise.number)
            .is_some_and(|p| p.written.is_some());
        if let (true, Some(link)) = (written, session.link)
            && self
                .links
                .get(link)
                .is_some_and(|e| matches!(e.link.stage, Stage::Up))
        {
            self.send_control(
                link,
                Frame::Cancel(wire::Cancel {
                    promise: promise.number,
                }),
            );
        }
    }

    pub(super) fn session_timeout(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(closing) = session.closing.clone() {
            let Closing { code, reason, .. } = closing;
            if let Some(link) = session.link.take() {
                if let Some(entry) = self.links.get_mut(link) {
                    entry.link.session = None;
                }
                let local = DisconnectReason::Local {
                    code,
                    reason: reason.clone(),
                };
                self.end_link(now, link, Some((code, &reason)), local);
            }
            self.end_session(now, key, DisconnectReason::Local { code, reason });
        } else if session.dialing.is_some() {
            if let Err(error) = self.dial(now, key) {
                self.end_session(now, key, DisconnectReason::Transport(error.to_string()));
            }
        } else {
            let reason = "the client did not come back in time".into();
            self.end_session(
                now,
                key,
                DisconnectReason::Local {
                    code: CloseCode::NORMAL,
                    reason,
                },
            );
        }
    }

    /// Begins to close a session: what is under way is finished first, for at most `patience`.
    pub(super) fn begin_close(
        &mut self,
        now: Instant,
        key: SessionKey,
        closing: Closing,
        patience: Duration,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.link.is_none() {
            // Nobody to finish anything with.
            let Closing { code, reason, .. } = closing;
            self.end_session(now, key, DisconnectReason::Local { code, reason });
            return;
        }
        session.closing = Some(closing);
        self.timers.set(
            &mut session.timer,
            TimeoutReason::Session(key),
            now + patience,
        );
        self.mark_session(key);
    }

    /// Says Close once nothing is under way. The peer then closes the connection, so that nothing
    /// is cut off.
    pub(super) fn say_close(&mut self, link: LinkKey, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let quiet =
            session.conversation.is_quiet() && !session.conversation.best_effort.has_waiting();
        let up = self
            .links
            .get(link)
            .is_some_and(|e| matches!(e.link.stage, Stage::Up));
        let Some(closing) = session.closing.as_mut().filter(|c| quiet && up && !c.said) else {
            return;
        };
        closing.said = true;
        let close = wire::Close {
            code: closing.code.0,
            reason: wire::clip_reason(&closing.reason).to_owned(),
            retry_after_ms: closing.retry_after.map_or(0, milliseconds),
        };
        self.send_control(link, Frame::Close(close));
    }

    /// The peer has finished: this side closes the connection.
    pub(super) fn peer_closes(&mut self, now: Instant, key: LinkKey, close: wire::Close) {
        let wire::Close {
            code,
            reason,
            retry_after_ms,
        } = close;
        let code = CloseCode(code);
        let reason = from_peer(&reason, wire::REASON_MAX);
        let retry_after =
            (retry_after_ms > 0).then(|| Duration::from_millis(u64::from(retry_after_ms)));
        let reason = DisconnectReason::Peer {
            code,
            reason,
            retry_after,
        };
        if let Some(entry) = self.links.get_mut(key) {
            entry.carrier.close(now, code, "");
        }
        let session = self.links.get(key).and_then(|e| e.link.session);
        let is_server_side = session
            .and_then(|s| self.sessions.get(s))
            .is_some_and(|s| s.dialing.is_none());
        self.sending.mark(key.0);
        if let (true, Some(session)) = (is_server_side, session) {
            if let Some(entry) = self.links.get_mut(key) {
                entry.link.session = None;
            }
            if let Some(session) = self.sessions.get_mut(session) {
                session.link = None;
            }
            self.link_is_down(now, key, reason.clone());
            self.end_session(now, session, reason);
        } else {
            self.link_is_down(now, key, reason);
        }
    }

    /// There may be room again where a command found none.
    pub(super) fn room_again(&mut self, key: SessionKey) {
        let limits = &self.config.limits;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if !session.owes_writable {
            return;
        }
        if self.promises > limits.promises_total / 2 {
            self.short_of_promises.insert(key);
            return;
        }
        // Half empty, so that one message of room does not wake a thousand senders.
        let usage = session.conversation.lanes.usage();
        if usage.messages <= limits.outbox_messages / 2
            && usage.bytes <= limits.outbox_bytes / 2
            && session.conversation.promises.len() <= limits.promises / 2
        {
            session.owes_writable = false;
            self.events.push(Event::Writable { session: key });
        }
    }
}
