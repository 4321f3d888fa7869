//! When clients come back.

use std::time::{Duration, Instant};

use trunkline_core::{Redial, SessionKey};

use super::Oracle;

/// Draws that come out at their very end happen once in 2^32: so many in a row are no draws.
const NEVER_DRAWN: u32 = 2;

/// A session's redials.
#[derive(Debug, Default)]
pub(super) struct Redials {
    /// How many there were since a link last held.
    pub(super) attempts: u32,
    /// Since when there has been a link.
    since: Option<Instant>,
    /// When the next is to be, as the application was told.
    due: Option<Instant>,
    /// Delays in a row that were as long as can be.
    undrawn: u32,
}

impl Redials {
    /// There is a link. Returns how much sooner than was told, if it is.
    pub(super) fn connected(&mut self, now: Instant) -> Option<Duration> {
        self.since = Some(now);
        let due = self.due.take();
        due.map(|due| due.saturating_duration_since(now))
            .filter(|early| !early.is_zero())
    }

    /// A link has ended, or a dial.
    pub(super) fn ended(&mut self, now: Instant, redial: &Redial) {
        let held = self
            .since
            .take()
            .map(|since| now.saturating_duration_since(since));
        if held.is_some_and(|held| held >= redial.stable_after) {
            self.attempts = 0;
        }
    }
}

impl Oracle {
    pub(super) fn redials(
        &mut self,
        now: Instant,
        node: usize,
        session: SessionKey,
        attempt: u32,
        delay: Duration,
    ) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let redial = process.config.redial;
        let Some(state) = process.sessions.get_mut(&session) else {
            return;
        };
        let redials = &mut state.redials;
        redials.attempts += 1;
        redials.due = now.checked_add(delay);
        let counted = redials.attempts;
        let doubled = redial.first.as_secs_f64() * 2_f64.powi(attempt.saturating_sub(1) as i32);
        let most = doubled.min(redial.cap.as_secs_f64());
        let least = most * (1.0 - redial.jitter);
        let (delay, slack) = (delay.as_secs_f64(), 1e-6);
        let hinted = std::mem::take(&mut state.hinted);
        let in_envelope = delay + slack >= least && (hinted || delay <= most + slack);
        if redial.jitter > 0.0 && !hinted {
            let drawn = delay < most - 1e-9 * most.max(1.0);
            redials.undrawn = if drawn { 0 } else { redials.undrawn + 1 };
        }
        let undrawn = redials.undrawn >= NEVER_DRAWN;
        if counted != attempt {
            let what = format!(
                "node {node} calls a redial for {session:?} attempt {attempt}, and it is {counted}"
            );
            self.violation(now, 9, what);
        }
        if !in_envelope || undrawn {
            let what = format!(
                "node {node} redials for {session:?} after {delay} s, attempt {attempt}: {least} to {most} s were to be drawn from"
            );
            self.violation(now, 9, what);
        }
    }
}
