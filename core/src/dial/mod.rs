//! Redial: where a client session's next connection goes, and when.

mod race;

pub use race::ADDRESSES_MAX;
pub(crate) use race::Race;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::backoff::Backoff;
use crate::config::Redial;
use crate::error::{CloseCode, DisconnectReason};
use crate::id::{LinkKey, SessionId};
use crate::steering::NAMING;

/// How a client session gets its links.
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) address: SocketAddr,
    /// The server's other addresses.
    pub(crate) race: Race,
    pub(crate) server_name: String,
    pub(crate) credentials: Bytes,
    pub(crate) agent: String,
    pub(crate) backoff: Backoff,
    /// How many hellos were written for the present session: if any, the server may know it.
    pub(crate) hellos: u64,
    /// The session that was offered with the last of them in case the one that it asks for is lost.
    pub(crate) offered: Option<SessionId>,
    /// What the destination id of the next connection is to begin with, so that it reaches whoever
    /// may know the session; `None`: any will do.
    pub(crate) route: Option<[u8; NAMING]>,
    /// A server has welcomed this client before, under this session or an earlier one.
    pub(crate) welcomed: bool,
}

/// What a client does after a link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Dial again after a delay, for the same session.
    Redial(Duration),
    /// The session is lost, if a server knew it; dial again after a delay, for a new one.
    StartOver(Duration),
    /// It makes no sense to go on.
    GiveUp,
}

impl Dialing {
    pub(crate) fn new(
        address: SocketAddr,
        server_name: String,
        credentials: Bytes,
        agent: String,
        redial: Redial,
    ) -> Self {
        Self {
            address,
            race: Race::default(),
            server_name,
            credentials,
            agent,
            backoff: Backoff::new(redial),
            hellos: 0,
            offered: None,
            route: None,
            welcomed: false,
        }
    }

    /// The address to dial first from now on.
    pub(crate) fn aim(&mut self, address: SocketAddr) {
        let before = std::mem::replace(&mut self.address, address);
        self.race.aimed(before, address);
    }

    /// A link ended. If it was a dial to one of several addresses, and a dial there makes no sense,
    /// that is what the others' silence will mean.
    pub(crate) fn link_ended(&mut self, link: LinkKey, reason: &DisconnectReason) {
        if self.race.ended(link) && fate(reason, self.welcomed) == Fate::Final {
            self.race.judged(reason);
        }
    }

    /// Decides what follows the end of a link; `random` jitters the delay.
    pub(crate) fn after(&mut self, now: Instant, reason: &DisconnectReason, random: f64) -> Next {
        self.backoff.disconnected(now);
        let fate = fate(reason, self.welcomed);
        if let DisconnectReason::Peer {
            retry_after: Some(hint),
            ..
        } = reason
        {
            self.backoff.hint(*hint);
        }
        if fate == Fate::Final {
            return Next::GiveUp;
        }
        match (self.backoff.next_delay(random), fate) {
            (None, _) => Next::GiveUp,
            (Some(delay), Fate::SessionGone) => Next::StartOver(delay),
            (Some(delay), _) => Next::Redial(delay),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Retry,
    SessionGone,
    Final,
}

fn fate(reason: &DisconnectReason, welcomed: bool) -> Fate {
    match reason {
        // Whoever says when to come back wants that, whatever the code.
        DisconnectReason::Peer {
            code,
            retry_after: Some(_),
            ..
        } => after_code(*code),
        // The table of close codes holds whichever side has found the fault.
        DisconnectReason::Peer { code, .. } | DisconnectReason::Local { code, .. } => {
            if code.redials() {
                after_code(*code)
            } else {
                Fate::Final
            }
        }
        // Certificates get renewed while servers roll; but a first connect that fails so is a
        // mistake that a person has to mend.
        DisconnectReason::Certificate(_) | DisconnectReason::NoCommonProtocol if !welcomed => {
            Fate::Final
        }
        _ => Fate::Retry,
    }
}

fn after_code(code: CloseCode) -> Fate {
    if code.resumes() {
        Fate::Retry
    } else {
        Fate::SessionGone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(code: CloseCode, retry_after: Option<Duration>) -> DisconnectReason {
        DisconnectReason::Peer {
            code,
            reason: String::new(),
            retry_after,
        }
    }

    #[test]
    fn a_client_gives_up_only_where_trying_again_cannot_help() {
        assert_eq!(fate(&peer(CloseCode::REFUSED, None), true), Fate::Final);
        assert_eq!(fate(&peer(CloseCode(1_000), None), true), Fate::Final);
        for code in [CloseCode::REFUSED, CloseCode::UNAUTHENTICATED] {
            assert_eq!(fate(&peer(code, Some(Duration::ZERO)), true), Fate::Retry);
        }
        for code in [CloseCode(1_000), CloseCode::NORMAL, CloseCode::SUPERSEDED] {
            let after = fate(&peer(code, Some(Duration::ZERO)), true);
            assert_eq!(after, Fate::SessionGone, "{code}");
        }
        assert_eq!(
            fate(&peer(CloseCode::HEARTBEAT_TIMEOUT, None), true),
            Fate::Retry
        );
        assert_eq!(
            fate(&peer(CloseCode::WRONG_TOKEN, None), true),
            Fate::SessionGone
        );
        let local = |code| DisconnectReason::Local {
            code,
            reason: String::new(),
        };
        assert_eq!(fate(&local(CloseCode::VERSION_MISMATCH), true), Fate::Final);
        assert_eq!(
            fate(&local(CloseCode::SEQUENCE_GAP), true),
            Fate::SessionGone
        );
        assert_eq!(fate(&local(CloseCode::SLOW_CONSUMER), true), Fate::Retry);
        assert_eq!(fate(&DisconnectReason::Reset, false), Fate::Retry);
        let untrusted = DisconnectReason::Certificate(String::new());
        assert_eq!(fate(&untrusted, false), Fate::Final);
        assert_eq!(fate(&untrusted, true), Fate::Retry);
    }
}
