//! The number that a message type is routed by.

/// The tag of a message type: the 64-bit FNV-1a hash (RFC 9923) of its full protobuf name,
/// package included and without a leading dot: `chat.v1.Said`.
pub const fn tag(full_name: &str) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = full_name.as_bytes();
    let mut hash = OFFSET_BASIS;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(PRIME);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_the_published_fnv_1a_values() {
        // Test vectors of RFC 9923's reference: the empty string, "a" and "foobar".
        assert_eq!(tag(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(tag("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(tag("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_tag_can_be_computed_at_compile_time() {
        const SAID: u64 = tag("chat.v1.Said");
        assert_eq!(SAID, tag("chat.v1.Said"));
        assert_ne!(SAID, tag("chat.v2.Said"));
    }
}
