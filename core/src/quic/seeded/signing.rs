//! Signatures, and the place where a recorder or a replayer stands between rustls and the key.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;

use crate::tap::Signature;

/// Stands between TLS and the private key: records signatures, or returns recorded ones.
///
/// ECDSA and RSA-PSS signatures hold randomness that the seed does not decide, and a recording
/// must not hold the private key. So a recorder notes each signature as it is made, and a
/// replayer gives it back, without a key. Calls come in the same order in a replay as they came
/// in the recording; those of several handshakes may interleave.
///
/// Schemes are numbers of the TLS registry (`SignatureScheme`, RFC 8446 section 4.2.3).
pub(crate) trait SignatureTap: fmt::Debug + Send + Sync {
    /// The scheme that a handshake will sign with. `own` is what the key at hand chose out of
    /// those that the peer accepts: `None` if it can use none of them, or if there is no key.
    /// `None`, or a scheme that the peer does not accept, fails the handshake.
    fn scheme(&self, own: Option<u16>) -> Option<u16>;

    /// The signature of `message`. `own` makes one with the key at hand, and is `None` if there
    /// is no key or if it fails. `None` fails the handshake.
    ///
    /// A replayer should check that `message` is what it was when it was recorded: where it is
    /// not, the replay has diverged.
    fn signature(
        &self,
        message: &[u8],
        own: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>>;
}

/// Notes what the key at hand does, for a recorder.
#[derive(Debug, Default)]
pub(crate) struct SignatureLog {
    queue: Mutex<VecDeque<Signature>>,
    /// There are some. It is asked after each call, and few sign.
    any: AtomicBool,
}

impl SignatureLog {
    /// The oldest that was not taken yet.
    pub(crate) fn take(&self) -> Option<Signature> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut queue = self.queue();
        let oldest = queue.pop_front();
        self.any.store(!queue.is_empty(), Ordering::Release);
        oldest
    }

    fn add(&self, signature: Signature) {
        let mut queue = self.queue();
        queue.push_back(signature);
        self.any.store(true, Ordering::Release);
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Signature>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignatureTap for SignatureLog {
    fn scheme(&self, own: Option<u16>) -> Option<u16> {
        self.add(Signature::Scheme(own));
        own
    }

    fn signature(
        &self,
        message: &[u8],
        own: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let signature = own();
        self.add(Signature::Made {
            message: digest_of_signed(message),
            signature: signature.clone(),
        });
        signature
    }
}

/// By which a replay recognises what is to be signed: its SHA-256.
pub(crate) fn digest_of_signed(message: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    out
}

/// A signing key, or its absence, behind a tap.
#[derive(Debug)]
pub(super) struct TappedKey {
    pub(super) key: Option<Arc<dyn SigningKey>>,
    pub(super) tap: Arc<dyn SignatureTap>,
}

impl SigningKey for TappedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let own = self.key.as_ref().and_then(|key| key.choose_scheme(offered));
        let scheme = self
            .tap
            .scheme(own.as_ref().map(|signer| signer.scheme().into()))?
            .into();
        if !offered.contains(&scheme) {
            return None;
        }
        let own = own.filter(|signer| signer.scheme() == scheme);
        Some(Box::new(TappedSigner {
            own,
            scheme,
            tap: Arc::clone(&self.tap),
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.as_ref().and_then(|key| key.public_key())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        // Only TLS 1.2 would ask.
        self.key
            .as_ref()
            .map_or(SignatureAlgorithm::Anonymous, |key| key.algorithm())
    }
}

#[derive(Debug)]
struct TappedSigner {
    own: Option<Box<dyn Signer>>,
    scheme: SignatureScheme,
    tap: Arc<dyn SignatureTap>,
}

impl Signer for TappedSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut own = || {
            self.own
                .as_ref()
                .and_then(|signer| signer.sign(message).ok())
        };
        self.tap
            .signature(message, &mut own)
            .ok_or_else(|| Error::General("there is no signature for this handshake".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
