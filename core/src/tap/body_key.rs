//! By which bodies are known again that are not kept.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// The key of one trace's hashes of bodies. It is kept nowhere: who has the trace can say which of
/// its bodies are equal, and cannot try what one of them may be, even with others before them.
pub(crate) struct BodyKey(hmac::Key);

impl BodyKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &*bytes))
    }

    /// The first 64 bits of the body's HMAC-SHA256 (RFC 2104), little-endian. It costs less than a
    /// microsecond for short bodies, and as long as SHA-256 takes for long ones.
    pub(crate) fn hash(&self, body: &[u8]) -> u64 {
        let mut first = [0; 8];
        let tag = hmac::sign(&self.0, body);
        for (to, from) in first.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        u64::from_le_bytes(first)
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
    fn a_hash_is_hmac_sha256_cut_to_64_bits() {
        // From Python's hmac module.
        let hash = BodyKey::new([0x0b; 32]).hash(b"Hi There");
        let expected = [0x19, 0x8a, 0x60, 0x7e, 0xb4, 0x4b, 0xfb, 0xc6];
        assert_eq!(hash.to_le_bytes(), expected);
    }

    /// XXH64 backwards: the seed that gives this hash to a body of four bytes.
    fn xxh64_seed(body: [u8; 4], hash: u64) -> u64 {
        const PRIMES: [u64; 5] = [
            0x9e37_79b1_85eb_ca87,
            0xc2b2_ae3d_27d4_eb4f,
            0x1656_67b1_9e37_79f9,
            0x85eb_ca77_c2b2_ae63,
            0x27d4_eb2f_1656_67c5,
        ];
        // Of an odd number, by Newton's method.
        let inverse = |odd: u64| {
            (0..6).fold(odd, |x, _| {
                x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)))
            })
        };
        let unshift = |hash: u64, by: u32| (0..64 / by).fold(hash, |x, _| hash ^ (x >> by));
        let mut hash = unshift(hash, 32).wrapping_mul(inverse(PRIMES[2]));
        hash = unshift(hash, 29).wrapping_mul(inverse(PRIMES[1]));
        hash = unshift(hash, 33);
        hash = hash
            .wrapping_sub(PRIMES[2])
            .wrapping_mul(inverse(PRIMES[1]));
        hash = hash.rotate_right(23);
        hash ^= u64::from(u32::from_le_bytes(body)).wrapping_mul(PRIMES[0]);
        hash.wrapping_sub(4).wrapping_sub(PRIMES[4])
    }

    /// What XXH64 with a secret seed let be done.
    #[test]
    fn one_known_body_does_not_give_away_the_others() {
        let seed = xxh64_seed(*b"last", twox_hash::XxHash64::oneshot(77, b"last"));
        assert_eq!(seed, 77, "the way back is right");

        let key = BodyKey::new([7; 32]);
        let hash = |bytes| match Body::Whole(bytes).marked(&key) {
            Body::Marked { length: 4, hash } => hash,
            other => panic!("{other:?}"),
        };
        let seed = xxh64_seed(*b"last", hash(b"last"));
        assert_ne!(twox_hash::XxHash64::oneshot(seed, b"tail"), hash(b"tail"));
        assert_eq!(hash(b"tail"), hash(b"tail"));
        assert_ne!(hash(b"last"), hash(b"tail"));
    }
}
