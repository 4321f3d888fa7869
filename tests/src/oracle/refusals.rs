//! Clients that ask to be let in: what was decided, and what their servers' applications are told of those that did
//! not come in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use trunkline_core::{ClientId, CloseCode, LinkKey, Node};

use super::Oracle;
use super::sessions::FAULTS;

/// Who came to a server's process, and who did not come in.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Whether its application has let in who came by a link, or has refused that.
    decided: BTreeMap<LinkKey, bool>,
    /// Links of clients that it was told of as refused.
    told: BTreeSet<LinkKey>,
    /// How often clients came in.
    pub(super) came: u64,
}

impl Oracle {
    /// An application lets in who has asked for it on a link.
    pub fn admits(&mut self, node: usize, link: LinkKey) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        process.refusals.decided.insert(link, true);
        if let Some((client, asked)) = process.asked.remove(&link) {
            // Of several links of a client, the first to be told of may be any of them.
            let let_in = process.let_in.entry(client).or_insert(asked);
            *let_in = asked.min(*let_in);
        }
    }

    /// An application refuses to let in a client that has asked for it on a link.
    pub fn refuses(&mut self, now: Instant, node: usize, link: LinkKey, client: &ClientId) {
        self.closed.insert(client.clone(), now);
        if let Some(process) = self.processes.get_mut(&node) {
            process.refusals.decided.insert(link, false);
        }
    }

    pub(super) fn told_refused(
        &mut self,
        now: Instant,
        node: usize,
        link: LinkKey,
        client: &ClientId,
        code: CloseCode,
    ) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let by_application = process.refusals.decided.get(&link) == Some(&false);
        let asked = process.asked.get(&link);
        let wrong = if !process.refusals.told.insert(link) {
            Some((10, "it was told of before"))
        } else if by_application != (code == CloseCode::REFUSED) {
            Some((10, "its application decided otherwise"))
        } else if code == CloseCode::GOING_AWAY && !process.drains {
            Some((10, "it does not drain"))
        } else if asked.is_some_and(|(other, _)| other != client) {
            Some((10, "another client asked"))
        } else if FAULTS.contains(&code) {
            Some((6, "its peer is sound"))
        } else {
            None
        };
        if let Some((invariant, why)) = wrong {
            let what = format!("node {node} has refused {client} on {link:?} ({code}): {why}");
            self.violation(now, invariant, what);
        }
    }

    /// Holds what a node has told of refusals against what it counts. Call it after the node was drained, if all of
    /// its events were told to the oracle.
    pub fn count_refusals(&mut self, now: Instant, node: usize, shown: &Node) {
        let Some(process) = self.processes.get(&node) else {
            return;
        };
        let Refusals {
            decided,
            told,
            came,
        } = &process.refusals;
        let metrics = shown.metrics(now);
        let untold = metrics.refusals_untold;
        let mut wrong = Vec::new();
        if told.len() as u64 + untold != metrics.clients_refused {
            let (told, all) = (told.len(), metrics.clients_refused);
            wrong.push(format!(
                "{told} refusals were told and {untold} were not, of {all}"
            ));
        }
        // Whom its application lets in comes in, or is refused all the same.
        let let_in: Vec<_> = decided.iter().filter(|(_, let_in)| **let_in).collect();
        let refused = let_in.iter().filter(|(link, _)| told.contains(link));
        let refused = refused.count() as u64;
        let all = let_in.len() as u64;
        if !decided.is_empty() && untold == 0 && came + refused != all {
            wrong.push(format!(
                "{came} of {all} clients that were let in came, and {refused} were refused"
            ));
        }
        for what in wrong {
            self.violation(now, 10, format!("node {node}: {what}"));
        }
    }
}
