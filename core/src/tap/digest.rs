//! What is remembered of what a node gives out.

use std::hash::Hasher;

use twox_hash::XxHash3_64;

/// What is hashed at a time, in bytes: XXH3 is at its best with so many.
const BLOCK: usize = 128;

/// XXH3 with 64 bits of each 128 bytes, and of what is left of them at the end, with what came of those
/// before as its seed, 0 at first. It is the same on every machine: numbers are taken as little-endian,
/// and those of the machine's word size as 64 bits. It finds differences, and is no protection against
/// people who make them.
#[derive(Clone)]
pub struct Digest {
    before: u64,
    block: [u8; BLOCK],
    length: usize,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            before: 0,
            block: [0; BLOCK],
            length: 0,
        }
    }
}

impl Digest {
    fn write_more(&mut self, mut bytes: &[u8]) {
        if self.length > 0 {
            let (begun, rest) = bytes.split_at(bytes.len().min(BLOCK - self.length));
            for (to, from) in self.block[self.length..].iter_mut().zip(begun) {
                *to = *from;
            }
            self.length += begun.len();
            if self.length < BLOCK {
                return;
            }
            self.before = XxHash3_64::oneshot_with_seed(self.before, &self.block);
            self.length = 0;
            bytes = rest;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            self.before = XxHash3_64::oneshot_with_seed(self.before, block);
        }
        self.block[..rest.len()].copy_from_slice(rest);
        self.length = rest.len();
    }
}

impl Hasher for Digest {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        match self.block.get_mut(self.length..end) {
            Some(place) if end < BLOCK => {
                place.copy_from_slice(bytes);
                self.length = end;
            }
            _ => self.write_more(bytes),
        }
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    #[inline]
    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        XxHash3_64::oneshot_with_seed(self.before, &self.block[..self.length])
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hash;

    use super::*;

    #[test]
    fn a_digest_is_xxh3_block_by_block() {
        // From the reference implementation (xxhsum -H3).
        let mut digest = Digest::default();
        assert_eq!(digest.finish(), 0x2d06_8005_38d3_94c2);
        digest.write(b"abc");
        assert_eq!(digest.finish(), 0x78af_5f94_892f_3950);

        let bytes: Vec<u8> = (0..1_000_u32).map(|n| (n % 251) as u8).collect();
        let blocks = bytes.chunks(BLOCK);
        let expected = blocks.fold(0, XxHash3_64::oneshot_with_seed);
        for size in [1, 3, 127, 128, 129, 300, 1_000] {
            let mut digest = Digest::default();
            bytes.chunks(size).for_each(|chunk| digest.write(chunk));
            assert_eq!(digest.finish(), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn numbers_count_the_same_on_every_machine() {
        let of = |value: &dyn Fn(&mut Digest)| {
            let mut digest = Digest::default();
            value(&mut digest);
            digest.finish()
        };
        assert_eq!(of(&|d| 7_usize.hash(d)), of(&|d| 7_u64.hash(d)));
        assert_eq!(of(&|d| 0x0102_u16.hash(d)), of(&|d| d.write(&[0x02, 0x01])));
        assert_eq!(of(&|d| (-2_isize).hash(d)), of(&|d| (-2_i64).hash(d)));
    }
}
