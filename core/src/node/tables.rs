//! The entries of the node's tables.

use std::time::Instant;

use crate::dial::Dialing;
use crate::id::{ClientId, LinkKey};
use crate::link::hello::Wish;
use crate::link::{Link, PeerLimits};
use crate::quic::Carrier;
use crate::session::{Conversation, Tokens};
use crate::timers::TimerSlot;

use super::closing::Closing;
use super::half_open::Network;
use super::room::SessionRoom;

/// A link with the connection that carries it.
pub(super) struct LinkEntry {
    pub(super) link: Link,
    /// Apart from the table, which keeps the room of entries that are gone: a connection takes 16 KiB.
    pub(super) carrier: Box<Carrier>,
    pub(super) timer: TimerSlot,
    /// It is a server's, and nobody has been admitted over it: it counts as one of this network, also
    /// once it has ended.
    pub(super) half_open: Option<Network>,
    /// When it is forgotten at the latest, once it has ended.
    pub(super) forget_at: Option<Instant>,
    /// Until when it is not read: see [`super::throttle`].
    pub(super) throttled_until: Option<Instant>,
}

impl LinkEntry {
    /// When something of the link's own is due, QUIC aside.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.link.is_closed() {
            return self.forget_at;
        }
        let own = self.link.deadline();
        let Some(throttled) = self.throttled_until else {
            return own;
        };
        Some(own.map_or(throttled, |own| own.min(throttled)))
    }

    /// Whether something is due, of QUIC's or of the link's own.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        self.carrier.is_due(now) || self.deadline().is_some_and(|at| at <= now)
    }
}

/// A session with everything the node holds for it.
pub(super) struct Session {
    pub(super) client: ClientId,
    pub(super) tokens: Tokens,
    /// What the client wished that a server has made it for.
    pub(super) wish: Option<Wish>,
    /// Its client has said that it has it.
    pub(super) taken_up: bool,
    pub(super) conversation: Conversation,
    pub(super) link: Option<LinkKey>,
    pub(super) peer: PeerLimits,
    /// How a client session gets its links; `None` on a server, which has very many sessions, and is not to
    /// keep room for it.
    pub(super) dialing: Option<Box<Dialing>>,
    pub(super) closing: Option<Closing>,
    pub(super) room: SessionRoom,
    /// Redial, the server's next address, or retention.
    pub(super) timer: TimerSlot,
    pub(super) close_timer: TimerSlot,
    pub(super) receipt_timer: TimerSlot,
    pub(super) receipt_due: bool,
    /// When receipts went out last.
    pub(super) reported: Option<Instant>,
    pub(super) connected_since: Option<Instant>,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Best-effort messages that were dropped since the last event that said so.
    pub(super) dropped: u64,
}

impl Session {
    /// Whether this node is its client, and not its server.
    pub(super) fn is_dialled(&self) -> bool {
        self.dialing.is_some()
    }

    /// Whether nothing is under way in it, and nobody there to take leave of: it has no link, or no server has welcomed
    /// its client yet.
    pub(super) fn may_just_end(&self) -> bool {
        let unknown = self.dialing.as_ref().is_some_and(|d| !d.welcomed);
        (self.link.is_none() || unknown) && self.conversation.is_quiet()
    }

    /// Whether it takes nothing more to send.
    pub(super) fn is_closed_to_sends(&self) -> bool {
        let idle = self.conversation.deliveries.len() == 0;
        let closing = self.closing.as_ref();
        closing.is_some_and(|closing| closing.said || idle || !closing.takes_sends)
    }
}
