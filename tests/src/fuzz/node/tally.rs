//! What a node has told its application, to be held against what it counts.

use std::collections::BTreeMap;

use trunkline_core::{Event, MetricsSnapshot, Outcome, SessionKey};

/// What a node has told its application.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Promises that it has made, which is no event.
    pub(super) promised: u64,
    settled: u64,
    acked: u64,
    replied: u64,
    rejected: u64,
    timed_out: u64,
    cancelled: u64,
    lost: u64,
    evicted: u64,
    messages: u64,
    undelivered: u64,
    dropped: u64,
    resumed: u64,
    redials: u64,
    sessions_lost: u64,
    found_dead: u64,
    closed: u64,
    refused: u64,
    /// Events of each session.
    of: BTreeMap<SessionKey, u64>,
    /// All of them, and those of no session.
    pub(super) events: u64,
}

impl Tally {
    pub(super) fn told(&mut self, event: &Event) {
        self.events += 1;
        if let Some(session) = session_of(event) {
            *self.of.entry(session).or_default() += 1;
        }
        let counter = match event {
            Event::Message(_) => &mut self.messages,
            Event::Undelivered { .. } => &mut self.undelivered,
            Event::Connected { resumed: true, .. } => &mut self.resumed,
            Event::Reconnecting { .. } => &mut self.redials,
            Event::SessionLost { .. } => &mut self.sessions_lost,
            Event::HeartbeatTimeout { .. } => &mut self.found_dead,
            Event::Closed { .. } => &mut self.closed,
            Event::Refused { .. } => &mut self.refused,
            Event::Dropped { messages, .. } => {
                self.dropped += messages;
                return;
            }
            Event::Settled { outcome, .. } => {
                self.settled += 1;
                match outcome {
                    Outcome::Acked => &mut self.acked,
                    Outcome::Replied { .. } => &mut self.replied,
                    Outcome::Rejected(_) => &mut self.rejected,
                    Outcome::TimedOut => &mut self.timed_out,
                    Outcome::Cancelled => &mut self.cancelled,
                    Outcome::Lost { .. } => &mut self.lost,
                    Outcome::Evicted => &mut self.evicted,
                    _ => return,
                }
            }
            _ => return,
        };
        *counter += 1;
    }

    /// How many events told of a session.
    pub(super) fn of(&self, session: SessionKey) -> u64 {
        self.of.get(&session).copied().unwrap_or_default()
    }

    /// All sessions are over: what was told is what was counted.
    pub(super) fn assert_counted(&self, counted: &MetricsSnapshot) {
        let handed =
            counted.messages_received + counted.requests_received + counted.best_effort_received;
        for (what, told, counted) in [
            ("promises made", self.promised, self.settled),
            ("acks", self.acked, counted.acks_received),
            ("replies", self.replied, counted.replies_received),
            (
                "promises timed out",
                self.timed_out,
                counted.promises_timed_out,
            ),
            (
                "promises cancelled",
                self.cancelled,
                counted.promises_cancelled,
            ),
            ("promises lost", self.lost, counted.promises_lost),
            ("promises evicted", self.evicted, counted.promises_evicted),
            ("messages handed over", self.messages, handed),
            ("messages given back", self.undelivered, counted.undelivered),
            (
                "best effort dropped",
                self.dropped,
                counted.best_effort_dropped,
            ),
            ("sessions resumed", self.resumed, counted.sessions_resumed),
            ("redials", self.redials, counted.redials),
            ("sessions closed", self.closed, counted.sessions_closed),
            ("sessions opened", self.closed, counted.sessions_opened),
            (
                "clients refused",
                self.refused,
                counted.clients_refused - counted.refusals_untold,
            ),
        ] {
            assert_eq!(told, counted, "{what}: told, and counted, of {self:?}");
        }
        // What a node rejects itself was rejected by nobody else; what a server gives up is told as its end;
        // and a peer without a session is nobody's.
        for (what, least, most) in [
            ("rejections", counted.rejects_received, self.rejected),
            ("sessions lost", self.sessions_lost, counted.sessions_lost),
            (
                "peers found dead",
                self.found_dead,
                counted.heartbeat_timeouts,
            ),
        ] {
            assert!(least <= most, "{what}: {least} of {most}, of {self:?}");
        }
    }
}

fn session_of(event: &Event) -> Option<SessionKey> {
    Some(match event {
        Event::Connected { session, .. }
        | Event::Disconnected { session, .. }
        | Event::HeartbeatTimeout { session }
        | Event::Reconnecting { session, .. }
        | Event::SessionLost { session }
        | Event::Closed { session, .. }
        | Event::Undelivered { session, .. }
        | Event::Sent { session, .. }
        | Event::Writable { session }
        | Event::SlowConsumer { session, .. }
        | Event::Dropped { session, .. }
        | Event::Draining { session, .. }
        | Event::Moved { session, .. } => *session,
        Event::Message(delivery) => delivery.key.session,
        Event::Cancelled { delivery } => delivery.session,
        Event::Settled { promise, .. } => promise.session,
        _ => return None,
    })
}
