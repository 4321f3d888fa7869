//! What a node tells its application.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use crate::error::{CloseCode, DisconnectReason};
use crate::id::{ClientId, DeliveryKey, Hidden, Lane, LinkKey, PromiseKey, SessionKey, Tag};
use crate::message::{Delivery, Message, Outcome, UndeliveredReason};
use crate::quic::certificate_names_client;

/// What a node tells its application. Every loss of what was sent reliably is an event; that the peer's application
/// rejects a message is one only where a promise waits. Best effort that finds no
/// link is counted ([`crate::Broadcast::away`], [`crate::MetricsSnapshot`]), and what a slow consumer misses is
/// told by [`Event::Dropped`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A client asks to be let in ([`crate::Admission::Ask`]): answer with `admit` or `refuse`. Which session it then has
    /// says [`Node::carried_by`](crate::Node::carried_by).
    Admission(Box<AdmissionRequest>),
    /// A session has a link: a new session, a resumed one, or a new one in place of a lost one. What an admission had
    /// found out about its client is known by `session` and `epoch`, if it was kept by
    /// [`Node::carried_by`](crate::Node::carried_by).
    Connected {
        /// Which session.
        session: SessionKey,
        /// The peer's client id on a server, this client's own on a client.
        client: ClientId,
        /// The peer's address.
        address: SocketAddr,
        /// How often the session has been resumed, plus one.
        epoch: u64,
        /// Whether this link carries on an earlier one's session.
        resumed: bool,
    },
    /// A session's link ended, or, on a client, a dial failed. The session itself may live on.
    Disconnected {
        /// Which session.
        session: SessionKey,
        /// Why.
        reason: DisconnectReason,
        /// Whether the session lives on: kept for resumption, or dialled again.
        retained: bool,
    },
    /// The peer was silent for `heartbeat.misses` intervals; [`Event::Disconnected`] follows.
    HeartbeatTimeout {
        /// Which session.
        session: SessionKey,
    },
    /// A client will dial again.
    Reconnecting {
        /// Which session.
        session: SessionKey,
        /// Which attempt this is since a link last held for [`crate::Redial::stable_after`]: 1 at first.
        attempt: u32,
        /// How long from now.
        delay: Duration,
    },
    /// The server has no such session any more. Right behind it, promises settle as [`Outcome::Lost`] and what was not
    /// delivered comes back as [`Event::Undelivered`]; a new session follows.
    SessionLost {
        /// Which session; the key stays good for the new one.
        session: SessionKey,
    },
    /// A session is gone for good, and so is its key. Emitted last.
    Closed {
        /// Which session.
        session: SessionKey,
        /// Why.
        reason: DisconnectReason,
    },
    /// A message arrived. It owes one answer: `ack`, `reply` or `reject`; until then it counts
    /// against [`crate::Limits::deliveries`] of its lane.
    Message(Delivery),
    /// The peer no longer waits for this delivery's answer: stop working on it. The answer is
    /// still owed, and is discarded.
    Cancelled {
        /// Which delivery.
        delivery: DeliveryKey,
    },
    /// A promise settled; each does so exactly once.
    Settled {
        /// Which promise.
        promise: PromiseKey,
        /// How.
        outcome: Outcome,
        /// Time since it was made.
        after: Duration,
    },
    /// A message that no promise waits for was not delivered, or may not have been.
    Undelivered {
        /// The session it was sent to.
        session: SessionKey,
        /// The message, for whoever wants to send it again.
        message: Message,
        /// Why it came back.
        reason: UndeliveredReason,
        /// Whether the peer may have it all the same.
        maybe_delivered: bool,
    },
    /// A message was written to a link for the first time (only with `report_sent`).
    Sent {
        /// The session it was sent to.
        session: SessionKey,
        /// The lane that it took.
        lane: Lane,
        /// What its body is.
        tag: Tag,
    },
    /// After [`crate::CommandError::OutboxFull`] or `PromisesFull`: there is room again.
    Writable {
        /// Which session.
        session: SessionKey,
    },
    /// Best-effort messages wait for a session that does not take them fast enough.
    SlowConsumer {
        /// Which session.
        session: SessionKey,
        /// Bytes that wait.
        queued_bytes: usize,
    },
    /// Best-effort messages were dropped, by the policy for slow consumers or with their link.
    Dropped {
        /// Which session.
        session: SessionKey,
        /// How many since the last such event.
        messages: u64,
    },
    /// The peer goes away: requests and acked messages are rejected there from now on, other messages
    /// still taken. A server that closes under many clients says so too, to those who have something under way, and
    /// takes all until it is closed.
    Draining {
        /// Which session.
        session: SessionKey,
        /// How long the peer finishes what is in flight; at most a day.
        deadline: Duration,
        /// When it wants to see this client again; at most 10 minutes.
        retry_after: Option<Duration>,
        /// Where to go instead (`host:port`), if anywhere. A node looks up no names, and does not follow it by itself:
        /// look it up, [`redirect`](crate::Node::redirect) the session to the address,
        /// [`forget_addresses`](crate::Node::forget_addresses) that it had, and
        /// [`add_address`](crate::Node::add_address) if there are several. Otherwise it dials this server again.
        alternative: Option<String>,
    },
    /// This node's own drain is over. Do not end the process yet: the last peers are told by datagrams that are still to be
    /// sent, and would find it dead after three heartbeats. [`Node::poll_timeout`](crate::Node::poll_timeout) is `None` once
    /// nothing is left to do.
    Drained {
        /// Sessions that finished in time.
        finished: u64,
        /// Sessions that the deadline cut off, or whose link was gone before the peer had said that it holds the last
        /// answers, which may be 20 s after it had them.
        cut_off: u64,
    },
    // Others are added behind it: which one of them an event is, by number, goes into the digests of traces.
    /// A client was not let in: it has said who it is in a Hello that is whole and valid, and this server ended it
    /// there. Told when no other event is left. Peers bring it about as often as they like, so no more than 256 wait
    /// to be told; while they do, others are only counted ([`MetricsSnapshot::refusals_untold`]).
    ///
    /// [`MetricsSnapshot::refusals_untold`]: crate::MetricsSnapshot::refusals_untold
    Refused {
        /// The link that it came by: that of its [`Event::Admission`], if the application was asked.
        link: LinkKey,
        /// Who it said it was. Nobody need have verified that.
        client: ClientId,
        /// Its address.
        address: SocketAddr,
        /// Why, by number: [`CloseCode::REFUSED`] if the application said so, [`CloseCode::UNAUTHENTICATED`] if its
        /// certificate does not name it, [`CloseCode::ADMISSION_TIMEOUT`], [`CloseCode::TOO_MANY_SESSIONS`],
        /// [`CloseCode::GOING_AWAY`] while this server drains, [`CloseCode::WRONG_TOKEN`] if it wanted a session that
        /// is not its own, [`CloseCode::SUPERSEDED`] if a later attempt of it was faster, or what it did wrong while
        /// it waited.
        code: CloseCode,
        /// Why, in words: what the client was told.
        reason: String,
    },
    /// The peer goes on at another address, on the same link: a NAT has given it another port, or a phone has gone from
    /// one network to another. It has answered a probe from there, as far as can be seen: a client that can forge senders'
    /// addresses can claim one that is not its own for some round trips, until QUIC goes back, which is told too. So rights
    /// do not go by it; [`Event::Connected`] has the address that was validated. Told when no other event is left; of
    /// several moves, perhaps the last one alone.
    ///
    /// Until it has answered, which takes a round trip, [`SessionInfo::address`](crate::SessionInfo::address) can be ahead
    /// of this.
    Moved {
        /// Which session.
        session: SessionKey,
        /// Where it is now.
        address: SocketAddr,
    },
}

impl Event {
    /// Which kind of event it is: the variant's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Admission { .. } => "Admission",
            Self::Connected { .. } => "Connected",
            Self::Disconnected { .. } => "Disconnected",
            Self::HeartbeatTimeout { .. } => "HeartbeatTimeout",
            Self::Reconnecting { .. } => "Reconnecting",
            Self::SessionLost { .. } => "SessionLost",
            Self::Closed { .. } => "Closed",
            Self::Message { .. } => "Message",
            Self::Cancelled { .. } => "Cancelled",
            Self::Settled { .. } => "Settled",
            Self::Undelivered { .. } => "Undelivered",
            Self::Sent { .. } => "Sent",
            Self::Writable { .. } => "Writable",
            Self::SlowConsumer { .. } => "SlowConsumer",
            Self::Dropped { .. } => "Dropped",
            Self::Draining { .. } => "Draining",
            Self::Drained { .. } => "Drained",
            Self::Refused { .. } => "Refused",
            Self::Moved { .. } => "Moved",
        }
    }
}

/// Who asks to be let in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AdmissionRequest {
    /// The link to `admit` or `refuse`.
    pub link: LinkKey,
    /// Who the client says it is: a claim, which is for the application to compare with whom the rest stands for.
    pub client: ClientId,
    /// Its address.
    pub address: SocketAddr,
    /// What it showed; opaque to Trunkline.
    pub credentials: Bytes,
    /// Its certificate chain, verified against the configured roots, if it has one.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Name and version of its software.
    pub agent: String,
}

impl AdmissionRequest {
    /// Whether the client showed a certificate that names the client id, letter by letter, as a DNS name: what
    /// [`crate::Admission::MutualTls`] requires. Without it the client id is no more than a claim. That the certificate is one
    /// of [`ServerRole::client_roots`](crate::ServerRole::client_roots) was verified in the handshake; without such roots
    /// no client shows any.
    ///
    /// Mutual TLS, with a check of one's own behind it:
    ///
    /// ```
    /// # use trunkline_core::{AdmissionRequest, ClientId, Refusal};
    /// # struct Account;
    /// # async fn look_up(_: &ClientId) -> Option<Account> { Some(Account) }
    /// # #[cfg(feature = "driver")] fn admission(roots: trunkline_core::Roots) -> trunkline_core::driver::Admit {
    /// # use trunkline_core::driver::Admit;
    /// async fn admit(request: AdmissionRequest) -> Result<Account, Refusal> {
    ///     let refusal = |reason: &str| Refusal { reason: reason.into(), retry_after: None };
    ///     if !request.is_named_by_certificate() {
    ///         return Err(refusal("the certificate does not name the client id as a DNS name"));
    ///     }
    ///     look_up(&request.client).await.ok_or_else(|| refusal("there is no such account"))
    /// }
    ///
    /// Admit::ask(admit).with_client_roots(roots)
    /// # }
    /// ```
    pub fn is_named_by_certificate(&self) -> bool {
        names_client(&self.certificates, &self.client)
    }
}

/// Whether a chain begins with a certificate that names the client.
pub(super) fn names_client(chain: &[CertificateDer<'_>], client: &ClientId) -> bool {
    let own = chain.first();
    own.is_some_and(|certificate| certificate_names_client(certificate, client))
}

/// Without what it showed.
impl fmt::Debug for AdmissionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionRequest")
            .field("link", &self.link)
            .field("client", &self.client)
            .field("address", &self.address)
            .field("credentials", &Hidden(self.credentials.len()))
            .field("certificates", &self.certificates.len())
            .field("agent", &self.agent)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credentials_show_in_a_debug_text() {
        let request = AdmissionRequest {
            link: LinkKey(crate::id::Key {
                slot: 0,
                generation: 0,
            }),
            client: ClientId::new("alice").unwrap(),
            address: ([127, 0, 0, 1], 4433).into(),
            credentials: Bytes::from_static(b"open sesame"),
            certificates: vec![CertificateDer::from(b"certificate".to_vec())],
            agent: "testkit".to_owned(),
        };
        let shown = format!("{:?}", Event::Admission(Box::new(request)));
        assert!(
            shown.contains("credentials: <11 bytes>, certificates: 1"),
            "{shown}"
        );
        assert!(!shown.contains("sesame"), "{shown}");
    }

    /// Each message that arrives is moved about as an event several times.
    #[test]
    fn an_event_is_hardly_larger_than_a_delivery() {
        assert!(size_of::<Event>() <= size_of::<Delivery>() + 8);
    }
}
