//! Looking at a node: its sessions, groups and metrics.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::heartbeat::Heartbeat;
#[cfg(feature = "driver")]
use crate::id::DeliveryKey;
use crate::id::{ClientId, GroupName, LinkKey, SessionId, SessionKey};
use crate::link::Stage;
use crate::metrics::{Gauges, Measured, MetricsSnapshot};

use super::Node;
use super::tables::Session;

/// Whether a session has a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It has none: it waits for the client, or for the next dial.
    Away,
    /// A link is coming up.
    Connecting,
    /// It has one.
    Connected,
    /// It is closing.
    Closing,
}

/// A session as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its key in this node.
    pub session: SessionKey,
    /// Its name on the wire.
    pub id: SessionId,
    /// Whose it is.
    pub client: ClientId,
    /// Whether it has a link.
    pub state: LinkState,
    /// The peer's address, with a link: where this side sends to. When the peer moves, it is the new one before the peer
    /// has answered from there ([`crate::Event::Moved`]), and the old one again if it does not.
    pub address: Option<SocketAddr>,
    /// QUIC's estimate of the round-trip time, with a link, as of when the peer last acknowledged something. On a
    /// client that is about one heartbeat ago at most. A server sends an idle client nothing that is acknowledged,
    /// so there it may be as old as the last message, answer or receipt that it sent.
    pub round_trip_time: Option<Duration>,
    /// Since when it has had this link.
    pub connected_since: Option<Instant>,
    /// When the peer gave its last sign of life on this link.
    pub last_heard: Option<Instant>,
    /// How often it has been resumed, plus one; 0 before the first link.
    pub epoch: u64,
    /// Bytes that wait for the peer: outbox and best-effort queue.
    pub queued_bytes: usize,
    /// Bytes of answers that the peer is not known to hold.
    pub answer_bytes: usize,
    /// Pending promises.
    pub promises: usize,
    /// Deliveries that the application owes an answer for.
    pub deliveries: usize,
    /// Messages and requests that were written.
    pub sent: u64,
    /// Envelopes that came.
    pub received: u64,
}

impl Node {
    /// All sessions, in the order of their keys' slots.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo> {
        self.sessions
            .iter()
            .map(|(key, session)| self.info(key, session))
    }

    /// One session.
    pub fn session_info(&self, key: SessionKey) -> Option<SessionInfo> {
        self.sessions
            .get(key)
            .map(|session| self.info(key, session))
    }

    /// The sessions of this server that a client has, with a link or without, in the order in which it has asked for them, or
    /// to resume them: the latest comes last.
    pub fn sessions_of(&self, client: &ClientId) -> impl Iterator<Item = SessionKey> {
        self.sessions_of.of(client).iter().map(|(_, key)| *key)
    }

    /// Whether this delivery's answer is still owed.
    #[cfg(feature = "driver")]
    pub(crate) fn owes(&self, delivery: DeliveryKey) -> bool {
        let session = self.sessions.get(delivery.session);
        session.is_some_and(|s| s.conversation.deliveries.get(delivery.number).is_some())
    }

    /// The session that a link carries, and the session's epoch over this link: what the [`Connected`] has that tells of it.
    /// `None` if the link is not up, or not any more.
    ///
    /// It is how what an admission has found out comes to the session: behind [`admit`](Node::admit), it says which one that
    /// has made or resumed, if any. A client id does not say it, for one client may have several sessions. What came over
    /// an earlier link of a session can be told between the admission of the next and its [`Connected`], so keep what was found
    /// until then:
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use std::time::Instant;
    /// # use trunkline_core::*;
    /// # struct User { id: ClientId }
    /// # fn user_of(_token: &[u8]) -> Option<User> { None }
    /// # fn events(node: &mut Node, now: Instant) {
    /// # let (mut admitted, mut users) = (HashMap::new(), HashMap::<SessionKey, User>::new());
    /// while let Some(event) = node.poll_event() {
    ///     match event {
    ///         // The client id is a claim: whose token it is has to be that client.
    ///         Event::Admission(request) => match user_of(&request.credentials).filter(|user| user.id == request.client) {
    ///             Some(user) => {
    ///                 // An error says that the client has gone meanwhile.
    ///                 let _ = node.admit(now, request.link);
    ///                 if let Some(connected) = node.carried_by(request.link) {
    ///                     admitted.insert(connected, user);
    ///                 }
    ///             }
    ///             None => {
    ///                 let refusal = Refusal { reason: "no token of this client".into(), retry_after: None };
    ///                 let _ = node.refuse(now, request.link, refusal);
    ///             }
    ///         },
    ///         Event::Connected { session, epoch, .. } => {
    ///             users.extend(admitted.remove(&(session, epoch)).map(|user| (session, user)));
    ///         }
    ///         Event::Closed { session, .. } => drop(users.remove(&session)),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// [`Connected`]: crate::Event::Connected
    pub fn carried_by(&self, link: LinkKey) -> Option<(SessionKey, u64)> {
        let entry = self.links.get(link).filter(|e| e.link.stage.is_up())?;
        let key = entry.link.session?;
        let session = self.sessions.get(key).filter(|s| s.link == Some(link))?;
        Some((key, session.tokens.epoch))
    }

    /// The groups that a session is in.
    pub fn groups_of(&self, session: SessionKey) -> impl Iterator<Item = &GroupName> {
        self.groups.groups_of(session)
    }

    /// The sessions of a group.
    pub fn members(&self, group: &GroupName) -> impl Iterator<Item = SessionKey> {
        self.groups.members(group)
    }

    /// What the node has counted and measured.
    pub fn metrics(&self, now: Instant) -> MetricsSnapshot {
        let mut gauges = Gauges {
            shards_running: 1,
            shards_started: 1,
            sessions: self.sessions.len(),
            promises: self.promises,
            outbox_bytes: self.room.outbox_bytes,
            answer_bytes: self.room.answer_bytes,
            ..Gauges::default()
        };
        for (_, session) in self.sessions.iter() {
            gauges.connected += usize::from(session.connected_since.is_some());
            gauges.deliveries += session.conversation.deliveries.len();
        }
        self.metrics.snapshot(now, gauges)
    }

    /// Counts a message that a driver has given back, or not handed over.
    #[cfg(feature = "driver")]
    pub(crate) fn count_undelivered(&mut self) {
        self.metrics.undelivered += 1;
    }

    /// Counts a promise that has timed out before a driver could hand its message over.
    #[cfg(feature = "driver")]
    pub(crate) fn count_timed_out(&mut self) {
        self.metrics.promises_timed_out += 1;
    }

    /// Counts datagrams that the system refused to send, of those that [`poll_transmit`](Node::poll_transmit) gave out, as
    /// [`MetricsSnapshot::datagrams_unsent`]: only whoever owns the socket knows. Of a
    /// [`Transmit`](crate::Transmit) with a `segment_size`, that may be several.
    pub fn count_unsent(&mut self, datagrams: u64) {
        self.metrics.datagrams_unsent += datagrams;
    }

    /// Counts that receiving from the socket failed, as [`MetricsSnapshot::receives_failed`]; that nothing has come is no such
    /// error.
    pub fn count_receive_failed(&mut self) {
        self.metrics.receives_failed += 1;
    }

    /// What it has counted and measured, to be put together with what the other shards of a server have:
    /// [`Measured::sum`].
    pub fn measured(&self, now: Instant) -> Measured {
        Measured::new(self.metrics(now), &self.metrics)
    }

    /// What is left of it when the node ends, for the sum to go on with: counters never fall. Of gauges it has `shards_started` alone.
    pub fn measured_at_the_end(&self) -> Measured {
        Measured::of_ended(&self.metrics)
    }

    fn info(&self, key: SessionKey, session: &Session) -> SessionInfo {
        let entry = session.link.and_then(|link| self.links.get(link));
        let state = match (entry.map(|e| &e.link.stage), &session.closing) {
            (_, Some(_)) => LinkState::Closing,
            (None, None) => LinkState::Away,
            (Some(Stage::Up), None) => LinkState::Connected,
            (Some(_), None) => LinkState::Connecting,
        };
        let conversation = &session.conversation;
        SessionInfo {
            session: key,
            id: session.tokens.id,
            client: session.client.clone(),
            state,
            address: entry.map(|e| e.carrier.address()),
            round_trip_time: entry.map(|e| e.carrier.round_trip_time()),
            connected_since: session.connected_since,
            last_heard: entry
                .and_then(|e| e.link.heartbeat.as_ref())
                .map(Heartbeat::last_heard),
            epoch: session.tokens.epoch,
            queued_bytes: conversation.lanes.usage().bytes
                + conversation.best_effort.waiting_bytes(),
            answer_bytes: conversation.lanes.answers().bytes,
            promises: conversation.promises.len(),
            deliveries: conversation.deliveries.len(),
            sent: session.sent,
            received: session.received,
        }
    }
}
