//! Protobuf's varints: 7 bits a byte, the lowest first.

use bytes::BufMut;

/// How many bytes the shortest encoding of the value has: 1 to 10.
pub(crate) const fn encoded_len(value: u64) -> usize {
    // 64 - leading zeros of (value | 1) is the number of significant bits, at least 1.
    (((value | 1).ilog2() as usize) / 7) + 1
}

/// Writes the shortest encoding of the value.
pub(crate) fn encode(mut value: u64, out: &mut impl BufMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The shortest encoding of a value below 2^28, the first byte lowest, and how many bytes it has: what most
/// values are, without a look at each of their bytes.
pub(crate) const fn up_to_four(value: u32) -> (u32, usize) {
    let (first, second) = (value & 0x7f, (value & 0x7f << 7) << 1);
    let (third, fourth) = ((value & 0x7f << 14) << 2, (value & 0x7f << 21) << 3);
    // All bytes but the last say that more follow.
    match value {
        0..0x80 => (first, 1),
        0x80..0x4000 => (first | second | 0x80, 2),
        0x4000..0x20_0000 => (first | second | third | 0x8080, 3),
        _ => (first | second | third | fourth | 0x80_8080, 4),
    }
}

/// A varint that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    Truncated,
    TooLong,
}

/// Reads a varint, in any form that fits 64 bits, and says how many bytes it took.
pub(crate) fn decode(input: &[u8]) -> Result<(u64, usize), VarintError> {
    let mut value = 0;
    for (at, &byte) in input.iter().take(10).enumerate() {
        // The tenth byte holds the 64th bit alone.
        if at == 9 && byte > 1 {
            return Err(VarintError::TooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok((value, at + 1));
        }
    }
    Err(VarintError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn small_values_are_the_same_both_ways(value in 0..1_u32 << 28, shift in 0u32..28) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            encode(value.into(), &mut bytes);
            let (four, len) = up_to_four(value);
            prop_assert_eq!(&four.to_le_bytes()[..len], &bytes[..]);
        }

        #[test]
        fn any_value_comes_back_in_as_many_bytes_as_announced(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            encode(value, &mut bytes);
            prop_assert_eq!(bytes.len(), encoded_len(value));
            prop_assert_eq!(decode(&bytes), Ok((value, bytes.len())));
            prop_assert_eq!(decode(&bytes[..bytes.len() - 1]), Err(VarintError::Truncated));
        }
    }

    #[test]
    fn sixty_four_bits_are_the_most() {
        let mut bytes = [0xff; 10];
        bytes[9] = 1;
        assert_eq!(decode(&bytes), Ok((u64::MAX, 10)));
        bytes[9] = 2;
        assert_eq!(decode(&bytes), Err(VarintError::TooLong));
        assert_eq!(decode(&[0xff; 11]), Err(VarintError::TooLong));
    }
}
