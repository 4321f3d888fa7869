//! Functions of the application that the driver calls as things happen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::peer::Peer;
use crate::{ClientId, CloseCode, DisconnectReason, Lane, Message, Tag, UndeliveredReason};

/// Functions of the application that the driver calls as things happen, in order, and before
/// anything that follows from them. Each has an empty default.
///
/// They run on the driver's task and hold up everything while they do: count, log, or pass on
/// ([`Peer::try_send`] is fine), and be quick. For anything slower there is
/// [`super::Events`]. One that panics is logged, and harms nothing else. An application that wants to look at its
/// own later on gives an [`Arc`] of it.
// Each function stands in `forwarded` too.
#[expect(unused_variables, reason = "the names are the documentation")]
pub trait Hooks: Send + Sync + 'static {
    /// A new session has its first link.
    fn connected(&self, peer: &Peer) {}

    /// A session has a link again, and carries on where it was.
    fn resumed(&self, peer: &Peer) {}

    /// A peer goes on at another address, over the same link: see [`Event::Moved`](crate::Event::Moved).
    fn moved(&self, peer: &Peer, address: SocketAddr) {}

    /// A server did not let a client in, whose id is what it said of itself: what the numbers mean, and when this is not
    /// told, stands at [`Event::Refused`](crate::Event::Refused). `reason`: what the client was told.
    fn refused(&self, client: &ClientId, address: SocketAddr, code: CloseCode, reason: &str) {}

    /// A link ended, or a dial failed; `retained`: the session lives on.
    fn disconnected(&self, peer: &Peer, reason: &DisconnectReason, retained: bool) {}

    /// The peer was silent for too long; [`Hooks::disconnected`] follows.
    fn heartbeat_timeout(&self, peer: &Peer) {}

    /// A client will dial again after `delay`.
    fn reconnecting(&self, peer: &Peer, attempt: u32, delay: Duration) {}

    /// The server has lost the session, and what was under way; a new one follows.
    fn session_lost(&self, peer: &Peer) {}

    /// The peer goes away within `deadline`: requests and acked messages that are sent to it meanwhile
    /// are rejected as [`crate::StatusCode::UNAVAILABLE`], other messages still taken. `alternative`: where
    /// this client dials instead, if it is the server that goes.
    fn draining(&self, peer: &Peer, deadline: Duration, alternative: Option<&str>) {}

    /// The session is gone for good.
    fn closed(&self, peer: &Peer, reason: &DisconnectReason) {}

    /// A message was first written to a link; only with [`crate::Config::report_sent`].
    fn message_sent(&self, peer: &Peer, lane: Lane, tag: Tag) {}

    /// A message arrived, of that many bytes.
    fn message_received(&self, peer: &Peer, lane: Lane, tag: Tag, size: usize) {}

    /// Best-effort messages wait for a peer that is too slow for them.
    fn slow_consumer(&self, peer: &Peer, queued_bytes: usize) {}

    /// So many best-effort messages were dropped since the last call.
    fn dropped(&self, peer: &Peer, messages: u64) {}

    /// A message that no promise waits for was not delivered, or may not have been, for that reason.
    ///
    /// All that an outbox held may come back at once, more than [`Peer::try_send_raw`] takes from here.
    /// To send it again, leave it in a channel without a bound, and have a task of yours await
    /// [`Peer::send_raw`]; [`Events`](super::Events) drop the oldest when they are not read in time.
    ///
    /// After [`UndeliveredReason::SessionLost`] it may be sent again to the same peer; otherwise it would come back
    /// each time.
    fn undelivered(
        &self,
        peer: &Peer,
        message: &Message,
        reason: UndeliveredReason,
        maybe_delivered: bool,
    ) {
    }
}

macro_rules! forwarded {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// So that the application keeps a handle of its own.
        impl<H: Hooks + ?Sized> Hooks for Arc<H> {
            $(fn $name(&self, peer: &Peer $(, $argument: $type)*) {
                H::$name(self, peer $(, $argument)*);
            })*

            fn refused(&self, client: &ClientId, address: SocketAddr, code: CloseCode, reason: &str) {
                H::refused(self, client, address, code, reason);
            }
        }
    };
}

forwarded! {
    connected();
    resumed();
    moved(address: SocketAddr);
    disconnected(reason: &DisconnectReason, retained: bool);
    heartbeat_timeout();
    reconnecting(attempt: u32, delay: Duration);
    session_lost();
    draining(deadline: Duration, alternative: Option<&str>);
    closed(reason: &DisconnectReason);
    message_sent(lane: Lane, tag: Tag);
    message_received(lane: Lane, tag: Tag, size: usize);
    slow_consumer(queued_bytes: usize);
    dropped(messages: u64);
    undelivered(message: &Message, reason: UndeliveredReason, maybe_delivered: bool);
}
