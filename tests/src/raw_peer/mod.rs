//! A peer whose every byte a test decides.
//!
//! A raw peer completes QUIC's and TLS's handshake with plain quinn-proto and rustls, and then
//! writes and reads whatever a test wants on whichever stream: what a hostile or a foreign
//! implementation would send. It shares nothing with the implementation that it talks to but the
//! schema; what it needs to know besides stands in PROTOCOL.md.
//!
//! It takes part in a [`crate::World`] like a node, in the same virtual time: see
//! [`crate::World::raw_client`] and [`crate::World::raw_server`]. Its connection ids and QUIC's draws follow from
//! the world's seed; TLS's randoms and key shares come from the operating system, so that bytes
//! differ between two runs of one seed, but not their number or order.

mod frames;
mod link;
mod tls;

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::{ClientConfig, DatagramEvent, Endpoint, Transmit};

pub use frames::{control, cut, envelope, frame, hello, lane_open, length};
pub use link::{Ended, RawLink, Received, StreamId};
pub use tls::RawSettings;

use crate::{Authority, Random};

/// A peer whose every byte a test decides: see [`RawLink`] for what it can do.
pub struct RawPeer {
    address: SocketAddr,
    endpoint: Endpoint,
    client: Option<ClientConfig>,
    links: Vec<RawLink>,
    responses: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl RawPeer {
    pub(crate) fn client(
        address: SocketAddr,
        settings: &RawSettings,
        roots: &Authority,
        wall: Duration,
        mut random: Random,
    ) -> Result<Self, Box<dyn Error>> {
        let config = settings.client(roots, wall, Random::new(random.next_u64()))?;
        let mut peer = Self::new(address, None, &mut random);
        peer.client = Some(config);
        Ok(peer)
    }

    pub(crate) fn server(
        address: SocketAddr,
        settings: &RawSettings,
        roots: &Authority,
        wall: Duration,
        mut random: Random,
    ) -> Result<Self, Box<dyn Error>> {
        let config = Arc::new(settings.server(roots, wall)?);
        Ok(Self::new(address, Some(config), &mut random))
    }

    fn new(
        address: SocketAddr,
        server: Option<Arc<quinn_proto::ServerConfig>>,
        random: &mut Random,
    ) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&random.next_u64().to_be_bytes());
        Self {
            address,
            endpoint: Endpoint::new(tls::endpoint(random), server, true, Some(seed)),
            client: None,
            links: Vec::new(),
            responses: VecDeque::new(),
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Dials a server; the new link is the last.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn dial(&mut self, now: Instant, server: SocketAddr) -> &mut RawLink {
        let config = self.client.clone().expect("the peer is a client");
        let (handle, connection) = self
            .endpoint
            .connect(now, config, server, "localhost")
            .expect("the address can be dialled");
        self.links.push(RawLink::new(handle, connection));
        self.link()
    }

    /// Every connection so far, the oldest first.
    pub fn links(&mut self) -> &mut [RawLink] {
        &mut self.links
    }

    /// The newest connection; panics if there was none yet.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn link(&mut self) -> &mut RawLink {
        self.links.last_mut().expect("there is a connection")
    }

    /// Forgets connections that are over and that nothing comes for any more, the newest aside, so that many of
    /// them do not fill the test's own memory.
    pub fn forget_ended(&mut self) {
        let newest = self.links.pop();
        self.links.retain(|link| !link.is_forgotten());
        self.links.extend(newest);
    }

    /// Takes the datagrams that it would send now, so that they can be damaged and
    /// [injected](crate::World::inject); they are not sent.
    pub fn take_datagrams(&mut self, now: Instant) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.poll_transmit(now))
            .map(|(_, datagram)| datagram)
            .collect()
    }

    pub(crate) fn receive(&mut self, now: Instant, from: SocketAddr, data: BytesMut) {
        let mut buffer = Vec::new();
        match self
            .endpoint
            .handle(now, from, None, None, data, &mut buffer)
        {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(link) = self.links.iter_mut().rev().find(|link| link.is(handle)) {
                    link.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                match self.endpoint.accept(incoming, now, &mut buffer, None) {
                    Ok((handle, connection)) => self.links.push(RawLink::new(handle, connection)),
                    Err(error) => self.respond(error.response, &buffer),
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.respond(Some(transmit), &buffer),
            None => {}
        }
    }

    fn respond(&mut self, transmit: Option<Transmit>, buffer: &[u8]) {
        if let Some(transmit) = transmit {
            let datagram = buffer[..transmit.size].to_vec();
            self.responses.push_back((transmit.destination, datagram));
        }
    }

    /// The next datagram to send, and where to.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        if let Some(response) = self.responses.pop_front() {
            return Some(response);
        }
        for link in &mut self.links {
            link.pump(&mut self.endpoint);
            let mut buffer = Vec::new();
            if let Some((to, size)) = link.poll_transmit(now, &mut buffer) {
                buffer.truncate(size);
                return Some((to, buffer));
            }
        }
        None
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        self.links
            .iter_mut()
            .filter_map(RawLink::poll_timeout)
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.links
            .iter_mut()
            .for_each(|link| link.handle_timeout(now));
    }
}
