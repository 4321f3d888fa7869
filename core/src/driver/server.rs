//! Handles of a server.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use prost::{Message as Encode, Name};

use super::command::{Announcement, Command, Drained};
use super::events::Events;
use super::peer::Peer;
use super::runtime::Platform;
use super::server_builder::ServerBuilder;
use super::shared::{Desk, Shared};
use super::slot::{Stopped, slot};
use super::tag::tag_of;
use crate::{
    Audience, Broadcast, ClientId, CloseCode, CommandError, DrainPlan, GroupName, Measured,
    Message, MetricsSnapshot, Node, SendError, SessionInfo, SessionKey,
};

/// A running server. Cheap to clone; when the last clone is dropped, it closes, as
/// [`ServerHandle::close`] does.
///
/// What handlers too can do with a server (look at clients, broadcast, groups) stands at
/// [`ServerHandle`], which this dereferences to.
#[must_use = "dropping the last handle of a server closes it"]
pub struct Server<P> {
    handle: ServerHandle,
    address: SocketAddr,
    _guard: Arc<Guard>,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform> Server<P> {
    /// Sets up a server at that address (port 0: any free port). It needs an
    /// [identity](ServerBuilder::identity) and an [admission](ServerBuilder::admission).
    pub fn bind(address: SocketAddr) -> ServerBuilder<P> {
        ServerBuilder::new(address)
    }
}

impl<P> Server<P> {
    pub(crate) fn new(shared: Arc<Shared>, address: SocketAddr) -> Self {
        let guard = Arc::new(Guard {
            shared: shared.clone(),
            // Clients come back, for somebody may start it again.
            code: CloseCode::GOING_AWAY,
        });
        Self {
            handle: ServerHandle::new(shared),
            address,
            _guard: guard,
            platform: PhantomData,
        }
    }

    /// The address that it listens at.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What others may hold without keeping the server running.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }
}

impl<P> Deref for Server<P> {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

impl<P> Clone for Server<P> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            address: self.address,
            _guard: self._guard.clone(),
            platform: PhantomData,
        }
    }
}

impl<P> fmt::Debug for Server<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Closes the node when the last handle is gone.
pub(crate) struct Guard {
    pub(crate) shared: Arc<Shared>,
    pub(crate) code: CloseCode,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let stop = || Command::Stop(self.code, "the last handle was dropped".into());
        self.shared.tell_each(stop);
    }
}

/// Everything that can be done with a server, from inside of a handler too. It does not keep the
/// server running.
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

impl ServerHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// All sessions as they are now: client, address, round-trip time, queues, counts. Cancel-safe.
    pub async fn clients(&self) -> Result<Vec<SessionInfo>, Stopped> {
        let look = |node: &Node, _| node.sessions().collect::<Vec<_>>();
        Ok(self.shared.look_at_each(look).await?.concat())
    }

    /// The newest session of that client, to send it something; `None` if it has none. A client
    /// whose link is broken is still here while its session is kept. That it is that client is for admission to make sure
    /// of: see [`Admit`](super::Admit).
    pub fn client(&self, client: &ClientId) -> Option<Peer> {
        self.shared.find(client)
    }

    /// All sessions of that client, the oldest first: a client may have several, from several places.
    pub fn peers_of(&self, client: &ClientId) -> Vec<Peer> {
        self.shared.peers_of(client)
    }

    /// The session that a [`SessionInfo`] or an event names; `None` once it is gone, and for a moment before
    /// its [`crate::Event::Connected`] is told.
    pub fn peer(&self, session: SessionKey) -> Option<Peer> {
        self.shared.peer(session)
    }

    /// All sessions that are here now.
    pub fn peers(&self) -> Vec<Peer> {
        self.shared.peers()
    }

    /// Sends a message to every client that has a link, best effort: it is encoded once, never
    /// waits, and is dropped for who is too slow ([`crate::SlowConsumer`]). Use acked unicast for
    /// what must arrive.
    pub fn broadcast<M: Encode + Name + 'static>(&self, message: &M) -> Broadcasting {
        self.broadcast_raw(Message::new(tag_of::<M>(), message.encode_to_vec()))
    }

    /// As [`ServerHandle::broadcast`], for a message that is encoded already.
    pub fn broadcast_raw(&self, message: Message) -> Broadcasting {
        Broadcasting {
            shared: self.shared.clone(),
            audience: Audience::Everyone,
            except: None,
            message,
            key: None,
        }
    }

    /// The sessions that joined under that name, to broadcast to.
    pub fn group(&self, name: &GroupName) -> Group {
        Group {
            shared: self.shared.clone(),
            name: name.clone(),
        }
    }

    /// What the node has counted and measured: connected clients, messages a second, latencies.
    /// Cancel-safe.
    pub async fn metrics(&self) -> Result<MetricsSnapshot, Stopped> {
        let mut sum = Measured::sum(self.shared.measured().await?);
        sum.shards_started = self.shared.desks.len();
        if let Some(crossing) = &self.shared.crossing {
            crossing.count(&mut sum);
        }
        Ok(sum)
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        self.shared.events()
    }

    /// Goes away gracefully: takes no new clients, tells those that there are to come back later, or to come
    /// to another place, and finishes what is under way within the deadline. Requests and acked messages
    /// that come meanwhile are rejected as [`crate::StatusCode::UNAVAILABLE`]. As long as a handler works for a
    /// client, that client can be sent messages and requests; afterwards, or to another client, they fail with
    /// [`CommandError::Closing`], also if they have waited for room in an outbox, or, where nobody waits for more
    /// than that they are taken, come back as [undelivered](super::Hooks::undelivered). [`close`](Self::close) ends
    /// it in the end; called before, it cuts the drain short. A second drain changes nothing, and waits for the
    /// first one's end. Many clients are told to come back one after the other ([`DrainPlan::retry_after`]).
    /// Cancel-safe: dropped after its first poll, the drain goes on.
    pub async fn drain(&self, deadline: Duration) -> Result<Drained, Stopped> {
        self.leave(DrainPlan::within(deadline)).await
    }

    /// As [`drain`](Self::drain), telling clients when and where to go. Cancel-safe likewise.
    ///
    /// # Errors
    /// Nothing begins if the plan's alternative is no `host:port`.
    pub async fn drain_with(&self, plan: DrainPlan) -> Result<Drained, DrainError> {
        plan.check()?;
        Ok(self.leave(plan).await?)
    }

    async fn leave(&self, plan: DrainPlan) -> Result<Drained, Stopped> {
        let drain = |desk: &Desk| {
            let (filler, filled) = slot();
            let command = Command::Drain(plan.clone(), filler);
            desk.mailbox.post(command).map_err(|_| Stopped)?;
            Ok(filled)
        };
        Ok(self.shared.each(drain).await?.into_iter().sum())
    }

    /// Closes every session, what was sent delivered first, for at most
    /// [`crate::Timeouts::close`], and a second for the last packets; then the server is gone, and
    /// its address free. Clients are told that it goes away, and dial again: the first 500 after half a second to a
    /// second, others as they are told, so that no more than a thousand a second come back. A handler that waits for
    /// this waits for all of that time, for its message is not answered before. Handlers that still work
    /// then are not stopped: they see [`Context::cancelled`](super::Context::cancelled), and as long as they
    /// work they keep their task, and with shards their shard's thread. Cancel-safe: dropped after its
    /// first poll, it closes all the same.
    pub async fn close(&self) {
        let stop = || Command::Stop(CloseCode::GOING_AWAY, "the server closes".into());
        self.shared.tell_each(stop);
        self.closed().await;
    }

    /// Waits until the server is gone, for whatever reason. Cancel-safe.
    pub async fn closed(&self) {
        self.shared.ended.find(|ended| ended.then_some(())).await;
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").finish_non_exhaustive()
    }
}

/// The sessions that joined under a name.
///
/// ```
/// # use trunkline_core::{GroupName, driver::{GroupError, Peer, ServerHandle}};
/// # #[derive(Clone, PartialEq, prost::Message)] struct Said { #[prost(string, tag = "1")] text: String }
/// # impl prost::Name for Said { const NAME: &'static str = "Said"; const PACKAGE: &'static str = "chat.v1"; }
/// # async fn enter(server: ServerHandle, peer: Peer) -> Result<(), Box<dyn std::error::Error>> {
/// let lobby = server.group(&GroupName::new("lobby")?);
/// lobby.join(&peer).await?;
/// lobby.broadcast(&Said { text: "somebody came in".into() }).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
    name: GroupName,
}

impl Group {
    /// Its name.
    pub fn name(&self) -> &GroupName {
        &self.name
    }

    /// Adds a session; see [`Peer::join`]. Cancel-safe: dropped, it may have joined.
    pub async fn join(&self, peer: &Peer) -> Result<(), super::GroupError> {
        peer.join(&self.name).await
    }

    /// Takes a session out; says whether it was in. Cancel-safe: dropped, it may have left.
    pub async fn leave(&self, peer: &Peer) -> Result<bool, Stopped> {
        peer.leave(&self.name).await
    }

    /// Its sessions. Cancel-safe.
    pub async fn members(&self) -> Result<Vec<SessionInfo>, Stopped> {
        let name = self.name.clone();
        let look = move |node: &Node, _| {
            node.members(&name)
                .filter_map(|session| node.session_info(session))
                .collect::<Vec<_>>()
        };
        Ok(self.shared.look_at_each(look).await?.concat())
    }

    /// The same, as peers to send something to. Cancel-safe.
    pub async fn peers(&self) -> Result<Vec<Peer>, Stopped> {
        let members = self.members().await?;
        let peer = |member: SessionInfo| self.shared.peer(member.session);
        Ok(members.into_iter().filter_map(peer).collect())
    }

    /// Sends a message to its sessions, best effort; see [`ServerHandle::broadcast`]. Without the one that it came
    /// from: [`except`](Broadcasting::except).
    pub fn broadcast<M: Encode + Name + 'static>(&self, message: &M) -> Broadcasting {
        self.broadcast_raw(Message::new(tag_of::<M>(), message.encode_to_vec()))
    }

    /// As [`Group::broadcast`], for a message that is encoded already.
    pub fn broadcast_raw(&self, message: Message) -> Broadcasting {
        Broadcasting {
            shared: self.shared.clone(),
            audience: Audience::Group(self.name.clone()),
            except: None,
            message,
            key: None,
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.name).finish()
    }
}

/// A broadcast that waits to be awaited. Cancel-safe: dropped after its first poll, it is sent all
/// the same. So that what nobody waits for is bounded, 16,384 or 64 MiB of all can wait for a driver; then one comes
/// back as [`CommandError::OutboxFull`].
#[must_use = "nothing is sent before this is awaited"]
pub struct Broadcasting {
    shared: Arc<Shared>,
    audience: Audience,
    except: Option<SessionKey>,
    message: Message,
    key: Option<u64>,
}

impl Broadcasting {
    /// A waiting message of the same key is replaced by this one, with
    /// [`crate::SlowConsumer::KeepLatest`].
    pub fn key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// Not to this session: who says something in a group need not hear it again. It is in none of the counts of
    /// the [`Broadcast`] then. The last call counts. A peer that would not get the message anyhow, as it is not in the
    /// group, is gone, or is of another server or client, changes nothing: the message goes to all.
    ///
    /// ```
    /// # use trunkline_core::{GroupName, Status, driver::Context};
    /// # #[derive(Clone, PartialEq, prost::Message)] struct Said { #[prost(string, tag = "1")] text: String }
    /// # impl prost::Name for Said { const NAME: &'static str = "Said"; const PACKAGE: &'static str = "chat.v1"; }
    /// async fn say(chat: Context<()>, said: Said) -> Result<(), Status> {
    ///     let lobby = chat.server().group(&GroupName::new("lobby")?);
    ///     lobby.broadcast(&said).except(chat.peer()).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn except(mut self, peer: &Peer) -> Self {
        // Sessions of two servers may have the same key.
        let is_here = Arc::ptr_eq(&peer.0.shared, &self.shared);
        self.except = is_here.then(|| peer.session());
        self
    }

    async fn send(self) -> Result<Broadcast, BroadcastError> {
        let Self {
            shared,
            audience,
            except,
            message,
            key,
        } = self;
        let Some(place) = Place::taken(&shared, message.body.len()) else {
            let error = CommandError::OutboxFull;
            return Err(SendError { message, error }.into());
        };
        let place = Arc::new(place);
        // It keeps the place until all drivers have theirs.
        let send = move |desk: &Desk| {
            let (filler, filled) = slot();
            let announcement = Announcement {
                audience: audience.clone(),
                except,
                message: message.clone(),
                key,
                filler,
                place: place.clone(),
            };
            let command = Command::Broadcast(Box::new(announcement));
            desk.mailbox.post(command).map_err(|_| Stopped)?;
            Ok(filled)
        };
        let sent = shared.each(send).await?;
        // All nodes take a message, or none does.
        Ok(sent.into_iter().sum::<Result<_, _>>()?)
    }
}

impl IntoFuture for Broadcasting {
    type Output = Result<Broadcast, BroadcastError>;
    type IntoFuture = super::runtime::Task<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for Broadcasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcasting")
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// A place among the broadcasts that wait for their driver.
pub(crate) struct Place {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Place {
    /// With so much waiting, somebody does not wait for what it broadcasts.
    const MESSAGES: usize = 16_384;
    const BYTES: usize = 64 << 20;

    /// None, if there is no room.
    fn taken(shared: &Arc<Shared>, bytes: usize) -> Option<Self> {
        let announced = &shared.announced;
        announced.is_below(Self::MESSAGES, Self::BYTES).then(|| {
            announced.add(bytes);
            Self {
                shared: shared.clone(),
                bytes,
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.announced.remove(self.bytes);
    }
}

/// Why a server did not drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// Clients could not follow the plan.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// The driver has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a broadcast was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The node did not take the message, and gives it back.
    #[error(transparent)]
    Refused(#[from] SendError<Message>),
    /// The driver has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
