//! By which bodies are known again that are not kept.

use std::fmt;

use siphasher::sip::SipHasher24;
use twox_hash::XxHash3_64;
use zeroize::Zeroizing;

/// The key of one trace's hashes of bodies. It is kept nowhere: who has the trace can say which of
/// its bodies are equal, and cannot try what one of them may be, even with others before them.
pub(crate) struct BodyKey(Zeroizing<Key>);

#[derive(Default)]
struct Key {
    /// SipHash's.
    secret: [u64; 2],
    /// XXH3's seed.
    seed: u64,
}

impl zeroize::Zeroize for Key {
    fn zeroize(&mut self) {
        self.secret.zeroize();
        self.seed.zeroize();
    }
}

impl BodyKey {
    /// Of 32 secret bytes, the last eight are not used.
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let mut key = Zeroizing::new(Key::default());
        let Key { secret, seed } = &mut *key;
        let [first, second] = secret;
        for (to, from) in [first, second, seed].into_iter().zip(bytes.as_chunks().0) {
            *to = u64::from_le_bytes(*from);
        }
        Self(key)
    }

    /// SipHash-2-4 of the body's XXH3, which shrinks it. SipHash is a function that nobody who has not
    /// its key can tell from a random one: whatever stands before it, nothing but which bodies are equal
    /// can be learned of what comes out. XXH3 by itself keeps nothing secret; with it, a body of any
    /// length costs no more than to read it.
    pub(crate) fn hash(&self, body: &[u8]) -> u64 {
        let Key { secret, seed } = &*self.0;
        let short = XxHash3_64::oneshot_with_seed(*seed, body);
        SipHasher24::new_with_keys(secret[0], secret[1]).hash(&short.to_le_bytes())
    }
}

impl fmt::Debug for BodyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::Body;

    #[test]
    fn a_hash_is_siphash_2_4_of_xxh3() {
        // The vector of SipHash's authors: key 00 to 0f, of eight bytes.
        let key = std::array::from_fn(|n| if n < 16 { n as u8 } else { 0 });
        let [a, b] = *BodyKey::new(key).0.secret.as_array().unwrap();
        let hash = SipHasher24::new_with_keys(a, b).hash(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(hash, 0x93f5_f579_9a93_2462);
        // From the reference implementation (xxhsum -H3).
        assert_eq!(XxHash3_64::oneshot(b"abc"), 0x78af_5f94_892f_3950);
        let expected =
            SipHasher24::new_with_keys(a, b).hash(&0x78af_5f94_892f_3950_u64.to_le_bytes());
        assert_eq!(BodyKey::new(key).hash(b"abc"), expected);
    }

    #[test]
    fn equal_bodies_are_known_by_it_and_only_with_its_key() {
        let key = |bytes| BodyKey::new(bytes);
        let hash = |key: &BodyKey, bytes: &[u8]| match Body::Whole(bytes).marked(key) {
            Body::Marked { length, hash } if length == bytes.len() => hash,
            other => panic!("{other:?}"),
        };
        let one = key([7; 32]);
        for length in [4, 100, 10_000] {
            let (body, mut other) = (vec![1; length], vec![1; length]);
            other[length / 2] ^= 1;
            assert_eq!(hash(&one, &body), hash(&one, &body.clone()));
            assert_ne!(hash(&one, &body), hash(&one, &other));
            // Whichever byte of the key is another one.
            for place in 0..24 {
                let mut bytes = [7; 32];
                bytes[place] ^= 1;
                assert_ne!(hash(&key(bytes), &body), hash(&one, &body), "{place}");
            }
        }
    }
}
