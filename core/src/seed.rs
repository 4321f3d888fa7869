//! The one seed that every random draw of a node comes from.

use std::fmt;

use aws_lc_rs::hmac;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

/// Separates these derivations from anything else that might use the same 32 bytes.
const SALT: &[u8] = b"trunkline seed v1";

/// 256 secret bits from which a node takes all its randomness: session tokens, TLS and QUIC keys,
/// jitter. The same seed, configuration and inputs give the same outputs, byte for byte.
///
/// Draw it from the operating system (or another strong source) in production, and never use one
/// twice there: **who knows the seed can decrypt everything that the node sent and received.**
/// A node does not keep it, unless it is recorded: what it has drawn for a TLS session cannot be found from what it
/// holds once that session is over, as TLS 1.3's forward secrecy wants it.
/// It is overwritten with zeros when dropped, and its `Debug` output is redacted.
#[derive(Clone)]
pub struct Seed(
    /// In one place, whoever has it: what is moved leaves its bytes behind.
    Box<Zeroizing<[u8; 32]>>,
);

impl Seed {
    /// A seed of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// Its bytes, for a recording.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 256 bits of its own for the consumer named `label` and its `index`-th use: HKDF-SHA256
    /// (RFC 5869) with the label, a zero byte and the index (big endian) as the info.
    ///
    /// Labels hold no zero byte. Consumers that use different labels or indices are independent:
    /// one that draws more, or one that is added, never shifts what another one gets.
    pub(crate) fn derive(&self, label: &str, index: u64) -> Zeroizing<[u8; 32]> {
        debug_assert!(
            !label.contains('\0'),
            "a label with a zero byte may equal another one"
        );
        let extracted = mac(SALT, &[self.bytes()]);
        // A single block of HKDF-Expand is exactly as long as what is wanted, and, other than the
        // general form, cannot fail.
        mac(
            &*extracted,
            &[label.as_bytes(), &[0], &index.to_be_bytes(), &[1]],
        )
    }

    /// A generator of its own for the consumer named `label` and its `index`-th use, see
    /// [`Seed::derive`].
    pub(crate) fn rng(&self, label: &str, index: u64) -> SeededRng {
        SeededRng(ChaCha20Rng::from_seed(*self.derive(label, index)))
    }
}

/// A seed of these bytes.
impl From<Zeroizing<[u8; 32]>> for Seed {
    fn from(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Box::new(bytes))
    }
}

/// The key of one consumer's draws: it says nothing of what others of the same seed draw.
#[derive(Clone)]
pub(crate) struct DrawKey(Zeroizing<[u8; 32]>);

impl DrawKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, for a recording.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The consumer's generator, from its beginning.
    pub(crate) fn rng(&self) -> SeededRng {
        SeededRng(ChaCha20Rng::from_seed(*self.0))
    }
}

impl fmt::Debug for DrawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DrawKey(redacted)")
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(redacted)")
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// A cryptographically strong generator (ChaCha20) whose draws follow from a [`Seed`] alone.
///
/// Its state is overwritten with zeros when dropped, and its `Debug` output is redacted. It is
/// not `Clone`: two copies would draw the same.
pub(crate) struct SeededRng(ChaCha20Rng);

impl SeededRng {
    /// Fills the whole buffer.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill_bytes(buffer);
    }

    /// Makes what was drawn so far impossible to find from what is left here, which follows from it all the same
    /// (fast key erasure, D. J. Bernstein, 2017).
    pub(crate) fn erase_past(&mut self) {
        *self = self.next_generator();
    }

    /// A generator that this one knows nothing of any more.
    pub(crate) fn fork(&mut self) -> Self {
        let forked = self.next_generator();
        self.erase_past();
        forked
    }

    fn next_generator(&mut self) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        self.fill(&mut *key);
        Self(ChaCha20Rng::from_seed(*key))
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number that is equally likely to be anywhere in `0.0..1.0`, for jitter.
    pub(crate) fn fraction(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly: no rounding, so never 1.0.
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * STEP
    }
}

impl fmt::Debug for SeededRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededRng(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hkdf;

    use super::*;

    #[test]
    fn derivation_is_hkdf_sha256() {
        let seed = Seed::new([7; 32]);
        let mut expected = [0; 32];
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&[7; 32]);
        extracted
            .expand(&[b"label", &[0], &258_u64.to_be_bytes()], hkdf::HKDF_SHA256)
            .and_then(|material| material.fill(&mut expected))
            .unwrap();
        assert_eq!(*seed.derive("label", 258), expected);
    }

    #[test]
    fn derived_bytes_stay_what_they_were() {
        // A recorded trace replays only while these do not change. From Python's hmac module.
        let derived = Seed::new([0; 32]).derive("endpoint", 0);
        let hex: String = derived.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "88ae3210abd50937be24ba9fd6cc455bde885aef2fc6e71e2728061cf6b89109"
        );
    }

    #[test]
    fn labels_indices_and_seeds_are_independent() {
        let seed = Seed::new([7; 32]);
        let all = [
            seed.derive("a", 0),
            seed.derive("a", 1),
            seed.derive("b", 0),
            seed.derive("ab", 0),
            seed.derive("", 0),
            Seed::new([8; 32]).derive("a", 0),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(one), "{i}");
        }
        assert_eq!(seed.derive("a", 0), seed.clone().derive("a", 0));
    }

    #[test]
    fn one_consumer_does_not_shift_another() {
        let seed = Seed::new([7; 32]);
        let mut alone = seed.rng("b", 0);
        let mut other = seed.rng("a", 0);
        let mut beside = seed.rng("b", 0);
        for _ in 0..100 {
            other.next_u64();
            assert_eq!(alone.next_u64(), beside.next_u64());
        }
    }

    #[test]
    fn forks_and_what_is_left_draw_apart_and_the_same_each_time() {
        let draws = || {
            let mut rng = Seed::new([7; 32]).rng("a", 0);
            let drawn = rng.next_u64();
            let mut forks = [rng.fork(), rng.fork()];
            rng.erase_past();
            [
                drawn,
                forks[0].next_u64(),
                forks[1].next_u64(),
                rng.next_u64(),
            ]
        };
        assert_eq!(draws(), draws());
        for (i, one) in draws().iter().enumerate() {
            assert!(!draws()[i + 1..].contains(one), "{i}");
        }
    }

    #[test]
    fn what_is_left_follows_from_the_next_draw_alone() {
        let key = |number: u8| [number; 32];
        let draws = |mut rng: ChaCha20Rng| {
            let mut keys = [[0; 32]; 2];
            keys.iter_mut().for_each(|key| rng.fill_bytes(key));
            keys
        };
        let [first, second] = draws(ChaCha20Rng::from_seed(key(7)));
        let next = |rng: &mut SeededRng| rng.next_u64();
        let first_of = |key| ChaCha20Rng::from_seed(key).next_u64();
        let mut rng = SeededRng(ChaCha20Rng::from_seed(key(7)));
        rng.erase_past();
        assert_eq!(next(&mut rng), first_of(first));
        let mut rng = SeededRng(ChaCha20Rng::from_seed(key(7)));
        assert_eq!(next(&mut rng.fork()), first_of(first));
        assert_eq!(next(&mut rng), first_of(second));
    }

    #[test]
    fn fractions_spread_over_zero_to_one() {
        let mut rng = Seed::new([7; 32]).rng("jitter", 0);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let fraction = rng.fraction();
            assert!((0.0..1.0).contains(&fraction));
            tenths[(fraction * 10.0) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|count| (850..1150).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn nothing_secret_is_printed() {
        let seed = Seed::new([0xab; 32]);
        assert_eq!(
            format!("{seed:?} {:?}", seed.rng("a", 0)),
            "Seed(redacted) SeededRng(redacted)"
        );
    }
}
