//! QUIC's packets as they stand in datagrams under null cryptography: taken apart and made, as far
//! as RFC 9000 §17 and §19 go and the targets need it.

use super::TAG_BYTES;
use super::null::tag;

/// How many bytes the nodes' connection ids have.
pub(super) const ID_BYTES: usize = 8;

/// Which space a packet's number is of, and with that what its header looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    Initial,
    Handshake,
    Data,
}

/// A packet, without what protects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) space: Space,
    pub(super) destination: Vec<u8>,
    /// Only long headers have it.
    pub(super) source: Vec<u8>,
    /// As much of it as the header holds, and how many bytes that is.
    pub(super) number: (u32, u8),
    pub(super) frames: Vec<u8>,
}

/// The packets of a datagram. What is no packet of these spaces ends it.
pub(super) fn packets(mut datagram: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    while let Some((packet, rest)) = packet(datagram) {
        packets.push(packet);
        datagram = rest;
    }
    packets
}

fn packet(datagram: &[u8]) -> Option<(Packet, &[u8])> {
    let (first, mut rest) = datagram.split_first()?;
    let number_bytes = usize::from(first & 3) + 1;
    let (space, destination, source, length);
    if first & 0x80 == 0 {
        (space, source) = (Space::Data, Vec::new());
        destination = take(&mut rest, ID_BYTES)?.to_vec();
        length = rest.len();
    } else {
        space = match first >> 4 & 3 {
            0 => Space::Initial,
            2 => Space::Handshake,
            _ => return None,
        };
        take(&mut rest, 4)?;
        let id = |rest: &mut &[u8]| {
            let length = take(rest, 1)?[0];
            Some(take(rest, length.into())?.to_vec())
        };
        destination = id(&mut rest)?;
        source = id(&mut rest)?;
        if space == Space::Initial {
            let token = varint(&mut rest)?;
            take(&mut rest, token as usize)?;
        }
        length = varint(&mut rest)? as usize;
    }
    let mut body = take(&mut rest, length)?;
    let number = take(&mut body, number_bytes)?;
    let number = number.iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
    let frames = body.get(..body.len().checked_sub(TAG_BYTES)?)?.to_vec();
    let packet = Packet {
        space,
        destination,
        source,
        number: (number, number_bytes as u8),
        frames,
    };
    Some((packet, rest))
}

/// A packet of these frames. `flags` are the bits of its first byte that mean something where its
/// header is short: the key phase, the spin bit, and those that have to be zero.
pub(super) fn write(packet: &Packet, flags: u8, updates: u8, out: &mut Vec<u8>) {
    let (number, number_bytes) = packet.number;
    let number = &number.to_be_bytes()[4 - usize::from(number_bytes)..];
    let length = number.len() + packet.frames.len() + TAG_BYTES;
    match packet.space {
        Space::Data => {
            out.push(0x40 | flags & 0x3c | (number_bytes - 1));
            out.extend(&packet.destination);
        }
        space => {
            let kind = if space == Space::Initial { 0 } else { 2 };
            out.push(0xc0 | kind << 4 | flags & 0x0c | (number_bytes - 1));
            out.extend([0, 0, 0, 1]);
            for id in [&packet.destination, &packet.source] {
                out.push(id.len() as u8);
                out.extend(id);
            }
            if space == Space::Initial {
                // No token.
                out.push(0);
            }
            put_varint(length as u64, out);
        }
    }
    out.extend(number);
    out.extend(&packet.frames);
    out.push(tag(updates, packet.number.0.into()));
}

/// What the targets look at in packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Stream {
        stream: u64,
        offset: u64,
        data: &'a [u8],
        fin: bool,
    },
    /// Another id that the peer may be reached by.
    NewId(&'a [u8]),
    Other(u64),
}

/// The frames of a packet, to the first that is not known.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some(frame) = next_frame(&mut bytes) {
        frames.push(frame);
    }
    frames
}

fn next_frame<'a>(rest: &mut &'a [u8]) -> Option<Frame<'a>> {
    let kind = varint(rest)?;
    // How many numbers follow that nobody looks at.
    let mut numbers = 0;
    match kind {
        0x00 | 0x01 | 0x1e | 0x1f => {}
        0x02 | 0x03 => {
            varint(rest)?;
            varint(rest)?;
            let ranges = varint(rest)?;
            numbers = 1 + 2 * ranges + if kind == 0x03 { 3 } else { 0 };
        }
        0x04 => numbers = 3,
        0x05 | 0x11 | 0x15 => numbers = 2,
        0x06 => {
            varint(rest)?;
            block(rest)?;
        }
        0x07 => {
            block(rest)?;
        }
        0x08..=0x0f => {
            let stream = varint(rest)?;
            let offset = if kind & 4 != 0 { varint(rest)? } else { 0 };
            let data = if kind & 2 != 0 {
                block(rest)?
            } else {
                std::mem::take(rest)
            };
            return Some(Frame::Stream {
                stream,
                offset,
                data,
                fin: kind & 1 == 1,
            });
        }
        0x10 | 0x12..=0x14 | 0x16 | 0x17 | 0x19 => numbers = 1,
        0x18 => {
            varint(rest)?;
            varint(rest)?;
            let length = take(rest, 1)?[0];
            let id = take(rest, length.into())?;
            take(rest, 16)?;
            return Some(Frame::NewId(id));
        }
        0x1a | 0x1b => {
            take(rest, 8)?;
        }
        0x1c => {
            varint(rest)?;
            varint(rest)?;
            block(rest)?;
        }
        0x1d => {
            varint(rest)?;
            block(rest)?;
        }
        0x30 => *rest = &[],
        0x31 => {
            block(rest)?;
        }
        0xaf => numbers = 4,
        _ => return None,
    }
    for _ in 0..numbers {
        varint(rest)?;
    }
    Some(Frame::Other(kind))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn block<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = varint(rest)?;
    take(rest, usize::try_from(length).ok()?)
}

/// A number as RFC 9000 §16 writes it.
pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let first = *rest.first()?;
    let bytes = take(rest, 1 << (first >> 6))?;
    let value = bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    Some(value & (u64::MAX >> (66 - 8 * bytes.len())))
}

/// The shortest form of a number; of one that has none, its low bits.
pub(super) fn put_varint(value: u64, out: &mut Vec<u8>) {
    let (length, bytes) = match value {
        0..0x40 => (0, 1),
        0x40..0x4000 => (1, 2),
        0x4000..0x4000_0000 => (2, 4),
        _ => (3, 8),
    };
    let mut number = (value & (u64::MAX >> 2)).to_be_bytes()[8 - bytes..].to_vec();
    number[0] |= length << 6;
    out.extend(number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_their_shortest_form() {
        for (value, bytes) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16_383, 2),
            (16_384, 4),
            (1 << 30, 8),
        ] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!((out.len(), varint(&mut &out[..])), (bytes, Some(value)));
        }
        assert_eq!(varint(&mut &[0x40][..]), None);
    }

    #[test]
    fn packets_come_back_one_behind_the_other() {
        let packet = |space| Packet {
            space,
            destination: vec![7; 8],
            source: if space == Space::Data {
                vec![]
            } else {
                vec![8; 8]
            },
            number: (0x0102, 2),
            frames: vec![1, 0, 0],
        };
        let all = [Space::Initial, Space::Handshake, Space::Data].map(packet);
        let mut datagram = Vec::new();
        for packet in &all {
            write(packet, 0, 0, &mut datagram);
        }
        assert_eq!(packets(&datagram), all);
    }

    #[test]
    fn frames_are_told_apart() {
        let bytes = [
            &[0x00, 0x02, 5, 0, 1, 0, 0, 0][..],
            &[0x0e, 4, 9, 2, b'a', b'b'],
            &[0x19, 3, 0x08, 0, b'c'],
        ];
        let stream = |stream, offset, data| Frame::Stream {
            stream,
            offset,
            data,
            fin: false,
        };
        let expected = [
            Frame::Other(0),
            Frame::Other(2),
            stream(4, 9, &b"ab"[..]),
            Frame::Other(0x19),
            stream(0, 0, b"c"),
        ];
        assert_eq!(frames(&bytes.concat()), expected);
    }
}
