//! Keys that outlive the process.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};
use quinn_proto::crypto::{HandshakeTokenKey, HmacKey};
use zeroize::Zeroizing;

use crate::seed::Seed;
use crate::steering::Steering;

/// Keys that a server should keep across restarts.
///
/// A peer notices within a round trip that a server has restarted, instead of by silence, if the
/// new process can prove that it speaks for the old one: with the same reset key. A node that is
/// given none derives them from its seed; a new seed then means new keys, and its peers find out
/// by missing heartbeats.
///
/// **One running server has them, and nobody else at the same time**; its shards share them. A server that is shown a
/// packet of a connection which it does not have answers with the stateless reset that ends it, so one of two servers
/// with the same reset key can be asked for the resets of the other's connections (RFC 9000, sections 10.3.2 and 21.11).
/// Servers behind one address, or machines of one certificate, have keys of their own each.
///
/// `PersistentKeys::load_or_create`, of the feature `system` and so of both adapters, keeps them in a file.
/// Keep them as secret as a private key: who knows the reset key can end every connection, who
/// knows the token key can have packets sent to addresses that never asked. An old key ends no connection that was made
/// under a new one: to change it costs no more than that the next restart is noticed by silence. They are overwritten
/// with zeros when dropped, and their `Debug` output is redacted.
#[derive(Clone)]
pub struct PersistentKeys {
    reset: Zeroizing<[u8; 32]>,
    token: Zeroizing<[u8; 32]>,
}

impl PersistentKeys {
    /// Keys of these random bytes: `reset` for stateless resets (RFC 9000 section 10.3), `token`
    /// for address validation tokens (RFC 9000 section 8.1).
    pub fn new(reset: [u8; 32], token: [u8; 32]) -> Self {
        Self {
            reset: Zeroizing::new(reset),
            token: Zeroizing::new(token),
        }
    }

    /// Keys that follow from this seed. To keep them, keep a seed of their own for them: a node's
    /// own seed must not be used twice.
    pub fn from_seed(seed: &Seed) -> Self {
        Self {
            reset: seed.derive("reset key", 0),
            token: seed.derive("token key", 0),
        }
    }

    /// Both keys as bytes, `reset`, then `token`, to be kept where only this server reads them: a secret store,
    /// say. They are overwritten with zeros when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 64]> {
        let mut bytes = Zeroizing::new([0; 64]);
        let (reset, token) = bytes.split_at_mut(32);
        reset.copy_from_slice(&*self.reset);
        token.copy_from_slice(&*self.token);
        bytes
    }

    /// Keys of the bytes that [`to_bytes`](Self::to_bytes) gave, or of 64 bytes from the operating system's randomness.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut keys = Self::new([0; 32], [0; 32]);
        let (reset, token) = bytes.split_at(32);
        keys.reset.copy_from_slice(reset);
        keys.token.copy_from_slice(token);
        keys
    }

    /// How datagrams are distributed among so many nodes that have these keys ([`crate::Shard`]).
    /// Servers have 1 to 256 of them; 0 counts as 1, and more than 256 as 256.
    pub fn steering(&self, shards: u16) -> Steering {
        let key = Seed::from(self.reset.clone()).derive("steering", 0);
        let (half, _) = key.split_at(16);
        let mut key = Zeroizing::new([0; 16]);
        key.copy_from_slice(half);
        Steering::new(&key, shards)
    }

    /// What `EndpointConfig::new` takes.
    pub(crate) fn reset_key(&self) -> Arc<dyn HmacKey> {
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &*self.reset))
    }

    /// What `quinn_proto::ServerConfig::new` takes.
    pub(crate) fn token_key(&self) -> Arc<dyn HandshakeTokenKey> {
        Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, b"trunkline token v1").extract(&*self.token))
    }
}

impl fmt::Debug for PersistentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersistentKeys(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(keys: &PersistentKeys) -> Vec<u8> {
        let key = keys.reset_key();
        let mut signature = vec![0; key.signature_len()];
        key.sign(b"id", &mut signature);
        signature
    }

    fn sealed(keys: &PersistentKeys) -> Vec<u8> {
        let mut data = b"address".to_vec();
        keys.token_key()
            .aead_from_hkdf(&[5; 16])
            .seal(&mut data, &[])
            .unwrap();
        data
    }

    #[test]
    fn kept_keys_give_the_same_resets_and_tokens() {
        let keys = PersistentKeys::new([1; 32], [2; 32]);
        let kept = PersistentKeys::new([1; 32], [2; 32]);
        assert_eq!(reset(&keys), reset(&kept));
        assert_eq!(sealed(&keys), sealed(&kept));
        let other = PersistentKeys::new([2; 32], [1; 32]);
        assert_ne!(reset(&keys), reset(&other));
        assert_ne!(sealed(&keys), sealed(&other));
    }

    #[test]
    fn keys_come_back_from_their_bytes() {
        let keys = PersistentKeys::new([1; 32], [2; 32]);
        let bytes = keys.to_bytes();
        assert_eq!(bytes[..], [[1; 32], [2; 32]].concat());
        let kept = PersistentKeys::from_bytes(&bytes);
        assert_eq!((kept.reset, kept.token), (keys.reset, keys.token));
    }

    #[test]
    fn each_seed_has_its_own_two_keys() {
        let keys = PersistentKeys::from_seed(&Seed::new([1; 32]));
        assert_ne!(keys.reset, keys.token);
        assert_ne!(
            keys.reset,
            PersistentKeys::from_seed(&Seed::new([2; 32])).reset
        );
        assert_eq!(
            keys.reset,
            PersistentKeys::from_seed(&Seed::new([1; 32])).reset
        );
    }

    #[test]
    fn who_has_the_keys_steers_alike() {
        let steer = |reset| {
            let steering = PersistentKeys::new([reset; 32], [2; 32]).steering(4);
            let id = |n: u8| [&[0x40][..], &[n; 8]].concat();
            (0..64)
                .map(|n| steering.shard_of(&id(n)))
                .collect::<Vec<_>>()
        };
        assert_eq!(steer(1), steer(1));
        assert_ne!(steer(1), steer(2));
    }

    #[test]
    fn nothing_secret_is_printed() {
        assert_eq!(
            format!("{:?}", PersistentKeys::new([1; 32], [2; 32])),
            "PersistentKeys(redacted)"
        );
    }
}
