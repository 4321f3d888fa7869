//! Raw peers in the simulated network.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use super::{NodeIndex, WALL, World};
use crate::Random;
use crate::network::Outgoing;
use crate::raw_peer::{RawPeer, RawSettings};

/// Raw peers have indices of their own, from here on, so that nodes and raw peers can be added in
/// any order.
const FIRST: usize = 1 << 15;

/// The raw peers of a world.
#[derive(Default)]
pub(super) struct RawPeers(Vec<RawPeer>);

impl RawPeers {
    pub(super) fn get_mut(&mut self, index: NodeIndex) -> Option<&mut RawPeer> {
        self.0.get_mut(index.0.checked_sub(FIRST)?)
    }
}

impl World {
    /// A client without a node, whose first link dials `server`: its every byte is the test's.
    /// Impairments of the path hold for it as for all others.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a broken fixture ends the test"
    )]
    pub fn raw_client(&mut self, server: NodeIndex, settings: &RawSettings) -> NodeIndex {
        let (index, address) = self.next_raw();
        let random = Random::new(self.random.next_u64());
        let authority = self.certificates.authority.clone();
        let mut peer = RawPeer::client(address, settings, &authority, self.wall(), random)
            .expect("TLS accepts the settings");
        peer.dial(self.now, self.address(server));
        self.raw_peers.0.push(peer);
        index
    }

    /// A server without a node: clients [`connect`](World::connect) to it as to any other.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a broken fixture ends the test"
    )]
    pub fn raw_server(&mut self, settings: &RawSettings) -> NodeIndex {
        let (index, address) = self.next_raw();
        let random = Random::new(self.random.next_u64());
        let authority = self.certificates.authority.clone();
        let mut settings = settings.clone();
        if settings.certificate.is_none() {
            let leaf = authority.issue(&["localhost"]);
            settings.certificate = Some(leaf.expect("a certificate can be issued"));
        }
        let peer = RawPeer::server(address, &settings, &authority, self.wall(), random)
            .expect("TLS accepts the settings");
        self.raw_peers.0.push(peer);
        index
    }

    /// A raw peer.
    ///
    /// # Panics
    /// If the index is a node's.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn raw(&mut self, index: NodeIndex) -> &mut RawPeer {
        self.raw_peers.get_mut(index)
            .expect("the index is a node's: `World::node` has those, and raw peers have the indices that they came with")
    }

    /// Another link of a raw client, to the same or another server; it is the peer's last.
    pub fn redial(&mut self, peer: NodeIndex, server: NodeIndex) {
        let (now, address) = (self.now, self.address(server));
        self.raw(peer).dial(now, address);
    }

    /// Hands a node a datagram at once, from whatever address: bytes of nobody's connection.
    pub fn inject(&mut self, from: SocketAddr, to: NodeIndex, datagram: &[u8]) {
        let (now, address) = (self.now, self.address(to));
        self.network.inject(now, from, address, datagram);
    }

    /// What issues the world's certificates.
    pub fn authority(&self) -> &crate::Authority {
        &self.certificates.authority
    }

    /// Drains the raw peers; says when the next wants to be woken.
    pub(super) fn drain_raw_peers(&mut self) -> Option<Instant> {
        let mut next = None;
        for (peer, from) in self.raw_peers.0.iter_mut().zip(FIRST..) {
            while let Some((destination, payload)) = peer.poll_transmit(self.now) {
                let outgoing = Outgoing {
                    from: NodeIndex(from),
                    process: 0,
                    source: peer.address(),
                    destination,
                    ecn: None,
                    payload: &payload,
                };
                self.network.send(self.now, &self.path, &outgoing);
            }
            next = [next, peer.poll_timeout()].into_iter().flatten().min();
        }
        next
    }

    pub(super) fn time_out_raw_peers(&mut self) {
        let now = self.now;
        self.raw_peers
            .0
            .iter_mut()
            .for_each(|peer| peer.handle_timeout(now));
    }

    /// Where a node or raw peer is.
    pub fn address(&mut self, index: NodeIndex) -> SocketAddr {
        match self.raw_peers.get_mut(index) {
            Some(peer) => peer.address(),
            None => self.hosts[index.0].address,
        }
    }

    fn next_raw(&mut self) -> (NodeIndex, SocketAddr) {
        let index = FIRST + self.raw_peers.0.len();
        let [high, low] = (index as u16).to_be_bytes();
        let address = (Ipv4Addr::new(10, 0, high, low), 4_433).into();
        self.network.assign(address, NodeIndex(index));
        (NodeIndex(index), address)
    }

    fn wall(&self) -> std::time::Duration {
        let wall = SystemTime::UNIX_EPOCH + WALL + self.elapsed();
        wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(WALL)
    }
}
