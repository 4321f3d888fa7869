//! QUIC and TLS of a raw peer: plain quinn-proto and rustls, as PROTOCOL.md's section 2 asks for
//! them, or differently.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, ServerConfig,
    TransportConfig, VarInt,
};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;

use crate::{Authority, Leaf, Random};

/// What a raw peer is in its handshake. The default is what PROTOCOL.md asks for, without a
/// certificate of its own.
#[derive(Clone, Debug)]
pub struct RawSettings {
    /// The protocols that it offers, or, as a server, selects from.
    pub alpn: Vec<Vec<u8>>,
    /// The certificate that it shows. A server needs one.
    pub certificate: Option<Leaf>,
    /// What it shows beside that.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// Whom it trusts; `None`: the world's authority.
    pub trusts: Option<Authority>,
    /// How many bytes of one stream its peer may send ahead of its reading.
    pub stream_window: u32,
    /// How many streams of each direction its peer may open.
    pub streams: u32,
}

impl Default for RawSettings {
    fn default() -> Self {
        Self {
            alpn: vec![b"trunkline/1".to_vec()],
            certificate: None,
            intermediates: Vec::new(),
            trusts: None,
            stream_window: 2 << 20,
            streams: 100,
        }
    }
}

impl RawSettings {
    pub(super) fn client(
        &self,
        roots: &Authority,
        wall: Duration,
        random: Random,
    ) -> Result<ClientConfig, Box<dyn Error>> {
        let tls = rustls::ClientConfig::builder_with_details(provider(), time(wall))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots(roots)?);
        let mut tls = match self.certificate.clone() {
            None => tls.with_no_client_auth(),
            Some(leaf) => tls.with_client_auth_cert(self.chain(leaf.certificate), leaf.key)?,
        };
        tls.alpn_protocols = self.alpn.clone();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let random = Mutex::new(random);
        config
            .transport_config(self.transport())
            .initial_dst_cid_provider(Arc::new(move || {
                // A poisoned lock leaves the generator as good as it was.
                connection_id(&mut random.lock().unwrap_or_else(PoisonError::into_inner))
            }));
        Ok(config)
    }

    pub(super) fn server(
        &self,
        roots: &Authority,
        wall: Duration,
    ) -> Result<ServerConfig, Box<dyn Error>> {
        let leaf = self
            .certificate
            .clone()
            .ok_or("a server needs a certificate")?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots(roots)?), provider())
                .allow_unauthenticated()
                .build()?;
        let mut tls = rustls::ServerConfig::builder_with_details(provider(), time(wall))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain(leaf.certificate), leaf.key)?;
        tls.alpn_protocols = self.alpn.clone();
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config.transport_config(self.transport());
        Ok(config)
    }

    fn chain(&self, own: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        [&[own], &self.intermediates[..]].concat()
    }

    fn roots(&self, roots: &Authority) -> Result<RootCertStore, rustls::Error> {
        let mut store = RootCertStore::empty();
        store.add(self.trusts.as_ref().unwrap_or(roots).certificate())?;
        Ok(store)
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(self.streams))
            // Whoever stays silent on purpose decides for itself when it has been long enough.
            .max_idle_timeout(None)
            .mtu_discovery_config(None);
        Arc::new(transport)
    }
}

/// An endpoint whose connection ids follow from the seed.
pub(super) fn endpoint(random: &Random) -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::default();
    let random = random.clone();
    config.cid_generator(move || Box::new(SeededIds(random.clone())));
    Arc::new(config)
}

const CONNECTION_ID_BYTES: usize = 8;

fn connection_id(random: &mut Random) -> ConnectionId {
    ConnectionId::new(&random.next_u64().to_be_bytes())
}

struct SeededIds(Random);

impl ConnectionIdGenerator for SeededIds {
    fn generate_cid(&mut self) -> ConnectionId {
        connection_id(&mut self.0)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The wall clock of the world when the peer was made: certificates are judged by it.
struct FixedTime(UnixTime);

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

impl fmt::Debug for FixedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FixedTime({})", self.0.as_secs())
    }
}

fn time(wall: Duration) -> Arc<FixedTime> {
    Arc::new(FixedTime(UnixTime::since_unix_epoch(wall)))
}
