//! For the tests: certificates, and two endpoints that talk without a network.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use quinn_proto::crypto;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Endpoint,
    EndpointConfig, Event, ServerConfig,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::signing::SignatureTap;
use super::tls::{Identity, Roots};
use super::{PersistentKeys, Sources, WallClock};
use crate::seed::Seed;

pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// The time of day at which the tests take place, in September 2026.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

pub(super) fn sources(seed: u8) -> Sources {
    sources_at(seed, now(), None)
}

pub(super) fn sources_at(
    seed: u8,
    wall: SystemTime,
    tap: Option<Arc<dyn SignatureTap>>,
) -> Sources {
    Sources::new(
        &Seed::new([seed; 32]),
        WallClock::new(Instant::now(), wall),
        tap,
    )
}

/// Issues certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(super) fn roots(&self) -> Roots {
        Roots::from_der(vec![self.certificate()], "roots").unwrap()
    }

    pub(super) fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_for(names, now() - DAY..now() + 30 * DAY)
    }

    pub(super) fn issue_for(&self, names: &[&str], valid: Range<SystemTime>) -> Leaf {
        self.issue_with(&PKCS_ED25519, names, valid)
    }

    pub(super) fn issue_ecdsa(&self, names: &[&str]) -> Leaf {
        self.issue_with(
            &PKCS_ECDSA_P256_SHA256,
            names,
            now() - DAY..now() + 30 * DAY,
        )
    }

    fn issue_with(
        &self,
        kind: &'static SignatureAlgorithm,
        names: &[&str],
        valid: Range<SystemTime>,
    ) -> Leaf {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = valid.start.into();
        params.not_after = valid.end.into();
        let key = KeyPair::generate_for(kind).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            chain: vec![certificate.der().clone()],
            pem: certificate.pem(),
            key,
        }
    }
}

/// A certificate and its key.
pub(super) struct Leaf {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pem: String,
    key: KeyPair,
}

impl Leaf {
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    /// The certificate and the key.
    pub(super) fn pem(&self) -> (String, String) {
        (self.pem.clone(), self.key.serialize_pem())
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::from_der(self.chain.clone(), self.key(), "leaf").unwrap()
    }
}

/// One side: an endpoint with its connections, and what it sent.
pub(super) struct Party {
    address: SocketAddr,
    endpoint: Endpoint,
    connections: BTreeMap<ConnectionHandle, Connection>,
    outgoing: Vec<Vec<u8>>,
    pub(super) connected: bool,
    pub(super) lost: Option<ConnectionError>,
}

impl Party {
    /// A server that validates addresses with a Retry first.
    pub(super) fn server(
        crypto: Arc<dyn crypto::ServerConfig>,
        keys: &PersistentKeys,
        sources: &Sources,
    ) -> Self {
        let mut config = ServerConfig::new(crypto, keys.token_key());
        config.time_source(Arc::new(sources.wall().clone()));
        Self::new(1, Some(Arc::new(config)), keys, sources)
    }

    pub(super) fn client(sources: &Sources) -> Self {
        Self::new(2, None, &PersistentKeys::new([3; 32], [4; 32]), sources)
    }

    fn new(
        host: u8,
        server: Option<Arc<ServerConfig>>,
        keys: &PersistentKeys,
        sources: &Sources,
    ) -> Self {
        let mut config = EndpointConfig::new(keys.reset_key());
        config.cid_generator(sources.connection_ids(None));
        Self {
            address: (Ipv4Addr::new(10, 0, 0, host), 4433).into(),
            endpoint: Endpoint::new(Arc::new(config), server, false, Some(sources.destination())),
            connections: BTreeMap::new(),
            outgoing: Vec::new(),
            connected: false,
            lost: None,
        }
    }

    /// Dials `localhost`.
    pub(super) fn dial(
        &mut self,
        now: Instant,
        crypto: Arc<dyn crypto::ClientConfig>,
        to: &Self,
        sources: &Sources,
    ) {
        let mut config = ClientConfig::new(crypto);
        config.initial_dst_cid_provider(sources.first_destinations());
        let (handle, connection) = self
            .endpoint
            .connect(now, config, to.address, "localhost")
            .unwrap();
        self.connections.insert(handle, connection);
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        self.connections.values_mut().next().unwrap()
    }

    pub(super) fn peer_certificate(&mut self) -> Option<CertificateDer<'static>> {
        let chain = self.connection().crypto_session().peer_identity()?;
        chain
            .downcast::<Vec<CertificateDer<'static>>>()
            .unwrap()
            .first()
            .cloned()
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let mut buffer = Vec::new();
        let data = BytesMut::from(datagram);
        let response = match self
            .endpoint
            .handle(now, from, None, None, data, &mut buffer)
        {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                self.connections
                    .get_mut(&handle)
                    .unwrap()
                    .handle_event(event);
                None
            }
            Some(DatagramEvent::NewConnection(incoming))
                if !incoming.remote_address_validated() =>
            {
                Some(self.endpoint.retry(incoming, &mut buffer).ok().unwrap())
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                match self.endpoint.accept(incoming, now, &mut buffer, None) {
                    Ok((handle, connection)) => {
                        self.connections.insert(handle, connection);
                        None
                    }
                    Err(error) => {
                        self.lost = Some(error.cause);
                        error.response
                    }
                }
            }
            Some(DatagramEvent::Response(transmit)) => Some(transmit),
            None => None,
        };
        if let Some(transmit) = response {
            self.outgoing.push(buffer[..transmit.size].to_vec());
        }
    }

    fn transmit(&mut self, now: Instant) -> Vec<Vec<u8>> {
        for (handle, connection) in &mut self.connections {
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(event) = connection.poll() {
                match event {
                    Event::Connected => self.connected = true,
                    Event::ConnectionLost { reason } => self.lost = Some(reason),
                    _ => {}
                }
            }
            let mut buffer = Vec::new();
            while let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer) {
                self.outgoing.push(buffer[..transmit.size].to_vec());
                buffer.clear();
            }
        }
        std::mem::take(&mut self.outgoing)
    }
}

/// Carries datagrams until neither side has one; returns them in the order in which they were sent.
pub(super) fn talk(mut now: Instant, client: &mut Party, server: &mut Party) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        now += Duration::from_millis(1);
        let sent = client.transmit(now);
        sent.iter()
            .for_each(|datagram| server.receive(now, client.address, datagram));
        let answered = server.transmit(now);
        answered
            .iter()
            .for_each(|datagram| client.receive(now, server.address, datagram));
        if sent.is_empty() && answered.is_empty() {
            return all;
        }
        all.extend(sent.into_iter().chain(answered));
        assert!(all.len() < 100, "they never come to rest");
    }
}
