//! What of all that is bounded was full in a run: a swarm under which nothing ever is would show
//! nothing of it.

use std::collections::BTreeMap;

use trunkline_core::{CloseCode, CommandError, Limits, MetricsSnapshot, SessionInfo};

/// How often what was full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure(BTreeMap<&'static str, u64>);

/// All that can be.
const KINDS: [&str; 16] = [
    "limits.frame_bytes",
    "limits.lanes",
    "limits.promises",
    "limits.promises, oldest evicted",
    "limits.outbox",
    "limits.lane_window_bytes",
    "limits.deliveries",
    "limits.event_messages",
    "limits.best_effort_bytes",
    "limits.best_effort_bytes, disconnected",
    "limits.sessions",
    "limits.half_open",
    "limits.half_open_unvalidated",
    "limits.groups",
    "limits.groups_per_session",
    "a paused process's socket",
];

impl Pressure {
    /// What was never full.
    pub fn missing(&self) -> Vec<&'static str> {
        let full = |kind: &&str| self.0.get(*kind).is_some_and(|times| *times > 0);
        KINDS.into_iter().filter(|kind| !full(kind)).collect()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (kind, times) in &other.0 {
            self.count(kind, *times);
        }
    }

    pub(super) fn count(&mut self, kind: &'static str, times: u64) {
        debug_assert!(KINDS.contains(&kind), "{kind} is not in the list");
        *self.0.entry(kind).or_default() += times;
    }

    /// A command was refused.
    pub(super) fn refused(&mut self, error: &CommandError) {
        let kind = match error {
            CommandError::TooLarge { .. } => "limits.frame_bytes",
            CommandError::UnknownLane => "limits.lanes",
            CommandError::PromisesFull => "limits.promises",
            CommandError::OutboxFull => "limits.outbox",
            CommandError::TableFull {
                field: "limits.groups",
                ..
            } => "limits.groups",
            CommandError::TableFull {
                field: "limits.groups_per_session",
                ..
            } => "limits.groups_per_session",
            _ => return,
        };
        self.count(kind, 1);
    }

    /// A session at some moment.
    pub(super) fn session(&mut self, info: &SessionInfo, limits: &Limits) {
        if info.deliveries >= limits.deliveries {
            self.count("limits.deliveries", 1);
        }
        if info.queued_bytes > limits.lane_window_bytes {
            self.count("limits.lane_window_bytes", 1);
        }
    }

    /// A process at its end.
    pub(super) fn process(&mut self, metrics: &MetricsSnapshot) {
        let closed = |code| {
            metrics
                .closed_by_code
                .get(&code)
                .copied()
                .unwrap_or_default()
        };
        for (kind, times) in [
            ("limits.promises, oldest evicted", metrics.promises_evicted),
            ("limits.best_effort_bytes", metrics.best_effort_dropped),
            (
                "limits.best_effort_bytes, disconnected",
                closed(CloseCode::SLOW_CONSUMER),
            ),
            ("limits.sessions", closed(CloseCode::TOO_MANY_SESSIONS)),
            ("limits.half_open", metrics.incoming_ignored),
            ("limits.half_open_unvalidated", metrics.incoming_retried),
        ] {
            self.count(kind, times);
        }
    }
}
