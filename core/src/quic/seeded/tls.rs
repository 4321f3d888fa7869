//! Who this node is, and whom it trusts.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use super::validity::{Standing, Validity};
use crate::error::TlsError;
use crate::logged::logged;

/// A certificate chain and its private key: who this node is. Its `Debug` output holds neither.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Option<Arc<dyn SigningKey>>,
    /// Of each certificate of the chain.
    validities: Arc<[Validity]>,
    what: Arc<str>,
}

impl Identity {
    /// Reads a chain (the node's own certificate first, then those that lead to a root) and a
    /// private key (PKCS#8, PKCS#1 or SEC1, not encrypted) from PEM. Both may come from one file.
    ///
    /// `what` names the input in errors: a file name, for example. An Ed25519 key gives signatures
    /// without randomness, which makes recordings small; ECDSA and RSA keys work as well.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`], [`TlsError::NoKey`], [`TlsError::Unreadable`], or
    /// [`TlsError::Mismatch`] if they are no pair. Whether it is the time for the certificate is
    /// checked by [`Identity::check_time`], and when a node starts.
    pub fn from_pem(certificates: &[u8], key: &[u8], what: &str) -> Result<Self, TlsError> {
        let chain = certificates_from_pem(certificates, what)?;
        let key = match PrivateKeyDer::from_pem_slice(key) {
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) if holds_encrypted_key(key) => {
                return Err(unreadable(
                    what,
                    "the private key is encrypted: decrypt it first",
                ));
            }
            Err(pem::Error::NoItemsFound) => {
                return Err(TlsError::NoKey {
                    what: what.to_owned(),
                });
            }
            Err(error) => return Err(unreadable_pem(what, error)),
        };
        Self::from_der(chain, key, what)
    }

    /// As [`Identity::from_pem`], from DER.
    ///
    /// # Errors
    /// As [`Identity::from_pem`]; an empty chain is [`TlsError::NoCertificate`].
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        what: &str,
    ) -> Result<Self, TlsError> {
        let mut identity = Self::without_key(chain, what)?;
        let key =
            any_supported_type(&Zeroizing::new(key)).map_err(|error| unreadable(what, error))?;
        match CertifiedKey::new(identity.chain.clone(), Arc::clone(&key)).keys_match() {
            // Unknown: the key cannot say; then the first handshake will.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(TlsError::Mismatch),
            Err(error) => return Err(unreadable(what, error)),
        }
        identity.key = Some(key);
        Ok(identity)
    }

    /// A chain whose key is elsewhere: for a replay, in which a signature tap returns recorded
    /// signatures. Without a tap, a node does not start with it.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`] or [`TlsError::Unreadable`].
    pub(crate) fn without_key(
        chain: Vec<CertificateDer<'static>>,
        what: &str,
    ) -> Result<Self, TlsError> {
        let Some(leaf) = chain.first() else {
            return Err(TlsError::NoCertificate {
                what: what.to_owned(),
            });
        };
        EndEntityCert::try_from(leaf).map_err(|error| unreadable(what, error))?;
        let Some(validities) = chain.iter().map(Validity::of).collect() else {
            return Err(unreadable(
                what,
                "a certificate's validity is not as RFC 5280 defines it",
            ));
        };
        Ok(Self {
            chain,
            key: None,
            validities,
            what: what.into(),
        })
    }

    /// The certificate chain, the node's own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain's certificates, one behind the other, for a recording.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        joined(&self.chain)
    }

    /// Whether the node's own certificate, the first of the chain, is valid at this time. Those behind it need not be: a peer may
    /// find another way to a root, as where one of them is an old cross-signature. When a node is given the identity, its log
    /// warns of each that is not.
    ///
    /// # Errors
    /// [`TlsError::Expired`] or [`TlsError::NotYetValid`].
    pub fn check_time(&self, now: SystemTime) -> Result<(), TlsError> {
        let what = || self.what.to_string();
        match self.validities.first().map(|own| own.at(now)) {
            Some(Standing::Expired) => Err(TlsError::Expired { what: what() }),
            Some(Standing::NotYetValid) => Err(TlsError::NotYetValid { what: what() }),
            Some(Standing::Valid) | None => Ok(()),
        }
    }

    /// [`check_time`](Self::check_time), as a node begins to use it.
    pub(crate) fn put_to_use(&self, now: SystemTime) -> Result<(), TlsError> {
        self.check_time(now)?;
        for place in self.out_of_time(now) {
            let (what, of) = (&*self.what, self.chain.len());
            logged(|| {
                tracing::warn!(
                    what,
                    place,
                    of,
                    "a certificate behind the node's own is expired or not yet valid: if peers find no other way to a root, they refuse it"
                );
            });
        }
        Ok(())
    }

    /// Which certificates behind the node's own are not valid at this time, by their places in the chain, from 2 on.
    fn out_of_time(&self, now: SystemTime) -> Vec<usize> {
        let behind = self.validities.iter().enumerate().skip(1);
        let is_out = |validity: &Validity| validity.at(now) != Standing::Valid;
        behind
            .filter_map(|(index, validity)| is_out(validity).then_some(index + 1))
            .collect()
    }

    pub(super) fn key(&self) -> Option<&Arc<dyn SigningKey>> {
        self.key.as_ref()
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("what", &self.what)
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Certificates of authorities: whom this node trusts to say who a peer is. There is no default:
/// nothing is trusted that is not named.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Roots {
    /// Reads at least one certificate from PEM. `what` names the input in errors.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`] or [`TlsError::Unreadable`].
    pub fn from_pem(certificates: &[u8], what: &str) -> Result<Self, TlsError> {
        Self::from_der(certificates_from_pem(certificates, what)?, what)
    }

    /// As [`Roots::from_pem`], from DER.
    ///
    /// # Errors
    /// As [`Roots::from_pem`].
    pub fn from_der(
        certificates: Vec<CertificateDer<'static>>,
        what: &str,
    ) -> Result<Self, TlsError> {
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate {
                what: what.to_owned(),
            });
        }
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store
                .add(certificate.clone())
                .map_err(|error| unreadable(what, error))?;
        }
        Ok(Self {
            store: Arc::new(store),
            certificates: certificates.into(),
        })
    }

    /// How many certificates there are: at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// The certificates, one behind the other, for a recording.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        joined(&self.certificates)
    }

    /// The certificates themselves, for a recording.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.store)
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.len())
    }
}

fn joined(certificates: &[CertificateDer<'static>]) -> Vec<u8> {
    let bytes = certificates.iter().flat_map(|one| one.as_ref());
    bytes.copied().collect()
}

fn certificates_from_pem(
    text: &[u8],
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable_pem(what, error))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            what: what.to_owned(),
        });
    }
    Ok(certificates)
}

fn holds_encrypted_key(text: &[u8]) -> bool {
    let mark = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    text.windows(mark.len()).any(|window| window == mark)
}

/// What the PEM parser says names bytes where it means words.
fn unreadable_pem(what: &str, error: pem::Error) -> TlsError {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            unreadable(what, "its last block has no END line: the file was cut off")
        }
        pem::Error::IllegalSectionStart { .. } => {
            unreadable(what, "a BEGIN line in it is not whole")
        }
        other => unreadable(what, other),
    }
}

fn unreadable(what: &str, why: impl fmt::Display) -> TlsError {
    TlsError::Unreadable {
        what: what.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::lab::{Authority, DAY, now};
    use super::*;

    fn named(what: &str) -> String {
        what.to_owned()
    }

    #[test]
    fn pem_files_become_an_identity() {
        for leaf in [
            Authority::new("ca").issue(&["a"]),
            Authority::new("ca").issue_ecdsa(&["a"]),
        ] {
            let (chain, key) = leaf.pem();
            let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes(), "x").unwrap();
            assert_eq!(identity.chain(), leaf.chain);
            let both = format!("{key}\n{chain}");
            assert!(Identity::from_pem(both.as_bytes(), both.as_bytes(), "x").is_ok());
        }
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let (chain, key) = Authority::new("ca").issue(&["a"]).pem();
        let expected = TlsError::NoCertificate {
            what: named("x.pem"),
        };
        for text in ["", "junk", key.as_str()] {
            let error = Identity::from_pem(text.as_bytes(), key.as_bytes(), "x.pem").unwrap_err();
            assert_eq!(error, expected);
            assert_eq!(
                Roots::from_pem(text.as_bytes(), "x.pem").unwrap_err(),
                expected
            );
        }
        assert_eq!(Roots::from_der(Vec::new(), "x.pem").unwrap_err(), expected);
        assert_eq!(
            Identity::without_key(Vec::new(), "x.pem").unwrap_err(),
            expected
        );
        assert!(Roots::from_pem(chain.as_bytes(), "x.pem").is_ok());
    }

    #[test]
    fn a_missing_key_is_named() {
        let (chain, _) = Authority::new("ca").issue(&["a"]).pem();
        for text in ["", "junk", chain.as_str()] {
            let error = Identity::from_pem(chain.as_bytes(), text.as_bytes(), "x.key").unwrap_err();
            assert_eq!(
                error,
                TlsError::NoKey {
                    what: named("x.key")
                }
            );
        }
    }

    #[test]
    fn unreadable_input_is_named_with_the_reason() {
        let leaf = Authority::new("ca").issue(&["a"]);
        let (chain, key) = leaf.pem();
        let half = |text: &str| text[..text.len() / 2].to_owned();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned();
        let no_certificate =
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        let inputs = [
            (half(&chain), key.clone()),
            (no_certificate.clone(), key.clone()),
            (format!("{chain}{no_certificate}"), key.clone()),
            (chain.clone(), half(&key)),
            (chain.clone(), no_key),
            (chain.clone(), encrypted),
        ];
        for (chain, key) in inputs {
            let error = Identity::from_pem(chain.as_bytes(), key.as_bytes(), "x").unwrap_err();
            assert!(
                matches!(&error, TlsError::Unreadable { what, why } if what == "x" && !why.is_empty()),
                "{error:?}"
            );
        }
        for text in [half(&chain), no_certificate] {
            assert!(matches!(
                Roots::from_pem(text.as_bytes(), "x"),
                Err(TlsError::Unreadable { .. })
            ));
        }
    }

    #[test]
    fn an_encrypted_key_is_called_encrypted() {
        let (chain, key) = Authority::new("ca").issue(&["a"]).pem();
        let key = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let error = Identity::from_pem(chain.as_bytes(), key.as_bytes(), "x").unwrap_err();
        assert!(error.to_string().contains("encrypted"), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let authority = Authority::new("ca");
        let (one, other) = (authority.issue(&["a"]), authority.issue_ecdsa(&["a"]));
        let same_kind = authority.issue(&["a"]);
        for key in [other.key(), same_kind.key()] {
            let error = Identity::from_der(one.chain.clone(), key, "x").unwrap_err();
            assert_eq!(error, TlsError::Mismatch);
        }
    }

    #[test]
    fn an_identity_is_refused_before_and_after_its_time() {
        let leaf = Authority::new("ca").issue_for(&["a"], now()..now() + DAY);
        let identity = Identity::from_der(leaf.chain.clone(), leaf.key(), "x.pem").unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(identity.check_time(now()), Ok(()));
        assert_eq!(
            identity.check_time(now() - second),
            Err(TlsError::NotYetValid {
                what: named("x.pem")
            })
        );
        assert_eq!(
            identity.check_time(now() + DAY + second),
            Err(TlsError::Expired {
                what: named("x.pem")
            })
        );
    }

    /// A peer may find another way to a root than by a cross-signed certificate that has run out.
    #[test]
    fn a_chain_expires_with_its_own_certificate_and_others_are_told() {
        let authority = Authority::new("ca");
        let chain_of = |names: &[&str], days| authority.issue_for(names, now()..now() + days * DAY);
        let mut leaf = chain_of(&["a"], 3);
        for days in [9, 1] {
            leaf.chain.extend(chain_of(&["b"], days).chain);
        }
        let identity = Identity::from_der(leaf.chain.clone(), leaf.key(), "x").unwrap();
        assert_eq!(identity.check_time(now() + 2 * DAY), Ok(()));
        assert_eq!(identity.out_of_time(now()), []);
        assert_eq!(identity.out_of_time(now() + 2 * DAY), [3]);
        assert_eq!(identity.out_of_time(now() - DAY), [2, 3]);
        assert_eq!(
            identity.check_time(now() + 4 * DAY),
            Err(TlsError::Expired { what: named("x") })
        );
    }

    #[test]
    fn nothing_secret_is_printed() {
        let leaf = Authority::new("ca").issue(&["a"]);
        let identity = Identity::from_der(leaf.chain.clone(), leaf.key(), "x").unwrap();
        assert_eq!(
            format!("{identity:?}"),
            "Identity { what: \"x\", certificates: 1, .. }"
        );
    }
}
