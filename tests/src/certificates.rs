//! Throwaway certificates.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use trunkline_core::{Identity, Roots};

/// A certificate authority made for one test, and what it has signed.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Trusts the authority.
    pub roots: Roots,
    /// A server's identity, for the name `localhost`.
    pub server: Identity,
}

impl Certificates {
    /// Makes them anew. Fails only if the cryptography library does.
    pub fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ED25519)?)?;
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let leaf =
            CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Self {
            roots: Roots::from_der(vec![authority.der().clone()], "the authority")?,
            server: Identity::from_der(vec![leaf.der().clone()], key, "the server's certificate")?,
        })
    }
}
