//! Throwaway certificates.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use trunkline_core::{Identity, Roots, TlsError};

/// A certificate authority made for one test, and what it has signed.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Trusts the authority.
    pub roots: Roots,
    /// A server's identity, for the name `localhost`.
    pub server: Identity,
    /// Signs more of them.
    pub authority: Authority,
}

impl Certificates {
    /// Makes them anew. Fails only if the cryptography library does.
    pub fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let authority = Authority::new()?;
        Ok(Self {
            roots: authority.roots()?,
            server: authority.issue(&["localhost"])?.identity()?,
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
        Self::named("Trunkline test authority")
    }

    /// The same with a name of its own.
    pub fn named(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
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

    /// Signs a certificate for these DNS names.
    pub fn issue(&self, names: &[&str]) -> Result<Leaf, rcgen::Error> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let leaf = CertificateParams::new(names)?.signed_by(&key, &self.0)?;
        Ok(Leaf {
            certificate: leaf.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
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
