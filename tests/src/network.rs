//! The network between the nodes: whose address is whose, and the datagrams that are under way.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use trunkline_core::tap::Digest;
use trunkline_core::{Datagram, Ecn};

use crate::direction::{Cause, Direction, Fate};
use crate::{NodeIndex, Path, Random};

/// What became of the datagrams of a world so far. Each that was sent counts once under `sent`,
/// and once for each thing that was done to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Sent by the nodes.
    pub sent: u64,
    /// Kept by their sender for a while, whose send buffer was full.
    pub withheld: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped while the path was cut, or under way for ever.
    pub cut: u64,
    /// Dropped by a bottleneck whose queue was full.
    pub queue_full: u64,
    /// Dropped because they were larger than the path's MTU.
    pub too_large: u64,
    /// Held back, so that others could overtake them.
    pub reordered: u64,
    /// Held up with all others, until these came at once.
    pub held: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Delivered with a flipped bit.
    pub corrupted: u64,
    /// Sent to an address that no node has, or had by the time they came.
    pub unreachable: u64,
    /// Dropped by the full socket of a paused node.
    pub socket_full: u64,
}

/// A datagram as its sender gave it to the network ([`crate::World::observe`]).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// When.
    pub at: Instant,
    /// Who sent it.
    pub from: NodeIndex,
    /// Whose address it was sent to.
    pub to: NodeIndex,
    /// Its UDP payload.
    pub payload: &'a [u8],
}

/// A datagram that a node sends.
pub(crate) struct Outgoing<'a> {
    pub(crate) from: NodeIndex,
    /// Which of all processes sends it, if that matters.
    pub(crate) process: u64,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) payload: &'a [u8],
}

/// A datagram under way.
struct Flight {
    to: SocketAddr,
    /// Who sent it, if it is known, and by which of all processes; and from which one at its
    /// destination the latest datagram was that had come to its source.
    sender: Option<NodeIndex>,
    process: u64,
    answers: u64,
    datagram: Datagram,
}

/// A datagram that has arrived.
pub(crate) struct Arrival {
    pub(crate) to: NodeIndex,
    pub(crate) sender: Option<NodeIndex>,
    /// Which process its sender had heard where it was sent from.
    pub(crate) answers: u64,
    pub(crate) datagram: Datagram,
}

pub(crate) struct Network {
    start: Instant,
    seed: u64,
    addresses: BTreeMap<SocketAddr, NodeIndex>,
    directions: BTreeMap<(NodeIndex, NodeIndex), Direction>,
    /// Which process at the second address was last heard at the first.
    heard: BTreeMap<(SocketAddr, SocketAddr), u64>,
    /// By the time of arrival, and among those of one instant in the order of sending.
    in_flight: BTreeMap<(Instant, u64), Flight>,
    order: u64,
    digest: Digest,
    pub(crate) traffic: Traffic,
    /// What becomes of the datagrams that get through, in place of what the path would do to them.
    pub(crate) steering: Option<Steering>,
}

/// Decides about a datagram: when it was sent, and would arrive.
pub(crate) type Steering = Box<dyn FnMut(Instant, Instant) -> Fate + Send>;

impl Network {
    pub(crate) fn new(seed: u64, start: Instant) -> Self {
        Self {
            start,
            seed,
            addresses: BTreeMap::new(),
            directions: BTreeMap::new(),
            heard: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            order: 0,
            digest: Digest::default(),
            traffic: Traffic::default(),
            steering: None,
        }
    }

    /// Gives an address to a node.
    pub(crate) fn assign(&mut self, address: SocketAddr, node: NodeIndex) {
        self.addresses.insert(address, node);
    }

    /// Takes an address away: what is sent to it, or under way to it, goes nowhere.
    pub(crate) fn release(&mut self, address: SocketAddr) {
        self.addresses.remove(&address);
    }

    /// Whose address it is.
    pub(crate) fn owner(&self, address: SocketAddr) -> Option<NodeIndex> {
        self.addresses.get(&address).copied()
    }

    /// One direction between two nodes. It draws from its own random numbers, so that what happens
    /// on one path does not depend on what is sent on another.
    pub(crate) fn direction(
        &mut self,
        now: Instant,
        from: NodeIndex,
        to: NodeIndex,
    ) -> &mut Direction {
        let seed = self.seed;
        self.directions.entry((from, to)).or_insert_with(|| {
            let name = (from.0 as u64) << 32 | to.0 as u64;
            let mut seeds = Random::new(Random::new(seed).next_u64() ^ name);
            Direction::new(Random::new(seeds.next_u64()), now)
        })
    }

    pub(crate) fn unclog(&mut self) {
        for direction in self.directions.values_mut() {
            direction.held_until = None;
        }
    }

    /// Takes a datagram from a node; `path` is what those directions do that have no settings of
    /// their own.
    pub(crate) fn send(&mut self, now: Instant, path: &Path, outgoing: &Outgoing<'_>) {
        let Outgoing {
            from,
            process,
            source,
            destination,
            ecn,
            payload,
        } = *outgoing;
        self.traffic.sent += 1;
        (now - self.start).as_nanos().hash(&mut self.digest);
        (source, destination).hash(&mut self.digest);
        self.digest.write(&[ecn.map_or(0, Ecn::bits)]);
        self.digest.write(payload);
        let Some(to) = self.owner(destination) else {
            self.traffic.unreachable += 1;
            return;
        };
        let direction = self.direction(now, from, to);
        let path = direction.own.unwrap_or(*path);
        let mut fate = direction.decide(&path, now, payload.len());
        let held_until = direction.held_until;
        if let (Fate::Arrives { at, .. }, Some(steer)) = (fate, &mut self.steering) {
            fate = steer(now, at);
        }
        let (at, flipped, copy) = match fate {
            Fate::Dropped(cause) => {
                let traffic = &mut self.traffic;
                *match cause {
                    Cause::Loss => &mut traffic.lost,
                    Cause::Cut => &mut traffic.cut,
                    Cause::QueueFull => &mut traffic.queue_full,
                    Cause::TooLarge => &mut traffic.too_large,
                } += 1;
                return;
            }
            Fate::Arrives {
                at,
                held_back,
                flipped,
                copy,
            } => {
                self.traffic.reordered += u64::from(held_back);
                let release = held_until.filter(|until| *until > at);
                self.traffic.held += u64::from(release.is_some());
                (release.unwrap_or(at), flipped, copy)
            }
        };
        let heard = self.heard.get(&(source, destination));
        let answers = heard.copied().unwrap_or_default();
        let mut data = BytesMut::from(payload);
        let flight = |data| Flight {
            to: destination,
            sender: Some(from),
            process,
            answers,
            datagram: Datagram {
                remote: source,
                local_ip: None,
                ecn,
                data,
            },
        };
        if let Some(at) = copy {
            self.traffic.duplicated += 1;
            self.fly(at, flight(data.clone()));
        }
        if let Some(bit) = flipped {
            self.traffic.corrupted += 1;
            data[bit / 8] ^= 1 << (bit % 8);
        }
        self.fly(at, flight(data));
    }

    fn fly(&mut self, at: Instant, flight: Flight) {
        self.order += 1;
        self.in_flight.insert((at, self.order), flight);
    }

    /// Puts a datagram of nobody's on its way, to arrive at once.
    pub(crate) fn inject(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let datagram = Datagram {
            remote: from,
            local_ip: None,
            ecn: None,
            data: bytes.into(),
        };
        let flight = Flight {
            to,
            sender: None,
            process: 0,
            answers: 0,
            datagram,
        };
        self.fly(now, flight);
    }

    /// When the next datagram arrives.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.keys().next().map(|(at, _)| *at)
    }

    /// The next datagram that has arrived by now.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Arrival> {
        loop {
            let entry = self.in_flight.first_entry().filter(|e| e.key().0 <= now)?;
            let Flight {
                to: address,
                sender,
                process,
                answers,
                datagram,
            } = entry.remove();
            let Some(to) = self.owner(address) else {
                self.traffic.unreachable += 1;
                continue;
            };
            self.heard.insert((address, datagram.remote), process);
            return Some(Arrival {
                to,
                sender,
                answers,
                datagram,
            });
        }
    }

    /// Stands for every datagram that was sent so far: when, from where, where to, and what.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.digest.finish()
    }
}
