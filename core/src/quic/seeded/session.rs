//! Gives each TLS session a generator of its own, whatever order sessions are driven in, and its keys the
//! way to drop padding.

use std::any::Any;
use std::sync::Arc;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{
    ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig,
    Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};

use super::Sources;
use super::scope::SessionRng;
use crate::quic::padding::{unpadding, unpadding_packets};

/// A client's TLS configuration whose sessions draw from the node's seed.
pub(super) struct SeededClient {
    pub(super) inner: Arc<QuicClientConfig>,
    pub(super) sources: Sources,
}

impl ClientConfig for SeededClient {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let mut rng = SessionRng::new(self.sources.session());
        let inner =
            rng.scope(|| Arc::clone(&self.inner).start_session(version, server_name, params))?;
        Ok(Box::new(SeededSession { inner, rng }))
    }
}

/// A server's TLS configuration whose sessions draw from the node's seed.
pub(super) struct SeededServer {
    pub(super) inner: Arc<QuicServerConfig>,
    pub(super) sources: Sources,
}

impl ServerConfig for SeededServer {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        // A connection's first packet keeps its padding: three times its size is what the server may send before
        // it knows that the client is there (RFC 9000, section 8.1), and QUIC counts it decrypted.
        self.inner.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let mut rng = SessionRng::new(self.sources.session());
        let inner = rng.scope(|| Arc::clone(&self.inner).start_session(version, params));
        Box::new(SeededSession { inner, rng })
    }
}

struct SeededSession {
    inner: Box<dyn Session>,
    rng: SessionRng,
}

impl Session for SeededSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        unpadding(self.inner.initial_keys(dst_cid, side))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.rng.scope(|| self.inner.read_handshake(buf))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.rng.scope(|| self.inner.write_handshake(buf));
        keys.map(unpadding)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys().map(unpadding_packets)
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}
