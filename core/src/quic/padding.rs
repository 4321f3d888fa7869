//! Packets without their padding. QUIC takes padding in as frames of one byte each, and first packets and
//! packet size probes are nearly all padding: an eighth of what a new connection costs.

use bytes::{Buf, BytesMut};
use quinn_proto::VarInt;
use quinn_proto::coding::Codec;
use quinn_proto::crypto::{CryptoError, KeyPair, Keys, PacketKey};

/// Less padding is not worth a copy of what stands before it, in bytes.
const WORTH_IT: usize = 128;

/// Types of frames that commonly stand before padding (RFC 9000, section 19; the last one, of packet size
/// probes: draft-ietf-quic-ack-frequency, section 5). All say how long they are, but for STREAM without a length.
const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const ACK: u8 = 0x02;
const ACK_ECN: u8 = 0x03;
const CRYPTO: u8 = 0x06;
const STREAM: u8 = 0x08;
const STREAM_MAX: u8 = 0x0f;
const NEW_CONNECTION_ID: u8 = 0x18;
const CONNECTION_CLOSE: u8 = 0x1c;
const HANDSHAKE_DONE: u8 = 0x1e;
const IMMEDIATE_ACK: u8 = 0x1f;

/// Bits of a STREAM frame's type.
const HAS_LENGTH: u8 = 0x02;
const HAS_OFFSET: u8 = 0x04;

/// In a packet's first byte: it belongs to a handshake (RFC 9000, section 17.2).
const LONG_HEADER: u8 = 0x80;

/// The size of a stateless reset token, in bytes.
const RESET_TOKEN: usize = 16;

/// A key that drops the padding of what it decrypts.
struct Unpadding(Box<dyn PacketKey>);

/// Keys that drop the padding of what they decrypt.
pub(super) fn unpadding(keys: Keys) -> Keys {
    let Keys { header, packet } = keys;
    Keys {
        header,
        packet: unpadding_packets(packet),
    }
}

/// The same, of a key pair that follows.
pub(super) fn unpadding_packets(keys: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
    let KeyPair { local, remote } = keys;
    KeyPair {
        local,
        remote: Box::new(Unpadding(remote)),
    }
}

impl PacketKey for Unpadding {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.0.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(packet, header, payload)?;
        if let Some(length) = length_without_padding(payload) {
            // Copied, for QUIC takes what it is given for what it keeps in memory.
            *payload = BytesMut::from(&payload[..length]);
        }
        if header.first().is_some_and(|first| first & LONG_HEADER != 0) && !is_early(payload) {
            return Err(CryptoError);
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

/// Whether a packet of a handshake holds what those may (RFC 9000, section 12.4). Its keys are known to whoever sees
/// the first packet, or are agreed upon before the peer has shown who it is: an application's close in it, which
/// QUIC would take for the peer's word, is anybody's.
fn is_early(payload: &[u8]) -> bool {
    let mut rest = payload;
    while let Some(kind) = rest.first() {
        if *kind == CONNECTION_CLOSE {
            return true;
        }
        let Some(next) = after_frame(rest) else {
            return false;
        };
        rest = next;
    }
    true
}

/// How much of a payload stands before the padding at its end, if that is worth dropping. `None` as well where
/// other frames stand there than those that commonly do.
fn length_without_padding(payload: &[u8]) -> Option<usize> {
    let zeros = zeros_at_the_end(payload);
    if zeros < WORTH_IT {
        return None;
    }
    let mut rest = payload;
    // The first zeros may be the last frame's own.
    while rest.len() > zeros {
        rest = after_frame(rest)?;
    }
    // A packet without any frame would be an error.
    let length = (payload.len() - rest.len()).max(1);
    (payload.len() - length >= WORTH_IT).then_some(length)
}

fn zeros_at_the_end(payload: &[u8]) -> usize {
    // Most of them sixteen at a time, for there are very many.
    let blocks = payload.rchunks_exact(16);
    let blocks = blocks.take_while(|block| **block == [0; 16]).count();
    let rest = &payload[..payload.len() - 16 * blocks];
    16 * blocks + rest.iter().rev().take_while(|byte| **byte == 0).count()
}

/// What follows the first frame.
fn after_frame(mut rest: &[u8]) -> Option<&[u8]> {
    let kind = rest.try_get_u8().ok()?;
    match kind {
        PADDING | PING | HANDSHAKE_DONE | IMMEDIATE_ACK => {}
        ACK | ACK_ECN => {
            let [_largest, _delay, ranges, _first] = numbers(&mut rest)?;
            for _ in 0..ranges {
                let [_gap, _length] = numbers(&mut rest)?;
            }
            if kind == ACK_ECN {
                let [_ect0, _ect1, _ce] = numbers(&mut rest)?;
            }
        }
        CRYPTO => {
            let [_offset, length] = numbers(&mut rest)?;
            rest = rest.get(usize::try_from(length).ok()?..)?;
        }
        STREAM..=STREAM_MAX if kind & HAS_LENGTH != 0 => {
            let [_id] = numbers(&mut rest)?;
            if kind & HAS_OFFSET != 0 {
                let [_offset] = numbers(&mut rest)?;
            }
            let [length] = numbers(&mut rest)?;
            rest = rest.get(usize::try_from(length).ok()?..)?;
        }
        NEW_CONNECTION_ID => {
            let [_sequence, _retired] = numbers(&mut rest)?;
            let length = rest.try_get_u8().ok()?;
            rest = rest.get(usize::from(length) + RESET_TOKEN..)?;
        }
        _ => return None,
    }
    Some(rest)
}

fn numbers<const COUNT: usize>(rest: &mut &[u8]) -> Option<[u64; COUNT]> {
    let mut numbers = [0; COUNT];
    for number in &mut numbers {
        *number = VarInt::decode(rest).ok()?.into_inner();
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves things as they are.
    struct Plain;

    impl PacketKey for Plain {
        fn encrypt(&self, _: u64, _: &mut [u8], _: usize) {}

        fn decrypt(&self, _: u64, _: &[u8], _: &mut BytesMut) -> Result<(), CryptoError> {
            Ok(())
        }

        fn tag_len(&self) -> usize {
            0
        }

        fn confidentiality_limit(&self) -> u64 {
            0
        }

        fn integrity_limit(&self) -> u64 {
            0
        }
    }

    /// What QUIC is given of a payload.
    fn given(payload: &[u8]) -> Vec<u8> {
        let mut payload = BytesMut::from(payload);
        let key = Unpadding(Box::new(Plain));
        key.decrypt(7, &[], &mut payload).unwrap();
        payload.to_vec()
    }

    /// An application's close is the word of a peer that has shown who it is, however its type is written; QUIC's own
    /// close ends an attempt, and no more.
    #[test]
    fn a_handshake_carries_no_close_of_an_application() {
        let key = Unpadding(Box::new(Plain));
        let taken = |first: u8, frames: &[u8]| {
            let mut payload = BytesMut::from(frames);
            key.decrypt(0, &[first], &mut payload).is_ok()
        };
        let close = [0x1d, 0, 0];
        let long_type = [0x40, 0x1d, 0, 0];
        for initial_or_handshake in [0xc0, 0xe3] {
            for close in [&close[..], &long_type] {
                for before in [
                    &[][..],
                    &[PING],
                    &[CRYPTO, 0, 2, 7, 7],
                    &[ACK, 0, 0, 0, 0],
                    &ZEROS,
                ] {
                    assert!(!taken(initial_or_handshake, &[before, close].concat()));
                    assert!(!taken(
                        initial_or_handshake,
                        &padded(&[before, close].concat())
                    ));
                }
            }
            let refused = [PING, CONNECTION_CLOSE, 1, 0, 0];
            assert!(taken(initial_or_handshake, &refused));
            assert!(taken(initial_or_handshake, &padded(&[CRYPTO, 0, 2, 7, 7])));
        }
        assert!(
            taken(0x40, &close),
            "under the keys of the connection it counts"
        );
    }

    const ZEROS: [u8; 1_200] = [0; 1_200];

    fn padded(frames: &[u8]) -> Vec<u8> {
        [frames, &ZEROS].concat()
    }

    /// One frame of each kind that is known, each ending in a zero that is its own.
    fn frames() -> Vec<Vec<u8>> {
        let crypto = |data: &[u8]| [&[CRYPTO, 0x40, 0x00, data.len() as u8], data].concat();
        let id = [&[NEW_CONNECTION_ID, 1, 0, 8][..], &[9; 8], &[0; 16]].concat();
        vec![
            vec![PING],
            vec![HANDSHAKE_DONE],
            vec![IMMEDIATE_ACK],
            vec![ACK, 0x44, 0x00, 5, 0, 0],
            vec![ACK, 0x80, 0, 1, 0, 5, 2, 3, 1, 2, 1, 0],
            vec![ACK_ECN, 9, 5, 1, 1, 2, 3, 7, 8, 0],
            crypto(&[1, 2, 0]),
            crypto(&[0; 40]),
            vec![0x0a, 2, 2, 7, 0],
            vec![0x0b, 2, 0],
            vec![0x0e, 0x40, 0x41, 0xc0, 0, 0, 0, 0, 0, 9, 0, 3, 7, 0, 0],
            id,
        ]
    }

    #[test]
    fn frames_stay_whole_whatever_they_end_in() {
        for first in frames() {
            assert_eq!(given(&padded(&first)), first);
            for second in frames() {
                let both = [&first[..], &[0, 0], &second].concat();
                assert_eq!(given(&padded(&both)), both);
            }
        }
    }

    #[test]
    fn a_packet_of_padding_alone_keeps_a_frame() {
        assert_eq!(given(&ZEROS), [0]);
    }

    #[test]
    fn what_cannot_be_told_from_padding_stays() {
        let open_stream = [0x08, 2, 7];
        let unknown = [0x30, 1];
        let close = [0x1c, 0, 0, 0];
        let cut_off = [CRYPTO, 0, 0x7f, 0xff];
        let more_ranges_than_bytes = [ACK, 0x44, 0x00, 5, 0xbf, 0xff, 0xff, 0xff];
        for frame in [
            &open_stream[..],
            &unknown,
            &close,
            &cut_off,
            &more_ranges_than_bytes,
        ] {
            for payload in [padded(frame), [&[PING], &padded(frame)[..]].concat()] {
                assert_eq!(given(&payload), payload);
            }
        }
    }

    #[test]
    fn little_padding_is_left_alone() {
        for zeros in [0, 1, WORTH_IT - 1] {
            let payload = [&[PING, IMMEDIATE_ACK], &ZEROS[..zeros]].concat();
            assert_eq!(given(&payload), payload);
        }
        let payload = [&[PING], &ZEROS[..WORTH_IT]].concat();
        assert_eq!(given(&payload), [PING]);
    }

    #[test]
    fn what_is_kept_holds_on_to_no_more_memory_than_it_needs() {
        let mut payload = BytesMut::from(&padded(&[PING])[..]);
        let key = Unpadding(Box::new(Plain));
        key.decrypt(7, &[], &mut payload).unwrap();
        assert!(payload.capacity() < 64, "{}", payload.capacity());
    }

    #[test]
    fn zeros_are_counted_wherever_the_others_end() {
        for zeros in 0..70 {
            for others in 0..20 {
                let bytes = [&[7; 20][..others], &ZEROS[..zeros]].concat();
                assert_eq!(zeros_at_the_end(&bytes), zeros);
            }
        }
    }
}
