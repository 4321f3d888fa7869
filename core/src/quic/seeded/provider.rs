//! The rustls provider: aws-lc's algorithms, our randomness.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};

use super::checked::signature_algorithms;
use super::exchange::SeededX25519;
use super::scope::draw;
use super::suites::cipher_suites;

/// aws-lc's ciphers, hashes and signature checks for TLS 1.3; randomness and key exchange draw
/// from the session that is being worked for, and fail when there is none.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: cipher_suites(),
        kx_groups: vec![&SeededX25519],
        secure_random: &SessionRandom,
        signature_verification_algorithms: signature_algorithms(),
        ..aws_lc_rs::default_provider()
    })
}

#[derive(Debug)]
struct SessionRandom;

impl SecureRandom for SessionRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        draw(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_outside_of_a_session_fails() {
        assert!(provider().secure_random.fill(&mut [0; 8]).is_err());
    }

    #[test]
    fn only_tls_1_3_and_x25519_are_offered() {
        let provider = provider();
        assert!(
            provider
                .cipher_suites
                .iter()
                .all(|suite| suite.tls13().is_some())
        );
        let names: Vec<_> = provider
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        assert_eq!(names, [rustls::NamedGroup::X25519]);
    }
}
