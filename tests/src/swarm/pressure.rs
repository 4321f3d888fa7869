//! What of all that is bounded was full in a run: a swarm under which nothing ever is would show
//! nothing of it.

use trunkline_core::{CloseCode, CommandError, Limits, MetricsSnapshot, SessionInfo};

use super::tally::Tally;

/// How often what was full. Each bound counts for itself, and only where nothing else explains what
/// was seen. `limits.lane_window_bytes` is not among them: what waits for a lane's window and what
/// waits for QUIC to send it look the same from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure(Tally);

/// All that can be.
const KINDS: [&str; 23] = [
    "limits.frame_bytes",
    "limits.lanes",
    "limits.promises",
    "limits.promises, oldest evicted",
    "limits.promises_total",
    "limits.promises_total, oldest evicted",
    "limits.outbox_messages",
    "limits.outbox_bytes",
    "limits.outbox_bytes_total",
    "limits.deliveries",
    "limits.delivery_bytes",
    "limits.event_messages",
    "limits.event_bytes",
    "limits.best_effort_bytes, newest dropped",
    "limits.best_effort_bytes, oldest dropped",
    "limits.best_effort_bytes, disconnected",
    "limits.sessions",
    "limits.sessions_per_client",
    "limits.half_open",
    "limits.half_open_unvalidated",
    "limits.groups",
    "limits.groups_per_session",
    "a paused process's socket",
];

/// No message of a run has a shorter body: it begins with a number.
const SHORTEST: usize = 8;

/// A command that a node has just refused, and what it shows.
pub(super) struct Refused<'a> {
    pub(super) error: &'a CommandError,
    /// Bytes of the message's body; 0 without a message.
    pub(super) size: usize,
    pub(super) limits: &'a Limits,
    /// The session that it was meant for; `None`: several, or it is gone.
    pub(super) session: Option<SessionInfo>,
    pub(super) metrics: MetricsSnapshot,
}

impl Pressure {
    /// What was never full.
    pub fn missing(&self) -> Vec<&'static str> {
        self.0.missing(&KINDS)
    }

    /// What was full, by its name in the configuration, if it has one there.
    pub fn full(&self) -> impl Iterator<Item = &'static str> {
        self.0.happened()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0);
    }

    pub(super) fn count(&mut self, kind: &'static str, times: u64) {
        debug_assert!(KINDS.contains(&kind), "{kind} is not in the list");
        self.0.count(kind, times);
    }

    /// A command was refused.
    pub(super) fn refused(&mut self, refused: &Refused<'_>) {
        let kind = match refused.error {
            CommandError::TooLarge { limit, .. } if is_of_frames(*limit, refused.limits) => {
                "limits.frame_bytes"
            }
            CommandError::UnknownLane => "limits.lanes",
            CommandError::PromisesFull => {
                let session = refused.session.as_ref().map_or(0, |info| info.promises);
                return self.promises(
                    session,
                    refused.metrics.promises,
                    refused.limits,
                    ["limits.promises", "limits.promises_total"],
                );
            }
            CommandError::OutboxFull => match outbox(refused) {
                Some(kind) => kind,
                None => return,
            },
            CommandError::TableFull {
                field: field @ ("limits.groups" | "limits.groups_per_session"),
                ..
            } => field,
            _ => return,
        };
        self.count(kind, 1);
    }

    /// A promise took the place of another: a session had so many, and its node.
    pub(super) fn evicted(&mut self, session: usize, in_all: usize, limits: &Limits) {
        let kinds = [
            "limits.promises, oldest evicted",
            "limits.promises_total, oldest evicted",
        ];
        self.promises(session, in_all, limits, kinds);
    }

    fn promises(
        &mut self,
        session: usize,
        in_all: usize,
        limits: &Limits,
        [own, total]: [&'static str; 2],
    ) {
        self.count(own, u64::from(session >= limits.promises));
        self.count(total, u64::from(in_all >= limits.promises_total));
    }

    /// A process at its end.
    pub(super) fn process(&mut self, metrics: &MetricsSnapshot, limits: &Limits, serves: bool) {
        self.count("limits.half_open", metrics.incoming_ignored);
        // Where nobody may come unvalidated, nothing has to be half-open for that.
        if limits.half_open_unvalidated > 0 {
            self.count("limits.half_open_unvalidated", metrics.incoming_retried);
        }
        let turned_away = metrics.closed_by_code.get(&CloseCode::TOO_MANY_SESSIONS);
        let turned_away = turned_away.copied().unwrap_or_default();
        if !serves {
            // Its server counts them.
        } else if limits.sessions <= limits.sessions_per_client {
            self.count("limits.sessions", turned_away);
        } else if metrics.sessions_opened < limits.sessions as u64 {
            self.count("limits.sessions_per_client", turned_away);
        }
    }
}

/// What a best-effort message that waits takes beside its own ([`Limits::best_effort_bytes`]).
const WAITS: usize = 64;

/// Whether no frame may be larger than that, and not only no queue takes it.
fn is_of_frames(limit: usize, limits: &Limits) -> bool {
    let queues = [
        limits.outbox_bytes,
        limits.outbox_bytes_total,
        limits.best_effort_bytes.saturating_sub(WAITS),
    ];
    !queues.contains(&limit)
}

/// Which bound an outbox is at. How many messages it holds is not shown; nor is how many of the bytes
/// that wait for a session are best effort, which have a queue of their own.
fn outbox(refused: &Refused<'_>) -> Option<&'static str> {
    let limits = refused.limits;
    if refused.metrics.outbox_bytes + refused.size > limits.outbox_bytes_total {
        return Some("limits.outbox_bytes_total");
    }
    let queued_bytes = refused.session.as_ref()?.queued_bytes;
    let perhaps_messages = queued_bytes / SHORTEST >= limits.outbox_messages;
    let perhaps_bytes = queued_bytes + refused.size > limits.outbox_bytes;
    match (perhaps_messages, perhaps_bytes) {
        (true, false) => Some("limits.outbox_messages"),
        (false, true) => Some("limits.outbox_bytes"),
        _ => None,
    }
}
