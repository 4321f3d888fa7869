//! Which of several nodes behind one address a datagram is for.
//!
//! A server with several nodes (shards) gives each a socket of its own at the same address, and
//! lets every connection id name the node that made it, so that a datagram finds its connection
//! without a table, from whatever address it comes. The first eight bytes of a destination
//! connection id say it: deciphered, as two big-endian words, the first of them modulo the number
//! of shards. Every eight bytes name a shard, those too that a client made up for its first
//! packet: such connections fall to shards by chance, evenly, and stay there.
//!
//! # How a client comes back to its session
//!
//! A session stays with its node. A connection cannot be moved to another node once its handshake
//! has begun, and a session could only move with all that hangs on it: promises that somebody
//! waits for, deliveries under way, groups, a recording of one whole node. So the connection is led
//! to the session. Each Welcome tells the client what the next connection's first destination id is
//! to begin with: eight bytes that name this node, fresh each time. Before the first Welcome, the
//! client begins with the eight bytes that it began its first connection with, for if its Hello has
//! arrived, the session is where these led. The sender's address tells nothing: it changes just when
//! a client comes back, and thousands can be behind one.
//!
//! No node asks another one about a session. If a client comes to a node that does not know its
//! session, since it ignores all this or since its node has gone, it is told that the session is
//! lost, as by a server that was started again: never a silent fresh start, and never two nodes with
//! one session.
//!
//! # What an observer learns
//!
//! RFC 9000 section 5.1 wants that nobody outside can tell that two ids belong to one connection;
//! a number that stood there plainly would narrow it down to the connections of one shard. So the
//! whole id is one block of Speck64/128 (<https://eprint.iacr.org/2013/404>) under a secret key:
//! it looks random to whoever lacks the key. The QUIC-LB draft (draft-ietf-quic-load-balancers)
//! uses AES for the same end. That was not possible here: Linux runs the choice of the socket as a
//! classic BPF program, which has 32-bit additions, shifts and exclusive ors and no tables. Speck
//! is made of those alone. It is used whole, with all of its 27 rounds (the best published attacks
//! reach 20); its block of 64 bits is small, but no more than a shard's number is hidden in it, and
//! nothing else rests on it: contents, tokens and resets are protected by cryptography of their
//! own. Whoever breaks it learns which shard a connection is on. What timing and load tell of that
//! is not hidden by it.

use std::fmt;

use zeroize::Zeroizing;

use crate::id::SHARDS_MAX;

/// So many bytes at the beginning of a connection id name the shard.
pub(crate) const NAMING: usize = 8;

const ROUNDS: usize = 27;

/// Tells which shard of a server a datagram is for. All shards, and whoever distributes datagrams
/// among them, make it of the same [`crate::PersistentKeys`].
#[derive(Clone)]
pub struct Steering {
    rounds: Zeroizing<[u32; ROUNDS]>,
    shards: u16,
}

impl Steering {
    /// With a secret key, for that many shards: at least one, and no more than a server can have.
    pub(crate) fn new(key: &[u8; 16], shards: u16) -> Self {
        let (words, _) = key.as_chunks::<4>();
        // The paper writes the key's words from the last to the first.
        let [mut l2, mut l1, mut l0, mut round] =
            std::array::from_fn(|n| u32::from_be_bytes(words[n]));
        let mut rounds = Zeroizing::new([0; ROUNDS]);
        for (number, place) in (0..).zip(rounds.iter_mut()) {
            *place = round;
            let next = round.wrapping_add(l0.rotate_right(8)) ^ number;
            round = round.rotate_left(3) ^ next;
            (l0, l1, l2) = (l1, l2, next);
        }
        Self {
            rounds,
            shards: shards.clamp(1, SHARDS_MAX),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard that the datagram's destination connection id names, counted from 0. `None`: it
    /// has no such id, and is whose socket it came to.
    pub fn shard_of(&self, datagram: &[u8]) -> Option<u16> {
        let id = if datagram.first()? & 0x80 == 0 {
            datagram.get(1..)?
        } else {
            // A long header: the version, the id's length, the id (RFC 8999 section 5.1).
            let id = datagram.get(6..)?;
            (usize::from(datagram[5]) >= NAMING).then_some(id)?
        };
        Some(self.named(*id.first_chunk()?))
    }

    /// An id that names that shard, made from random bytes.
    pub(crate) fn name(&self, shard: u16, random: [u8; NAMING]) -> [u8; NAMING] {
        let [first, second] = words(random);
        let shards = u32::from(self.shards);
        let base = first - first % shards;
        let first = base
            .checked_add(u32::from(shard))
            .unwrap_or(base.wrapping_sub(shards) + u32::from(shard));
        bytes(self.encipher([first, second]))
    }

    /// Round keys, from the first round to the last, for a program that does what
    /// [`Self::shard_of`] does.
    #[cfg(all(feature = "system", target_os = "linux"))]
    pub(crate) fn rounds(&self) -> &[u32; ROUNDS] {
        &self.rounds
    }

    fn named(&self, id: [u8; NAMING]) -> u16 {
        let [first, _] = self.decipher(words(id));
        // Less than a u16.
        (first % u32::from(self.shards)) as u16
    }

    fn encipher(&self, [mut x, mut y]: [u32; 2]) -> [u32; 2] {
        for round in self.rounds.iter() {
            x = x.rotate_right(8).wrapping_add(y) ^ round;
            y = y.rotate_left(3) ^ x;
        }
        [x, y]
    }

    fn decipher(&self, [mut x, mut y]: [u32; 2]) -> [u32; 2] {
        for round in self.rounds.iter().rev() {
            y = (x ^ y).rotate_right(3);
            x = (x ^ round).wrapping_sub(y).rotate_left(8);
        }
        [x, y]
    }
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering")
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

fn words(id: [u8; NAMING]) -> [u32; 2] {
    let both = u64::from_be_bytes(id);
    [(both >> 32) as u32, both as u32]
}

fn bytes([first, second]: [u32; 2]) -> [u8; NAMING] {
    (u64::from(first) << 32 | u64::from(second)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn short(id: [u8; NAMING]) -> Vec<u8> {
        [&[0x40], &id[..], &[9; 20]].concat()
    }

    fn long(length: u8, id: &[u8]) -> Vec<u8> {
        [&[0xc0, 0, 0, 0, 1, length], id].concat()
    }

    #[test]
    fn the_cipher_is_speck() {
        // The paper's own example, for 64-bit blocks and 128-bit keys.
        let mut key = [0; 16];
        for (byte, word) in
            key.chunks_mut(4)
                .zip([0x1b1a1918_u32, 0x13121110, 0x0b0a0908, 0x03020100])
        {
            byte.copy_from_slice(&word.to_be_bytes());
        }
        let steering = Steering::new(&key, 4);
        let (plain, cipher) = ([0x3b726574, 0x7475432d], [0x8c6fa548, 0x454e028b]);
        assert_eq!(steering.encipher(plain), cipher);
        assert_eq!(steering.decipher(cipher), plain);
    }

    #[test]
    fn ids_of_any_header_name_their_shard() {
        let steering = Steering::new(&[3; 16], 3);
        for shard in 0..3 {
            let id = steering.name(shard, [7; 8]);
            assert_eq!(steering.shard_of(&short(id)), Some(shard));
            assert_eq!(steering.shard_of(&long(8, &id)), Some(shard));
            let longer = [&id[..], &[1; 12]].concat();
            assert_eq!(steering.shard_of(&long(20, &longer)), Some(shard));
        }
    }

    #[test]
    fn what_has_no_such_id_names_nobody() {
        let steering = Steering::new(&[3; 16], 3);
        for datagram in [
            &[][..],
            &[0x40],
            &[0x40; 8],
            &[0xc0; 5],
            &long(8, &[1; 7]),
            &long(7, &[1; 20]),
            &long(0, &[1; 20]),
        ] {
            assert_eq!(steering.shard_of(datagram), None, "{datagram:?}");
        }
        // Bytes after the id are not looked at, whatever their number.
        assert!(steering.shard_of(&[0x40; 9]).is_some());
        assert!(steering.shard_of(&long(255, &[1; 8])).is_some());
    }

    #[test]
    fn ids_that_nobody_made_fall_to_all_shards_evenly() {
        let steering = Steering::new(&[5; 16], 5);
        let mut shares = [0; 5];
        for number in 0..10_000_u64 {
            shares[usize::from(steering.named(number.to_be_bytes()))] += 1;
        }
        assert!(
            shares.iter().all(|n| (1_850..2_150).contains(n)),
            "{shares:?}"
        );
    }

    #[test]
    fn ids_of_one_shard_share_nothing_that_can_be_seen() {
        // Each of the 64 bits is set in about half of the ids, whatever the shard.
        let steering = Steering::new(&[5; 16], 2);
        let mut set = [0_u32; 64];
        for number in 0..10_000_u64 {
            let id = u64::from_be_bytes(steering.name(1, number.to_be_bytes()));
            for (bit, count) in (0..).zip(&mut set) {
                *count += u32::from(id >> bit & 1 == 1);
            }
        }
        assert!(set.iter().all(|n| (4_750..5_250).contains(n)), "{set:?}");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?}", Steering::new(&[0xab; 16], 2));
        assert_eq!(printed, "Steering { shards: 2, .. }");
    }

    #[test]
    fn there_are_as_many_shards_as_a_server_can_have() {
        for (asked, shards) in [(0, 1), (1, 1), (256, 256), (257, 256), (u16::MAX, 256)] {
            let steering = Steering::new(&[1; 16], asked);
            assert_eq!(steering.shards(), shards);
            assert!(steering.shard_of(&short([0xff; 8])).unwrap() < shards);
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_back(key: [u8; 16], random: [u8; 8], shards in 1_u16..=256, shard: u16) {
            let steering = Steering::new(&key, shards);
            let shard = shard % shards;
            prop_assert_eq!(steering.named(steering.name(shard, random)), shard);
        }

        #[test]
        fn the_last_numbers_name_shards_too(low in 0_u32..300, shards in 1_u16..=256, shard: u16) {
            let steering = Steering::new(&[1; 16], shards);
            let shard = shard % shards;
            let random = bytes([u32::MAX - low, 0]);
            prop_assert_eq!(steering.named(steering.name(shard, random)), shard);
        }
    }
}
