//! How sessions, and in the end the driver, come to an end: nothing that was taken is left behind,
//! and nobody waits longer than was said.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backlog::Blocked;
use super::command::{Command, Drained, Submission};
use super::harmless::harmless;
use super::ledger::Alarm;
use super::runtime::Io;
use super::shared::Shared;
use super::slot::Filler;
use super::turn::Driver;
use crate::logged::logged;
use crate::sliding::SlidingTable;
use crate::{
    CloseCode, CommandError, DisconnectReason, DrainPlan, Event, Input, LinkKey, Refusal,
    SendError, SessionKey,
};

/// When a driver ends.
#[derive(Debug, Default)]
pub(super) enum Ending {
    /// When it is told to.
    #[default]
    WhenTold,
    /// With its last session: what a client's driver does.
    WithLastSession,
    /// It was told to: with its last session, and at the latest then.
    Stopping {
        by: Instant,
        code: CloseCode,
        reason: String,
    },
}

/// A session that closes as soon as its outbox has taken what was taken on its behalf.
#[derive(Debug)]
pub(super) struct Leaving {
    code: CloseCode,
    reason: String,
}

/// The drain of a driver: who waits for its end, or how it ended.
#[derive(Default)]
pub(super) struct Draining {
    waiting: Vec<Filler<Drained>>,
    over: Option<Drained>,
}

/// What is told when all of a driver is gone, its socket too.
pub(super) struct Farewell(pub(super) Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.driver_ended();
    }
}

impl<I: Io> Driver<I> {
    /// Closes a session once nothing of it waits here, or its time is over.
    pub(super) fn close_session(
        &mut self,
        now: Instant,
        session: SessionKey,
        code: CloseCode,
        reason: String,
    ) {
        let by = now + self.timeouts.close;
        let waits = self
            .lodger(session)
            .filter(|lodger| !lodger.backlog.is_empty());
        let Some(lodger) = waits else {
            // It may be closing, or closed, already.
            let _ = self.node.close(now, session, code, reason);
            return;
        };
        if lodger.leaving.is_none() {
            lodger.leaving = Some(Leaving { code, reason });
            self.ledger.set_alarm(by, Alarm::Leave(session));
        }
    }

    /// Closes a session that waited for its backlog, if it did.
    pub(super) fn leave(&mut self, now: Instant, session: SessionKey) {
        let leaving = self
            .lodger(session)
            .and_then(|lodger| lodger.leaving.take());
        if let Some(Leaving { code, reason }) = leaving {
            let _ = self.node.close(now, session, code, reason);
        }
    }

    /// The same, whatever still waits: whoever sent it hears so. What nobody waits for comes back with the
    /// session's end, behind what is older and in the node.
    pub(super) fn leave_at_once(&mut self, now: Instant, session: SessionKey) {
        if self
            .lodger(session)
            .is_some_and(|lodger| lodger.leaving.is_some())
        {
            let waiting = self
                .lodger(session)
                .map(|lodger| lodger.backlog.take_waiting());
            for blocked in waiting.into_iter().flatten() {
                self.refuse_blocked(blocked, CommandError::Closing);
            }
            self.leave(now, session);
            if let Some(lodger) = self.lodger(session) {
                lodger.left = true;
            }
        }
    }

    /// Gives back what waited for room in the outbox of a session that takes nothing more.
    pub(super) fn return_backlog(&mut self, session: SessionKey, error: CommandError) {
        while let Some((_, blocked)) = self.lodger(session).and_then(|lodger| lodger.backlog.pop())
        {
            self.refuse_blocked(blocked, error);
        }
    }

    fn refuse_blocked(&mut self, blocked: Blocked, error: CommandError) {
        self.ledger.clear_alarm(blocked.alarm);
        self.refuse(blocked.submission, error);
    }

    pub(super) fn drain(&mut self, now: Instant, plan: DrainPlan, filler: Filler<Drained>) {
        if let Some(drained) = self.draining.over {
            return filler.fill(drained);
        }
        // A second drain waits for the first one.
        let _ = self.node.drain(now, plan);
        self.draining.waiting.push(filler);
        // Who waits for room where nothing more is taken is to hear so at once.
        for session in self.sessions() {
            if self.has_backlog(session) {
                self.resume_backlog(now, session);
            }
        }
    }

    /// Whether there is a drain that is not over.
    pub(super) fn drains(&self) -> bool {
        !self.draining.waiting.is_empty()
    }

    pub(super) fn drained(&mut self, drained: Drained) {
        self.draining.over = Some(drained);
        for filler in self.draining.waiting.drain(..) {
            filler.fill(drained);
        }
    }

    /// Closes all sessions, and ends.
    pub(super) fn stop(&mut self, now: Instant, code: CloseCode, reason: String) {
        if self.is_stopping() {
            return;
        }
        for session in self.sessions() {
            self.close_session(now, session, code, reason.clone());
        }
        self.refuse_undecided(now);
        // The sessions' own time, and a moment for the last packets.
        let by = now + self.timeouts.close + Duration::from_secs(1);
        self.ending = Ending::Stopping { by, code, reason };
    }

    /// Nobody decides about these admissions any more: their clients are to try again.
    fn refuse_undecided(&mut self, now: Instant) {
        for (link, alarm) in self.undecided.take() {
            self.ledger.clear_alarm(Some(alarm));
            self.refuse_at_the_end(now, link);
        }
    }

    pub(super) fn refuse_at_the_end(&mut self, now: Instant, link: LinkKey) {
        let refusal = Refusal {
            reason: "the server closes".into(),
            retry_after: Some(AFTER_THE_END),
        };
        // The link may be gone by now.
        let _ = self.node.refuse(now, link, refusal);
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.ending, Ending::Stopping { .. })
    }

    /// A session that comes up while all are closed is closed too.
    pub(super) fn turn_away(&mut self, now: Instant, session: SessionKey) {
        if let Ending::Stopping { code, reason, .. } = &self.ending {
            let (code, reason) = (*code, reason.clone());
            self.close_session(now, session, code, reason);
        }
    }

    /// Whether it is time to end; `done`: nothing is left to do for now.
    pub(super) fn is_over(&self, now: Instant, done: bool) -> bool {
        let deserted = done
            && self.lodgers == 0
            && self
                .node
                .poll_timeout()
                .is_none_or(|deadline| deadline > now);
        match &self.ending {
            Ending::WhenTold => false,
            Ending::WithLastSession => deserted,
            Ending::Stopping { by, .. } => deserted || *by <= now,
        }
    }

    /// Until when it lasts at most.
    pub(super) fn last_moment(&self) -> Option<Instant> {
        match &self.ending {
            Ending::Stopping { by, .. } => Some(*by),
            Ending::WhenTold | Ending::WithLastSession => None,
        }
    }

    /// Ends all sessions that are left as if the time for closing were over, and tells of what was
    /// under way. Returns that time.
    pub(super) fn give_up(&mut self, now: Instant) -> Instant {
        let sessions = self.sessions();
        let mut end = now;
        for session in sessions {
            let _ = self
                .node
                .close(now, session, CloseCode::GOING_AWAY, GOING_AWAY);
            end = now + self.timeouts.close;
        }
        if !self.draining.waiting.is_empty() {
            end = now + self.timeouts.close;
        }
        if end > now {
            self.node.handle_input(end, Input::Timeout);
        }
        while let Some(event) = self.node.poll_event() {
            // Nobody is left to work on anything else.
            if let Event::Disconnected { .. }
            | Event::Closed { .. }
            | Event::Dropped { .. }
            | Event::Settled { .. }
            | Event::Undelivered { .. }
            | Event::Refused { .. }
            | Event::Drained { .. } = event
            {
                self.report(end, event);
            }
        }
        end
    }
}

/// When clients try again about whose admission nobody had decided.
const AFTER_THE_END: Duration = Duration::from_secs(1);

/// What those hear who are still there when a driver ends.
const GOING_AWAY: &str = "this side has ended";

impl<I: Io> Drop for Driver<I> {
    fn drop(&mut self) {
        // Before anybody finds the mailbox closed; and again with what is still to be counted.
        self.shared.keep_count(&self.desk, &self.node);
        self.ledger.wake();
        // Who waits is told that the driver has ended; then, of what nobody waits for, hooks and events.
        let left = self.desk.mailbox.close();
        for lodger in self.peers.iter_mut().flatten() {
            lodger.promises = SlidingTable::default();
            drop(lodger.backlog.take_waiting());
        }
        let now = self.io.now();
        // After a panic of its own the node cannot be trusted. One of somebody else's is no reason, and an executor may
        // drop this after it has caught its own.
        let mut broken = self.in_turn;
        let (held, taken) = (self.held.take(), std::mem::take(&mut self.taken));
        for command in held.into_iter().chain(taken).chain(left) {
            let (peer, message) = match command {
                // It comes back with the session's end, behind what was sent before.
                Command::SendUnwaited { peer, message }
                    if !broken && self.lodger(peer.session()).is_some() =>
                {
                    self.hold_back(now, peer.session(), Submission::unwaited(peer, message));
                    continue;
                }
                Command::SendUnwaited { peer, message }
                | Command::SendBestEffort { peer, message, .. } => (peer, message),
                _ => continue,
            };
            let error = CommandError::UnknownSession;
            self.give_back(&peer, SendError { message, error });
        }
        if !broken {
            let given_up = catch_unwind(AssertUnwindSafe(|| self.give_up(now)));
            broken = given_up.is_err();
        }
        if broken {
            logged(|| tracing::error!("a driver has ended by a panic, and its sessions with it"));
            self.node.break_tap();
        }
        let reason = DisconnectReason::Local {
            code: CloseCode::GOING_AWAY,
            reason: GOING_AWAY.into(),
        };
        for session in self.sessions() {
            self.return_backlog(session, CommandError::UnknownSession);
            let closed = Event::Closed {
                session,
                reason: reason.clone(),
            };
            self.tell(&closed);
            self.evict(session, &reason);
        }
        self.shared.keep_count(&self.desk, &self.node);
        self.ledger.wake();
        // Whoever waits for the end finds the recording whole.
        self.node.untap();
        let theirs = (self.service.take(), self.hooks.take(), self.ask.take());
        let what = "the drop of a service, of hooks or of an admission";
        harmless(what, Some(&*self.desk.runtime), || drop(theirs));
    }
}
