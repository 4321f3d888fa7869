//! The node: the whole machine of one process. It applies what the machines below decide, and is
//! the public face.

mod admission;
mod broadcast;
mod by_client;
mod closing;
mod connect;
mod control;
mod crowd;
mod drain;
mod events;
mod events_shown;
mod failures;
mod half_open;
mod identities;
mod input;
mod lifecycle;
mod link_end;
mod log;
mod membership;
mod messages;
mod misfits;
mod moves;
mod promises;
mod queue;
mod race;
mod receipts;
mod receive;
mod refusals;
mod returns;
mod roles;
mod room;
mod scripted;
mod strangers;
mod tables;
mod takeover;
mod tapped;
#[cfg(test)]
mod tests;
mod throttle;
mod transmit;
mod views;
mod wall;
mod welcome;

pub use crate::quic::{Said, ScriptEvent, ScriptStream};
pub use admission::Refusal;
pub use broadcast::{Audience, Broadcast};
pub use connect::Dial;
pub use drain::DrainPlan;
pub use events::{AdmissionRequest, Event};
pub use input::{Datagram, Ecn, Input};
pub use roles::{Admission, ClientRole, Origin, Roles, ServerRole};
#[cfg(any(feature = "planted", feature = "fuzzing"))]
#[doc(hidden)]
pub use scripted::ScriptedNode;
pub use scripted::ScriptedRoles;
pub use transmit::Transmit;
pub use views::{LinkState, SessionInfo};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::cohorts::Cohorts;
use crate::config::Config;
use crate::dirty::DirtyQueue;
use crate::error::ConfigError;
use crate::groups::Groups;
use crate::id::{LinkKey, PromiseKey, SessionId, SessionKey};
use crate::link::alike::Alike;
use crate::metrics::Metrics;
use crate::planted::{Bug, planted};
use crate::quic::{Endpoint, Keys, SignatureTap};
use crate::seed::SeededRng;
use crate::tap::Call;
use crate::timers::{TimerSlot, Timers};

use self::by_client::ByClient;
use self::drain::Draining;
use self::failures::Failures;
use self::half_open::HalfOpen;
use self::queue::EventQueue;
use self::refusals::Refusals;
use self::returns::Returns;
use self::room::Room;
use self::strangers::Strangers;
use self::tables::{LinkEntry, Session};
use self::tapped::Tapped;

/// The whole machine of one process: any number of peers, client and server at once.
///
/// One thread owns it and drives it: after each call of [`handle_input`](Node::handle_input) or of
/// a command, drain [`poll_transmit`](Node::poll_transmit) and [`poll_event`](Node::poll_event)
/// until both say `None`; then wait for a datagram, or for [`poll_timeout`](Node::poll_timeout).
///
/// A node that is dropped says nothing: its peers find it dead after three heartbeats, and what was not delivered does not
/// come back as [`Event::Undelivered`]. [Drain](Node::drain) it, or [close](Node::close) its sessions, and go on until
/// `poll_timeout` is `None`.
pub struct Node {
    config: Config,
    /// What its certificates are made from; those of a scripted node are none.
    roles: Roles,
    admission: Option<Admission>,
    origin: Instant,
    now: Instant,
    /// From `origin` to `now`.
    age: Duration,
    endpoint: Endpoint,
    links: Arena<LinkKey, LinkEntry>,
    /// The link of each of QUIC's connection handles.
    by_handle: Vec<Option<LinkKey>>,
    /// Links that nobody was admitted over, until they are forgotten.
    half_open: HalfOpen,
    failures: Failures,
    sessions: Arena<SessionKey, Session>,
    /// A server's sessions by their name on the wire.
    by_id: BTreeMap<SessionId, SessionKey>,
    sessions_of: ByClient,
    /// How many hellos have come.
    hellos: u64,
    /// Promises of all sessions.
    promises: usize,
    room: Room,
    groups: Groups,
    timers: Timers<Owner>,
    /// Deadlines of promises; `timers` watches those of each timeout.
    promise_deadlines: Cohorts<PromiseKey, TimerSlot>,
    /// Links with work to do.
    dirty: DirtyQueue,
    /// Links that may have packets to send.
    sending: DirtyQueue,
    /// The last datagram was no link's, and more of those wait.
    links_turn: bool,
    /// Broadcasts that links share.
    alike: Alike,
    /// Links that have more to read than the event queue could take.
    starved: DirtyQueue,
    /// Links that have more to read once others' peers have taken their answers.
    crowded_out: DirtyQueue,
    events: EventQueue,
    /// Links whose peers have moved.
    moves: DirtyQueue,
    refusals: Refusals,
    strangers: Strangers,
    metrics: Metrics,
    random: SeededRng,
    draining: Option<Draining>,
    returns: Returns,
    tap: Option<Tapped>,
}

/// Whom a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutReason {
    /// QUIC, heartbeat or admission of a link.
    Link(LinkKey),
    /// Redial, a server's next address, or retention of a session.
    Session(SessionKey),
    /// The time that closing a session in order may take.
    Close(SessionKey),
    /// What a session has received is to be reported.
    Receipt(SessionKey),
    /// Promises that were given so much time.
    Promises(Duration),
    /// Sessions that wait for room which others share, and whose turn it may be.
    Room,
    /// The drain's deadline.
    Drain,
    /// Events, packets or work are waiting to be drained.
    Undrained,
}

type Owner = TimeoutReason;

/// What it is and how much it has, and nothing that is secret.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("shard", &self.config.shard)
            .field("admission", &self.admission)
            .field("dials", &self.endpoint.has_client_role())
            .field("age", &self.age)
            .field("sessions", &self.sessions.len())
            .field("links", &self.links.len())
            .field("draining", &self.draining.is_some())
            .finish_non_exhaustive()
    }
}

/// Names what a node draws for itself, sessions' names and tokens and jitter, among all that comes
/// from its seed.
pub(crate) const RANDOM: &str = "node";

impl Node {
    /// Makes a node. `origin` is all that it ever learns of clocks and randomness by itself: the
    /// same configuration, origin and inputs give the same outputs, byte for byte.
    pub fn new(config: Config, roles: Roles, origin: Origin) -> Result<Self, ConfigError> {
        Self::with_signatures(config, roles, origin, None)
    }

    fn with_signatures(
        config: Config,
        roles: Roles,
        origin: Origin,
        signatures: Option<Arc<dyn SignatureTap>>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let Origin {
            now,
            wall,
            seed,
            keys,
        } = origin;
        let shard = config.shard;
        if shard.of > 1 && keys.is_none() {
            return Err(ConfigError::OutOfRange {
                field: "origin.keys",
                given: "none".into(),
                allowed: "with several shards, only the keys that all of them have",
            });
        }
        let server = match &roles.server {
            None => None,
            Some(server) => Some((&server.identity, server.client_certificates()?)),
        };
        let client = roles.client.as_ref();
        let client = client.map(|c| (&c.roots, c.identity.as_ref()));
        let keys = Keys {
            seed: &seed,
            now,
            wall,
            persistent: keys,
            server,
            client,
            signatures,
        };
        let endpoint = Endpoint::new(&config, &keys)?;
        let admission = roles.server.as_ref().map(|s| s.admission);
        let random = seed.rng(RANDOM, 0);
        Ok(Self {
            roles,
            ..Self::assembled(config, admission, endpoint, random, now)
        })
    }

    fn assembled(
        config: Config,
        admission: Option<Admission>,
        endpoint: Endpoint,
        random: SeededRng,
        now: Instant,
    ) -> Self {
        Self {
            roles: Roles::default(),
            admission,
            origin: now,
            now,
            age: Duration::ZERO,
            endpoint,
            links: Arena::default(),
            by_handle: Vec::new(),
            half_open: HalfOpen::new(config.limits.half_open),
            failures: Failures::new(
                config.timeouts.admission,
                config.limits.half_open_unvalidated,
            ),
            sessions: Arena::starting_at(SessionKey::first_slot(config.shard.number)),
            by_id: BTreeMap::new(),
            sessions_of: ByClient::default(),
            hellos: 0,
            promises: 0,
            room: Room::default(),
            groups: Groups::new(config.limits.groups, config.limits.groups_per_session),
            timers: Timers::default(),
            promise_deadlines: Cohorts::default(),
            dirty: DirtyQueue::default(),
            sending: DirtyQueue::default(),
            links_turn: false,
            alike: Alike::default(),
            starved: DirtyQueue::default(),
            crowded_out: DirtyQueue::default(),
            events: EventQueue::new(config.limits.event_messages, config.limits.event_bytes),
            moves: DirtyQueue::default(),
            refusals: Refusals::default(),
            strangers: Strangers::new(config.shard.of),
            metrics: Metrics::new(now),
            random,
            draining: None,
            returns: Returns::default(),
            tap: None,
            config,
        }
    }

    /// When to call [`handle_input`](Self::handle_input) with [`Input::Timeout`], unless something
    /// else comes first. It is O(1). After a timeout and a full drain it is `None` or later than
    /// that timeout; with something still undrained it is at once.
    ///
    /// `None`: there is no session and no link, and nothing is left to do or to send before an input or a command comes. A
    /// process may end then, once it has closed what it has or [drained](Self::drain).
    ///
    /// What QUIC sends is paced by it as well, often in steps of less than a millisecond. A loop that turns only every so
    /// often, as with a game's ticks, sends some ten packets a link in each turn: at 33 ms that is less than 1 MB a second,
    /// to a peer nearby that would get several hundred otherwise.
    ///
    /// While the socket takes nothing, there is something to be sent, and it is at once. Wait for the socket then, but not only:
    /// deadlines pass meanwhile. For `due.max(now + 1 ms)`, as the adapters do, neither is missed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.has_work() {
            return Some(self.now);
        }
        self.timers
            .next()
            .map(|(deadline, _)| deadline.max(self.now))
    }

    /// Whose deadline [`poll_timeout`](Self::poll_timeout) is.
    pub fn timeout_reason(&self) -> Option<TimeoutReason> {
        if self.has_work() {
            return Some(TimeoutReason::Undrained);
        }
        self.timers.next().map(|(_, owner)| owner)
    }

    /// The next thing that happened; call until it says `None`. [`Event::Refused`] and [`Event::Moved`] come
    /// when nothing else is left.
    pub fn poll_event(&mut self) -> Option<Event> {
        // Made in its place, not moved: see `EventQueue::push`.
        let mut event = self.poll_traced_event();
        if event.is_none() {
            event = self.poll_untraced_event();
        }
        event
    }

    /// The same of all that a trace tells of.
    pub(crate) fn poll_traced_event(&mut self) -> Option<Event> {
        if self.tap.is_none() {
            return self.next_event();
        }
        if !self.may_have_traced_events() {
            let event = self.next_event();
            self.turn_may_be_over();
            return event;
        }
        if let Some(tapped) = &mut self.tap {
            tapped.before_poll();
        }
        let event = self.next_event();
        if let Some(tapped) = &mut self.tap {
            tapped.event(event.as_ref());
        }
        event
    }

    /// What stands in no trace, if nothing else is left to be told.
    pub(crate) fn poll_untraced_event(&mut self) -> Option<Event> {
        if self.may_have_traced_events() {
            return None;
        }
        self.next_move().or_else(|| self.next_refusal())
    }

    /// How many events are there already; looking into what has come may bring more.
    #[cfg(feature = "driver")]
    pub(crate) fn events_waiting(&self) -> usize {
        self.events.len()
    }

    /// Whether [`Node::poll_event`] may have something to say.
    #[cfg(feature = "driver")]
    pub(crate) fn may_have_events(&self) -> bool {
        self.may_have_traced_events() || self.has_untraced_events()
    }

    fn has_untraced_events(&self) -> bool {
        !self.moves.is_empty() || !self.refusals.is_empty()
    }

    fn may_have_traced_events(&self) -> bool {
        !self.events.is_empty() || !self.dirty.is_empty()
    }

    fn next_event(&mut self) -> Option<Event> {
        loop {
            if self.events.release() {
                if self.events.has_room() {
                    let lives = |link| self.links.get(link).is_some();
                    self.starved.move_to(&mut self.dirty, lives);
                }
                return self.events.pop();
            }
            self.work_once().then_some(())?;
        }
    }

    /// The door that every input and every command goes through: time never runs backwards, and a tap
    /// hears of each.
    fn enter<'a>(&mut self, now: Instant, call: impl FnOnce() -> Call<'a>) -> Instant {
        if let Some(tapped) = &mut self.tap {
            tapped.call(now, call());
        }
        self.set_time(now)
    }

    fn set_time(&mut self, now: Instant) -> Instant {
        if now < self.now {
            self.metrics.clock_ran_back += 1;
        } else if now > self.now {
            self.now = now;
            self.age = now.saturating_duration_since(self.origin);
            self.endpoint.set_time(now);
        }
        self.now
    }

    fn has_work(&self) -> bool {
        if planted(Bug::StayQuiet) && self.dirty.is_empty() && self.sending.is_empty() {
            return !self.events.is_empty();
        }
        !self.events.is_empty() || self.has_untraced_events() || self.has_output()
    }

    /// Whether datagrams wait, or may come of what waits.
    fn has_output(&self) -> bool {
        !self.dirty.is_empty() || !self.sending.is_empty() || !self.endpoint.responses.is_empty()
    }

    /// Visits the link that has waited longest. `false`: no link has work.
    fn work_once(&mut self) -> bool {
        let Some(key) = self.dirty.pop() else {
            return false;
        };
        self.work(key);
        true
    }

    fn work(&mut self, key: LinkKey) {
        self.metrics.links_visited += 1;
        self.visit(key);
    }

    fn mark(&mut self, link: LinkKey) {
        self.dirty.mark(link);
    }

    fn mark_session(&mut self, session: SessionKey) {
        if let Some(link) = self.sessions.get(session).and_then(|s| s.link) {
            self.mark(link);
        }
    }
}
