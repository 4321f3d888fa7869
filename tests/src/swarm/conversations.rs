//! Once everybody is back: sessions carry messages, and keep their links.

use std::time::{Duration, Instant};

use trunkline_core::{ClientId, CommandError, SessionId, SessionKey, SessionsFull};

use super::examination::{PATIENCE, told};
use super::plan::Kind;
use super::run::Run;

const SECOND: Duration = Duration::from_secs(1);
/// Bytes of each message: no configuration of a run has less room than for one of them.
const SIZE: usize = 100;

/// A link of a session, by a node and its key there.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    node: usize,
    client: ClientId,
    session: SessionKey,
    id: SessionId,
    epoch: u64,
    since: Option<Instant>,
}

impl Run<'_> {
    /// Each session carries each kind of message, both ways, and keeps its link.
    pub(super) fn conversations(&mut self) -> bool {
        let forever = Some(Duration::MAX);
        let kinds = [Kind::Acked(forever), Kind::Asked(forever), Kind::Told];
        // With the first round, sessions whose links have gone unnoticed find that out, and such as have no
        // retention may be lost by that. From then on there is no excuse, but that a client's other
        // session takes a place.
        self.speak(kinds[0], false)
            && self.rest()
            && kinds.into_iter().all(|kind| self.speak(kind, true))
    }

    /// A message over each session from both sides, that comes, or is accounted for where that is not strict.
    fn speak(&mut self, kind: Kind, strictly: bool) -> bool {
        let mut numbers = Vec::new();
        let pairs = self.linked_ids();
        for node in self.nodes() {
            for info in self.among(node, &pairs) {
                match self.send(node, info.session, kind, None, SIZE) {
                    Ok(number) => numbers.push(number),
                    Err(error) if strictly && !self.is_full(node, error) => {
                        let what = format!(
                            "node {node} refused ({error}) what {} has room for",
                            told(&info)
                        );
                        return self.fail(7, what);
                    }
                    Err(_) => {}
                }
            }
        }
        self.arrives(&numbers, strictly)
    }

    /// Whether what all sessions of a node share is full, with a message of the others each.
    fn is_full(&mut self, node: usize, error: CommandError) -> bool {
        let now = self.world.now();
        let limits = self.plan.config(node).limits;
        let metrics = self.world.node(self.indices[node]).metrics(now);
        match error {
            CommandError::PromisesFull => metrics.promises >= limits.promises_total,
            CommandError::OutboxFull => metrics.outbox_bytes + SIZE > limits.outbox_bytes_total,
            _ => false,
        }
    }

    /// Messages come, and all is settled again. It takes a heartbeat where a server does not know yet
    /// that its client has moved.
    fn arrives(&mut self, numbers: &[u64], strictly: bool) -> bool {
        let mut waited = Duration::ZERO;
        loop {
            self.pass(SECOND / 2);
            waited += SECOND / 2;
            if !self.is_well() {
                return false;
            }
            let done = |number: &&u64| {
                let oracle = &self.hall.borrow().oracle;
                oracle.handed(**number) > 0 || !strictly && oracle.is_done(**number)
            };
            let missing = numbers.iter().find(|number| !done(number)).copied();
            let open = self.open();
            if missing.is_none() && open.is_none() {
                return true;
            }
            if waited >= PATIENCE {
                let what = format!("message {missing:?} has not come, and all was well; {open:?}");
                return self.fail(7, what);
            }
        }
    }

    /// Nobody says anything for longer than anybody's silence may last: all links stay.
    fn rest(&mut self) -> bool {
        let before = self.held();
        let intervals = [&self.plan.server, &self.plan.client].map(|config| {
            let heartbeat = config.heartbeat;
            (heartbeat.interval, heartbeat.misses)
        });
        let interval = intervals.iter().map(|(interval, _)| *interval).max();
        let misses = intervals.iter().map(|(_, misses)| *misses).max();
        self.pass(interval.unwrap_or_default() * (misses.unwrap_or_default() + 1));
        if !self.is_well() {
            return false;
        }
        let after = self.held();
        let has_flapped =
            |held: &&Held| !after.contains(held) && !self.is_replaced(held, &before, &after);
        let Some(gone) = before.iter().find(has_flapped) else {
            return true;
        };
        let (node, session) = (gone.node, gone.session);
        let now = self.world.node(self.indices[node]).session_info(session);
        let now = now.map_or_else(|| "it is gone".to_owned(), |info| told(&info));
        let what = format!(
            "a link of node {node} under epoch {} has flapped: {now}",
            gone.epoch
        );
        self.fail(8, what)
    }

    /// Whether another session of its client has taken its place. That one was away, or had been refused until then;
    /// whether there was no other place is what invariant 6 looks at.
    fn is_replaced(&mut self, gone: &Held, before: &[Held], after: &[Held]) -> bool {
        let node = self.world.node(self.indices[gone.node]);
        let is_over = node
            .session_info(gone.session)
            .is_none_or(|info| info.id != gone.id);
        // At the client it has another key: one of the same key has lost what it was.
        let is_newer = |held: &Held| {
            let is_other = |other: &Held| {
                other.id != held.id && (other.node, other.session) != (held.node, held.session)
            };
            held.node >= self.plan.servers
                && held.client == gone.client
                && before.iter().all(is_other)
        };
        let ends_oldest = self.plan.server.sessions_full == SessionsFull::EndOldest;
        ends_oldest && is_over && after.iter().any(is_newer)
    }

    /// The links of sessions that both sides have one for.
    fn held(&mut self) -> Vec<Held> {
        let pairs = self.linked_ids();
        let mut held = Vec::new();
        for node in self.nodes() {
            held.extend(self.among(node, &pairs).into_iter().map(|info| Held {
                node,
                client: info.client.clone(),
                session: info.session,
                id: info.id,
                epoch: info.epoch,
                since: info.connected_since,
            }));
        }
        held
    }
}
