//! A node without QUIC: its links run over scripts. Replays above QUIC play what was recorded; tests
//! and fuzzers play what they like, through everything that reads an authenticated peer's bytes.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use rustls_pki_types::CertificateDer;

use crate::config::Config;
use crate::error::ConfigError;
use crate::id::LinkKey;
use crate::link::Link;
#[cfg(any(feature = "planted", feature = "fuzzing"))]
use crate::quic::Said;
use crate::quic::{Endpoint, Keys, ScriptEvent};
use crate::seed::{Seed, SeededRng};
use crate::tap::LinkNote;

use super::half_open::Network;
use super::{Admission, Node};

/// What a scripted node does: it needs no keys and no certificates for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptedRoles {
    /// Whom it lets in; `None`: it is no server.
    pub admission: Option<Admission>,
    /// Whether it dials.
    pub client: bool,
}

impl Node {
    /// A node whose links are scripted. `random` is all that it draws from; `wall` is the time of day at `now`.
    pub(crate) fn scripted(
        config: Config,
        roles: ScriptedRoles,
        random: SeededRng,
        now: Instant,
        wall: SystemTime,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let keys = Keys {
            // Of an endpoint that makes no packets.
            seed: &Seed::new([0; 32]),
            now,
            wall,
            persistent: None,
            server: None,
            client: None,
            signatures: None,
        };
        let endpoint = Endpoint::new(&config, &keys)?.scripted(roles.client);
        Ok(Self::assembled(
            config,
            roles.admission,
            endpoint,
            random,
            now,
        ))
    }

    /// A peer begins a link. `None`: the node is none of those that are scripted.
    pub(crate) fn begin_scripted(
        &mut self,
        now: Instant,
        address: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Option<LinkKey> {
        let now = self.set_time(now);
        let carrier = self.endpoint.accept_scripted(address, certificates)?;
        let link = Link::new(now, self.config.timeouts.admission, None);
        // Whether its address was validated is not known, and decides nothing here: who may begin is
        // not asked.
        let network = Network::of(address.ip(), false);
        Some(self.add_link(link, Box::new(carrier), Some(network)))
    }

    /// What was noted of its links comes again, in the call or poll that follows. `arrived`: a
    /// datagram was it that came.
    pub(crate) fn dictate(&mut self, now: Instant, arrived: bool, notes: &[(LinkKey, LinkNote)]) {
        if arrived {
            self.set_time(now);
        }
        for (link, note) in notes {
            match note {
                LinkNote::Began {
                    address,
                    dialled: false,
                } if arrived => {
                    self.begin_scripted(now, *address, Vec::new());
                }
                note => {
                    let Some(entry) = self.links.get_mut(*link) else {
                        // Where it is missing, what is noted now differs from what was.
                        continue;
                    };
                    entry.carrier.dictate(note);
                    if arrived && matches!(note, LinkNote::Came) {
                        self.mark(*link);
                    }
                }
            }
        }
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, now: Instant) {
        self.set_time(now);
    }

    /// Lets go of what was said.
    pub(crate) fn forget_said(&mut self) {
        self.endpoint.take_said();
    }

    /// A link's peer, or the network before it, does something. `false`: there is no such link.
    pub(crate) fn play(&mut self, now: Instant, link: LinkKey, event: ScriptEvent) -> bool {
        self.set_time(now);
        let entry = self.links.get_mut(link);
        let Some(script) = entry.and_then(|entry| entry.carrier.script()) else {
            return false;
        };
        script.play(event);
        self.mark(link);
        true
    }
}

/// A node that a test or a fuzzer plays the peers of: it needs no QUIC, no keys and no certificates.
/// Between calls it is driven as any other, and `poll_transmit` gives nothing.
#[cfg(any(feature = "planted", feature = "fuzzing"))]
pub struct ScriptedNode {
    node: Node,
}

#[cfg(any(feature = "planted", feature = "fuzzing"))]
impl ScriptedNode {
    /// Makes one. All that it draws comes from `seed`, and its time of day begins with the year 1970.
    pub fn new(
        config: Config,
        roles: ScriptedRoles,
        seed: &Seed,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let random = seed.rng(super::RANDOM, 0);
        let node = Node::scripted(config, roles, random, now, SystemTime::UNIX_EPOCH)?;
        Ok(Self { node })
    }

    /// The node, to command and to poll. Datagrams are lost on it.
    pub fn node(&mut self) -> &mut Node {
        &mut self.node
    }

    /// A peer begins a link to this node, from that address, with these certificates.
    pub fn begin(
        &mut self,
        now: Instant,
        address: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Option<LinkKey> {
        self.node.begin_scripted(now, address, certificates)
    }

    /// A link's peer, or the network before it, does something. `false`: there is no such link, or
    /// not any more. Links that the node dials are told of by [`links`](Self::links).
    pub fn play(&mut self, now: Instant, link: LinkKey, event: ScriptEvent) -> bool {
        self.node.play(now, link, event)
    }

    /// The links that there are, and whether this node dialled them.
    pub fn links(&mut self) -> Vec<(LinkKey, bool)> {
        let keys: Vec<LinkKey> = self.node.links.iter().map(|(key, _)| key).collect();
        keys.into_iter()
            .filter_map(|key| {
                let script = self.node.links.get_mut(key)?.carrier.script()?;
                Some((key, script.is_client()))
            })
            .collect()
    }

    /// What the node has written and closed since this was asked last, link by link. Drain it, as
    /// events are drained.
    pub fn take_said(&mut self) -> Vec<(LinkKey, Said)> {
        self.node.endpoint.take_said()
    }
}

#[cfg(test)]
mod tests;
