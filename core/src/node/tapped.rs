//! A node that is tapped: it tells of each call before it acts on it, and of what it gives out.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::error::ConfigError;
use crate::id::LinkKey;
use crate::message::{Delivery, Message, Outcome};
use crate::quic::{LinkLog, SignatureLog, SignatureTap};
use crate::tap::{Call, Digest, EventMark, Level, LinkNote, Tap, TransmitMark};

use super::{AdmissionRequest, Event, Node, Origin, Roles, Transmit};

/// A tap, and the signatures that it is to be told of.
pub(super) struct Tapped {
    tap: Box<dyn Tap>,
    signatures: Arc<SignatureLog>,
    /// What links' connections answer, if it is to be told of that.
    links: Option<Arc<LinkLog>>,
    /// What it was told of last: its memory is used again.
    notes: Vec<(LinkKey, LinkNote)>,
}

impl Node {
    /// As [`Node::new`], but tells `tap` of everything that the node takes in and gives out.
    /// [`crate::trace::Recorder`] makes a node that is recorded so.
    pub fn tapped(
        config: Config,
        roles: Roles,
        origin: Origin,
        tap: Box<dyn Tap>,
    ) -> Result<Self, ConfigError> {
        let signatures = Arc::<SignatureLog>::default();
        let mut node = Self::with_signatures(config, roles, origin, Some(signatures.clone()))?;
        node.tap = Some(Tapped::new(tap, signatures));
        Ok(node)
    }

    /// Tells `tap` of a node that has done nothing yet.
    pub(crate) fn tap_with(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(Tapped::new(tap, Arc::default()));
    }

    /// As [`Node::new`], with signatures from elsewhere: keys may be absent.
    pub(crate) fn replayed(
        config: Config,
        roles: Roles,
        origin: Origin,
        signatures: Arc<dyn SignatureTap>,
    ) -> Result<Self, ConfigError> {
        Self::with_signatures(config, roles, origin, Some(signatures))
    }

    /// Tells the tap what links have noted until now.
    pub(crate) fn tell_answers(&mut self) {
        if let Some(tapped) = &mut self.tap {
            tapped.before_poll();
        }
    }

    /// The node has panicked, which its owner has caught: the tap is told so, and nothing more.
    #[cfg(feature = "driver")]
    pub(crate) fn break_tap(&mut self) {
        if let Some(tapped) = &mut self.tap {
            tapped.tell_signatures();
            tapped.tap.broken();
        }
    }

    /// Both polls have been asked for all there is: what a tap holds back may be written.
    pub(super) fn turn_may_be_over(&mut self) {
        let has_more = !self.events.is_empty() || self.has_output();
        if let Some(tapped) = &mut self.tap
            && !has_more
        {
            tapped.tell(false);
            tapped.tap.rests();
        }
    }

    /// Removes the tap: it is told nothing more.
    pub fn untap(&mut self) {
        if let Some(mut tapped) = self.tap.take() {
            tapped.tell(false);
            if let Some(links) = &tapped.links {
                links.stop();
            }
        }
    }
}

impl Tapped {
    fn new(tap: Box<dyn Tap>, signatures: Arc<SignatureLog>) -> Self {
        let links = match tap.level() {
            Level::Wire => None,
            Level::Link => Some(Arc::default()),
        };
        Self {
            tap,
            signatures,
            links,
            notes: Vec::new(),
        }
    }

    /// Where links note what their connections answer.
    pub(super) fn links(&self) -> Option<&Arc<LinkLog>> {
        self.links.as_ref()
    }

    pub(super) fn call(&mut self, now: Instant, call: Call<'_>) {
        self.tell(false);
        self.tap.call(now, call);
    }

    /// What was noted until now belongs to the latest call.
    pub(super) fn before_poll(&mut self) {
        self.tell_links(false);
    }

    pub(super) fn event(&mut self, event: Option<&Event>) {
        self.tell(true);
        let digest = match self.links {
            None => Event::digest,
            Some(_) => Event::head_digest,
        };
        self.tap.event(event.map(|event| EventMark {
            name: event.name(),
            digest: digest(event),
        }));
    }

    pub(super) fn transmit(
        &mut self,
        now: Instant,
        max_segments: NonZeroUsize,
        transmit: Option<(&Transmit, &[u8])>,
    ) {
        self.tell(true);
        let mark = transmit.map(|(transmit, bytes)| match self.links {
            None => transmit.mark(bytes),
            // What is in them is QUIC's.
            Some(_) => TransmitMark { size: 0, digest: 0 },
        });
        self.tap.transmit(now, max_segments, mark);
    }

    fn tell(&mut self, polled: bool) {
        self.tell_signatures();
        self.tell_links(polled);
    }

    fn tell_signatures(&mut self) {
        while let Some(signature) = self.signatures.take() {
            self.tap.signature(signature);
        }
    }

    fn tell_links(&mut self, polled: bool) {
        let Some(links) = &self.links else { return };
        if links.any() {
            links.take(&mut self.notes);
            self.tap.answers(polled, &mut self.notes);
            // Frames are let go of at once, so that their memory is used again while it is warm.
            self.notes.clear();
        }
    }
}

impl Drop for Tapped {
    /// A node may be dropped behind the call that signed, and a panic may have come in it.
    fn drop(&mut self) {
        self.tell_signatures();
    }
}

impl Transmit {
    /// What a tap is told of these datagrams.
    pub(crate) fn mark(&self, bytes: &[u8]) -> TransmitMark {
        let mut digest = Digest::default();
        self.hash(&mut digest);
        digest.write(bytes);
        TransmitMark {
            size: bytes.len() as u64,
            digest: digest.finish(),
        }
    }
}

impl Event {
    /// What a tap is told of this event, besides its name.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        self.hash(&mut digest);
        digest.finish()
    }

    /// The same above QUIC: of bodies and credentials it covers the lengths alone.
    pub(crate) fn head_digest(&self) -> u64 {
        let mut digest = Digest::default();
        let out = &mut digest;
        match self {
            Self::Message(delivery) => {
                let Delivery {
                    key,
                    lane,
                    tag,
                    body,
                    expects,
                    timeout,
                } = delivery;
                (self.name(), key, lane, tag, body.len(), expects, timeout).hash(out);
            }
            Self::Settled {
                promise,
                outcome: Outcome::Replied { tag, body },
                after,
            } => (self.name(), promise, tag, body.len(), after).hash(out),
            Self::Undelivered {
                session,
                message: Message { lane, tag, body },
                reason,
                maybe_delivered,
            } => {
                let came_back = (reason, maybe_delivered);
                (self.name(), session, lane, tag, body.len(), came_back).hash(out);
            }
            Self::Admission(request) => {
                let AdmissionRequest {
                    link,
                    client,
                    address,
                    credentials,
                    certificates,
                    agent,
                } = &**request;
                let shown = credentials.len();
                (
                    self.name(),
                    link,
                    client,
                    address,
                    shown,
                    certificates,
                    agent,
                )
                    .hash(out);
            }
            other => other.hash(out),
        }
        digest.finish()
    }
}
