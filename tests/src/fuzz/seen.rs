//! What goes over the wire of one client's connection under null cryptography, for whoever forges more of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::world::{NodeIndex, World};

use super::packets::{self, Frame, ID_BYTES, Space, packets};

/// What went over the wire of the client's connection.
#[derive(Default)]
pub(super) struct Seen {
    /// The server's ids, the latest last.
    pub(super) ids: Vec<Vec<u8>>,
    /// The client's own.
    pub(super) client: Vec<u8>,
    /// Numbers that the server has sent in each space, as far as headers hold them.
    pub(super) sent: [Vec<u32>; 3],
    /// The last numbers that the client has used.
    pub(super) used: [u32; 3],
    /// The id that the client has sent to last, once its handshake was done.
    pub(super) destination: Vec<u8>,
    pub(super) ids_of_client: BTreeSet<Vec<u8>>,
    /// The numbers of the server's packets of data in full.
    pub(super) in_full: Vec<u32>,
    /// Its last packet of data that gave the client no id.
    pub(super) without_ids: u32,
    /// How far the client's streams reach.
    ends: BTreeMap<u64, u64>,
    known: BTreeSet<Vec<u8>>,
}

impl Seen {
    /// Watches what a world's client sends, and what is sent to it, from now on.
    pub(super) fn watch(world: &mut World, client: NodeIndex) -> Rc<RefCell<Self>> {
        let seen = Rc::<RefCell<Self>>::default();
        let watching = seen.clone();
        world.observe(move |datagram| {
            let mut seen = watching.borrow_mut();
            if datagram.from == client {
                seen.client_sent(datagram.payload);
            } else if datagram.to == client {
                seen.server_sent(datagram.payload);
            }
        });
        seen
    }

    fn client_sent(&mut self, datagram: &[u8]) {
        for packet in packets(datagram) {
            let used = &mut self.used[packet.space as usize];
            *used = packet.number.0.max(*used);
            if !packet.source.is_empty() {
                self.client = packet.source;
            }
            if packet.space == Space::Data {
                self.destination.clone_from(&packet.destination);
            }
            self.learn(packet.destination);
            self.ends_early(&packet.frames);
            for frame in packets::frames(&packet.frames) {
                if let Frame::NewId(id) = frame {
                    self.ids_of_client.insert(id.to_vec());
                }
            }
        }
    }

    fn server_sent(&mut self, datagram: &[u8]) {
        for packet in packets(datagram) {
            self.sent[packet.space as usize].push(packet.number.0);
            self.learn(packet.source);
            let mut gives = false;
            for frame in packets::frames(&packet.frames) {
                if let Frame::NewId(id) = frame {
                    gives = true;
                    self.learn(id.to_vec());
                }
            }
            if packet.space == Space::Data {
                let number = in_full(
                    self.in_full.last().map_or(0, |last| last + 1),
                    packet.number,
                );
                self.in_full.push(number);
                if !gives {
                    self.without_ids = number;
                }
            }
        }
    }

    /// Whether a stream ends before what was sent of it. quinn-proto 0.11.19 takes that (RFC 9000
    /// §4.5 does not), and computes below zero when a reset follows: what it does then is known.
    pub(super) fn ends_early(&mut self, frames: &[u8]) -> bool {
        let mut early = false;
        for frame in packets::frames(frames) {
            if let Frame::Stream {
                stream,
                offset,
                data,
                fin,
            } = frame
            {
                let end = offset.saturating_add(data.len() as u64);
                let before = self.ends.entry(stream).or_default();
                early |= fin && end < *before;
                *before = end.max(*before);
            }
        }
        early
    }

    fn learn(&mut self, id: Vec<u8>) {
        if id.len() == ID_BYTES && self.known.insert(id.clone()) {
            self.ids.push(id);
        }
    }
}

/// The number that is next to the expected one, of those that end so (RFC 9000 §A.3).
fn in_full(expected: u32, (number, bytes): (u32, u8)) -> u32 {
    let Some(window) = 1_u32.checked_shl(8 * u32::from(bytes)) else {
        return number;
    };
    let near = (expected & !(window - 1)) | number;
    if near + window / 2 <= expected {
        near + window
    } else if near > expected + window / 2 && near >= window {
        near - window
    } else {
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_next_one_that_ends_so() {
        for (expected, number, full) in [
            (0, 0, 0),
            (255, 255, 255),
            (256, 0, 256),
            (257, 255, 255),
            (600, 90, 602),
        ] {
            assert_eq!(in_full(expected, (number, 1)), full);
        }
        assert_eq!(in_full(70_000, (70_001 & 0xffff, 2)), 70_001);
        assert_eq!(in_full(7, (70_001, 4)), 70_001);
    }
}
