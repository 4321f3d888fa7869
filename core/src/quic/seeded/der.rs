//! As much of DER (X.690) as certificates have to be looked into for.

use rustls_pki_types::CertificateDer;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed: a certificate's version, where it is given.
pub(super) const VERSION: u8 = 0xa0;

/// The content of the first element, if it has this tag, and what follows it.
pub(super) fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = input.split_first()?;
    if first != tag {
        return None;
    }
    let (&length, mut rest) = rest.split_first()?;
    let length = match length {
        0..=0x7f => usize::from(length),
        0x81..=0x83 => {
            let (bytes, after) = rest.split_at_checked(usize::from(length - 0x80))?;
            rest = after;
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The certificates that stand one behind the other.
pub(crate) fn certificates(mut input: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut all = Vec::new();
    while !input.is_empty() {
        let (_, rest) = element(input, SEQUENCE)?;
        let (one, _) = input.split_at_checked(input.len() - rest.len())?;
        all.push(CertificateDer::from(one.to_vec()));
        input = rest;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::super::lab::Authority;
    use super::*;

    #[test]
    fn a_chain_is_taken_apart_again() {
        let chain = [
            Authority::new("ca").issue(&["a"]).chain,
            Authority::new("another").issue(&["b"]).chain,
        ]
        .concat();
        let joined = chain.iter().flat_map(|one| one.to_vec());
        let joined: Vec<u8> = joined.collect();
        assert_eq!(certificates(&joined), Some(chain));
        assert_eq!(certificates(&[]), Some(Vec::new()));
        assert_eq!(certificates(&joined[..joined.len() - 1]), None);
        assert_eq!(certificates(&joined[1..]), None);
    }
}
