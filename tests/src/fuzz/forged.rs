//! Packets in a client's name with any frames: see [`Forged`].

use std::cell::RefCell;
use std::rc::Rc;

use crate::world::{NodeIndex, World};

use super::packets::{self, Packet, Space};
use super::seen::Seen;

/// Makes packets in the name of a world's client, that only somebody who has its keys could write. The world's nodes
/// have null cryptography ([`super::use_null_crypto`]), and the client is silent from the first of them on.
pub struct Forged(Rc<RefCell<Seen>>);

impl Forged {
    /// Watches the client from now on, which is to have no connection yet. A world has one that watches
    /// ([`World::observe`]). What servers send to addresses that are not validated is no failure any more.
    pub fn of(world: &mut World, client: NodeIndex) -> Self {
        world.let_amplify();
        Self(Seen::watch(world, client))
    }

    /// A datagram with one packet of these frames, sent after all that were sent before.
    pub fn datagram(&self, frames: &[u8]) -> Vec<u8> {
        let mut seen = self.0.borrow_mut();
        let number = &mut seen.used[Space::Data as usize];
        *number += 1;
        let number = *number;
        let mut frames = frames.to_vec();
        // A packet has four bytes of number and frames at least.
        frames.resize(frames.len().max(4), 0);
        let packet = Packet {
            space: Space::Data,
            destination: seen.destination.clone(),
            source: Vec::new(),
            number: (number, 4),
            frames,
        };
        let mut datagram = Vec::new();
        packets::write(&packet, 0, 0, &mut datagram);
        datagram
    }

    /// How many ids the server has given the client, that of its handshake included.
    pub fn ids(&self) -> u64 {
        self.0.borrow().ids.len() as u64
    }

    /// How many ids the client has given, those of its handshake aside.
    pub fn ids_of_client(&self) -> u64 {
        self.0.borrow().ids_of_client.len() as u64
    }

    /// The numbers of the server's last packets of data, as many as that at most.
    pub fn sent(&self, most: usize) -> Vec<u32> {
        let sent = &self.0.borrow().in_full;
        sent[sent.len().saturating_sub(most)..].to_vec()
    }

    /// The number of the server's last packet of data that gave the client no id.
    pub fn sent_without_ids(&self) -> u32 {
        self.0.borrow().without_ids
    }
}

/// An ACK frame of one packet.
pub fn ack(number: u32) -> Vec<u8> {
    let mut frame = vec![0x02];
    packets::put_varint(number.into(), &mut frame);
    frame.extend([0, 0, 0]);
    frame
}

/// A RETIRE_CONNECTION_ID frame.
pub fn retire(sequence: u64) -> Vec<u8> {
    let mut frame = vec![0x19];
    packets::put_varint(sequence, &mut frame);
    frame
}
