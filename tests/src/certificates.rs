//! Throwaway certificates.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use trunkline_core::{Identity, Roots, TlsError};

/// A certificate authority made for tests, and what it has signed. Its keys stand in this crate's
/// source: every run of a test has the same, and nothing but a test may trust them.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Trusts the authority.
    pub roots: Roots,
    /// A server's identity, for the name `localhost`.
    pub server: Identity,
    /// Another one for the same name, which follows it.
    pub renewed: Identity,
    /// Signs more of them.
    pub authority: Authority,
}

/// An authority's name unless it has one of its own.
const NAME: &str = "Trunkline test authority";

/// The numbers of the keys.
const AUTHORITY: u8 = 1;
const SERVER: u8 = 2;
const RENEWED: u8 = 3;

impl Certificates {
    /// Makes them, the same each time. Fails only if the cryptography library does.
    pub fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let authority = Authority::with_key(NAME, key_pair(AUTHORITY)?)?;
        let server = authority.certify(&["localhost"], &key_pair(SERVER)?)?;
        let renewed = authority.certify(&["localhost"], &key_pair(RENEWED)?)?;
        Ok(Self {
            roots: authority.roots()?,
            server: server.identity()?,
            renewed: renewed.identity()?,
            authority,
        })
    }
}

/// A certificate authority made for one test. Two of them do not know each other, whatever their
/// names.
#[derive(Clone)]
pub struct Authority(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Authority {
    /// Makes one anew. Fails only if the cryptography library does.
    pub fn new() -> Result<Self, rcgen::Error> {
        Self::named(NAME)
    }

    /// The same with a name of its own.
    pub fn named(name: &str) -> Result<Self, rcgen::Error> {
        Self::with_key(name, KeyPair::generate_for(&PKCS_ED25519)?)
    }

    fn with_key(name: &str, key: KeyPair) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(Arc::new(CertifiedIssuer::self_signed(params, key)?)))
    }

    /// Its own certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Trusts it.
    pub fn roots(&self) -> Result<Roots, TlsError> {
        Roots::from_der(vec![self.certificate()], "the authority")
    }

    /// Signs a certificate for these DNS names and a new key.
    pub fn issue(&self, names: &[&str]) -> Result<Leaf, rcgen::Error> {
        self.certify(names, &KeyPair::generate_for(&PKCS_ED25519)?)
    }

    /// The same for one that expired long ago.
    pub fn issue_expired(&self, names: &[&str]) -> Result<Leaf, rcgen::Error> {
        let mut params = params(names)?;
        params.not_after = rcgen::date_time_ymd(1980, 1, 1);
        self.sign(params, &KeyPair::generate_for(&PKCS_ED25519)?)
    }

    fn certify(&self, names: &[&str], key: &KeyPair) -> Result<Leaf, rcgen::Error> {
        self.sign(params(names)?, key)
    }

    fn sign(&self, params: CertificateParams, key: &KeyPair) -> Result<Leaf, rcgen::Error> {
        let leaf = params.signed_by(key, &self.0)?;
        Ok(Leaf {
            certificate: leaf.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
}

fn params(names: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names)
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

/// A certificate and its key, as they are: for peers that are no nodes.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

impl Leaf {
    /// The same for a node.
    pub fn identity(&self) -> Result<Identity, TlsError> {
        let chain = vec![self.certificate.clone()];
        Identity::from_der(chain, self.key.clone_key(), "the test's certificate")
    }
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
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
        let issue = || {
            let authority = Authority::with_key(NAME, key_pair(AUTHORITY).unwrap()).unwrap();
            let key = key_pair(SERVER).unwrap();
            let server = authority.certify(&["localhost"], &key).unwrap();
            [authority.certificate(), server.certificate]
        };
        assert_eq!(issue(), issue());
    }
}
