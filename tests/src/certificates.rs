//! Throwaway certificates.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use trunkline_core::{Identity, Roots};

/// A certificate authority made for tests, and what it has signed. Its keys stand in this crate's
/// source: every run of a test has the same, and nothing but a test may trust them.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Trusts the authority.
    pub roots: Roots,
    /// A server's identity, for the name `localhost`.
    pub server: Identity,
}

impl Certificates {
    /// Makes them, the same each time. Fails only if the cryptography library does.
    pub fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let [authority, server] = issue()?;
        let key = PrivateKeyDer::Pkcs8(private_key(SERVER));
        Ok(Self {
            roots: Roots::from_der(vec![authority], "the authority")?,
            server: Identity::from_der(vec![server], key, "the server's certificate")?,
        })
    }
}

/// The numbers of the keys.
const AUTHORITY: u8 = 1;
const SERVER: u8 = 2;

/// The authority's certificate and the server's.
fn issue() -> Result<[CertificateDer<'static>; 2], rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key_pair(AUTHORITY)?)?;
    let server = CertificateParams::new(vec!["localhost".to_owned()])?
        .signed_by(&key_pair(SERVER)?, &authority)?;
    Ok([authority.der().clone(), server.der().clone()])
}

fn key_pair(number: u8) -> Result<KeyPair, rcgen::Error> {
    KeyPair::from_pkcs8_der_and_sign_algo(&private_key(number), &PKCS_ED25519)
}

/// An Ed25519 private key of that number as PKCS #8 (RFC 8410 §7): a fixed beginning, and the
/// key's 32 bytes.
fn private_key(number: u8) -> PrivatePkcs8KeyDer<'static> {
    const BEGINNING: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    [BEGINNING.as_slice(), &[number; 32]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_same_each_time() {
        assert_eq!(issue().unwrap(), issue().unwrap());
    }
}
