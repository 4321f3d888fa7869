//! Cryptography that hides and proves nothing, in the place of TLS: what is sent stands in the
//! datagrams, and whoever can count packets can make some.
//!
//! A handshake takes the same flights as TLS 1.3 without its sizes: each side says its transport
//! parameters once, in a message of a kind, a length and a body.

use std::any::Any;
use std::sync::Arc;

use bytes::BytesMut;
use quinn_proto::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey,
    ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, TransportErrorCode};
use trunkline_core::fuzzing::{ForeignCrypto, use_foreign_crypto};

/// What stands behind every packet in the place of AEAD's tag: one byte, that tells of its keys and its number.
pub const TAG_BYTES: usize = 1;

/// A byte that tells packets of other keys (its upper half), and those whose number is misread (its lower
/// one), for only its last bytes are sent (RFC 9000 §17.1): what overtakes more than a hundred others is
/// taken for another one.
pub(super) fn tag(updates: u8, number: u64) -> u8 {
    let above = (number >> 8) ^ (number >> 16) ^ (number >> 24);
    updates << 4 | (above ^ (above >> 4)) as u8 & 0xf
}

/// From now on, this thread's nodes use null cryptography.
pub fn use_null_crypto() {
    use_foreign_crypto(Some(ForeignCrypto {
        client: Arc::new(Null),
        server: Arc::new(Null),
    }));
}

/// Either side's configuration: there is nothing to configure.
struct Null;

impl ClientConfig for Null {
    fn start_session(
        self: Arc<Self>,
        _: u32,
        _: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        Ok(Box::new(NullSession::new(Side::Client, parameters)))
    }
}

impl ServerConfig for Null {
    fn initial_keys(&self, _: u32, _: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        Ok(keys(0))
    }

    fn retry_tag(&self, _: u32, _: &ConnectionId, _: &[u8]) -> [u8; 16] {
        [0; 16]
    }

    fn start_session(
        self: Arc<Self>,
        _: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn Session> {
        Box::new(NullSession::new(Side::Server, parameters))
    }
}

/// A message of the handshake. What comes is what the side expects next, or the end.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// The client's transport parameters, in the first flight.
    Hello = 1,
    /// The server is there: Handshake packets follow.
    Answer = 2,
    /// The server's transport parameters.
    Parameters = 3,
    /// The client has them.
    Done = 4,
}

/// One side of a handshake.
struct NullSession {
    side: Side,
    own: Vec<u8>,
    peers: Option<TransportParameters>,
    /// Bytes that are no whole message yet.
    unread: Vec<u8>,
    /// What has to come next; `None`: everything has.
    expected: Option<Kind>,
    /// What is to be written next; `None`: everything was, or it is the peer's turn.
    next: Option<Kind>,
    /// The keys that go with what is written next, or with nothing, are due.
    keys_due: bool,
    /// How often keys were updated.
    updates: u8,
}

impl NullSession {
    fn new(side: Side, parameters: &TransportParameters) -> Self {
        let mut own = Vec::new();
        parameters.write(&mut own);
        let (expected, next) = match side {
            Side::Client => (Kind::Answer, Some(Kind::Hello)),
            Side::Server => (Kind::Hello, None),
        };
        Self {
            side,
            own,
            peers: None,
            unread: Vec::new(),
            expected: Some(expected),
            next,
            keys_due: false,
            updates: 0,
        }
    }

    fn came(&mut self, kind: Kind, body: &[u8]) -> Result<(), TransportError> {
        if matches!(kind, Kind::Hello | Kind::Parameters) {
            self.peers = Some(TransportParameters::read(self.side, &mut &*body)?);
        }
        (self.expected, self.next) = match kind {
            Kind::Hello => (Some(Kind::Done), Some(Kind::Answer)),
            Kind::Answer => (Some(Kind::Parameters), None),
            Kind::Parameters => (None, Some(Kind::Done)),
            Kind::Done => (None, None),
        };
        self.keys_due = kind != Kind::Done;
        Ok(())
    }
}

impl Session for NullSession {
    fn initial_keys(&self, _: &ConnectionId, _: Side) -> Keys {
        keys(0)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.expected.is_some()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.unread.extend_from_slice(bytes);
        while let [kind, high, low, rest @ ..] = &self.unread[..] {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(kind) = self.expected.filter(|expected| *expected as u8 == *kind) else {
                return Err(TransportError {
                    code: TransportErrorCode::crypto(10),
                    frame: None,
                    reason: "an unexpected message".into(),
                });
            };
            let Some(body) = rest.get(..length) else {
                break;
            };
            let body = body.to_vec();
            self.unread.drain(..3 + length);
            self.came(kind, &body)?;
        }
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.peers)
    }

    /// QUIC asks until it is given nothing: keys count for what comes after what is written with
    /// them.
    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        if let Some(kind) = self.next.take() {
            let body = match kind {
                Kind::Hello | Kind::Parameters => &self.own[..],
                Kind::Answer | Kind::Done => &[],
            };
            out.push(kind as u8);
            out.extend_from_slice(&(body.len() as u16).to_be_bytes());
            out.extend_from_slice(body);
            if kind == Kind::Answer {
                self.next = Some(Kind::Parameters);
                return Some(keys(0));
            }
        }
        std::mem::take(&mut self.keys_due).then(|| keys(0))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.updates = self.updates.wrapping_add(1);
        Some(keys(self.updates).packet)
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        true
    }

    fn export_keying_material(
        &self,
        _: &mut [u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

fn keys(updates: u8) -> Keys {
    Keys {
        header: KeyPair {
            local: Box::new(NullKey { updates }),
            remote: Box::new(NullKey { updates }),
        },
        packet: KeyPair {
            local: Box::new(NullKey { updates }),
            remote: Box::new(NullKey { updates }),
        },
    }
}

struct NullKey {
    updates: u8,
}

impl PacketKey for NullKey {
    fn encrypt(&self, number: u64, packet: &mut [u8], _: usize) {
        if let Some(last) = packet.last_mut() {
            *last = tag(self.updates, number);
        }
    }

    fn decrypt(&self, number: u64, _: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        match payload.split_last() {
            Some((last, rest)) if *last == tag(self.updates, number) => {
                let length = rest.len();
                payload.truncate(length);
                Ok(())
            }
            _ => Err(CryptoError),
        }
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        1 << 36
    }
}

impl HeaderKey for NullKey {
    fn decrypt(&self, _: usize, _: &mut [u8]) {}

    fn encrypt(&self, _: usize, _: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        0
    }
}
