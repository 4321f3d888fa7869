//! A link: our state over one connection, from the first packet to the last.

pub(crate) mod alike;
pub(crate) mod heads;
pub(crate) mod hello;
pub(crate) mod lanes;
pub(crate) mod milliseconds;

use std::time::{Duration, Instant};

use trunkline_proto as wire;

use crate::error::{CloseCode, DisconnectReason};
use crate::heartbeat::Heartbeat;
use crate::id::SessionKey;

/// How far a link has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// QUIC and TLS are at it.
    Handshake,
    /// Server: the client has not said who it is.
    AwaitsHello,
    /// Server: the application decides.
    AwaitsAdmission(Box<hello::ClientHello>),
    /// Server: the client was turned away with this code, and closes the connection.
    Refused(CloseCode),
    /// Client: hello is said.
    AwaitsWelcome {
        /// It asked for an earlier session, so nothing else is sent before the answer.
        resuming: bool,
    },
    /// Both sides know the session.
    Up,
    /// The connection is closing; nothing is read or written any more.
    Closed,
}

impl Stage {
    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }
}

/// The state over one connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stage: Stage,
    pub(crate) session: Option<SessionKey>,
    /// When the link must be admitted, or, if its client is refused, closed; `None` once it is up.
    pub(crate) stage_deadline: Option<Instant>,
    pub(crate) heartbeat: Option<Heartbeat>,
    /// The peer has said Close.
    pub(crate) peer_close: Option<PeerClose>,
    /// How often the peer has said that it leaves.
    pub(crate) drains: u8,
    /// The peer has said that it waits for receipts: none is put off.
    pub(crate) peer_awaits_receipts: bool,
    /// This side has said so.
    pub(crate) has_asked: bool,
}

/// A Close of the peer's that this side has not followed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerClose {
    pub(crate) code: CloseCode,
    pub(crate) reason: String,
    pub(crate) retry_after: Option<Duration>,
    /// It came in place of Welcome: no session was made of this link's hello.
    pub(crate) turns_away: bool,
    /// When this side closes the connection, whatever it has still to say.
    pub(crate) by: Instant,
}

impl PeerClose {
    /// How the link's end is reported.
    pub(crate) fn disconnect_reason(&self) -> DisconnectReason {
        DisconnectReason::Peer {
            code: self.code,
            reason: self.reason.clone(),
            retry_after: self.retry_after,
        }
    }
}

impl Link {
    pub(crate) fn new(now: Instant, admission: Duration, session: Option<SessionKey>) -> Self {
        Self {
            stage: Stage::Handshake,
            session,
            stage_deadline: Some(now + admission),
            heartbeat: None,
            peer_close: None,
            drains: 0,
            peer_awaits_receipts: false,
            has_asked: false,
        }
    }

    /// Whether messages may be written to it.
    pub(crate) fn carries_messages(&self) -> bool {
        matches!(
            self.stage,
            Stage::Up | Stage::AwaitsWelcome { resuming: false }
        )
    }

    pub(crate) fn is_up(&self) -> bool {
        self.stage.is_up()
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// The peer gave a sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.heard(now);
        }
    }

    /// The next instant at which something is due, QUIC aside.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let beat = self.heartbeat.as_ref().and_then(Heartbeat::next_deadline);
        let close = self.peer_close.as_ref().map(|close| close.by);
        [self.stage_deadline, beat, close]
            .into_iter()
            .flatten()
            .min()
    }
}

/// What the peer is ready to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerLimits {
    pub(crate) frame_bytes: usize,
    pub(crate) lanes: u8,
}

impl Default for PeerLimits {
    /// Before the peer has spoken: the largest frame, and the two lanes that always exist.
    fn default() -> Self {
        Self {
            frame_bytes: wire::FRAME_MAX,
            lanes: 2,
        }
    }
}

impl From<Option<wire::Limits>> for PeerLimits {
    fn from(limits: Option<wire::Limits>) -> Self {
        let Some(limits) = limits else {
            return Self::default();
        };
        Self {
            frame_bytes: (limits.frame_bytes as usize).clamp(wire::FRAME_MIN, wire::FRAME_MAX),
            lanes: limits.lanes.clamp(2, u32::from(wire::LANES_MAX)) as u8,
        }
    }
}
