//! How large a certificate chain is looked into.
//!
//! Whoever verifies a chain searches what the peer has sent for a way to a root, along names, and certificates that
//! bear few names have very many ways: one message of a stranger would keep a node busy for seconds. So what no
//! honest chain needs is refused before the search.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// How many certificates may come beside the peer's own. No way to a root may be longer; those of public
/// authorities are one to three long.
const INTERMEDIATES_MAX: usize = 6;

/// How many bytes all of a chain's certificates may have: a dozen with RSA keys of 4,096 bits.
const CHAIN_BYTES_MAX: usize = 16 << 10;

/// How many keys a name may have among them: an authority that changes its key has two for a while (RFC 4210,
/// section 4.4). With more, each of them is tried behind each of the others.
const KEYS_OF_A_NAME_MAX: usize = 2;

/// A verifier that is asked about no chain larger than an honest one.
#[derive(Debug)]
pub(super) struct Bounded<V: ?Sized>(pub(super) Arc<V>);

impl<V: ServerCertVerifier + ?Sized> ServerCertVerifier for Bounded<V> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check(end_entity, intermediates)?;
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}

impl<V: ClientCertVerifier + ?Sized> ClientCertVerifier for Bounded<V> {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check(end_entity, intermediates)?;
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }
}

/// Whether an honest peer may have sent this.
fn check(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), Error> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(refused(TooLarge::Intermediates(intermediates.len())));
    }
    let bytes = end_entity.len() + intermediates.iter().map(|one| one.len()).sum::<usize>();
    if bytes > CHAIN_BYTES_MAX {
        return Err(refused(TooLarge::Bytes(bytes)));
    }
    // One that cannot be read issues nothing: what is to be said of it, the verifier says.
    let readable = intermediates.iter().map(webpki::anchor_from_trusted_cert);
    let mut keys_of = BTreeMap::<_, Vec<_>>::new();
    for anchor in readable.flatten() {
        let keys = keys_of.entry(anchor.subject.to_vec()).or_default();
        let key = anchor.subject_public_key_info;
        if !keys.contains(&key) {
            keys.push(key);
        }
        if keys.len() > KEYS_OF_A_NAME_MAX {
            return Err(refused(TooLarge::KeysOfAName));
        }
    }
    Ok(())
}

fn refused(why: TooLarge) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// What is too large about a chain.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum TooLarge {
    #[error("{0} certificates came beside its own, and {INTERMEDIATES_MAX} are looked at")]
    Intermediates(usize),
    #[error("its chain has {0} bytes, and {CHAIN_BYTES_MAX} are looked at")]
    Bytes(usize),
    #[error("a name in its chain has more than {KEYS_OF_A_NAME_MAX} keys")]
    KeysOfAName,
}

/// The sentence, for this is what TLS prints.
impl fmt::Debug for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::lab::Authority;
    use super::*;

    fn authorities(names: &[&str]) -> Vec<CertificateDer<'static>> {
        let certificate = |name: &&str| Authority::new(name).certificate();
        names.iter().map(certificate).collect()
    }

    fn leaf() -> CertificateDer<'static> {
        Authority::new("ca").issue(&["a"]).chain[0].clone()
    }

    fn why(intermediates: &[CertificateDer<'_>]) -> String {
        check(&leaf(), intermediates).unwrap_err().to_string()
    }

    #[test]
    fn a_chain_is_as_long_as_a_way_to_a_root_may_be() {
        let many = authorities(&["1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(check(&leaf(), &[]), Ok(()));
        assert_eq!(check(&leaf(), &many[..6]), Ok(()));
        assert!(why(&many).contains("7 certificates came beside its own, and 6"));
    }

    #[test]
    fn a_chain_has_so_many_bytes_in_all() {
        let (leaf, [mut one]) = (leaf(), [vec![0; CHAIN_BYTES_MAX - leaf().len()]]);
        let chain = |bytes: &Vec<u8>| [CertificateDer::from(bytes.clone())];
        assert_eq!(check(&leaf, &chain(&one)), Ok(()));
        one.push(0);
        let error = check(&leaf, &chain(&one)).unwrap_err();
        assert!(
            error.to_string().contains("16385 bytes, and 16384"),
            "{error}"
        );
    }

    #[test]
    fn an_authority_has_two_keys_while_it_changes_them_and_not_three() {
        let chain = authorities(&["ca", "another", "ca"]);
        assert_eq!(check(&leaf(), &chain), Ok(()));
        // Other certificates of a key are no further keys.
        let again = [&chain[..], &chain].concat();
        assert_eq!(check(&leaf(), &again), Ok(()));
        let three = [&chain[..], &authorities(&["ca"])].concat();
        assert!(why(&three).contains("more than 2 keys"), "{}", why(&three));
    }
}
