//! Redial: where a client session's next connection goes, and when.

mod race;

pub(crate) use race::Race;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::backoff::Backoff;
use crate::config::Redial;
use crate::error::{CloseCode, DisconnectReason};
use crate::id::{LinkKey, SessionId};
use crate::steering::NAMING;

/// After so many dials in a row that were denied, a client that no server has welcomed yet gives up: about two seconds
/// after the first of them. One denial proves nothing, for whoever sees a first packet can answer it in the server's
/// place.
const DENIALS: u32 = 3;

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
    /// How many dials in a row were denied, the last one included.
    denials: u32,
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
            denials: 0,
        }
    }

    /// Whether this is one of the server's addresses.
    pub(crate) fn knows(&self, address: SocketAddr) -> bool {
        self.address == address || self.race.knows(address)
    }

    /// The address to dial first from now on.
    pub(crate) fn aim(&mut self, address: SocketAddr) {
        let before = std::mem::replace(&mut self.address, address);
        self.race.aimed(before, address);
    }

    /// A link ended. If it was a dial to one of several addresses, and a dial there makes no sense,
    /// that is what the others' silence will mean.
    pub(crate) fn link_ended(&mut self, link: LinkKey, reason: &DisconnectReason) {
        let useless = matches!(fate(reason, self.welcomed), Fate::Final | Fate::Denied);
        if self.race.ended(link) && useless {
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
        self.denials = match fate {
            Fate::Denied => self.denials + 1,
            _ => 0,
        };
        if fate == Fate::Final || self.denials >= DENIALS {
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
    /// The other side, or somebody in its place, cannot be what this client wants.
    Denied,
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
        // Certificates get renewed while servers roll; but a first connect that fails so again and again is a
        // mistake that a person has to mend.
        DisconnectReason::Certificate(_) | DisconnectReason::NoCommonProtocol if !welcomed => {
            Fate::Denied
        }
        // Time heals a clock that was not set yet, and a certificate that is not valid yet; those that have expired get
        // renewed.
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
        assert_eq!(fate(&untrusted, false), Fate::Denied);
        assert_eq!(fate(&untrusted, true), Fate::Retry);
        let expired = DisconnectReason::CertificateExpired(String::new());
        assert_eq!(fate(&expired, false), Fate::Retry);
    }

    #[test]
    fn what_anybody_can_forge_ends_a_client_only_in_a_row() {
        let redial = Redial {
            first: Duration::from_secs(1),
            ..Redial::default()
        };
        let address = ([192, 0, 2, 1], 4433).into();
        let mut dialing = Dialing::new(address, String::new(), "".into(), String::new(), redial);
        let mut after = |reason| dialing.after(Instant::now(), &reason, 0.0);
        let denied = || DisconnectReason::NoCommonProtocol;
        let mistrusted = || DisconnectReason::Certificate(String::new());
        for reason in [
            denied(),
            mistrusted(),
            DisconnectReason::ConnectTimeout,
            mistrusted(),
            denied(),
        ] {
            assert!(matches!(after(reason), Next::Redial(_)));
        }
        assert_eq!(after(denied()), Next::GiveUp);
    }
}
