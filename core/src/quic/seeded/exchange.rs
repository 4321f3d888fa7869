//! X25519 (RFC 7748) with private keys from the seed.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

use super::scope::draw;

const KEY_LENGTH: usize = 32;

/// The key exchange group that rustls is given.
#[derive(Debug)]
pub(super) struct SeededX25519;

impl SupportedKxGroup for SeededX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = Zeroizing::new([0; KEY_LENGTH]);
        draw(&mut *secret)?;
        let private = PrivateKey::from_private_key(&agreement::X25519, &*secret)
            .map_err(|_| GetRandomFailed)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange { private, public }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    private: PrivateKey,
    public: agreement::PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = || Error::from(PeerMisbehaved::InvalidKeyShare);
        if peer.len() != KEY_LENGTH {
            return Err(refused());
        }
        // An all-zero result, to which this side contributed nothing, is an error here as
        // RFC 8446 section 7.4.2 demands.
        let peer = UnparsedPublicKey::new(&agreement::X25519, peer);
        agreement::agree(&self.private, peer, refused(), |secret| {
            Ok(SharedSecret::from(secret))
        })
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::kx_group;

    use super::super::scope::SessionRng;
    use super::*;
    use crate::seed::Seed;

    fn start(seed: u8) -> Box<dyn ActiveKeyExchange> {
        let mut rng = SessionRng::new(Seed::new([seed; 32]).rng("exchange", 0));
        rng.scope(|| SeededX25519.start()).unwrap()
    }

    #[test]
    fn it_agrees_with_the_stock_implementation() {
        let ours = start(1);
        let stock = kx_group::X25519.start_and_complete(ours.pub_key()).unwrap();
        let secret = ours.complete(&stock.pub_key).unwrap();
        assert_eq!(secret.secret_bytes(), stock.secret.secret_bytes());
    }

    #[test]
    fn the_seed_alone_decides_the_key() {
        assert_eq!(start(1).pub_key(), start(1).pub_key());
        assert_ne!(start(1).pub_key(), start(2).pub_key());
    }

    #[test]
    fn without_a_session_there_is_no_key() {
        assert!(matches!(
            SeededX25519.start(),
            Err(Error::FailedToGetRandomBytes)
        ));
    }

    #[test]
    fn broken_and_non_contributory_shares_are_refused() {
        // The last one is a point of order 8 (RFC 7748 section 6.1 and its errata).
        let order_8 = [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ];
        for share in [&[][..], &[9; 31], &[9; 33], &[0; 32], &order_8] {
            let refused = matches!(
                start(1).complete(share),
                Err(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))
            );
            assert!(refused, "{share:?}");
        }
    }
}
