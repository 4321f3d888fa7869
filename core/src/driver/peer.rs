//! A handle of one session: whom messages are sent to.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prost::{Message as Encode, Name};

use super::cancel::Cancellations;
use super::command::Command;
use super::finding::{Finding, Latest};
use super::queue::{CLOSED, JobQueue};
use super::send::{Outgoing, RawRequest, Request};
use super::server::ServerHandle;
use super::shared::{Desk, Shared};
use super::slot::Stopped;
use super::tag::tag_of;
use super::watch::Watch;
use crate::logged::logged;
use crate::{
    ClientId, CloseCode, CommandError, DisconnectReason, GroupName, Message, SendError,
    SessionInfo, SessionKey, Status, Tag,
};

/// What a session's connection is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A client's first dial is under way.
    Connecting,
    /// There is a link.
    Connected {
        /// The peer's address. If it moves, it is a new state ([`crate::Event::Moved`]).
        address: SocketAddr,
        /// How often the session has been resumed, plus one.
        epoch: u64,
    },
    /// A client's link broke, or a dial failed: it dials again.
    Reconnecting {
        /// Which attempt this is since a link last held for [`crate::Redial::stable_after`].
        attempt: u32,
        /// How long it waits before this attempt.
        delay: Duration,
        /// Why the last link or dial ended.
        reason: DisconnectReason,
    },
    /// The link broke. On a server, the client may resume the session; a client is about to dial again.
    Away(DisconnectReason),
    /// The session is gone for good.
    Closed(DisconnectReason),
}

impl State {
    /// Whether there is a link.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// One session as the application sees it: a client, on a server; the server, on a client. Cheap
/// to clone. It stays valid across reconnects, and fails with typed errors once the session is
/// closed.
///
/// ```
/// # use trunkline_core::driver::Peer;
/// # #[derive(Clone, PartialEq, prost::Message)] struct Said { #[prost(string, tag = "1")] text: String }
/// # impl prost::Name for Said { const NAME: &'static str = "Said"; const PACKAGE: &'static str = "chat.v1"; }
/// # async fn greet(peer: Peer) -> Result<(), Box<dyn std::error::Error>> {
/// let hello = Said { text: "hello".into() };
/// peer.send(&hello).await?;          // in the outbox: it will arrive, or come back in an event
/// peer.send(&hello).acked().await?;  // the peer's handler has accepted it
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Peer(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    /// That of its node.
    pub(crate) desk: Arc<Desk>,
    pub(crate) session: SessionKey,
    pub(crate) client: ClientId,
    /// A number that grows with each session.
    order: u64,
    pub(crate) state: Watch<State>,
    pub(crate) closed: AtomicBool,
    pub(crate) front: Front,
    pub(crate) jobs: JobQueue,
    /// A rejection that its sender does not hear of was told loudly.
    unheard: AtomicBool,
    pub(crate) cancellations: Cancellations,
    /// Of a client's admission, on a server.
    pub(crate) finding: Latest,
}

/// Messages that wait for a driver to look at them, and that nobody need wait for.
#[derive(Default)]
pub(crate) struct Front {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Front {
    /// Beyond these, senders wait for the outbox itself.
    const MESSAGES: usize = 1_024;
    const BYTES: usize = 1 << 20;

    fn has_room(&self) -> bool {
        self.is_below(Self::MESSAGES, Self::BYTES)
    }

    /// Whether there are fewer messages and bytes.
    pub(crate) fn is_below(&self, messages: usize, bytes: usize) -> bool {
        self.messages.load(Ordering::Relaxed) < messages
            && self.bytes.load(Ordering::Relaxed) < bytes
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, bytes: usize) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Peer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        desk: Arc<Desk>,
        session: SessionKey,
        client: ClientId,
        order: u64,
        state: State,
        finding: Option<Finding>,
    ) -> Self {
        Self(Arc::new(Inner {
            shared,
            desk,
            session,
            client,
            order,
            state: Watch::new(state),
            closed: AtomicBool::new(false),
            front: Front::default(),
            jobs: JobQueue::default(),
            unheard: AtomicBool::new(false),
            cancellations: Cancellations::default(),
            finding: Latest::new(finding),
        }))
    }

    pub(crate) fn order(&self) -> u64 {
        self.0.order
    }

    /// All peers of the same node: clients, groups, broadcasts. What a [`Hooks`](super::Hooks) function sends
    /// through it, a task of its own awaits. At a client this is its own node, not the server that it talks to.
    pub fn server(&self) -> ServerHandle {
        ServerHandle::new(self.0.shared.clone())
    }

    /// The session's key in its node, as events name it.
    pub fn session(&self) -> SessionKey {
        self.0.session
    }

    /// Whose session it is; on a client, its own id. It is what the client claimed to be, and no more than that, unless
    /// admission has bound it to something: see [`Admit`](super::Admit).
    pub fn client_id(&self) -> &ClientId {
        &self.0.client
    }

    /// What the server's admission has found out about this client: the `Ok` of the function of
    /// [`Admit::ask`](super::Admit::ask), as it was for the session's latest link. It is there before hooks hear that
    /// the session is connected.
    ///
    /// `None` if that was no `T`; if nothing was asked, with [`Admit::open`](super::Admit::open) and
    /// [`Admit::mutual_tls`](super::Admit::mutual_tls); at a client, whose peer is the server; and once the session is
    /// over and the last of its handlers is done.
    ///
    /// ```
    /// # use trunkline_core::driver::ServerHandle;
    /// struct User {
    ///     is_admin: bool,
    /// }
    ///
    /// # fn count(server: ServerHandle) -> usize {
    /// let is_admin = |user: &User| user.is_admin;
    /// let peers = server.peers().into_iter();
    /// peers.filter(|peer| peer.admitted::<User>().as_deref().is_some_and(is_admin)).count()
    /// # }
    /// ```
    pub fn admitted<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.finding.get()
    }

    /// What the connection is doing.
    pub fn state(&self) -> State {
        self.0.state.get()
    }

    /// The peer's address, while there is a link. It follows the peer when that moves, once it has answered from there
    /// ([`crate::Event::Moved`], which says how far that can be trusted).
    pub fn address(&self) -> Option<SocketAddr> {
        match self.state() {
            State::Connected { address, .. } => Some(address),
            _ => None,
        }
    }

    /// Waits for the first state that `wanted` holds for, or for [`State::Closed`], after which no other comes. One that
    /// is replaced at once may be missed. Cancel-safe.
    pub async fn wait_for(&self, wanted: impl Fn(&State) -> bool) -> State {
        let is_last = |state: &State| matches!(state, State::Closed(_));
        self.0
            .state
            .find(|state| (wanted(state) || is_last(state)).then(|| state.clone()))
            .await
    }

    /// Sends a message. Awaited as it is, it waits for room and returns once the message is on its way to
    /// the outbox: from then on it arrives, once and in order, unless the session is lost or closed, or the
    /// peer takes no such lane or size, which gives it back as [`crate::Event::Undelivered`]. Whether the peer's
    /// application accepts it this side is not told; with [`acked`](Outgoing::acked) it waits for that.
    ///
    /// Nothing is sent before the value is awaited. Cancel-safe while it waits for room
    /// ([`Sent`](super::Sent)), but not with `acked` ([`Acking`](super::Acking)).
    pub fn send<M: Encode + Name + 'static>(&self, message: &M) -> Outgoing {
        Outgoing::new(self.clone(), self.message(message))
    }

    /// As [`Peer::send`], for a message that is encoded already.
    pub fn send_raw(&self, message: Message) -> Outgoing {
        Outgoing::new(self.clone(), message)
    }

    /// Sends a message without waiting: with no room for it, it comes back at once
    /// ([`CommandError::OutboxFull`]), and [`Peer::send`] waits for some. At most 1,024 messages or
    /// 1 MiB can be on their way to the outbox, so that so much fits into it before the driver has
    /// had its turn.
    pub fn try_send<M: Encode + Name + 'static>(
        &self,
        message: &M,
    ) -> Result<(), SendError<Message>> {
        self.try_send_raw(self.message(message))
    }

    /// As [`Peer::try_send`], for a message that is encoded already.
    pub fn try_send_raw(&self, message: Message) -> Result<(), SendError<Message>> {
        let message = self.check(message)?;
        self.post_unwaited(message)
    }

    /// Sends a request; awaited, it gives the reply, decoded. Not cancel-safe: dropped, the request
    /// is cancelled ([`Asking`](super::Asking)).
    ///
    /// ```
    /// # use trunkline_core::driver::{Peer, PromiseError};
    /// # use std::time::Duration;
    /// # #[derive(Clone, PartialEq, prost::Message)] struct Add { #[prost(int64, tag = "1")] a: i64 }
    /// # impl prost::Name for Add { const NAME: &'static str = "Add"; const PACKAGE: &'static str = "sum.v1"; }
    /// # #[derive(Clone, PartialEq, prost::Message)] struct Sum { #[prost(int64, tag = "1")] value: i64 }
    /// # impl prost::Name for Sum { const NAME: &'static str = "Sum"; const PACKAGE: &'static str = "sum.v1"; }
    /// # async fn add(peer: Peer) -> Result<i64, PromiseError> {
    /// let sum: Sum = peer.request(&Add { a: 1 }).timeout(Duration::from_secs(2)).await?;
    /// # Ok(sum.value) }
    /// ```
    pub fn request<R: Encode + Name + Default + 'static>(
        &self,
        question: &(impl Name + 'static),
    ) -> Request<R> {
        Request::new(self.clone(), self.message(question))
    }

    /// As [`Peer::request`], for a message that is encoded already; it gives the reply's tag and body as they came.
    pub fn request_raw(&self, message: Message) -> RawRequest {
        RawRequest::new(self.clone(), message)
    }

    /// Puts a client's session into a group that broadcasts can go to. Groups outlive links, not
    /// sessions. Cancel-safe: dropped, it may have joined.
    ///
    /// # Errors
    /// [`CommandError::NotOfAClient`] at the client itself: groups are its server's.
    pub async fn join(&self, group: &GroupName) -> Result<(), GroupError> {
        let (session, group) = (self.0.session, group.clone());
        Ok(self
            .0
            .desk
            .change(move |node, now| node.join(now, session, &group))
            .await??)
    }

    /// Takes the session out of a group; says whether it was in it. Cancel-safe: dropped, it may
    /// have left.
    pub async fn leave(&self, group: &GroupName) -> Result<bool, Stopped> {
        let (session, group) = (self.0.session, group.clone());
        self.0
            .desk
            .change(move |node, now| node.leave(now, session, &group))
            .await
    }

    /// The groups that the session is in. Cancel-safe.
    pub async fn groups(&self) -> Result<Vec<GroupName>, Stopped> {
        let session = self.0.session;
        self.0
            .desk
            .look(move |node, _| node.groups_of(session).cloned().collect())
            .await
    }

    /// The session as it is now; `None` once it is closed. Cancel-safe.
    pub async fn info(&self) -> Result<Option<SessionInfo>, Stopped> {
        let session = self.0.session;
        self.0
            .desk
            .look(move |node, _| node.session_info(session))
            .await
    }

    /// Closes the session: what was sent is delivered first, for at most
    /// [`crate::Timeouts::close`], and as long again if it waits for room in a full outbox. Waits
    /// until it is closed, and says why it ended. A handler that waits for its own session's end
    /// waits for that time, for its message is answered only afterwards. Cancel-safe: dropped before
    /// its first poll, it does nothing; later, the session closes all the same.
    pub async fn close_session(&self, code: CloseCode, reason: &str) -> DisconnectReason {
        let close = Command::Close(self.0.session, code, reason.to_owned());
        // If the driver has ended, the session is closed.
        let _ = self.0.desk.mailbox.post(close);
        let closed = |state: &State| match state {
            State::Closed(reason) => Some(reason.clone()),
            _ => None,
        };
        self.0.state.find(closed).await
    }

    pub(crate) fn message<M: Encode + Name + 'static>(&self, message: &M) -> Message {
        Message::new(tag_of::<M>(), message.encode_to_vec())
    }

    /// Gives back what no node would take.
    pub(crate) fn check(&self, message: Message) -> Result<Message, SendError<Message>> {
        match self.fault(&message) {
            None => Ok(message),
            Some(error) => Err(SendError { message, error }),
        }
    }

    /// Why no node would take this message.
    pub(crate) fn fault(&self, message: &Message) -> Option<CommandError> {
        let limits = &self.0.shared.limits;
        let size = message.body.len() + trunkline_proto::ENVELOPE_OVERHEAD_MAX;
        if size > limits.frame_bytes {
            let limit = limits.frame_bytes;
            return Some(CommandError::TooLarge { size, limit });
        }
        if message
            .lane
            .is_some_and(|lane| lane.number() >= limits.lanes)
        {
            return Some(CommandError::UnknownLane);
        }
        self.is_gone().then_some(CommandError::UnknownSession)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Takes a message on behalf of the outbox, if little enough waits before it.
    pub(crate) fn post_unwaited(&self, message: Message) -> Result<(), SendError<Message>> {
        self.post_left(message, |peer, message| Command::SendUnwaited {
            peer,
            message,
        })
    }

    /// Leaves a message with the driver, counted in the front, if little enough stands there.
    pub(crate) fn post_left(
        &self,
        message: Message,
        command: impl FnOnce(Self, Message) -> Command,
    ) -> Result<(), SendError<Message>> {
        let front = &self.0.front;
        if !front.has_room() {
            let error = CommandError::OutboxFull;
            return Err(SendError { message, error });
        }
        let bytes = message.body.len();
        front.add(bytes);
        match self.0.desk.mailbox.post(command(self.clone(), message)) {
            Err(
                Command::SendUnwaited { message, .. } | Command::SendBestEffort { message, .. },
            ) => {
                front.remove(bytes);
                let error = CommandError::UnknownSession;
                Err(SendError { message, error })
            }
            _ => Ok(()),
        }
    }

    /// A message of this peer was rejected, and it does not wait to hear of it. The first time stands out in
    /// the log; a peer that sends many shall not fill it.
    pub(crate) fn rejected_unheard(&self, tag: Option<Tag>, status: &Status) {
        // As strings, which stand in quotes: a client's name could pass for further fields otherwise.
        let (session, client) = (self.session(), self.client_id().as_str());
        let status = &*status.to_string();
        let tag = tag.map(tracing::field::display);
        let text = "a message was rejected, and its sender does not wait to hear of it";
        if self.0.unheard.swap(true, Ordering::Relaxed) {
            logged(|| tracing::debug!(?session, client, tag, status, "{text}"));
        } else {
            logged(|| {
                tracing::warn!(
                    ?session,
                    client,
                    tag,
                    status,
                    "{text}; others of it at debug level"
                );
            });
        }
    }

    /// Marks it closed for handles; the driver has forgotten it.
    pub(crate) fn end(&self, reason: DisconnectReason) {
        self.0.closed.store(true, Ordering::Release);
        // Handlers that are under way may still ask for it: then their worker forgets it.
        if !self.0.jobs.has_worker() {
            self.0.finding.replace(None);
        }
        self.0.state.set(State::Closed(reason));
        self.0.jobs.drop_below(CLOSED);
        self.0.cancellations.cancel_below(u64::MAX);
    }
}

/// Handles of one session are the same peer.
impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Peer {}

impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.session.hash(state);
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("session", &self.0.session)
            .field("client", &self.0.client)
            .finish_non_exhaustive()
    }
}

/// Why a session did not join a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The node refused.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// The driver has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
