//! What both applications have seen, in words, without times and addresses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use trunkline_core::driver::PromiseError;
use trunkline_core::{Event, Lane, Outcome};

use crate::script::{Kind, Side};

/// Where both applications write down what they see. Within one stream of one side (the link, a
/// lane) it keeps the order in which things were seen; where nothing promises an order, it sorts.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    seen: BTreeMap<(Side, String), Vec<String>>,
    past: Vec<String>,
    reader: Option<Waker>,
}

impl Journal {
    /// Something was seen.
    pub fn write(&self, side: Side, stream: impl Into<String>, line: impl Into<String>) {
        let mut inner = self.0.lock().unwrap();
        let stream = inner.seen.entry((side, stream.into())).or_default();
        stream.push(line.into());
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
    }

    /// A message has come to the application.
    pub fn message(&self, side: Side, kind: Kind, lane: Lane, number: u64) {
        let stream = match kind {
            Kind::Tick => "ticks".into(),
            _ => format!("lane {lane}"),
        };
        self.write(side, stream, label(kind, number));
    }

    /// A promise has settled.
    pub fn outcome(&self, side: Side, label: &str, outcome: &str) {
        self.write(side, "outcomes", format!("{label} {outcome}"));
    }

    /// What a broadcast came to.
    pub fn broadcast(&self, number: u64, sent: trunkline_core::Broadcast) {
        let trunkline_core::Broadcast {
            queued,
            dropped,
            away,
        } = sent;
        let line = format!("tick {number}: {queued} queued, {dropped} dropped, {away} away");
        self.write(Side::Server, "broadcasts", line);
    }

    /// How the drain went.
    pub fn drained(&self, finished: u64, cut_off: u64) {
        let line = format!("{finished} finished, {cut_off} cut off");
        self.write(Side::Server, "drain", line);
    }

    /// Something happened to a session or its link.
    pub fn event(&self, side: Side, event: &Event) {
        if let Some(line) = describe(event) {
            self.write(side, "link", line);
        }
    }

    /// What this phase has brought so far; wakes that task when there is more.
    pub fn phase(&self, reader: Option<&Waker>) -> Vec<String> {
        let mut inner = self.0.lock().unwrap();
        inner.reader = reader.cloned();
        let mut lines = Vec::new();
        for ((side, stream), seen) in &inner.seen {
            let side = match side {
                Side::Client => "client",
                Side::Server => "server",
            };
            let mut seen: Vec<_> = seen
                .iter()
                .map(|line| format!("{side} {stream}: {line}"))
                .collect();
            // Promises and requests promise no order among themselves.
            if ["outcomes", "requests"].contains(&stream.as_str()) {
                seen.sort();
            }
            lines.extend(seen);
        }
        lines
    }

    /// The phase is over: what it has brought is kept, and the next one begins.
    pub fn turn_page(&self) {
        let mut lines = self.phase(None);
        let mut inner = self.0.lock().unwrap();
        inner.past.append(&mut lines);
        inner.seen.clear();
    }

    /// All phases that are over.
    pub fn past(&self) -> Vec<String> {
        self.0.lock().unwrap().past.clone()
    }
}

/// A message's name in the journal.
pub fn label(kind: Kind, number: u64) -> String {
    format!("{kind:?} {number}").to_lowercase()
}

/// A settled promise in words, as the node tells it; `None` for one that was given up, of which
/// nobody hears.
pub fn outcome_of(outcome: &Outcome, read: impl FnOnce(&[u8]) -> u64) -> Option<String> {
    Some(match outcome {
        Outcome::Acked => "acked".into(),
        Outcome::Replied { body, .. } => format!("replied {}", read(body)),
        Outcome::Rejected(status) => format!("rejected: {}", status.code),
        Outcome::TimedOut => "timed out".into(),
        Outcome::Cancelled => return None,
        other => format!("{other:?}"),
    })
}

/// A settled promise in words, as a handle tells it.
pub fn result_of(result: Result<Option<u64>, PromiseError>) -> String {
    match result {
        Ok(None) => "acked".into(),
        Ok(Some(number)) => format!("replied {number}"),
        Err(PromiseError::Rejected(status)) => format!("rejected: {}", status.code),
        Err(PromiseError::TimedOut) => "timed out".into(),
        Err(other) => format!("{other:?}"),
    }
}

/// An event in words; `None` for what is seen otherwise.
fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::Connected {
            client,
            epoch,
            resumed,
            ..
        } => {
            let how = if *resumed { "resumed" } else { "connected" };
            format!("{client} {how}, epoch {epoch}")
        }
        Event::Disconnected {
            reason, retained, ..
        } => {
            let session = if *retained { "kept" } else { "gone" };
            format!("disconnected, the session is {session}: {reason}")
        }
        Event::HeartbeatTimeout { .. } => "heartbeat timeout".into(),
        Event::SessionLost { .. } => "session lost".into(),
        // Its delay is drawn at random.
        Event::Reconnecting { .. } => "reconnecting".into(),
        Event::Closed { reason, .. } => format!("closed: {reason}"),
        Event::Draining {
            deadline,
            retry_after,
            ..
        } => {
            let again = retry_after.unwrap_or_default();
            format!("the server drains for {deadline:?}, come back after {again:?}")
        }
        Event::Message(_) | Event::Settled { .. } | Event::Cancelled { .. } => return None,
        Event::Drained { .. } => return None,
        other => format!("{other:?}"),
    })
}
