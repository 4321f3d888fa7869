//! How sessions end in order: at this side's wish, and at the peer's.

use std::time::{Duration, Instant};

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::error::{CloseCode, CommandError, DisconnectReason, from_peer};
use crate::id::{LinkKey, SessionKey};
use crate::link::milliseconds::{milliseconds, unless_zero};
use crate::link::{PeerClose, Stage};
use crate::tap::Call;

use super::returns::before_the_end;
use super::tables::Session;
use super::{Node, TimeoutReason};

/// A session that is to end once nothing is under way.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    pub(super) code: CloseCode,
    pub(super) reason: String,
    /// When its client is to come back, if not when its own rules say.
    pub(super) retry_after: Option<Duration>,
    /// When it is cut off.
    pub(super) by: Instant,
    /// So little time is left that its client is told of `retry_after` before Close is said.
    pub(super) ends_soon: bool,
    /// Close is on its way; the peer closes the connection.
    pub(super) said: bool,
    /// This node's drain asked for it.
    pub(super) draining: bool,
    /// Its application may send as long as it works on what the peer has sent.
    pub(super) takes_sends: bool,
    /// Its server has lost it since, with what was under way.
    pub(super) lost: bool,
}

impl Closing {
    /// How the session's end is reported.
    pub(super) fn disconnect_reason(&self) -> DisconnectReason {
        DisconnectReason::local(self.code, self.reason.clone())
    }

    /// Whether the end of a link over which Close was said is what Close asks for: the peer has closed the connection
    /// with the same code, or this side has, since it ended its streams.
    pub(super) fn is_followed_by(&self, end: &DisconnectReason) -> bool {
        match end {
            DisconnectReason::Peer { code, .. } | DisconnectReason::Local { code, .. } => {
                *code == self.code
            }
            _ => false,
        }
    }

    /// Whether it has something to say about coming back that no drain says.
    pub(super) fn asks_back(&self) -> bool {
        self.retry_after.is_some() && !self.draining
    }
}

impl Node {
    /// Closes a session once nothing is under way, or after [`crate::Timeouts::close`]. A session
    /// that a drain closes already gets this code and reason, no more time than that, and nothing more to send.
    ///
    /// The session lives until [`crate::Event::Closed`], and is told by what is to be sent still: a process whose last session
    /// it is may end when [`Node::poll_timeout`] says `None`.
    ///
    /// With [`CloseCode::GOING_AWAY`], clients of this server dial again. Where more than 500 are sent away at a time,
    /// each of the others is told to wait a little longer than the one before: no more than a thousand a second come back.
    /// One of those that would be cut off without having heard it is told shortly before, by an
    /// [`Event::Draining`](crate::Event::Draining).
    pub fn close(
        &mut self,
        now: Instant,
        session: SessionKey,
        code: CloseCode,
        reason: impl Into<String>,
    ) -> Result<(), CommandError> {
        let reason = reason.into();
        let call = || Call::Close {
            session,
            code,
            reason: &reason,
        };
        let now = self.enter(now, call);
        let patience = self.config.timeouts.close;
        let entry = self
            .sessions
            .get_mut(session)
            .ok_or(CommandError::UnknownSession)?;
        match &mut entry.closing {
            None => {
                let is_sent_away = code == CloseCode::GOING_AWAY && !entry.is_dialled();
                let asks_back = is_sent_away && entry.link.is_some();
                let retry_after = match asks_back {
                    true => self.return_after(now, None),
                    false => None,
                };
                let closing = Closing {
                    code,
                    reason,
                    retry_after,
                    by: now + patience,
                    ends_soon: false,
                    said: false,
                    draining: false,
                    takes_sends: false,
                    lost: false,
                };
                self.begin_close(now, session, closing);
                Ok(())
            }
            Some(closing) if closing.draining => {
                closing.takes_sends = false;
                if !closing.said {
                    // Only who is told to go elsewhere is told when to come back.
                    let hint = closing.retry_after;
                    closing.retry_after = hint.filter(|_| code == CloseCode::GOING_AWAY);
                    (closing.code, closing.reason) = (code, reason);
                }
                self.hurries(now, session, now + patience);
                Ok(())
            }
            Some(_) => Err(CommandError::Closing),
        }
    }

    /// Begins to close a session: what is under way is finished first, in the time that is left.
    pub(super) fn begin_close(&mut self, now: Instant, key: SessionKey, closing: Closing) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        // A draining server lets nobody in again: without a link there is nobody to finish with, where a
        // client dials again.
        let abandoned = session.link.is_none() && closing.draining && !session.is_dialled();
        if abandoned || session.may_just_end() {
            self.end_session(now, key, closing.disconnect_reason());
            return;
        }
        session.closing = Some(closing);
        self.time_close(now, key);
        self.mark_session(key);
    }

    /// Something of a session was settled on this side: its link goes on with what is next, or, if it is being closed and
    /// waited for that alone, it ends.
    pub(super) fn goes_on(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        match &session.closing {
            Some(closing) if session.may_just_end() => {
                let reason = closing.disconnect_reason();
                self.end_session(now, key, reason);
            }
            _ => self.mark_session(key),
        }
    }

    /// Sets the timer of a session that is being closed: it is for its end, and before that for telling its client, if it
    /// is to be told, when to come back.
    pub(super) fn time_close(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(closing) = &session.closing else {
            return;
        };
        let is_told = closing.asks_back() && !closing.ends_soon;
        let before = match &self.draining {
            None if is_told => before_the_end(self.config.timeouts.close),
            // Nobody comes back to what is under way.
            Some(_) if is_told => Duration::MAX,
            _ => Duration::ZERO,
        };
        let left = closing.by.saturating_duration_since(now);
        let at = now + left.saturating_sub(before);
        let owner = TimeoutReason::Close(key);
        self.timers.set(&mut session.close_timer, owner, at);
    }

    /// Says Close once nothing is under way. The peer then closes the connection, so that nothing
    /// is cut off.
    pub(super) fn say_close(&mut self, link: LinkKey, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(closing) = session.closing.as_mut().filter(|c| !c.said) else {
            return;
        };
        let quiet =
            session.conversation.is_quiet() && !session.conversation.best_effort.has_waiting();
        let up = self.links.get(link).is_some_and(|entry| entry.link.is_up());
        if !quiet || !up {
            return;
        }
        closing.said = true;
        let close = wire::Close {
            code: closing.code.0,
            reason: wire::clip_reason(&closing.reason).to_owned(),
            retry_after_ms: closing.retry_after.map_or(0, milliseconds),
        };
        self.send_control(link, Frame::Close(close));
    }

    /// The time for closing a session in order is over, or soon will be.
    pub(super) fn close_timeout(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(closing) = &mut session.closing else {
            return;
        };
        if now < closing.by {
            closing.ends_soon = true;
            self.time_close(now, key);
            self.ask_back(now, key);
            return;
        }
        self.close_is_over(now, key);
    }

    /// A session that is being closed ends now, whatever is under way.
    pub(super) fn close_is_over(&mut self, now: Instant, key: SessionKey) {
        let closing = self.sessions.get(key).and_then(|s| s.closing.as_ref());
        let Some(closing) = closing else {
            return;
        };
        let Closing { code, reason, .. } = closing.clone();
        self.cut_off(now, key, code, &reason);
    }

    /// Ends a session at once, and its link with it.
    pub(super) fn cut_off(&mut self, now: Instant, key: SessionKey, code: CloseCode, reason: &str) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let local = DisconnectReason::local(code, reason);
        if let Some(link) = session.link.take() {
            self.disown_and_end(now, link, code, reason, local.clone());
        }
        self.end_session(now, key, local);
    }

    /// The peer is done, and reads on: what this side has to say gets through first, and its
    /// application deals with what it was sent, for a time. Then this side closes the connection.
    pub(super) fn peer_closes(&mut self, now: Instant, key: LinkKey, close: wire::Close) {
        let wire::Close {
            code,
            reason,
            retry_after_ms,
        } = close;
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        // The first one counts.
        if entry.link.peer_close.is_none() {
            let session = entry
                .link
                .session
                .and_then(|key| self.sessions.get_mut(key));
            let proposed = matches!(entry.link.stage, Stage::AwaitsWelcome { resuming: false });
            // A server that has said something in lanes has made a session, whatever it says now.
            let unheard = |s: &&mut Session| !s.conversation.lanes.has_received();
            entry.link.peer_close = Some(PeerClose {
                code: CloseCode(code),
                reason: from_peer(&reason, wire::REASON_MAX),
                retry_after: unless_zero(retry_after_ms),
                turns_away: proposed && session.as_ref().is_some_and(unheard),
                by: now + self.config.timeouts.close,
            });
            if let Some(session) = session {
                // The peer can be done only once it knows what this side holds.
                session.receipt_due = true;
            }
        }
        self.follow_peer_close(now, key);
    }

    /// The connection is over. A peer that has said Close and then closed it, as one does whose
    /// patience is over, has ended it as Close says.
    pub(super) fn carrier_is_down(&mut self, now: Instant, key: LinkKey, reason: DisconnectReason) {
        let said = self
            .links
            .get_mut(key)
            .and_then(|entry| entry.link.peer_close.as_mut());
        if let (Some(close), DisconnectReason::Peer { .. }) = (said, &reason) {
            close.by = now;
            self.follow_peer_close(now, key);
        }
        // Whose heartbeats come more often than this side's is found dead by QUIC, which goes by the more impatient.
        let link = self.links.get(key).map(|entry| &entry.link);
        let up = link.filter(|link| link.is_up());
        let reason = match (reason, up.map(|link| link.session)) {
            (DisconnectReason::ConnectTimeout, Some(session)) => {
                self.peer_is_dead(session);
                DisconnectReason::HeartbeatTimeout
            }
            (reason, _) => reason,
        };
        // Nothing, for a link that is closed by now.
        self.link_is_down(now, key, reason);
    }

    /// Closes a link that its peer wants closed, once nothing is left to say, or no time for it.
    pub(super) fn follow_peer_close(&mut self, now: Instant, key: LinkKey) {
        let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
            return;
        };
        let Some(close) = &entry.link.peer_close else {
            return;
        };
        let session_key = entry.link.session;
        let session = session_key.and_then(|session| self.sessions.get(session));
        let up = entry.link.is_up();
        // What the peer sent without waiting for an answer it takes to be delivered. A link that is
        // not up carries nothing of the session: its peer is refused, or not there yet.
        let has_more = session.is_some_and(|session| {
            let conversation = &session.conversation;
            up && (!conversation.has_said_all() || conversation.deliveries.has_unawaited())
        });
        if has_more && now < close.by {
            return;
        }
        let own = session
            .filter(|session| !session.is_dialled())
            .and_then(|session| session.closing.as_ref())
            .filter(|closing| closing.said);
        let (code, reason) = match own {
            // Both have said Close: the server's code counts.
            Some(closing) => {
                self.metrics.closed(closing.code);
                (closing.code, closing.disconnect_reason())
            }
            None => (close.code, close.disconnect_reason()),
        };
        entry.carrier.close(now, code, "");
        self.sending.mark(key);
        let serves = session.is_some_and(|session| !session.is_dialled());
        let (true, Some(session_key)) = (serves, session_key) else {
            self.link_is_down(now, key, reason);
            return;
        };
        // To a server, Close ends the session as well, whatever its code.
        entry.link.session = None;
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.link = None;
        }
        self.link_is_down(now, key, reason.clone());
        self.end_session(now, session_key, reason);
    }
}
