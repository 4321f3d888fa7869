//! Bytes as PROTOCOL.md says them: frames, and the messages in them. Encoded by what prost makes of
//! `trunkline.proto` and nothing else of the implementation.

use prost::Message;
use trunkline_proto::control::Frame;
use trunkline_proto::{Control, Hello, LaneOpen, Limits, generated::Envelope};

use crate::Random;

/// A frame: its length as a protobuf varint, then the message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut out = length(message.len() as u64);
    out.extend_from_slice(message);
    out
}

/// A length prefix alone, for any length: what follows it is the caller's affair.
pub fn length(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A frame of the control stream.
pub fn control(member: Frame) -> Vec<u8> {
    let control = Control {
        frame: Some(member),
    };
    frame(&control.encode_to_vec())
}

/// The first frame of a lane's stream.
pub fn lane_open(lane: u32, next: u64) -> Vec<u8> {
    frame(&LaneOpen { lane, next }.encode_to_vec())
}

/// A frame of a lane.
pub fn envelope(envelope: &Envelope) -> Vec<u8> {
    frame(&envelope.encode_to_vec())
}

/// A hello for a new session of `client`, whose id and token come from the seed.
pub fn hello(client: &str, seed: u64) -> Hello {
    let mut random = Random::new(seed);
    let mut sixteen = || {
        let [high, low] = [random.next_u64(), random.next_u64()];
        [high.to_be_bytes(), low.to_be_bytes()].concat().into()
    };
    Hello {
        version: 1,
        client_id: client.to_owned(),
        session_id: sixteen(),
        token: sixteen(),
        limits: Some(Limits {
            frame_bytes: 1 << 20,
            lanes: 4,
        }),
        agent: "raw".to_owned(),
        ..Hello::default()
    }
}

/// Cuts what came on a stream into frames; a part of one at the end is left out. Panics on a
/// length that PROTOCOL.md does not allow: no node sends one.
pub fn cut(bytes: &[u8]) -> Vec<&[u8]> {
    cut_whole(bytes).0
}

/// The same, and the part of a frame at the end.
pub(super) fn cut_whole(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((length, rest)) = read_length(bytes) {
        let Some(message) = rest.get(..length) else {
            break;
        };
        frames.push(message);
        bytes = &rest[length..];
    }
    (frames, bytes)
}

fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate() {
        assert!(at < 4, "a length prefix of more than four bytes");
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((length, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_framed_is_cut_again_and_a_part_waits() {
        let mut bytes = frame(b"one");
        bytes.extend(frame(&[7; 300]));
        bytes.extend(frame(b""));
        bytes.extend(&frame(b"part")[..3]);
        assert_eq!(cut(&bytes), [&b"one"[..], &[7; 300], b""]);
        assert_eq!(length(300), [0xac, 0x02]);
        assert!(cut(&[0x80]).is_empty() && cut(&[]).is_empty());
    }

    #[test]
    fn hellos_differ_by_their_seed() {
        let [one, same, other] = [1, 1, 2].map(|seed| hello("a", seed));
        assert_eq!(one, same);
        assert_ne!(one.session_id, other.session_id);
        assert_ne!(one.session_id, one.token);
    }
}
