//! What became of all that was sent, and whether every promise was kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use trunkline_tokio::MetricsSnapshot;

use crate::connection::Record;
use crate::messages::Account;
use crate::output::{decimal_seconds, milliseconds};
use crate::table::{Table, grouped};

/// What became of all that was sent: each message is counted in one of these.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// Given to the connection, and not given back.
    pub(crate) sent: u64,
    /// Replied to, acked, or, where nothing was asked for, put into the outbox.
    pub(crate) answered: u64,
    pub(crate) rejected: u64,
    pub(crate) timed_out: u64,
    /// Settled as lost after the loss, or the end, of its session was told.
    pub(crate) lost: u64,
    /// Of these, how many the server may have handled.
    pub(crate) maybe_handled: u64,
    /// Given up by the user.
    pub(crate) cancelled: u64,
    /// Never settled, or settled as lost by a session that lives.
    pub(crate) unreported: u64,
    /// Of the replies, how many were to something else.
    pub(crate) mismatched: u64,
    accounts: BTreeMap<u64, Account>,
}

impl Outcomes {
    /// What the server says it has handled. Its accounts only grow.
    pub(crate) fn account(&mut self, account: Account) {
        let known = self.accounts.entry(account.id).or_default();
        if account.handled >= known.handled {
            *known = account;
        }
    }

    /// How many the server handled twice; `None`: it does not say.
    pub(crate) fn doubled(&self) -> Option<u64> {
        self.accounted(|account| account.doubled)
    }

    /// How many reached the server after a later one; `None`: it does not say.
    pub(crate) fn disordered(&self) -> Option<u64> {
        self.accounted(|account| account.disordered)
    }

    /// How many the server handled; `None`: it does not say.
    pub(crate) fn handled(&self) -> Option<u64> {
        self.accounted(|account| account.handled)
    }

    fn accounted(&self, part: impl Fn(&Account) -> u64) -> Option<u64> {
        (!self.accounts.is_empty()).then(|| self.accounts.values().map(part).sum())
    }

    /// Which promises of the protocol were broken, in words; none, if all is well.
    pub(crate) fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (count, what) in [
            (Some(self.unreported), "lost without a report"),
            (self.doubled(), "handled twice"),
            (self.disordered(), "out of order"),
            (Some(self.mismatched), "answered with something else"),
        ] {
            if let Some(count @ 1..) = count {
                broken.push(format!("{} {what}", grouped(count)));
            }
        }
        broken
    }
}

/// The summary of a run, as one JSON object or as a table.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replied: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handled: Option<u64>,
    lost: u64,
    maybe_handled: u64,
    timed_out: u64,
    rejected: u64,
    cancelled: u64,
    undelivered: u64,
    unreported: u64,
    mismatched: u64,
    duplicated: Option<u64>,
    reordered: Option<u64>,
    reconnects: u64,
    resumed: u64,
    sessions_lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
    seconds: f64,
}

/// What a message was to be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Reply,
    Ack,
    Nothing,
}

impl Summary {
    pub(crate) fn new(
        outcomes: &Outcomes,
        wanted: Wanted,
        record: &Record,
        metrics: Option<&MetricsSnapshot>,
        took: Duration,
    ) -> Self {
        let latency = metrics.filter(|metrics| metrics.latency_count > 0);
        let answered = |kind| (wanted == kind).then_some(outcomes.answered);
        Self {
            sent: outcomes.sent,
            replied: answered(Wanted::Reply),
            acked: answered(Wanted::Ack),
            handled: outcomes.handled().filter(|_| wanted == Wanted::Nothing),
            lost: outcomes.lost,
            maybe_handled: outcomes.maybe_handled,
            timed_out: outcomes.timed_out,
            rejected: outcomes.rejected,
            cancelled: outcomes.cancelled,
            undelivered: record.undelivered,
            unreported: outcomes.unreported,
            mismatched: outcomes.mismatched,
            duplicated: outcomes.doubled(),
            reordered: outcomes.disordered(),
            reconnects: record.reconnects(),
            resumed: record.resumed,
            sessions_lost: record.sessions_lost,
            p50_ms: latency.map(|metrics| milliseconds(metrics.latency_p50)),
            p99_ms: latency.map(|metrics| milliseconds(metrics.latency_p99)),
            seconds: decimal_seconds(took),
        }
    }

    /// As a table. Rows of what never happened to most people show only when it did.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(["", "count"]);
        let mut row = |name: &str, count: Option<u64>| {
            if let Some(count) = count {
                table.row([name.to_owned(), grouped(count)]);
            }
        };
        let seen = |count: u64| (count > 0).then_some(count);
        row("sent", Some(self.sent));
        row("replied", self.replied);
        row("acked", self.acked);
        row("handled", self.handled);
        row("lost, reported", Some(self.lost));
        row("  maybe handled", seen(self.maybe_handled));
        row("undelivered, reported", seen(self.undelivered));
        row("timed out", Some(self.timed_out));
        row("rejected", Some(self.rejected));
        row("cancelled", seen(self.cancelled));
        row("lost without a report", Some(self.unreported));
        row("answered with something else", seen(self.mismatched));
        row("handled twice", self.duplicated);
        row("out of order", self.reordered);
        row("reconnects", Some(self.reconnects));
        row("sessions resumed", Some(self.resumed));
        row("sessions lost", Some(self.sessions_lost));
        for (name, latency) in [("p50 (ms)", self.p50_ms), ("p99 (ms)", self.p99_ms)] {
            if let Some(latency) = latency {
                table.row([name.to_owned(), format!("{latency:.2}")]);
            }
        }
        table.row(["seconds".to_owned(), format!("{:.1}", self.seconds)]);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: u64, handled: u64, doubled: u64) -> Account {
        Account {
            id,
            handled,
            doubled,
            disordered: 0,
        }
    }

    #[test]
    fn accounts_of_several_sessions_add_up_and_old_ones_change_nothing() {
        let mut outcomes = Outcomes::default();
        assert_eq!(outcomes.doubled(), None);
        outcomes.account(account(1, 10, 1));
        outcomes.account(account(2, 5, 0));
        outcomes.account(account(1, 9, 0));
        assert_eq!(outcomes.handled(), Some(15));
        assert_eq!(outcomes.doubled(), Some(1));
        assert_eq!(outcomes.disordered(), Some(0));
    }

    #[test]
    fn only_broken_promises_count_as_broken() {
        let mut outcomes = Outcomes {
            sent: 10,
            lost: 3,
            timed_out: 2,
            rejected: 1,
            ..Outcomes::default()
        };
        outcomes.account(account(1, 7, 0));
        assert!(outcomes.broken_promises().is_empty());
        outcomes.unreported = 1;
        outcomes.account(account(1, 9, 2));
        assert_eq!(
            outcomes.broken_promises(),
            ["1 lost without a report", "2 handled twice"]
        );
    }
}
