//! A handle of a client.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::client_builder::ClientBuilder;
use super::command::{Command, Drained};
use super::events::Events;
use super::peer::{Peer, State};
use super::runtime::Platform;
use super::server::Guard;
use super::slot::Stopped;
use crate::{CloseCode, DisconnectReason, MetricsSnapshot};

/// A client of one server, which keeps itself connected. Cheap to clone; when the last clone is
/// dropped, it closes.
///
/// It dereferences to the [`Peer`] that the server is: `send`, `request`, `state` stand there.
#[must_use = "dropping the last handle of a client closes it"]
pub struct Client<P> {
    peer: Peer,
    address: SocketAddr,
    _guard: Arc<Guard>,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform> Client<P> {
    /// Sets up a client of the server at `host:port`. Awaited, it connects. It needs
    /// [roots](ClientBuilder::roots) and a [client id](ClientBuilder::client_id).
    ///
    /// A host of several addresses is dialled at one after the other, a quarter of a second apart,
    /// until one answers (RFC 8305); at eight at most. Its name is looked up again before each redial, and may have
    /// addresses of another family by then: its socket is one of IPv6 that reaches both (`[::]`, a port of the
    /// system's choice). It is one of IPv4 (`0.0.0.0`) where there is no IPv6, and where that serves IPv4 better (as on
    /// macOS and BSDs) if the name has nothing else at first.
    pub fn connect(target: impl Into<String>) -> ClientBuilder<P> {
        ClientBuilder::new(target.into())
    }
}

impl<P> Client<P> {
    pub(crate) fn new(peer: Peer, address: SocketAddr) -> Self {
        let guard = Arc::new(Guard {
            shared: peer.0.shared.clone(),
            code: CloseCode::NORMAL,
        });
        Self {
            peer,
            address,
            _guard: guard,
            platform: PhantomData,
        }
    }

    /// The session as a [`Peer`], which does not keep the client running.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The address that its socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a link; an error, if there will never be one again. Cancel-safe.
    pub async fn connected(&self) -> Result<(), DisconnectReason> {
        match self.peer.wait_for(State::is_connected).await {
            State::Closed(reason) => Err(reason),
            _ => Ok(()),
        }
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        self.peer.0.shared.events()
    }

    /// What the node has counted and measured. Cancel-safe.
    pub async fn metrics(&self) -> Result<MetricsSnapshot, Stopped> {
        self.peer.0.desk.look(|node, now| node.metrics(now)).await
    }

    /// Goes away gracefully, as a worker does that is told to end: tells the server, which hears of it as
    /// [`Event::Draining`](crate::Event::Draining), rejects what it still asks as
    /// [`crate::StatusCode::UNAVAILABLE`], has handlers finish what they have begun, and their answers arrive, within
    /// the deadline; then the session is closed. As long as a handler works, this side can send; afterwards
    /// that fails with [`CommandError::Closing`](crate::CommandError::Closing). [`close`](Self::close) cuts it short.
    /// Cancel-safe: dropped after its first poll, the drain goes on.
    pub async fn drain(&self, deadline: Duration) -> Result<Drained, Stopped> {
        self.peer.server().drain(deadline).await
    }

    /// Closes it, as [`Peer::close_session`] does, and waits until its socket is closed too.
    /// Cancel-safe: dropped after its first poll, it closes all the same.
    pub async fn close(&self) -> DisconnectReason {
        let reason = self.peer.close_session(CloseCode::NORMAL, "").await;
        let shared = &self.peer.0.shared;
        // It ends with its session, but for what comes in faster than it is read.
        shared.tell_each(|| Command::Stop(CloseCode::NORMAL, String::new()));
        shared.ended.find(|ended| ended.then_some(())).await;
        reason
    }
}

impl<P> Deref for Client<P> {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl<P> Clone for Client<P> {
    fn clone(&self) -> Self {
        Self {
            peer: self.peer.clone(),
            address: self.address,
            _guard: self._guard.clone(),
            platform: PhantomData,
        }
    }
}

impl<P> fmt::Debug for Client<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client", self.peer.client_id())
            .finish_non_exhaustive()
    }
}
