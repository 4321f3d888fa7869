//! What has to hold once a script is over and the nodes are left alone: see [`super::node`].

use std::collections::BTreeSet;
use std::time::Duration;

use trunkline_core::{CloseCode, LinkState, SessionId, SessionInfo, SessionKey};

use crate::fuzz::Reached;

use super::Stage;
use super::party::answer;

/// How often applications do what is theirs to do, and how long it takes until all is settled: a link is
/// found dead, a session retained in vain, a drain over.
const TURN: Duration = Duration::from_secs(4);
const SETTLING: u32 = 50;
/// For so many turns more nothing happens.
const QUIET: u32 = 15;
/// A session that finds nobody dials once in so long at the most often, and tells so much of it.
const REDIAL_LEAST: Duration = Duration::from_millis(500);
const EVENTS_OF_A_REDIAL: u64 = 6;
/// In which the last connection is forgotten.
const FORGETTING: Duration = Duration::from_secs(600);

impl Stage {
    /// Everything is delivered and answered: everything settles, stays so, and can be given up.
    pub(super) fn finish(mut self) -> Reached {
        self.answers = true;
        for _ in 0..SETTLING {
            self.tend();
        }
        self.assert_settled();
        self.assert_quiet();
        self.close_all();
        let mut reached = self.reached;
        for party in &self.parties {
            let metrics = party.node.metrics(self.now);
            if metrics.clock_ran_back > 0 {
                reached.insert("a clock that ran back");
            }
            party.tally.assert_counted(&metrics);
        }
        reached
    }

    /// Applications do what is theirs to do, and time passes.
    fn tend(&mut self) {
        for at in 0..2 {
            while !self.parties[at].asking.is_empty() {
                self.admit(at, 0);
            }
            for (key, expects, body) in std::mem::take(&mut self.parties[at].owed) {
                let delivery = (key, expects, body);
                let now = self.now;
                let answer = answer(&mut self.parties[at].node, now, &delivery);
                if let Some(answer) = answer {
                    self.oracle.answered(self.now, at, key, answer);
                }
            }
            self.settle(at);
        }
        self.pass(TURN);
        self.assert_well();
    }

    /// Who can be connected is, at both ends, and nothing is under way there. What is open waits for a
    /// server that nobody finds.
    fn assert_settled(&self) {
        let [one, other] = [0, 1].map(|at| self.linked(at));
        assert_eq!(one, other, "links that one side has");
        for (at, party) in self.parties.iter().enumerate() {
            let peer = &self.parties[1 - at];
            let refuses = peer.drained || peer.config.limits.sessions_per_client == 1;
            for info in party.node.sessions() {
                if info.state == LinkState::Connected {
                    let open = (info.promises, info.queued_bytes, info.deliveries);
                    assert_eq!(open, (0, 0, 0), "of node {at}: {info:?}");
                } else {
                    let aim = party.aims.get(&info.session);
                    let lost = aim.is_some_and(|aim| *aim != peer.address || refuses);
                    assert!(lost, "node {at} is not connected to {aim:?}: {info:?}");
                }
            }
        }
    }

    /// Sessions that a node has a link for.
    fn linked(&self, at: usize) -> BTreeSet<SessionId> {
        let sessions = self.parties[at].node.sessions();
        let linked = sessions.filter(|info| info.state == LinkState::Connected);
        linked.map(|info| info.id).collect()
    }

    /// Links stay, and nothing is told of their sessions. Of the others, that they dial.
    fn assert_quiet(&mut self) {
        type Told = Vec<(SessionInfo, u64)>;
        let look = |stage: &Self| {
            stage.parties.each_ref().map(|party| {
                let sessions = party.node.sessions();
                let (linked, away): (Vec<_>, Vec<_>) =
                    sessions.partition(|info| info.state == LinkState::Connected);
                let told = |mut info: SessionInfo| {
                    // It is heard, and measured, all the time.
                    (info.last_heard, info.round_trip_time) = (None, None);
                    let told = party.tally.of(info.session);
                    (info, told)
                };
                let linked: Told = linked.into_iter().map(told).collect();
                (linked, away.len() as u64, party.tally.events)
            })
        };
        let before = look(self);
        for _ in 0..QUIET {
            self.tend();
        }
        let away: u64 = before.iter().map(|(_, away, _)| away).sum();
        let redials = (TURN * QUIET).as_millis() / REDIAL_LEAST.as_millis();
        let most = away * EVENTS_OF_A_REDIAL * redials as u64;
        for ((at, before), after) in before.iter().enumerate().zip(&look(self)) {
            assert_eq!(before.0, after.0, "the linked sessions of node {at}");
            let events = after.2 - before.2;
            assert!(
                events <= most,
                "{events} events of node {at}, for {away} dial"
            );
        }
    }

    /// All sessions are closed: no trace is left of them.
    fn close_all(&mut self) {
        for at in 0..2 {
            let sessions = self.parties[at].node.sessions();
            let sessions: Vec<SessionKey> = sessions.map(|info| info.session).collect();
            for session in sessions {
                self.oracle.closes(self.now, at, session);
                let now = self.now;
                let node = &mut self.parties[at].node;
                // It may be closing already.
                node.close(now, session, CloseCode::NORMAL, "").ok();
                self.settle(at);
            }
        }
        self.pass(FORGETTING);
        self.oracle.finish(self.now);
        self.assert_well();
        for (at, party) in self.parties.iter().enumerate() {
            let metrics = party.node.metrics(self.now);
            let left = (
                (metrics.sessions, metrics.connected, metrics.promises),
                (metrics.outbox_bytes, metrics.answer_bytes),
                metrics.links_opened - metrics.links_closed,
                party.node.poll_timeout().map(|due| due - self.now),
            );
            let owner = party.node.timeout_reason();
            assert_eq!(left, ((0, 0, 0), (0, 0), 0, None), "node {at}, {owner:?}");
            assert!(
                party.open.is_empty(),
                "node {at} has not settled {:?}",
                party.open
            );
        }
    }
}
