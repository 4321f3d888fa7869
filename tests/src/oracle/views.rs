//! What nodes show of themselves, and what has to be so in the end.

use std::fmt::Display;
use std::time::Instant;

use trunkline_core::{LinkState, Node};

use super::{Oracle, Way};

/// What bookkeeping may add to a limit in bytes: the last message that was let in, and the weight
/// of envelopes.
const SLACK: usize = 1_024;

impl Oracle {
    /// Looks at a node: its sizes, its promises, its links. Call it after the node was drained.
    pub fn look(&mut self, now: Instant, node: usize, shown: &Node) {
        self.ends_are_told(now, node);
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        process.has_told_all();
        let limits = process.config.limits;
        let heartbeat = process.config.heartbeat;
        let mut wrong = Vec::new();
        let mut bound = |what: &dyn Display, is: usize, limit: usize| {
            if is > limit {
                wrong.push((5, format!("{what}: {is}, and at most {limit} may be")));
            }
        };
        let (mut sessions, mut promises, mut queued_bytes) = (0, 0, 0);
        for info in shown.sessions() {
            let session = info.session;
            sessions += 1;
            promises += info.promises;
            queued_bytes += info.queued_bytes;
            let queued = limits.outbox_bytes + limits.best_effort_bytes + SLACK;
            bound(
                &format_args!("bytes of {session:?}"),
                info.queued_bytes,
                queued,
            );
            bound(
                &format_args!("promises of {session:?}"),
                info.promises,
                limits.promises,
            );
            // Each lane for itself, and the best-effort one.
            let deliveries = limits.deliveries * (usize::from(limits.lanes) + 1);
            bound(
                &format_args!("deliveries of {session:?}"),
                info.deliveries,
                deliveries,
            );
        }
        bound(&"promises", promises, limits.promises_total);
        bound(&"sessions", sessions, limits.sessions);
        let metrics = shown.metrics(now);
        bound(&"promises in all", metrics.promises, promises);
        bound(
            &"bytes in all outboxes",
            metrics.outbox_bytes,
            limits.outbox_bytes_total + SLACK,
        );
        // What is queued is in outboxes, or waits as best effort.
        bound(
            &"bytes of best effort",
            queued_bytes.saturating_sub(metrics.outbox_bytes),
            limits.best_effort_bytes * sessions,
        );
        let patience = heartbeat.interval * heartbeat.misses;
        for info in shown.sessions() {
            let heard = info
                .last_heard
                .filter(|_| info.state == LinkState::Connected);
            if let Some(heard) = heard
                && now > process.latest(heard + patience)
            {
                let silence = now - heard;
                let what = format!(
                    "{:?} counts as connected after {silence:?} of silence",
                    info.session
                );
                wrong.push((8, what));
            }
        }
        if let Some((at, promise)) = process.due.first()
            && now > process.latest(*at)
        {
            let what = format!("{promise:?} was to settle {:?} ago", now - *at);
            wrong.push((4, what));
        }
        for info in shown.sessions() {
            if let Some(due) = process.kept_until(info.session)
                && now > process.latest(due)
            {
                let (session, by) = (info.session, now - due);
                let what = format!("{session:?} is kept {by:?} longer than it is retained");
                wrong.push((6, what));
            }
        }
        let late = process.drained_by.filter(|by| now > process.latest(*by));
        if let Some(by) = late {
            wrong.push((7, format!("its drain was to be over {:?} ago", now - by)));
        }
        for (invariant, what) in wrong {
            self.violation(now, invariant, format!("node {node}: {what}"));
        }
    }

    /// Everything has come to its end: nothing may be open any more.
    pub fn finish(&mut self, now: Instant) {
        let mut wrong = Vec::new();
        for (node, process) in self.processes.iter().filter(|(_, p)| p.runs) {
            for session in process.owes_end.keys() {
                let what = format!("node {node} said that {session:?} was over, and it is not");
                wrong.push((6, what));
            }
            for (promise, pledge) in &process.pledges {
                if pledge.settled.is_none() {
                    let number = pledge.number;
                    let what = format!("node {node}: {promise:?} (message {number}) never settled");
                    wrong.push((7, what));
                }
            }
        }
        for (number, letter) in &self.letters {
            let Way::Reliable {
                promise: None,
                given_up: None,
                lane,
                ..
            } = letter.way
            else {
                continue;
            };
            let sender = self.processes.get(&letter.node);
            let runs = sender.is_some_and(|p| p.runs && p.number == letter.process);
            if runs && letter.handed.is_empty() {
                let what = format!(
                    "message {number} of node {} in lane {lane} was neither handed over nor given back",
                    letter.node
                );
                wrong.push((1, what));
            }
        }
        for (invariant, what) in wrong {
            self.violation(now, invariant, what);
        }
    }
}
