//! Leaving: this node's own drain, and what a peer says of its.

use std::time::{Duration, Instant};

use trunkline_proto as wire;

use crate::backoff::HINT_MAX;
use crate::error::CloseCode;
use crate::id::{LinkKey, SessionKey};
use crate::quic::Fault;

use super::{Event, Node};

/// How often a peer may say on one link that it leaves: once is enough, and a few corrections are
/// no harm.
const DRAINS_MAX: u8 = 16;

/// Longer than this is for ever, for somebody who leaves.
const DEADLINE_MAX: Duration = Duration::from_secs(86_400);

impl Node {
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
        let retry_after = (retry_after_ms > 0)
            .then(|| Duration::from_millis(u64::from(retry_after_ms)).min(HINT_MAX));
        let dialing = self
            .sessions
            .get_mut(session)
            .and_then(|s| s.dialing.as_mut());
        if let (Some(dialing), Some(hint)) = (dialing, retry_after) {
            dialing.backoff.hint(hint);
        }
        // What cannot be a host and a port is as good as nothing.
        let usable = (1..=wire::ALTERNATIVE_MAX).contains(&alternative.len())
            && !alternative.chars().any(char::is_control);
        self.events.push(Event::Draining {
            session,
            deadline: Duration::from_millis(u64::from(deadline_ms)).min(DEADLINE_MAX),
            retry_after,
            alternative: usable.then_some(alternative),
        });
        Ok(())
    }

    pub(super) fn drain_is_over(&mut self, now: Instant) {
        for key in self.draining_sessions() {
            self.close_timeout(now, key);
        }
        self.report_drain();
    }

    fn draining_sessions(&self) -> Vec<SessionKey> {
        let drained = |s: &super::tables::Session| s.closing.as_ref().is_some_and(|c| c.draining);
        self.sessions
            .iter()
            .filter(|(_, s)| drained(s))
            .map(|(key, _)| key)
            .collect()
    }

    pub(super) fn report_drain(&mut self) {
        let left = self.by_id.len();
        if let Some(draining) = self.draining.as_mut().filter(|d| left == 0 && !d.reported) {
            draining.reported = true;
            self.timers.cancel(&mut draining.timer);
            let (finished, cut_off) = (draining.finished, draining.cut_off);
            self.events.push(Event::Drained { finished, cut_off });
        }
    }
}
