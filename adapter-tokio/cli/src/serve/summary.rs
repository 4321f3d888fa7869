//! What a server has done, at its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use trunkline_tokio::{Drained, MetricsSnapshot};

use super::service::Counts;
use crate::output::decimal_seconds;
use crate::table::{Table, grouped};

/// What a server has done, as a table or as the last line of its JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub(crate) struct Summary {
    seconds: f64,
    sessions: u64,
    resumed: u64,
    heartbeat_timeouts: u64,
    notes: u64,
    requests: u64,
    relays: u64,
    doubled: u64,
    disordered: u64,
    bytes_in: u64,
    bytes_out: u64,
    finished: u64,
    cut_off: u64,
}

impl Summary {
    pub(crate) fn new(
        counts: &Counts,
        metrics: &MetricsSnapshot,
        drained: Option<Drained>,
        took: Duration,
    ) -> Self {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let drained = drained.unwrap_or(Drained {
            finished: 0,
            cut_off: metrics.sessions as u64,
        });
        Self {
            seconds: decimal_seconds(took),
            sessions: metrics.sessions_opened,
            resumed: metrics.sessions_resumed,
            heartbeat_timeouts: metrics.heartbeat_timeouts,
            notes: count(&counts.notes),
            requests: count(&counts.requests),
            relays: count(&counts.relays),
            doubled: count(&counts.doubled),
            disordered: count(&counts.disordered),
            bytes_in: metrics.bytes_in,
            bytes_out: metrics.bytes_out,
            finished: drained.finished,
            cut_off: drained.cut_off,
        }
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(["", "count"]);
        for (name, count) in [
            ("sessions", self.sessions),
            ("resumed", self.resumed),
            ("heartbeat timeouts", self.heartbeat_timeouts),
            ("notes", self.notes),
            ("requests", self.requests),
            ("relayed", self.relays),
            ("handled twice", self.doubled),
            ("out of order", self.disordered),
            ("bytes in", self.bytes_in),
            ("bytes out", self.bytes_out),
            ("finished at the end", self.finished),
            ("cut off at the end", self.cut_off),
        ] {
            table.row([name.to_owned(), grouped(count)]);
        }
        table.row(["seconds".to_owned(), format!("{:.1}", self.seconds)]);
        table
    }
}
