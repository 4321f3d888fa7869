//! Why something is lost: each loss has a cause, and whoever is told of the one is told of the other.

use std::time::Instant;

use trunkline_core::{Lane, Outcome, PromisesFull, SessionKey, StatusCode, UndeliveredReason};
use trunkline_proto::ENVELOPE_OVERHEAD_MAX;

use super::{Letter, Oracle, Process, Side, Way};

/// The promises that a node holds for a session. Its application hears of those that settle a little later.
#[derive(Debug, Default)]
pub(super) struct Held {
    promises: usize,
    /// Promises that have made room for others, which their application has still to hear.
    evicted: usize,
}

impl Process {
    /// Its node has made a promise: where there was no room, in place of another.
    pub(super) fn has_promised(&mut self, session: SessionKey) {
        let limits = &self.config.limits;
        let in_all: usize = self.held.values().map(|held| held.promises).sum();
        let held = self.held.entry(session).or_default();
        let full = held.promises >= limits.promises || in_all >= limits.promises_total;
        if full && self.config.promises_full == PromisesFull::EvictOldest {
            held.evicted += 1;
        } else {
            held.promises += 1;
        }
    }

    /// Its node holds one promise of a session less.
    pub(super) fn holds_less(&mut self, session: SessionKey) {
        if let Some(held) = self.held.get_mut(&session) {
            held.promises = held.promises.saturating_sub(1);
        }
    }

    /// What is wrong with a promise's eviction, if anything.
    pub(super) fn has_evicted(&mut self, session: SessionKey) -> Result<(), &'static str> {
        if self.config.promises_full != PromisesFull::EvictOldest {
            return Err("its node evicts nothing");
        }
        let held = self.held.entry(session).or_default();
        if held.evicted == 0 {
            return Err("there was room for more");
        }
        held.evicted -= 1;
        Ok(())
    }

    /// Its application has heard of all that has settled: what was not evicted is there, for another session
    /// had ended and left its room.
    pub(super) fn has_told_all(&mut self) {
        for held in self.held.values_mut() {
            held.promises += std::mem::take(&mut held.evicted);
        }
        self.held.retain(|_, held| held.promises > 0);
    }
}

impl Oracle {
    /// What is wrong with the reason for which a message came back, if anything.
    pub(super) fn may_come_back(
        &mut self,
        now: Instant,
        number: u64,
        reason: UndeliveredReason,
    ) -> Result<(), &'static str> {
        let Some((from, lane, size)) = self.sent_so(number) else {
            return Ok(());
        };
        match reason {
            UndeliveredReason::SessionLost if !self.went_with(now, from) => {
                Err("its session was not lost just now")
            }
            UndeliveredReason::SessionOver if !self.owes_end(now, from) => {
                Err("its session was over before, or had begun anew")
            }
            UndeliveredReason::NotTaken if !self.is_misfit(from.node, lane, size) => {
                Err("everybody else takes it")
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with what a node says by itself of a promise, without an answer of its peer's, if
    /// anything.
    pub(super) fn may_settle_so(
        &mut self,
        now: Instant,
        number: u64,
        outcome: &Outcome,
    ) -> Result<(), &'static str> {
        let Some((from, lane, size)) = self.sent_so(number) else {
            return Ok(());
        };
        let answered = |letter: &Letter| letter.answer.is_some();
        let answered = self.letters.get(&number).is_some_and(answered);
        match outcome {
            Outcome::Lost { .. } if !self.went_with(now, from) && !self.owes_end(now, from) => {
                Err("its session is not")
            }
            Outcome::Rejected(status)
                if status.code == StatusCode::INVALID_ARGUMENT
                    && !answered
                    && !self.is_misfit(from.node, lane, size) =>
            {
                Err("everybody else takes it")
            }
            _ => Ok(()),
        }
    }

    /// From where a reliable message was sent, in which lane, and its body's size.
    fn sent_so(&self, number: u64) -> Option<(Side, Lane, usize)> {
        let letter = self.letters.get(&number)?;
        match letter.way {
            Way::Reliable { from, lane, .. } => Some((from, lane, letter.size)),
            Way::BestEffort { .. } => None,
        }
    }

    /// Whether some other node takes no such message.
    fn is_misfit(&self, node: usize, lane: Lane, size: usize) -> bool {
        let others = self.processes.iter().filter(|(other, _)| **other != node);
        let mut limits = others.map(|(_, process)| &process.config.limits);
        limits.any(|limits| {
            lane.number() >= limits.lanes || size + ENVELOPE_OVERHEAD_MAX > limits.frame_bytes
        })
    }

    /// Whether a session was lost in this instant that had this life before.
    fn went_with(&self, now: Instant, from: Side) -> bool {
        let process = self.processes.get(&from.node);
        let process = process.filter(|process| process.number == from.process);
        let state = process.and_then(|process| process.sessions.get(&from.session));
        state.is_some_and(|state| state.lost_at == Some(now) && state.life == from.life + 1)
    }

    /// A session is said to be over: that it is closed has to follow in the same instant. `false`: it was
    /// closed before, or has another life by now.
    fn owes_end(&mut self, now: Instant, from: Side) -> bool {
        let process = self.processes.get_mut(&from.node);
        let Some(process) = process.filter(|process| process.number == from.process) else {
            return false;
        };
        let state = process.sessions.get(&from.session);
        let lives = state.is_some_and(|state| state.life == from.life);
        if lives {
            process.owes_end.entry(from.session).or_insert(now);
        }
        lives
    }

    /// What a node's application was told that presumes a session's end has been followed by that.
    pub(super) fn ends_are_told(&mut self, now: Instant, node: usize) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        if process.owes_end.values().all(|since| *since == now) {
            return;
        }
        for session in std::mem::take(&mut process.owes_end).into_keys() {
            let what = format!("node {node} said that {session:?} was over, and did not end it");
            self.violation(now, 6, what);
        }
    }
}
