//! Which faults of processes took effect in a run: most of those that are drawn meet a process that
//! has nothing to lose just then.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use trunkline_core::{LinkState, Node, SessionInfo, SessionKey};

use super::tally::Tally;

/// How often which fault of a process took effect while faults lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Tally);

/// All of them.
const KINDS: [&str; 16] = [
    SERVER_IS_BACK,
    SERVER_IS_BACK_WITHOUT_KEYS,
    CLIENT_IS_BACK,
    WAKES,
    FOLLOWED,
    FOLLOWED_BACK,
    LATE,
    A_DAY_ON,
    A_DAY_BACK,
    DRAINS,
    SENT_ELSEWHERE,
    SLOW,
    CANCELLED,
    CANCEL_HEARD,
    CLOSED,
    RENEWED,
];

const SERVER_IS_BACK: &str = "a server with sessions crashed, and is back with its keys";
const SERVER_IS_BACK_WITHOUT_KEYS: &str = "a server with sessions crashed, and is back without";
const CLIENT_IS_BACK: &str = "a client with sessions crashed, and is back";
pub(super) const WAKES: &str = "a paused process woke to what had come";
const FOLLOWED: &str = "a client moved, and its link with it";
const FOLLOWED_BACK: &str = "a client moved back, and its link with it";
pub(super) const LATE: &str = "a timeout was late";
const A_DAY_ON: &str = "a process began a day after the one before";
const A_DAY_BACK: &str = "a process began a day before the one before";
pub(super) const DRAINS: &str = "a client heard that its server drains";
const SENT_ELSEWHERE: &str = "a client came to the server that it was sent to";
pub(super) const SLOW: &str = "a message came to a slow consumer";
pub(super) const CANCELLED: &str = "a promise was cancelled";
pub(super) const CANCEL_HEARD: &str = "a delivery's sender gave it up";
pub(super) const CLOSED: &str = "a session was closed";
pub(super) const RENEWED: &str = "a node with sessions shows another certificate";

impl Faults {
    /// Which never did.
    pub fn missing(&self) -> Vec<&'static str> {
        self.0.missing(&KINDS)
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0);
    }

    pub(super) fn count(&mut self, kind: &'static str) {
        debug_assert!(KINDS.contains(&kind), "{kind} is not in the list");
        self.0.count(kind, 1);
    }
}

/// A node to which something was done that shows later.
#[derive(Debug)]
pub(super) struct Harmed {
    /// What it counts as that its process has ended, once there is another.
    crashed: Option<&'static str>,
    moved: Option<Moved>,
    sent: Vec<Sent>,
    /// What the wall clock was set to for the latest process.
    wall: SystemTime,
}

/// A client has another address.
#[derive(Debug)]
struct Moved {
    at: Instant,
    to: SocketAddr,
    counts_as: &'static str,
}

/// A client was sent to another server.
#[derive(Debug)]
struct Sent {
    at: Instant,
    session: SessionKey,
    to: SocketAddr,
}

impl Harmed {
    pub(super) fn new(wall: SystemTime) -> Self {
        Self {
            crashed: None,
            moved: None,
            sent: Vec::new(),
            wall,
        }
    }

    /// Its process is about to end.
    pub(super) fn crashes(&mut self, node: &Node, serves: bool, keys_lost: bool) {
        let has_sessions = node.sessions().next().is_some();
        self.crashed = has_sessions.then_some(match (serves, keys_lost) {
            (true, false) => SERVER_IS_BACK,
            (true, true) => SERVER_IS_BACK_WITHOUT_KEYS,
            (false, _) => CLIENT_IS_BACK,
        });
        self.moved = None;
        self.sent.clear();
    }

    /// Another process of it begins.
    pub(super) fn starts(&mut self, wall: SystemTime, faults: &mut Faults) {
        if let Some(crashed) = self.crashed.take() {
            faults.count(crashed);
        }
        match std::mem::replace(&mut self.wall, wall) {
            before if before < wall => faults.count(A_DAY_ON),
            before if before > wall => faults.count(A_DAY_BACK),
            _ => {}
        }
    }

    /// It has another address, at which servers have no session.
    pub(super) fn moves(&mut self, at: Instant, to: SocketAddr, back: bool) {
        let counts_as = if back { FOLLOWED_BACK } else { FOLLOWED };
        self.moved = Some(Moved { at, to, counts_as });
    }

    /// It moved to where a server takes it to be already.
    pub(super) fn moves_unseen(&mut self) {
        self.moved = None;
    }

    /// Its next dials for a session go to another server.
    pub(super) fn is_sent(&mut self, at: Instant, session: SessionKey, to: SocketAddr) {
        self.sent.push(Sent { at, session, to });
    }

    /// Whether servers are to be looked at.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.is_some()
    }

    /// A session of some server.
    pub(super) fn look_at_server(&mut self, info: &SessionInfo, faults: &mut Faults) {
        let followed = |moved: &mut Moved| {
            let at = (info.state, info.address) == (LinkState::Connected, Some(moved.to));
            at && info.connected_since.is_some_and(|since| since < moved.at)
        };
        if let Some(moved) = self.moved.take_if(followed) {
            faults.count(moved.counts_as);
        }
    }

    /// The node itself.
    pub(super) fn look(&mut self, node: &Node, faults: &mut Faults) {
        self.sent.retain(|sent| {
            let Some(info) = node.session_info(sent.session) else {
                return false;
            };
            let there = (info.state, info.address) == (LinkState::Connected, Some(sent.to));
            let there = there && info.connected_since.is_some_and(|since| since > sent.at);
            if there {
                faults.count(SENT_ELSEWHERE);
            }
            !there
        });
    }
}
