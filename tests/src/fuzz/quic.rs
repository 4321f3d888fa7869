//! Hostile QUIC packets to an honest server: see [`quic`].

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::oracle::Oracle;
use crate::world::{NodeIndex, World, echo};

use super::Reached;
use super::input::Input;
use super::packets::{self, ID_BYTES, Packet, Space, put_varint};
use super::seen::Seen;
use super::two_nodes::{null_world, told, without_discovery};

pub(super) const FLOOR: &[&str] = &[
    "a packet that was taken",
    "a link that goes on",
    "a link broken",
    "a session closed",
    "another address",
    "a handshake that is not done",
    "a packet that is not authentic",
];

/// Packets in the name of a client of a server, that only somebody who has its keys could write: of
/// any frames, with any numbers, from any address, in the middle of its handshake or after it, while
/// the client itself goes on or is silent.
///
/// The server keeps its bounds and the laws of its contract, and another client of it is answered as
/// promptly as ever.
///
/// The input: a byte for when this begins and whether the client goes on, and packets, as `Stage`
/// makes them. ACK frames name packets that the server has sent, unless the input says others.
pub fn quic(data: &[u8]) -> Reached {
    let mut input = Input::new(data);
    let mut stage = Stage::new(input.byte());
    for _ in 0..PACKETS_MAX {
        if input.is_empty() {
            break;
        }
        stage.packet(&mut input);
    }
    stage.finish()
}

/// Each kind of frame in a packet of its own, and some together.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0..KINDS.len() as u8 {
        for how in [0, 1, 2, 4] {
            let mut seed = vec![how];
            for args in [[0, 0, 0, 0, 0], [4, 1, 3, 9, 2], [2, 0xe8, 20, 1, 1]] {
                seed.extend([0, 0, 2, kind]);
                seed.extend(args);
                seed.extend([kind]);
                seed.extend(args);
            }
            seeds.push(seed);
        }
    }
    for kind in [1, 2, 8, 26] {
        // From another address, at once and with a wait.
        seeds.push(vec![
            0, 0x40, 0, 0, kind, 4, 1, 3, 0x70, 1, 0, kind, 4, 1, 3,
        ]);
    }
    seeds
}

const PACKETS_MAX: usize = 40;
const FRAMES_MAX: u8 = 12;
const PROMPT: Duration = Duration::from_millis(300);

/// The frames that there are, and how many numbers of the input each has.
const KINDS: [(u64, u8); 34] = [
    (0x00, 0),
    (0x01, 0),
    (0x02, 0),
    (0x03, 0),
    (0x04, 3),
    (0x05, 2),
    (0x06, 1),
    (0x07, 0),
    (0x08, 1),
    (0x09, 1),
    (0x0a, 1),
    (0x0b, 1),
    (0x0c, 2),
    (0x0d, 2),
    (0x0e, 2),
    (0x0f, 2),
    (0x10, 1),
    (0x11, 2),
    (0x12, 1),
    (0x13, 1),
    (0x14, 1),
    (0x15, 2),
    (0x16, 1),
    (0x17, 1),
    (0x18, 2),
    (0x19, 1),
    (0x1a, 0),
    (0x1b, 0),
    (0x1c, 2),
    (0x1d, 1),
    (0x1e, 0),
    (0x1f, 0),
    (0x31, 0),
    (0xaf, 4),
];

struct Stage {
    world: World,
    server: NodeIndex,
    client: NodeIndex,
    beside: (NodeIndex, trunkline_core::SessionKey),
    seen: Rc<RefCell<Seen>>,
    oracle: Oracle,
    reached: Reached,
}

impl Stage {
    fn new(how: u8) -> Self {
        let mut world = null_world(how.into());
        world.let_amplify();
        without_discovery(world.config());
        let config = world.config().clone();
        let mut oracle = Oracle::new(world.now());
        oracle.started(world.now(), 0, &config);
        let server = world.server();
        let client = world.client();
        let other = world.client();
        let beside = (other, world.connect(other, server, "honest"));
        let seen = Seen::watch(&mut world, client);
        world.run(Duration::from_millis(10), echo);
        let mut reached = Reached::new();
        let session = world.connect(client, server, "hostile");
        if how & 1 == 0 {
            world.run(Duration::from_millis(20), echo);
            world.request(client, session, b"a request");
            world.run(Duration::from_millis(10), echo);
        } else {
            // The client's first flight is there, and the server's answer is not.
            world.run(Duration::from_micros(1_500), echo);
            reached.insert("a handshake that is not done");
        }
        if how & 2 != 0 {
            world.kill(client);
        }
        Self {
            world,
            server,
            client,
            beside,
            seen,
            oracle,
            reached,
        }
    }

    /// A byte for the packet's header, one for its number, one for how many frames it has, and those.
    fn packet(&mut self, input: &mut Input<'_>) {
        let (header, step, count) = (input.byte(), input.byte(), input.byte());
        let space = match header & 7 {
            6 => Space::Initial,
            7 => Space::Handshake,
            _ => Space::Data,
        };
        let mut bytes = Vec::new();
        for _ in 0..=(count % FRAMES_MAX) {
            self.frame(space, input, &mut bytes);
            if bytes.len() > 1_100 {
                bytes.truncate(1_100);
                break;
            }
        }
        if self.seen.borrow_mut().ends_early(&bytes) {
            return;
        }
        let seen = self.seen.borrow();
        // A packet has four bytes of number and frames at least.
        bytes.resize(bytes.len().max(4), 0);
        let number = seen.used[space as usize].wrapping_add(u32::from(step & 0x3f) + 1);
        let number = if step & 0x40 == 0 {
            number
        } else {
            step.into()
        };
        let destination = match header >> 3 & 1 {
            0 => seen.ids.last().cloned(),
            _ => seen.ids.first().cloned(),
        };
        let packet = Packet {
            space,
            destination: destination.unwrap_or_else(|| vec![0; ID_BYTES]),
            source: seen.client.clone(),
            number: (number, 4),
            frames: bytes,
        };
        drop(seen);
        let tag = u8::from(step & 0x80 != 0);
        if tag != 0 {
            self.reached.insert("a packet that is not authentic");
        } else {
            let used = &mut self.seen.borrow_mut().used[space as usize];
            *used = number.max(*used);
        }
        let mut datagram = Vec::new();
        packets::write(&packet, header >> 1 & 0x3c & !0x18, tag, &mut datagram);
        if space == Space::Initial {
            datagram.resize(datagram.len().max(1_200), 0);
        }
        let from = if header & 0x40 == 0 {
            self.world.address(self.client)
        } else {
            self.reached.insert("another address");
            SocketAddr::from(([10, 9, 9, step & 1], 999))
        };
        self.world.inject(from, self.server, &datagram);
        self.reached.insert("a packet that was taken");
        let wait = match header >> 4 & 3 {
            0 => Duration::from_micros(10),
            1 => Duration::from_millis(1),
            2 => Duration::from_millis(50),
            _ => Duration::from_secs(1),
        };
        self.world.run(wait, echo);
        let now = self.world.now();
        self.oracle.look(now, 0, self.world.node(self.server));
    }

    fn frame(&self, space: Space, input: &mut Input<'_>, out: &mut Vec<u8>) {
        let place = input.byte();
        if place >= 0xf0 {
            out.extend(input.block());
            return;
        }
        let (kind, numbers) = KINDS[usize::from(place) % KINDS.len()];
        put_varint(kind, out);
        for _ in 0..numbers {
            put_varint(input.long(), out);
        }
        match kind {
            0x02 | 0x03 => self.ack(space, kind, input, out),
            0x06 | 0x07 | 0x31 => self.block(input, out),
            0x08..=0x0f if kind & 2 != 0 => self.block(input, out),
            0x08..=0x0f => out.extend(input.block()),
            0x18 => {
                let id = input.bytes(ID_BYTES);
                out.push(id.len() as u8);
                out.extend(id);
                out.extend([input.byte(); 16]);
            }
            0x1a | 0x1b => out.extend([input.byte(); 8]),
            0x1c | 0x1d => self.block(input, out),
            _ => {}
        }
    }

    fn block(&self, input: &mut Input<'_>, out: &mut Vec<u8>) {
        let block = input.block();
        put_varint(block.len() as u64, out);
        out.extend(block);
    }

    /// Of packets that were sent, unless the input says otherwise.
    fn ack(&self, space: Space, kind: u64, input: &mut Input<'_>, out: &mut Vec<u8>) {
        let how = input.byte();
        let seen = self.seen.borrow();
        let sent = &seen.sent[space as usize];
        let back = usize::from(how & 0x1f);
        let largest = match sent.len().checked_sub(back + 1) {
            Some(place) if how & 0x80 == 0 => sent[place].into(),
            _ => input.long(),
        };
        let ranges = u64::from(how >> 5 & 3);
        put_varint(largest, out);
        put_varint(input.long(), out);
        put_varint(ranges, out);
        put_varint(u64::from(input.byte()).min(largest), out);
        for _ in 0..2 * ranges {
            put_varint(input.byte().into(), out);
        }
        if kind == 0x03 {
            for _ in 0..3 {
                put_varint(input.byte().into(), out);
            }
        }
    }

    /// The other client is answered, and on the link that it had.
    fn finish(mut self) -> Reached {
        let (other, session) = self.beside;
        let promise = self.world.request(other, session, b"beside");
        self.world.run(PROMPT, echo);
        let outcome = self.world.outcome(other, promise);
        assert_eq!(outcome.as_deref(), Some("Replied beside"));
        for (at, event) in self.world.log(other) {
            let broken = matches!(event, trunkline_core::Event::Disconnected { .. });
            assert!(!broken, "the link beside is broken at {at:?}: {event:?}");
        }
        if let Some(violation) = self.oracle.violations().first() {
            panic!("{violation}");
        }
        let now = self.world.now();
        let metrics = self.world.node(self.server).metrics(now);
        if metrics.links_opened - metrics.links_closed > 1 {
            self.reached.insert("a link that goes on");
        }
        let log = self.world.log(self.server).iter();
        self.reached
            .extend(log.filter_map(|(_, event)| told(event)));
        self.reached
    }
}
