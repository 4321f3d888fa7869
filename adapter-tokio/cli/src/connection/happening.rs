//! What happens to a connection, told by the driver as it happens.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use trunkline_tokio::{CloseCode, DisconnectReason, Hooks, Message, Peer, UndeliveredReason};

use crate::output::printable;

/// Something that happened to a client's connection.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// There is a link, for a new session.
    Connected(Option<SocketAddr>),
    /// There is a link again, for the same session.
    Resumed(Option<SocketAddr>),
    /// A link ended, or a dial failed; another dial follows.
    Disconnected(DisconnectReason),
    /// When it is.
    Reconnecting { attempt: u32, delay: Duration },
    /// The server has no such session any more.
    SessionLost,
    /// The server goes away, and takes nothing new.
    Draining {
        deadline: Duration,
        alternative: Option<String>,
    },
    /// A message that nobody waits for came back.
    Undelivered {
        reason: UndeliveredReason,
        maybe_delivered: bool,
    },
    /// It is over.
    Closed(DisconnectReason),
}

/// Passes on what the driver tells. None of it comes often.
pub(crate) struct Telling(pub(crate) mpsc::UnboundedSender<Happening>);

impl Telling {
    fn tell(&self, happening: Happening) {
        // Without a receiver the command is over, and nobody wants to know.
        let _ = self.0.send(happening);
    }
}

impl Hooks for Telling {
    fn connected(&self, peer: &Peer) {
        self.tell(Happening::Connected(peer.address()));
    }

    fn resumed(&self, peer: &Peer) {
        self.tell(Happening::Resumed(peer.address()));
    }

    fn disconnected(&self, _: &Peer, reason: &DisconnectReason, retained: bool) {
        if retained {
            self.tell(Happening::Disconnected(reason.clone()));
        }
    }

    fn reconnecting(&self, _: &Peer, attempt: u32, delay: Duration) {
        self.tell(Happening::Reconnecting { attempt, delay });
    }

    fn session_lost(&self, _: &Peer) {
        self.tell(Happening::SessionLost);
    }

    fn draining(&self, _: &Peer, deadline: Duration, alternative: Option<&str>) {
        self.tell(Happening::Draining {
            deadline,
            alternative: alternative.map(str::to_owned),
        });
    }

    fn undelivered(&self, _: &Peer, _: &Message, reason: UndeliveredReason, maybe_delivered: bool) {
        self.tell(Happening::Undelivered {
            reason,
            maybe_delivered,
        });
    }

    fn closed(&self, _: &Peer, reason: &DisconnectReason) {
        self.tell(Happening::Closed(reason.clone()));
    }
}

/// A reason, and what a person can do about it.
pub(crate) fn explained(reason: &DisconnectReason) -> String {
    let said = printable(&reason.to_string());
    match reason {
        DisconnectReason::Peer { code, .. } | DisconnectReason::Local { code, .. }
            if *code != CloseCode::NORMAL =>
        {
            format!("{said}. {}", code.advice())
        }
        DisconnectReason::Certificate(_) => format!(
            "{said}. Give the authority of the server's certificate with --ca, a name that it bears with \
             --server-name, and what the server wants to see of this client with --cert and --key"
        ),
        DisconnectReason::CertificateExpired(_) => {
            format!("{said}. Whoever has it must renew it, unless a clock is wrong")
        }
        _ => said,
    }
}
