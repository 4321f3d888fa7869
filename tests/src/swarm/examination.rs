//! Once all faults have healed: everybody is connected and settled within a minute, everything
//! works, and everything can be given up again without a trace.

use std::collections::BTreeSet;
use std::time::Duration;

use trunkline_core::{CloseCode, DrainPlan, LinkState, SessionId, SessionInfo, SessionsFull};

use super::plan::Kind;
use super::run::Run;

const SECOND: Duration = Duration::from_secs(1);
/// In which everybody has to be back.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// In which the last closed connection has to be forgotten.
const DRAINING: Duration = Duration::from_secs(600);

impl Run<'_> {
    /// `false`: something was wrong.
    pub(super) fn examine(&mut self) -> bool {
        self.heal();
        self.settle()
            && (!self.plan.converses || self.conversations())
            && self.room()
            && self.cancels()
            && self.broadcasts()
            && self.end()
    }

    pub(super) fn nodes(&self) -> std::ops::Range<usize> {
        0..self.indices.len()
    }

    fn heal(&mut self) {
        self.mend();
        for node in self.nodes() {
            self.wake(node);
            self.lag(node, Duration::ZERO);
            self.fill_send_buffer(node, None);
            if self.state[node].draining {
                self.kill(node, false);
            }
            self.start(node);
            let desk = &mut self.hall.borrow_mut().desks[node];
            desk.holds = false;
            desk.willing = true;
        }
    }

    pub(super) fn fail(&mut self, invariant: u8, what: String) -> bool {
        let now = self.world.now();
        self.hall.borrow_mut().oracle.found(now, invariant, what);
        false
    }

    /// Everybody comes back, and what is owed is answered.
    fn settle(&mut self) -> bool {
        let mut waited = Duration::ZERO;
        loop {
            for client in self.plan.servers..self.indices.len() {
                if self.hall.borrow().desks[client].sessions.is_empty() {
                    self.connect(client, client % self.plan.servers);
                }
            }
            self.answer_all();
            self.pass(SECOND / 2);
            waited += SECOND / 2;
            if !self.is_well() {
                return false;
            }
            let open = self.open();
            if open.is_none() {
                return true;
            }
            if waited >= PATIENCE {
                return self.fail(7, open.unwrap_or_default());
            }
        }
    }

    fn answer_all(&mut self) {
        let now = self.world.now();
        for node in self.nodes() {
            self.answers(now, node, usize::MAX, false);
        }
    }

    /// Sessions of a node that are of use.
    pub(super) fn sessions(&mut self, node: usize) -> Vec<SessionInfo> {
        self.world.node(self.indices[node]).sessions().collect()
    }

    /// Whom everything waits for, if it does.
    pub(super) fn open(&mut self) -> Option<String> {
        let pairs = self.linked_ids();
        for client in self.plan.servers..self.indices.len() {
            for info in self.sessions(client) {
                if !pairs.contains(&info.id) && !self.is_turned_away(&info) {
                    return Some(format!("node {client} is not connected: {}", told(&info)));
                }
            }
        }
        let is_open =
            |info: &&SessionInfo| (info.promises, info.queued_bytes, info.deliveries) != (0, 0, 0);
        for node in self.nodes() {
            if let Some(info) = self.among(node, &pairs).iter().find(is_open) {
                return Some(format!("node {node} has something open: {}", told(info)));
            }
        }
        None
    }

    /// A server does not keep it, and has no place for it, since others hold what there are, also such
    /// as have crashed.
    fn is_turned_away(&mut self, info: &SessionInfo) -> bool {
        let limits = self.plan.server.limits;
        (0..self.plan.servers).any(|server| {
            let held = self.sessions(server);
            let of_client = held.iter().filter(|other| other.client == info.client);
            let refuses = self.plan.server.sessions_full == SessionsFull::Refuse;
            let is_full = held.len() >= limits.sessions
                || refuses && of_client.count() >= limits.sessions_per_client;
            is_full && held.iter().all(|other| other.id != info.id)
        })
    }

    /// Sessions that both sides have a link for. Servers may have more, whose clients have crashed.
    pub(super) fn linked_ids(&mut self) -> BTreeSet<SessionId> {
        let mut sides = [BTreeSet::new(), BTreeSet::new()];
        for node in self.nodes() {
            let up = |info: &SessionInfo| info.state == LinkState::Connected;
            let ids = self.sessions(node).into_iter().filter(up);
            sides[usize::from(node < self.plan.servers)].extend(ids.map(|info| info.id));
        }
        let [clients, servers] = sides;
        clients.intersection(&servers).copied().collect()
    }

    /// A node's own among them.
    fn linked(&mut self, node: usize) -> Vec<SessionInfo> {
        let pairs = self.linked_ids();
        self.among(node, &pairs)
    }

    pub(super) fn among(&mut self, node: usize, ids: &BTreeSet<SessionId>) -> Vec<SessionInfo> {
        let mut own = self.sessions(node);
        own.retain(|info| ids.contains(&info.id));
        own
    }

    /// Who was refused something for want of room has heard of it, now that there is nothing else.
    fn room(&mut self) -> bool {
        let pairs = self.linked_ids();
        for node in self.nodes() {
            let linked = self.among(node, &pairs);
            // Sessions whose clients have crashed may hold what others wait for.
            if linked.len() < self.sessions(node).len() {
                continue;
            }
            for info in linked {
                if self.hall.borrow().oracle.is_owed_room(node, info.session) {
                    let what = format!("node {node} has room, and never said so: {}", told(&info));
                    return self.fail(7, what);
                }
            }
        }
        true
    }

    /// Who gives up a request that is being worked at, or runs out of time, is heard of.
    fn cancels(&mut self) -> bool {
        for node in self.nodes() {
            let mut hall = self.hall.borrow_mut();
            hall.desks[node].holds = true;
            hall.desks[node].cancelled.clear();
        }
        for (client, in_time) in [(self.plan.servers, true), (self.indices.len() - 1, false)] {
            let Some(asking) = self.linked(client).into_iter().next() else {
                continue;
            };
            let session = asking.session;
            let timeout = if in_time { Duration::MAX } else { 2 * SECOND };
            let kind = Kind::Asked(Some(timeout));
            if self.send(client, session, kind, None, 20).is_err() {
                continue;
            }
            let promise = self.hall.borrow().desks[client].promises.last().copied();
            self.pass(SECOND);
            if let Some(promise) = promise.filter(|_| in_time) {
                self.cancel(client, promise);
            }
            self.pass(2 * SECOND);
            let mut told = 0;
            for server in 0..self.plan.servers {
                let sessions = self.sessions(server);
                let asked = sessions.iter().find(|info| info.id == asking.id);
                let asked = asked.map(|info| info.session);
                let desk = &mut self.hall.borrow_mut().desks[server];
                let cancelled = std::mem::take(&mut desk.cancelled);
                // Others may run out of time as well.
                let of_it = cancelled.iter().filter(|one| Some(one.session) == asked);
                told += of_it.count();
            }
            if told != 1 && self.is_well() {
                return self.fail(4, format!("{told} cancels of one request were heard of"));
            }
            // The answer is owed all the same, and there may be room for no other request.
            self.answer_all();
            self.pass(SECOND);
        }
        for node in self.nodes() {
            self.hall.borrow_mut().desks[node].holds = false;
        }
        self.is_well()
    }

    /// A broadcast reaches all healthy links, however little their applications have room for: what
    /// was sent as best effort before comes first, as they answer for one message after the other.
    fn broadcasts(&mut self) -> bool {
        for server in 0..self.plan.servers {
            let expected = self.linked(server).len();
            let number = self.broadcast(server, None, None, None, 50);
            let (mut got, mut waited) = (0, Duration::ZERO);
            while got < expected && waited < PATIENCE && self.is_well() {
                self.answer_all();
                self.pass(SECOND / 10);
                waited += SECOND / 10;
                got = self.hall.borrow().oracle.handed(number);
            }
            if got != expected && self.is_well() {
                let what = format!("{got} of {expected} got a broadcast, and all was well");
                return self.fail(3, what);
            }
        }
        self.is_well()
    }

    fn has_links(&mut self, node: usize) -> bool {
        let now = self.world.now();
        let metrics = self.world.node(self.indices[node]).metrics(now);
        metrics.links_opened != metrics.links_closed
    }

    /// Clients take their leave, servers drain: nothing is left.
    fn end(&mut self) -> bool {
        for client in self.plan.servers..self.indices.len() {
            for info in self.sessions(client) {
                self.close(client, info.session, CloseCode::NORMAL);
            }
        }
        self.pass(self.plan.client.timeouts.close + SECOND);
        let deadline = 5 * SECOND;
        for server in 0..self.plan.servers {
            let plan = DrainPlan {
                deadline,
                retry_after: None,
                alternative: None,
            };
            self.drain(server, plan);
        }
        self.pass(deadline + SECOND);
        // QUIC keeps a closed connection for three probe timeouts, which are long where a pause has
        // made round trips look long.
        let mut waited = Duration::ZERO;
        while waited < DRAINING && self.is_well() && self.nodes().any(|node| self.has_links(node)) {
            self.pass(10 * SECOND);
            waited += 10 * SECOND;
        }
        if !self.is_well() {
            return false;
        }
        let now = self.world.now();
        self.hall.borrow_mut().oracle.finish(now);
        for node in self.nodes() {
            let machine = self.world.node(self.indices[node]);
            let metrics = machine.metrics(now);
            let links = metrics.links_opened - metrics.links_closed;
            let left = (metrics.sessions, metrics.promises, links);
            let left = (left, metrics.outbox_bytes, machine.poll_timeout().is_some());
            if left != ((0, 0, 0), 0, false) {
                let due = machine.poll_timeout().map(|at| at - now);
                let what = format!(
                    "node {node} has sessions, promises, links, outbox bytes and a timer left: {left:?}, {:?} in {due:?}",
                    machine.timeout_reason()
                );
                self.fail(5, what);
            }
        }
        // Nor is memory left of processes that are gone.
        for node in self.nodes() {
            self.kill(node, false);
        }
        self.is_well()
    }
}

/// A session in words, the same in each run: a world begins when its process reads the clock.
pub(super) fn told(info: &SessionInfo) -> String {
    let SessionInfo {
        session,
        client,
        state,
        epoch,
        queued_bytes,
        promises,
        deliveries,
        sent,
        received,
        ..
    } = info;
    format!(
        "{session:?} of {client}, {state:?}, epoch {epoch}, {promises} promises, {queued_bytes} bytes queued, {deliveries} deliveries, {sent} sent, {received} received"
    )
}
