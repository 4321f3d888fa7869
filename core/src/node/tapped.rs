//! A node that is tapped: it tells of each call before it acts on it, and of what it gives out.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::error::ConfigError;
use crate::quic::{SignatureLog, SignatureTap};
use crate::tap::{Call, Digest, EventMark, Tap, TransmitMark};

use super::{Event, Node, Origin, Roles, Transmit};

/// A tap, and the signatures that it is to be told of.
pub(super) struct Tapped {
    tap: Box<dyn Tap>,
    signatures: Arc<SignatureLog>,
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
        node.tap = Some(Tapped { tap, signatures });
        Ok(node)
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

    /// Removes the tap: it is told nothing more.
    pub fn untap(&mut self) {
        if let Some(mut tapped) = self.tap.take() {
            tapped.tell_signatures();
        }
    }
}

impl Tapped {
    pub(super) fn call(&mut self, now: Instant, call: Call<'_>) {
        self.tell_signatures();
        self.tap.call(now, call);
    }

    pub(super) fn event(&mut self, event: Option<&Event>) {
        self.tell_signatures();
        self.tap.event(event.map(|event| EventMark {
            name: event.name(),
            digest: event.digest(),
        }));
    }

    pub(super) fn transmit(
        &mut self,
        now: Instant,
        max_segments: NonZeroUsize,
        transmit: Option<(&Transmit, &[u8])>,
    ) {
        self.tell_signatures();
        let mark = transmit.map(|(transmit, bytes)| transmit.mark(bytes));
        self.tap.transmit(now, max_segments, mark);
    }

    fn tell_signatures(&mut self) {
        while let Some(signature) = self.signatures.take() {
            self.tap.signature(signature);
        }
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
}
