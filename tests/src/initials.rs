//! First packets of clients that are none: well formed, so that a server has to take each of them
//! for somebody who wants in.

use std::error::Error;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::quic::{ClientConnection, DirectionalKeys, Suite, Version};
use rustls::{ClientConfig, RootCertStore, Side};

use crate::Random;

/// The size of each datagram: what RFC 9000, section 14.1, asks of a client.
pub const INITIAL_BYTES: usize = 1_200;
/// The shortest destination that a server accepts (RFC 9000, section 7.2).
const DESTINATION: usize = 8;
/// Where answers go, if anybody sends any.
const SOURCE: [u8; 8] = *b"nobody's";
/// Bytes of a packet number.
const NUMBER: usize = 2;
/// Bytes by which a packet is longer than what it protects.
const TAG: usize = 16;

/// Makes Initial packets (RFC 9000, section 17.2.2), each the first one of a connection of its own:
/// with another destination id, and so with other keys (RFC 9001, section 5.2). What they say is the
/// same in all, one TLS ClientHello; a server that looks at it begins a handshake.
pub struct Initials {
    suite: Suite,
    random: Random,
    /// Header, hello and padding, with an empty destination and nothing protected.
    plain: Vec<u8>,
}

/// Where the destination id stands: after the first byte, the version and its own length.
const DESTINATION_AT: usize = 6;
/// Where the packet number stands: after both ids, no token, and a length of two bytes.
const NUMBER_AT: usize = DESTINATION_AT + DESTINATION + 1 + SOURCE.len() + 1 + 2;
const PAYLOAD_END: usize = INITIAL_BYTES - TAG;

impl Initials {
    /// Packets of clients that ask for this protocol (`trunkline/1` is the one that servers speak),
    /// with connection ids that follow from the seed.
    pub fn new(protocol: &str, seed: u64) -> Result<Self, Box<dyn Error>> {
        let suite = suite()?;
        let hello = hello(protocol)?;
        let mut plain = Vec::with_capacity(INITIAL_BYTES);
        // A long header, of an Initial; the length of the packet number, less one.
        plain.push(0xc0 | (NUMBER as u8 - 1));
        plain.extend(1_u32.to_be_bytes());
        plain.push(DESTINATION as u8);
        plain.extend([0; DESTINATION]);
        plain.push(SOURCE.len() as u8);
        plain.extend(SOURCE);
        plain.push(0);
        plain.extend(two_bytes(INITIAL_BYTES - NUMBER_AT));
        plain.extend([0; NUMBER]);
        // A CRYPTO frame (RFC 9000, section 19.6) from offset 0; the padding is zeros.
        plain.extend([0x06, 0]);
        plain.extend(two_bytes(hello.len()));
        plain.extend(hello);
        if plain.len() > PAYLOAD_END {
            return Err("a ClientHello does not fit into one datagram".into());
        }
        plain.resize(INITIAL_BYTES, 0);
        Ok(Self {
            suite,
            random: Random::new(seed),
            plain,
        })
    }

    /// Writes the next one.
    pub fn write(&mut self, datagram: &mut [u8; INITIAL_BYTES]) -> Result<(), rustls::Error> {
        datagram.copy_from_slice(&self.plain);
        let destination = self.random.next_u64().to_be_bytes();
        datagram[DESTINATION_AT..DESTINATION_AT + DESTINATION].copy_from_slice(&destination);
        let keys = self.suite.keys(&destination, Side::Client, Version::V1);
        protect(&keys.local, datagram, NUMBER_AT)
    }
}

/// An Initial packet that ends the connection which this first datagram of a client begins, with this error code of
/// QUIC: what anybody can make who has seen that.
pub fn forged_end(first: &[u8], code: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let id = |at: usize| -> Option<&[u8]> {
        let length = usize::from(*first.get(at)?);
        first.get(at + 1..at + 1 + length)
    };
    let destination = id(DESTINATION_AT - 1).ok_or("no destination id")?;
    let source = id(DESTINATION_AT + destination.len()).ok_or("no source id")?;
    // A CONNECTION_CLOSE frame (RFC 9000, section 19.19) with a code of two bytes, about no frame, without a reason.
    let mut payload = vec![0x1c];
    payload.extend(two_bytes(usize::try_from(code)?));
    payload.extend([0, 0]);
    payload.resize(payload.len() + 16, 0);
    let mut packet = vec![0xc0 | (NUMBER as u8 - 1)];
    packet.extend(1_u32.to_be_bytes());
    packet.push(source.len() as u8);
    packet.extend(source);
    packet.push(SOURCE.len() as u8);
    packet.extend(SOURCE);
    packet.push(0);
    packet.extend(two_bytes(NUMBER + payload.len() + TAG));
    let number_at = packet.len();
    packet.extend([0; NUMBER]);
    packet.extend(payload);
    packet.extend([0; TAG]);
    let keys = suite()?.keys(destination, Side::Server, Version::V1);
    protect(&keys.local, &mut packet, number_at)?;
    Ok(packet)
}

fn suite() -> Result<Suite, &'static str> {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    suite
        .and_then(|suite| suite.quic_suite())
        .ok_or("no cipher suite for Initial packets")
}

/// Packet protection (RFC 9001, section 5), of packet number 0, which stands there.
fn protect(
    keys: &DirectionalKeys,
    packet: &mut [u8],
    number_at: usize,
) -> Result<(), rustls::Error> {
    let (header, payload) = packet.split_at_mut(number_at + NUMBER);
    let (payload, tag) = payload.split_at_mut(payload.len() - TAG);
    let made = keys.packet.encrypt_in_place(0, header, payload)?;
    tag.copy_from_slice(made.as_ref());
    // The sample begins where the payload would with the longest of packet numbers.
    let sample = &payload[4 - NUMBER..][..keys.header.sample_len()];
    let (first, number) = header.split_at_mut(number_at);
    keys.header.encrypt_in_place(sample, &mut first[0], number)
}

/// A length as a variable-length integer of two bytes (RFC 9000, section 16).
fn two_bytes(length: usize) -> [u8; 2] {
    (0x4000 | length as u16).to_be_bytes()
}

/// A TLS ClientHello. It offers one small key, so that it fits into one datagram.
fn hello(protocol: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        // It will not check anybody.
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    let name = ServerName::try_from("localhost")?;
    // The one transport parameter that has to be there (RFC 9000, section 7.3):
    // initial_source_connection_id, which is the header's.
    let mut parameters = vec![0x0f, SOURCE.len() as u8];
    parameters.extend(SOURCE);
    let mut connection = ClientConnection::new(Arc::new(config), Version::V1, name, parameters)?;
    let mut hello = Vec::new();
    connection.write_hs(&mut hello);
    Ok(hello)
}
