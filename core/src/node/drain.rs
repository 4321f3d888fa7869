//! Leaving: this node's own drain, and what a peer says of its.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::backoff::HINT_MAX;
use crate::error::{CloseCode, CommandError, Fault};
use crate::id::{ClientId, LinkKey, SessionKey};
use crate::link::Stage;
use crate::link::milliseconds::{milliseconds, unless_zero};
use crate::tap::Call;
use crate::timers::TimerSlot;

use super::admission::Refusal;
use super::closing::Closing;
use super::{Event, Node, TimeoutReason};

/// How often a peer may say on one link that it leaves: once is enough, and a few corrections are
/// no harm.
const DRAINS_MAX: u8 = 16;

/// Longer than this is for ever, for somebody who leaves.
const DEADLINE_MAX: Duration = Duration::from_secs(86_400);

/// How a node goes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// How long what is in flight may take to finish.
    pub deadline: Duration,
    /// When clients are to try again, at the earliest. `None`: when their own rules say. Either way, a server that has
    /// more than 500 clients tells each of the others to wait a little longer than the one before, so that no more than
    /// a thousand a second come back, be it to this server or to the alternative.
    pub retry_after: Option<Duration>,
    /// Where clients are to go instead, as `host:port`, of at most 272 bytes. They verify it under the
    /// name that they were given for this server. Clients of the adapters look it up and go there; those that are nodes
    /// alone are told ([`Event::Draining`]), and go where their application [redirects](Node::redirect) them.
    pub alternative: Option<String>,
}

impl DrainPlan {
    /// What is in flight finishes within that time. Clients try again by their own rules, and many of them one after the
    /// other, at the same address.
    pub fn within(deadline: Duration) -> Self {
        Self {
            deadline,
            retry_after: None,
            alternative: None,
        }
    }

    /// Whether clients can follow it.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        match &self.alternative {
            Some(alternative) if !names_a_place(alternative) => {
                Err(CommandError::InvalidAlternative)
            }
            _ => Ok(()),
        }
    }
}

/// A drain that has begun.
pub(super) struct Draining {
    timer: TimerSlot,
    deadline: Instant,
    retry_after: Option<Duration>,
    alternative: Option<String>,
    finished: u64,
    cut_off: u64,
    /// Links that are told so in place of Welcome, and not closed yet.
    sent_away: u64,
    reported: bool,
}

impl Draining {
    /// What one of those that it is about is told; `retry_after`: when that one is to come back, if not when all are.
    pub(super) fn frame(&self, now: Instant, retry_after: Option<Duration>) -> Frame {
        let left = self.deadline.saturating_duration_since(now);
        let retry_after = retry_after.or(self.retry_after);
        Frame::Drain(wire::Drain {
            deadline_ms: milliseconds(left),
            retry_after_ms: retry_after.map_or(0, milliseconds),
            alternative: self.alternative.clone().unwrap_or_default(),
        })
    }
}

impl Node {
    /// Goes away: nothing new is accepted, clients are told, what is in flight is
    /// finished, and what is not by the deadline comes back. What comes meanwhile and somebody waits
    /// for is rejected as [`crate::StatusCode::UNAVAILABLE`]. A session whose deliveries are not all
    /// answered yet can be sent to; the others refuse that as [`CommandError::Closing`]. One that is being closed
    /// already goes on as it was told, by the deadline at the latest. Ends with [`crate::Event::Drained`]; the process may
    /// when [`Node::poll_timeout`] then says `None`, a few round trips later, for what tells the last peers is still to be sent.
    ///
    /// It is for good: [`Node::connect`] and another drain are refused as [`CommandError::Closing`] from now on, and no
    /// client is let in.
    ///
    /// A server drains the sessions of its clients, and keeps those that it dialled itself, for handlers may need them
    /// to finish: [close](Node::close) them behind it. A node that is no server drains those: its servers are told, and
    /// finish what they have of it.
    ///
    /// # Errors
    /// [`CommandError::InvalidAlternative`], and [`CommandError::Closing`] if it drains already.
    pub fn drain(&mut self, now: Instant, plan: DrainPlan) -> Result<(), CommandError> {
        let call = || Call::Drain {
            deadline: plan.deadline,
            retry_after: plan.retry_after,
            alternative: plan.alternative.as_deref(),
        };
        let now = self.enter(now, call);
        plan.check()?;
        if self.draining.is_some() {
            return Err(CommandError::Closing);
        }
        let DrainPlan {
            deadline,
            retry_after,
            alternative,
        } = plan;
        // The wire carries no longer deadline.
        let deadline = deadline.min(Duration::from_millis(u64::from(u32::MAX)));
        let mut timer = TimerSlot::default();
        self.timers
            .set(&mut timer, TimeoutReason::Drain, now + deadline);
        let draining = Draining {
            timer,
            deadline: now + deadline,
            retry_after,
            alternative,
            finished: 0,
            cut_off: 0,
            // Until all are told below.
            sent_away: 1,
            reported: false,
        };
        self.draining = Some(draining);
        for key in self.leaving_sessions() {
            if self.hurries(now, key, now + deadline) {
                continue;
            }
            let link = self.sessions.get(key).and_then(|session| session.link);
            let (code, reason) = self.leave_taking();
            // Only who is told to go elsewhere is told when to come back.
            let retry_after = match link {
                Some(_) if code == CloseCode::GOING_AWAY => self.return_after(now, retry_after),
                _ => None,
            };
            let frame = self.draining.as_ref().map(|d| d.frame(now, retry_after));
            // One that is coming up hears of it once it is up.
            let is_up = |link: &LinkKey| self.links.get(*link).is_some_and(|e| e.link.is_up());
            if let Some((link, frame)) = link.filter(is_up).zip(frame) {
                self.send_control(link, frame);
            }
            let closing = Closing {
                code,
                reason: reason.into(),
                retry_after,
                by: now + deadline,
                ends_soon: false,
                said: false,
                draining: true,
                takes_sends: true,
                lost: false,
            };
            self.begin_close(now, key, closing);
        }
        self.send_newcomers_away(now);
        self.one_is_sent_away();
        Ok(())
    }

    /// The peer says that it leaves.
    pub(super) fn peer_drains(&mut self, key: LinkKey, drain: wire::Drain) -> Result<(), Fault> {
        let wire::Drain {
            deadline_ms,
            retry_after_ms,
            alternative,
        } = drain;
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        let Some(session) = entry.link.session else {
            return Ok(());
        };
        if entry.link.drains == DRAINS_MAX {
            return Err(Fault::new(
                CloseCode::FLOODED,
                format!("Drain came more than {DRAINS_MAX} times on one link"),
            ));
        }
        entry.link.drains += 1;
        // It will want to know what this side holds, and may not ask.
        entry.link.peer_awaits_receipts = true;
        let retry_after = unless_zero(retry_after_ms).map(|hint| hint.min(HINT_MAX));
        if let Some(session) = self.sessions.get_mut(session) {
            session.receipt_due = true;
            // Of several, the last one counts.
            if let Some(dialing) = &mut session.dialing {
                dialing.backoff.hint(retry_after.unwrap_or_default());
            }
        }
        // What cannot be a host and a port is as good as nothing.
        let usable = names_a_place(&alternative);
        self.events.push(Event::Draining {
            session,
            deadline: Duration::from_millis(u64::from(deadline_ms)).min(DEADLINE_MAX),
            retry_after,
            alternative: usable.then_some(alternative),
        });
        Ok(())
    }

    /// Clients whose admission is not decided, and that have no session here, need not wait for it.
    pub(super) fn send_newcomers_away(&mut self, now: Instant) {
        let new_client = |stage: &Stage| match stage {
            Stage::AwaitsAdmission(hello) => {
                let resume = hello.resume.as_ref();
                let is_new = resume.is_none_or(|resume| !self.by_id.contains_key(&resume.id));
                is_new.then(|| hello.client.clone())
            }
            _ => None,
        };
        let links = self.links.iter();
        let new: Vec<(LinkKey, ClientId)> = links
            .filter_map(|(key, entry)| Some((key, new_client(&entry.link.stage)?)))
            .collect();
        for (link, client) in new {
            self.send_away(now, link, client);
            self.mark(link);
        }
    }

    /// Tells a client in place of Welcome that this server goes away.
    pub(super) fn send_away(&mut self, now: Instant, link: LinkKey, client: ClientId) {
        let Some(draining) = &mut self.draining else {
            return;
        };
        draining.sent_away += 1;
        let wished = draining.retry_after;
        let refusal = Refusal {
            reason: "the server is going away".into(),
            retry_after: self.return_after(now, wished),
        };
        self.turn_away(now, link, client, CloseCode::GOING_AWAY, refusal);
    }

    /// The link of a client that was sent away has ended.
    pub(super) fn one_is_sent_away(&mut self) {
        if let Some(draining) = &mut self.draining {
            draining.sent_away = draining.sent_away.saturating_sub(1);
        }
        self.report_drain();
    }

    /// A session that a drain is about has ended, with all done that was under way or not.
    pub(super) fn one_has_left(&mut self, finished: bool) {
        let Some(draining) = &mut self.draining else {
            return;
        };
        match finished {
            true => draining.finished += 1,
            false => draining.cut_off += 1,
        }
        self.report_drain();
    }

    pub(super) fn drain_is_over(&mut self, now: Instant) {
        if let Some(draining) = &mut self.draining {
            draining.sent_away = 0;
        }
        for key in self.leaving_sessions() {
            self.close_is_over(now, key);
        }
        self.report_drain();
    }

    /// Whether a drain is about the sessions that were dialled: so it is where there is no server. Otherwise it is
    /// about those of the server's clients. `None`: there is no drain.
    pub(super) fn drains_dialled(&self) -> Option<bool> {
        self.draining.as_ref().map(|_| !self.serves())
    }

    fn serves(&self) -> bool {
        self.admission.is_some()
    }

    /// The sessions that a drain is about.
    pub(super) fn leaving_sessions(&self) -> Vec<SessionKey> {
        if self.serves() {
            self.by_id.values().copied().collect()
        } else {
            self.sessions.iter().map(|(key, _)| key).collect()
        }
    }

    /// With what code and reason they are closed.
    pub(super) fn leave_taking(&self) -> (CloseCode, &'static str) {
        if self.serves() {
            (CloseCode::GOING_AWAY, "the server is going away")
        } else {
            (CloseCode::NORMAL, "the client is going away")
        }
    }

    /// Has a session that is being closed already end by then; `false`: it is not. While a server drains, nobody
    /// comes back to one that has no link.
    pub(super) fn hurries(&mut self, now: Instant, key: SessionKey, by: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let is_dialled = session.is_dialled();
        let Some(closing) = &mut session.closing else {
            return false;
        };
        if session.link.is_none() && !is_dialled {
            let reason = closing.disconnect_reason();
            self.end_session(now, key, reason);
            return true;
        }
        closing.by = closing.by.min(by);
        self.time_close(now, key);
        true
    }

    pub(super) fn report_drain(&mut self) {
        let left = match self.serves() {
            true => !self.by_id.is_empty(),
            false => self.sessions.len() > 0,
        };
        let over = |d: &&mut Draining| !left && d.sent_away == 0 && !d.reported;
        if let Some(draining) = self.draining.as_mut().filter(over) {
            draining.reported = true;
            self.timers.cancel(&mut draining.timer);
            let (finished, cut_off) = (draining.finished, draining.cut_off);
            self.events.push(Event::Drained { finished, cut_off });
        }
    }
}

/// Whether it can be a host and a port, an IPv6 address in brackets.
fn names_a_place(alternative: &str) -> bool {
    if let Ok(address) = alternative.parse::<SocketAddr>() {
        return address.port() != 0 && !address.ip().to_canonical().is_unspecified();
    }
    let Some((host, port)) = alternative.rsplit_once(':') else {
        return false;
    };
    let strange = |c: char| c.is_control() || c.is_whitespace() || ":/[]".contains(c);
    alternative.len() <= wire::ALTERNATIVE_MAX
        && !host.is_empty()
        && !host.contains(strange)
        && port.starts_with(|c: char| c.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}
