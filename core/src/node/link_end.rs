//! How links end, and what that means for their sessions: they wait for another, or end as well.

use std::time::{Duration, Instant};

use trunkline_proto as wire;

use crate::error::{CloseCode, DisconnectReason};
use crate::id::LinkKey;
use crate::link::{PeerClose, Stage};

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
pub(super) enum LinkEnd {
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
        if let Stage::AwaitsAdmission(hello) = &entry.link.stage {
            let client = hello.client.clone();
            self.refused(key, client, code, text);
        }
        self.metrics.closed(code);
        self.sending.mark(key);
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
        let was_up = stage.is_up();
        let last_word = peer_close
            .filter(|_| end == LinkEnd::WithSession)
            .map(PeerClose::disconnect_reason);
        let closing_max = if entry.half_open.is_some() {
            CLOSING_MAX_HALF_OPEN
        } else {
            CLOSING_MAX
        };
        entry.forget_at = Some(now + closing_max);
        let outside = entry.half_open.is_some().then(|| entry.carrier.address());
        let session = entry.link.session.take();
        self.metrics.ended(&reason);
        if let Some(address) = outside {
            self.ended_outside(now, address, &stage, &reason);
        }
        // It has said so before, however the connection ended then.
        let reason = last_word.unwrap_or(reason);
        let Some(session_key) = session else {
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
        let for_good = self.draining.is_some() && !session.is_dialled();
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
        let conversation = &session.conversation;
        let (quiet, deals) = (
            conversation.is_quiet(),
            conversation.deliveries.has_unawaited(),
        );
        if let Some(closing) = &session.closing {
            // Nobody comes back for what crossed the Close. But senders that do not wait count on what came of theirs, so
            // it ends once that is dealt with, or its time is over.
            let followed = end == LinkEnd::WithSession || closing.is_followed_by(&reason);
            let over = closing.said && was_up && followed;
            if for_good || quiet || over && !deals {
                let reason = closing.disconnect_reason();
                self.end_session(now, session_key, reason);
                return;
            }
            if over {
                return;
            }
        }
        if session.is_dialled() {
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
}

/// Whether the peer's application has closed the session, in one step.
fn said_normal(reason: &DisconnectReason) -> bool {
    let normal = CloseCode::NORMAL;
    matches!(reason, DisconnectReason::Peer { code, .. } if *code == normal)
}
