//! Signatures in certificates, checked once.
//!
//! Whoever dials a server a thousand times is shown the same certificate a thousand times, and
//! checking the authority's signature in it is a fifth of what a dial costs. Whether a signature
//! holds depends on the key, the message and the signature alone, so that one that held holds
//! again: names, times and whom to trust are looked at each time. What a peer signs in a handshake
//! is new each time, and not kept.

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, PoisonError};

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// How many signatures are kept for each algorithm: chains are short, and few servers are dialled
/// by one process.
const KEPT: usize = 16;

/// A certificate larger than this, its issuer's key and its signature included, is not kept.
const LARGEST: usize = 4096;

/// aws-lc's algorithms, where those for certificates remember what they have checked. All nodes of
/// a process share what is remembered, so that clients with a node each profit by it.
pub(super) fn signature_algorithms() -> WebPkiSupportedAlgorithms {
    static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
        let remembering = |algorithm: &&'static _| -> &'static dyn SignatureVerificationAlgorithm {
            Box::leak(Box::new(Remembering::new(*algorithm)))
        };
        theirs().all.iter().map(remembering).collect()
    });
    WebPkiSupportedAlgorithms {
        all: &ALL,
        ..theirs()
    }
}

fn theirs() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

/// An algorithm, and the last signatures that it found good.
#[derive(Debug)]
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    good: Mutex<VecDeque<Signed>>,
}

/// Who signed what, and how.
#[derive(Debug)]
struct Signed {
    key: Box<[u8]>,
    message: Box<[u8]>,
    signature: Box<[u8]>,
}

impl Remembering {
    fn new(algorithm: &'static dyn SignatureVerificationAlgorithm) -> Self {
        Self {
            algorithm,
            good: Mutex::default(),
        }
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let known = |one: &Signed| {
            *one.signature == *signature && *one.key == *key && *one.message == *message
        };
        // Nothing in it is half done at any time: what a thread that panicked left is as good.
        let good = || self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good().iter().any(known) {
            return Ok(());
        }
        self.algorithm.verify_signature(key, message, signature)?;
        if key.len() + message.len() + signature.len() <= LARGEST {
            let mut good = good();
            good.truncate(KEPT - 1);
            good.push_front(Signed {
                key: key.into(),
                message: message.into(),
                signature: signature.into(),
            });
        }
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls_pki_types::alg_id;

    use super::*;

    /// Takes a signature for good that ends with the message, and counts how often it is asked.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            _key: &[u8],
            message: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let good = signature.ends_with(message);
            good.then_some(()).ok_or(InvalidSignature)
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_SHA256
        }
    }

    fn counting() -> (Remembering, impl Fn() -> usize) {
        let counting: &'static Counting = Box::leak(Box::default());
        let asked = || counting.0.load(Ordering::Relaxed);
        (Remembering::new(counting), asked)
    }

    #[test]
    fn what_held_is_not_checked_again_and_anything_else_is() {
        let (algorithm, asked) = counting();
        for _ in 0..3 {
            assert!(algorithm.verify_signature(b"key", b"m", b"sm").is_ok());
            assert_eq!(asked(), 1);
        }
        assert!(algorithm.verify_signature(b"yek", b"m", b"sm").is_ok());
        assert!(algorithm.verify_signature(b"key", b"m", b"zm").is_ok());
        assert_eq!(asked(), 3);
        assert!(algorithm.verify_signature(b"key", b"n", b"sm").is_err());
        assert_eq!(asked(), 4);
    }

    #[test]
    fn what_did_not_hold_is_checked_each_time() {
        let (algorithm, asked) = counting();
        for count in 1..=3 {
            assert!(algorithm.verify_signature(b"key", b"m", b"s").is_err());
            assert_eq!(asked(), count);
        }
    }

    #[test]
    fn the_last_few_are_kept_and_no_large_ones() {
        let (algorithm, asked) = counting();
        let check = |key: &[u8]| algorithm.verify_signature(key, b"m", b"sm").unwrap();
        for key in 0..=KEPT {
            check(&key.to_be_bytes());
        }
        for key in 1..=KEPT {
            check(&key.to_be_bytes());
        }
        assert_eq!(asked(), KEPT + 1);
        check(&0_usize.to_be_bytes());
        assert_eq!(asked(), KEPT + 2);
        let large = vec![0; LARGEST];
        check(&large);
        check(&large);
        assert_eq!(asked(), KEPT + 4);
        assert_eq!(algorithm.good.lock().unwrap().len(), KEPT);
    }

    #[test]
    fn every_algorithm_is_there_under_its_own_name() {
        let names = |algorithms: WebPkiSupportedAlgorithms| -> Vec<_> {
            let all = algorithms.all.iter();
            all.map(|one| (one.public_key_alg_id(), one.signature_alg_id()))
                .collect()
        };
        assert_eq!(names(signature_algorithms()), names(theirs()));
    }
}
