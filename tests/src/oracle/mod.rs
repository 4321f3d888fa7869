//! What every application sees of a sound library: one oracle for simulations, property tests and
//! fuzzers.
//!
//! An [`Oracle`] watches from outside. It is told what each application asked of its node
//! ([`Oracle::sent`], [`Oracle::answered`], …), what each node told its application
//! ([`Oracle::event`]), and may look at nodes ([`Oracle::look`]); it knows nothing of how the
//! datagrams went. What it finds wrong is a [`Violation`]:
//!
//! 1. What is acked was handed to the peer's application once; what is not, is reported.
//! 2. Nothing is handed over twice, across any number of resumes, and nothing but what was sent.
//! 3. Each lane keeps its order, without gaps; best effort may have gaps, and never goes back.
//! 4. A promise settles once, by its deadline, as what the peer's application answered, or for a reason. That
//!    one hears no more of the deadline than there is.
//! 5. Nothing outgrows its limit, and no node what its limits allow it to hold in memory.
//! 6. Sound peers find no fault with each other, neither session nor message is lost without a cause, and no
//!    session is kept for longer than it is retained.
//! 7. In the end everything is settled, and who waits for room is told.
//! 8. A silent peer is found dead in time, and not before; between sound peers, links stay.
//! 9. Redial delays keep to their envelope, and are drawn; they are counted, and kept to.
//! 10. Whom a server does not let in its application is told of once, for what was decided, and of nobody else.
//!
//! Messages are made from their numbers ([`body`], [`tag_of`]), so that what arrives is known for what was
//! sent, whole and unchanged.

mod bodies;
mod causes;
mod deliveries;
mod events;
mod memory;
mod redials;
mod refusals;
mod sessions;
#[cfg(test)]
mod tests;
mod views;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{
    ClientId, CommandError, Config, DeliveryKey, Lane, LinkKey, Outcome, PromiseKey, SessionKey,
    StatusCode, Tag,
};

pub use self::bodies::{body, number_of, tag_of};
use self::causes::Held;
use self::refusals::Refusals;
use self::sessions::SessionState;
use self::windows::Windows;

/// How late anything may be that is due.
const TICK: Duration = Duration::from_millis(1);

/// Something that no application may ever see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which of the [list](self).
    pub invariant: u8,
    /// When, since the oracle was made.
    pub at: Duration,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            invariant,
            at,
            what,
        } = self;
        write!(f, "invariant {invariant}, after {at:?}: {what}")
    }
}

/// One side of a session, from its beginning to its loss or end, in one process of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    node: usize,
    process: u32,
    session: SessionKey,
    /// How often the session had been lost.
    life: u32,
}

/// What the oracle knows of one side.
#[derive(Debug, Default)]
struct Ledger {
    /// The other one, once messages have shown who it is.
    peer: Option<Side>,
    /// The numbers of the messages that were sent in each lane, and how many of them, in that
    /// order, were handed over or need not be.
    lanes: BTreeMap<Lane, (Vec<u64>, usize)>,
    /// The latest best-effort message that came, by its key where the sender keeps order by key.
    best_effort: BTreeMap<(usize, Option<u64>), u64>,
}

/// How a message was sent, and what became of it.
#[derive(Debug)]
struct Letter {
    node: usize,
    process: u32,
    sent: Instant,
    size: usize,
    way: Way,
    /// To whom it was handed.
    handed: BTreeSet<Side>,
    answer: Option<Answer>,
}

#[derive(Debug)]
enum Way {
    Reliable {
        from: Side,
        lane: Lane,
        position: usize,
        promise: Option<PromiseKey>,
        is_request: bool,
        /// How long the sender waits; `None`: not at all, or for ever.
        patience: Option<Duration>,
        /// It ended otherwise than by an answer: whoever waits for those behind it need not wait
        /// for it. `Some(false)`: and the peer cannot have it.
        given_up: Option<bool>,
    },
    BestEffort {
        audience: BTreeSet<Side>,
        key: Option<u64>,
    },
}

/// What an application answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It accepts a message.
    Ack,
    /// It replies with this tag and body.
    Reply(Tag, Bytes),
    /// It rejects with this code.
    Reject(StatusCode),
}

/// What a message that is sent reliably waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// For nothing.
    Not,
    /// For an ack, for so long; `None`: for ever.
    ForAck(PromiseKey, Option<Duration>),
    /// For a reply.
    ForReply(PromiseKey, Option<Duration>),
}

/// A promise that a node made to its application.
#[derive(Debug)]
struct Pledge {
    number: u64,
    deadline: Option<Instant>,
    /// The application has cancelled it.
    given_up: bool,
    settled: Option<Outcome>,
}

impl Process {
    /// When what is due at that time must have happened.
    fn latest(&self, due: Instant) -> Instant {
        due.max(self.stalled) + self.lag + TICK
    }
}

/// A node's process.
struct Process {
    number: u32,
    runs: bool,
    config: Config,
    /// Until when it was paused or late.
    stalled: Instant,
    /// How late its timers come.
    lag: Duration,
    sessions: BTreeMap<SessionKey, SessionState>,
    /// The numbers of what its application was handed.
    deliveries: BTreeMap<DeliveryKey, u64>,
    /// Clients that its application was asked about, and when.
    asked: BTreeMap<LinkKey, (ClientId, Instant)>,
    /// The same of those that it has let in, and that have not come by then.
    let_in: BTreeMap<ClientId, Instant>,
    refusals: Refusals,
    pledges: BTreeMap<PromiseKey, Pledge>,
    windows: Windows,
    held: BTreeMap<SessionKey, Held>,
    /// Deadlines of those that have not settled.
    due: BTreeSet<(Instant, PromiseKey)>,
    /// Sessions that are over, as their messages have said, and since when: the word of it has to follow.
    owes_end: BTreeMap<SessionKey, Instant>,
    /// Sessions that were refused something for want of room.
    wants_room: BTreeSet<SessionKey>,
    /// When its drain is over at the latest.
    drained_by: Option<Instant>,
    drains: bool,
    /// Bytes of all bodies that its application gave it.
    given: usize,
    /// The most links and sessions that it was seen to have at once.
    most_places: usize,
}

/// Watches nodes and their applications, and says what is wrong: see the [module](self).
pub struct Oracle {
    start: Instant,
    processes: BTreeMap<usize, Process>,
    ledgers: BTreeMap<Side, Ledger>,
    letters: BTreeMap<u64, Letter>,
    /// When an application closed a session of the client, or a server's ended.
    closed: BTreeMap<ClientId, Instant>,
    /// When a process that served somebody last ended, or was told to drain.
    server_gone: Option<Instant>,
    /// The shortest interval between heartbeats that any node has.
    shortest_interval: Option<Duration>,
    violations: Vec<Violation>,
}

impl Oracle {
    /// An oracle that has seen nothing.
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            processes: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            letters: BTreeMap::new(),
            closed: BTreeMap::new(),
            server_gone: None,
            shortest_interval: None,
            violations: Vec::new(),
        }
    }

    /// What was found so far, oldest first.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// A node's process begins, the node's first or another.
    pub fn started(&mut self, now: Instant, node: usize, config: &Config) {
        let number = self.processes.get(&node).map_or(0, |p| p.number + 1);
        let interval = config.heartbeat.interval;
        self.shortest_interval = Some(self.shortest_interval.map_or(interval, |i| i.min(interval)));
        let process = Process {
            number,
            runs: true,
            config: config.clone(),
            stalled: now,
            lag: Duration::ZERO,
            sessions: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            asked: BTreeMap::new(),
            let_in: BTreeMap::new(),
            refusals: Refusals::default(),
            pledges: BTreeMap::new(),
            windows: Windows::default(),
            held: BTreeMap::new(),
            due: BTreeSet::new(),
            owes_end: BTreeMap::new(),
            wants_room: BTreeSet::new(),
            drained_by: None,
            drains: false,
            given: 0,
            most_places: 0,
        };
        self.processes.insert(node, process);
    }

    /// A node's process has crashed: nobody hears from it any more, nor is it owed anything.
    pub fn ended(&mut self, now: Instant, node: usize) {
        if let Some(process) = self.processes.get_mut(&node) {
            process.runs = false;
            if process.sessions.values().any(|state| !state.dialled) {
                self.server_gone = Some(now);
            }
        }
    }

    /// A node's process gets its timeouts so late from now on.
    pub fn lags(&mut self, now: Instant, node: usize, by: Duration) {
        if let Some(process) = self.processes.get_mut(&node) {
            // What it wants by now comes as late as it was to come.
            process.stalled = process.stalled.max(now + process.lag);
            process.lag = by;
        }
    }

    /// A node was paused until now.
    pub fn stalled(&mut self, now: Instant, node: usize) {
        if let Some(process) = self.processes.get_mut(&node) {
            process.stalled = process.stalled.max(now);
        }
    }

    /// An application has begun a client session.
    pub fn connects(&mut self, now: Instant, node: usize, session: SessionKey, client: &ClientId) {
        if let Some(process) = self.processes.get_mut(&node) {
            let state = SessionState::dialled(now, client.clone());
            process.sessions.insert(session, state);
        }
    }

    /// An application has sent a [`body`] reliably, under its tag.
    pub fn sent(
        &mut self,
        now: Instant,
        node: usize,
        session: SessionKey,
        lane: Lane,
        body: &[u8],
        waits: Waits,
    ) {
        let Some(from) = self.side(node, session) else {
            return;
        };
        let Some(number) = number_of(body) else {
            return;
        };
        let (promise, timeout, is_request) = match waits {
            Waits::Not => (None, None, false),
            Waits::ForAck(promise, timeout) => (Some(promise), timeout, false),
            Waits::ForReply(promise, timeout) => (Some(promise), timeout, true),
        };
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        self.gives(node, body.len());
        let ledger = self.ledgers.entry(from).or_default();
        let (numbers, _) = ledger.lanes.entry(lane).or_default();
        let position = numbers.len();
        numbers.push(number);
        let letter = Letter {
            node,
            process: from.process,
            sent: now,
            size: body.len(),
            way: Way::Reliable {
                from,
                lane,
                position,
                promise,
                is_request,
                // What no clock shows does not come.
                patience: timeout.filter(|_| deadline.is_some()),
                given_up: None,
            },
            handed: BTreeSet::new(),
            answer: None,
        };
        self.letters.insert(number, letter);
        if let (Some(promise), Some(process)) = (promise, self.processes.get_mut(&node)) {
            process.due.extend(deadline.map(|at| (at, promise)));
            process.has_promised(session);
            let pledge = Pledge {
                number,
                deadline,
                given_up: false,
                settled: None,
            };
            if process.pledges.insert(promise, pledge).is_some() {
                self.violation(now, 4, format!("node {node} gave out {promise:?} twice"));
            }
        }
    }

    /// An application has sent a [`body`] as best effort to these sessions of its node, under its tag.
    pub fn sent_best_effort(
        &mut self,
        now: Instant,
        node: usize,
        audience: &[SessionKey],
        body: &[u8],
        key: Option<u64>,
    ) {
        let Some(number) = number_of(body) else {
            return;
        };
        self.gives(node, body.len());
        let sides = audience.iter();
        let audience = sides.filter_map(|to| self.side(node, *to)).collect();
        let process = self.processes.get(&node).map_or(0, |p| p.number);
        let letter = Letter {
            node,
            process,
            sent: now,
            size: body.len(),
            way: Way::BestEffort { audience, key },
            handed: BTreeSet::new(),
            answer: None,
        };
        self.letters.insert(number, letter);
    }

    /// A node gave a message back to its application.
    pub fn refused(&mut self, node: usize, session: SessionKey, error: &CommandError) {
        let full = matches!(error, CommandError::OutboxFull | CommandError::PromisesFull);
        if let Some(process) = self.processes.get_mut(&node).filter(|_| full) {
            process.wants_room.insert(session);
        }
    }

    /// An application has answered a delivery, and its node took that.
    pub fn answered(&mut self, now: Instant, node: usize, delivery: DeliveryKey, answer: Answer) {
        if let Answer::Reply(_, body) = &answer {
            self.gives(node, body.len());
        }
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let limits = &process.config.limits;
        process.windows.answered(now, delivery, &answer, limits);
        let number = process.deliveries.get(&delivery);
        if let Some(letter) = number.and_then(|number| self.letters.get_mut(number)) {
            letter.answer.get_or_insert(answer);
        }
    }

    /// An application has cancelled a promise, and its node took that.
    pub fn cancelled(&mut self, node: usize, promise: PromiseKey) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        if let Some(pledge) = process.pledges.get_mut(&promise) {
            pledge.given_up = true;
            process.holds_less(promise.session);
        }
    }

    /// An application closes a session.
    pub fn closes(&mut self, now: Instant, node: usize, session: SessionKey) {
        let process = self.processes.get_mut(&node);
        if let Some(state) = process.and_then(|p| p.sessions.get_mut(&session)) {
            state.closing = true;
            self.closed.insert(state.client.clone(), now);
        }
    }

    /// An application sends a client session elsewhere.
    pub fn redirects(&mut self, node: usize, session: SessionKey) {
        let process = self.processes.get_mut(&node);
        if let Some(state) = process.and_then(|p| p.sessions.get_mut(&session)) {
            state.redirected = true;
        }
    }

    /// An application drains its node.
    pub fn drains(&mut self, now: Instant, node: usize, deadline: Duration) {
        if let Some(process) = self.processes.get_mut(&node) {
            process.drained_by = Some(now + deadline);
            process.drains = true;
            self.server_gone = Some(now);
        }
    }

    /// To how many sessions a message was handed.
    pub fn handed(&self, number: u64) -> usize {
        self.letters.get(&number).map_or(0, |l| l.handed.len())
    }

    /// Whether a reliable message was handed over, or was given up by its node with a word of that.
    pub fn is_done(&self, number: u64) -> bool {
        self.handed(number) > 0
            || self.letters.get(&number).is_some_and(|letter| {
                let Way::Reliable { given_up, .. } = letter.way else {
                    return false;
                };
                given_up.is_some()
            })
    }

    /// How a promise of a node's present process has settled.
    pub fn outcome(&self, node: usize, promise: PromiseKey) -> Option<&Outcome> {
        let process = self.processes.get(&node)?;
        process.pledges.get(&promise)?.settled.as_ref()
    }

    /// Whether a session was refused something for want of room, and not told of room since.
    pub fn is_owed_room(&self, node: usize, session: SessionKey) -> bool {
        let process = self.processes.get(&node);
        process.is_some_and(|p| p.wants_room.contains(&session))
    }

    /// How many promises of running processes have not settled.
    pub fn pending(&self) -> usize {
        let running = self.processes.values().filter(|p| p.runs);
        let pledges = running.flat_map(|p| p.pledges.values());
        pledges.filter(|pledge| pledge.settled.is_none()).count()
    }

    /// Something that whoever drives the nodes has found.
    pub fn found(&mut self, now: Instant, invariant: u8, what: impl Into<String>) {
        self.violation(now, invariant, what.into());
    }

    fn gives(&mut self, node: usize, bytes: usize) {
        if let Some(process) = self.processes.get_mut(&node) {
            process.given += bytes;
        }
    }

    fn side(&self, node: usize, session: SessionKey) -> Option<Side> {
        let process = self.processes.get(&node)?;
        Some(Side {
            node,
            process: process.number,
            session,
            life: process.sessions.get(&session).map_or(0, |s| s.life),
        })
    }

    fn violation(&mut self, now: Instant, invariant: u8, what: String) {
        let at = now.saturating_duration_since(self.start);
        self.violations.push(Violation {
            invariant,
            at,
            what,
        });
    }
}
