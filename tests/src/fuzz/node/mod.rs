//! A node under whatever an application, a network and a clock may do to it: see [`node`].

mod commands;
mod end;
mod party;
mod tally;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use trunkline_core::{Admission, Datagram, Event, Input as NodeInput, Node, StatusCode};

use crate::Random;
use crate::oracle::Oracle;

use self::party::{Party, configuration, echo};
use super::input::Input;
use super::two_nodes::told;
use super::{Reached, laws, use_null_crypto};

pub(super) const FLOOR: &[&str] = &[
    "a session resumed",
    "a session closed",
    "a link broken",
    "an ack",
    "a reply",
    "a rejection",
    "a promise timed out",
    "a promise cancelled",
    "a promise lost",
    "a promise evicted",
    "a best-effort message",
    "a broadcast to all but one",
    "a cancel heard of",
    "a message that came back",
    "room again",
    "a drain",
    "a clock that ran back",
    "an unknown session",
    "an unknown delivery",
    "an unknown promise",
    "an unknown link",
    "a message too large",
    "a full outbox",
    "a full promise table",
    "an unknown lane",
    "a session that closes",
    "an address that cannot be dialled",
    "credentials too large",
    "a full table",
    "a request that was acked",
    "a message that was replied to",
];

/// Two nodes, each server and client to the other, under any commands with any arguments at any
/// time, junk, timeouts that nobody asked for, and a clock that jumps and runs back. Datagrams move
/// when the input says so.
///
/// A command that fails changes nothing. Of keys, whether they are good is known: an answer is taken
/// once and of the right kind, and a promise is cancelled until it settles. The nodes keep the laws
/// of their contract at every step, and the [oracle](crate::oracle) is the model of everything that
/// their applications see. In the end everything is delivered: then who finds its server is connected, at
/// both ends, and nothing is open there; it stays so, without a word, while others dial; what was told is
/// what was counted; and when all sessions are closed, nothing is left of them, not even a timer.
///
/// The input: two bytes for the configuration, one for how applications behave, and then what
/// happens, as `act` names it; the highest bit says on which node.
pub fn node(data: &[u8]) -> Reached {
    let mut input = Input::new(data);
    let mut stage = Stage::new(input.short(), input.byte());
    for _ in 0..ACTS_MAX {
        if input.is_empty() {
            break;
        }
        stage.act(&mut input);
        stage.assert_well();
    }
    stage.finish()
}

/// Each act once, and some at random behind a connection that is up.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for seed in 0..300_u64 {
        let mut random = Random::new(seed);
        let mut out = vec![0, seed as u8, (seed >> 3) as u8, act::CONNECT, 0];
        out.extend([act::PASS, 3]);
        for _ in 0..3 + random.below(40) {
            let side = random.pick(&[0, 0x80]);
            out.push(side | random.below(act::ALL.into()) as u8);
            for _ in 0..random.below(5) {
                out.push(random.below(12) as u8);
            }
            if random.chance(0.5) {
                out.extend([act::PASS, random.below(6) as u8]);
            }
        }
        seeds.push(out);
    }
    let up = [0, 0, HOLDS, act::CONNECT, 0, act::PASS, 4];
    let far = |kind: u8| kind | 0x80;
    let behind: [&[u8]; 6] = [
        // Both find each other dead, and the session goes on.
        &[act::JUMP, 11, act::TIMEOUT, far(act::TIMEOUT), act::PASS, 9],
        &[act::CONNECT, 0x20],
        &[
            act::CONNECT,
            0x10,
            act::PASS,
            6,
            far(act::BROADCAST_EXCEPT),
            0,
            1,
            0,
            act::PASS,
            4,
        ],
        &[
            act::REQUEST,
            0,
            0,
            1,
            1,
            act::PASS,
            4,
            far(act::ANSWER),
            0x32,
            0,
        ],
        &[
            act::TELL,
            0,
            0,
            1,
            0,
            act::PASS,
            4,
            far(act::ANSWER),
            0x82,
            0,
        ],
        &[
            act::ACKED,
            0,
            0,
            1,
            1,
            act::PASS,
            4,
            far(act::ANSWER),
            0x22,
            0,
        ],
    ];
    seeds.extend(behind.map(|behind| [&up, behind].concat()));
    seeds
}

/// Applications put aside what comes: the third byte.
const HOLDS: u8 = 1;
const ACTS_MAX: usize = 120;

/// What happens, by the low bits of a byte; by one that is not there, nothing. So a new one changes what those
/// checked-in inputs mean that have nothing under its number: there it has to become 31 first.
mod act {
    pub(super) const CONNECT: u8 = 0;
    pub(super) const TELL: u8 = 1;
    pub(super) const ACKED: u8 = 2;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const BEST_EFFORT: u8 = 4;
    pub(super) const BROADCAST: u8 = 5;
    pub(super) const GROUP: u8 = 6;
    pub(super) const ANSWER: u8 = 7;
    pub(super) const CANCEL: u8 = 8;
    pub(super) const CLOSE: u8 = 9;
    pub(super) const REDIRECT: u8 = 10;
    pub(super) const DRAIN: u8 = 11;
    pub(super) const ADMIT: u8 = 12;
    pub(super) const DELIVER: u8 = 13;
    pub(super) const LOSE: u8 = 14;
    pub(super) const JUNK: u8 = 15;
    pub(super) const PASS: u8 = 16;
    pub(super) const JUMP: u8 = 17;
    pub(super) const BACK: u8 = 18;
    pub(super) const TIMEOUT: u8 = 19;
    pub(super) const BROADCAST_EXCEPT: u8 = 20;
    pub(super) const ALL: u8 = 21;
}

const WAITS: [u64; 12] = [
    0, 1, 3, 11, 26, 100, 400, 1_000, 3_000, 11_000, 31_000, 130_000,
];
const SIZES: [usize; 8] = [0, 8, 100, 1_500, 4_000, 20_000, 70_000, 1 << 20];
const TIMEOUTS: [Option<Duration>; 6] = [
    None,
    Some(Duration::MAX),
    Some(Duration::from_millis(1)),
    Some(Duration::from_secs(1)),
    Some(Duration::from_secs(86_400)),
    Some(Duration::ZERO),
];
const NO: StatusCode = StatusCode(1_000);
/// How long a datagram takes that is delivered by itself.
const DELAY: Duration = Duration::from_millis(2);
struct Stage {
    now: Instant,
    parties: [Party; 2],
    oracle: Oracle,
    numbers: u64,
    /// What comes is answered at once.
    answers: bool,
    reached: Reached,
}
impl Stage {
    fn new(seed: u16, manner: u8) -> Self {
        use_null_crypto();
        let now = Instant::now();
        let admission = if manner & 2 == 0 {
            Admission::Open
        } else {
            Admission::Ask
        };
        let mut oracle = Oracle::new(now);
        let party = |number: usize| {
            let config = configuration(seed);
            oracle.started(now, number, &config);
            Party::new(number, config, admission, now)
        };
        Self {
            now,
            parties: [0, 1].map(party),
            oracle,
            numbers: 0,
            answers: manner & HOLDS == 0,
            reached: Reached::new(),
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let first = input.byte();
        let at = usize::from(first >> 7);
        match first & 31 {
            act::CONNECT => self.connect(at, input.byte()),
            kind @ act::TELL..=act::REQUEST => self.send(at, kind, input),
            act::BEST_EFFORT => self.best_effort(at, input),
            kind @ (act::BROADCAST | act::BROADCAST_EXCEPT) => self.broadcast(at, kind, input),
            act::GROUP => self.group(at, input),
            act::ANSWER => self.answer(at, input),
            act::CANCEL => self.cancel(at, input.byte()),
            act::CLOSE => self.close(at, input),
            act::REDIRECT => self.redirect(at, input),
            act::DRAIN => self.begin_drain(at, input),
            act::ADMIT => self.admit(at, input.byte()),
            act::DELIVER => {
                for _ in 0..=(input.byte() & 15) {
                    self.deliver(at);
                }
            }
            act::LOSE => {
                let how = input.byte();
                let coming = &mut self.parties[at].coming;
                for _ in 0..=(how & 7) {
                    let Some(datagram) = coming.pop_front() else {
                        break;
                    };
                    match how >> 6 {
                        // Overtaken by all others, or doubled.
                        2 => coming.push_back(datagram),
                        3 => coming.extend([datagram.clone(), datagram]),
                        _ => {}
                    }
                }
            }
            act::JUNK => {
                let from = self.address(at, input.byte());
                let data = input.block().into();
                self.hand(at, from, data);
            }
            act::PASS => self.pass(Duration::from_millis(input.pick(&WAITS))),
            act::JUMP => {
                self.now += Duration::from_millis(input.pick(&WAITS));
                for at in 0..2 {
                    self.oracle.stalled(self.now, at);
                }
            }
            act::BACK => {
                // The node has seen the present before, or it would not be a step back for it.
                let now = self.now;
                self.parties[at].node.handle_input(now, NodeInput::Timeout);
                self.settle(at);
                let back = Duration::from_millis(input.pick(&WAITS[1..8]));
                let early = self.now.checked_sub(back).unwrap_or(self.now);
                self.parties[at]
                    .node
                    .handle_input(early, NodeInput::Timeout);
                self.settle(at);
            }
            act::TIMEOUT => {
                let now = self.now;
                self.parties[at].node.handle_input(now, NodeInput::Timeout);
                self.settle(at);
            }
            _ => {}
        }
    }

    /// Nothing was found so far, and promises are open to nodes that are to applications.
    fn assert_well(&self) {
        if let Some(violation) = self.oracle.violations().first() {
            panic!("{violation}");
        }
        for (at, party) in self.parties.iter().enumerate() {
            let held: usize = party.node.sessions().map(|info| info.promises).sum();
            let open = &party.open;
            assert_eq!(
                held,
                open.len(),
                "promises of node {at}, which made {open:?}"
            );
        }
    }

    /// Takes out what a node has to give.
    fn settle(&mut self, at: usize) {
        let (now, answers) = (self.now, self.answers);
        let Self {
            parties,
            oracle,
            reached,
            ..
        } = self;
        let [first, second] = parties;
        let (party, other) = if at == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let Party {
            node,
            sessions,
            ended,
            open,
            settled,
            owed,
            answered,
            cancelled,
            asking,
            tally,
            ..
        } = party;
        let mut on_event = |node: &mut Node, now: Instant, event: &Event| {
            oracle.event(now, at, event);
            reached.extend(told(event));
            tally.told(event);
            match event {
                Event::Connected { session, .. } if !sessions.contains(session) => {
                    sessions.push(*session);
                }
                Event::Closed { session, .. } => {
                    sessions.retain(|known| known != session);
                    owed.retain(|(key, ..)| key.session != *session);
                    ended.push(*session);
                }
                Event::SessionLost { session } => {
                    owed.retain(|(key, ..)| key.session != *session);
                }
                Event::Settled { promise, .. } => {
                    open.retain(|known| known != promise);
                    settled.push(*promise);
                }
                Event::Cancelled { delivery } => cancelled.push(*delivery),
                Event::Admission(request) => asking.push((request.link, request.client.clone())),
                Event::Message(delivery) if answers => {
                    if let Some(answer) = echo(node, now, delivery) {
                        answered.push(delivery.key);
                        oracle.answered(now, at, delivery.key, answer);
                    }
                }
                Event::Message(delivery) => {
                    owed.push((delivery.key, delivery.expects, delivery.body.clone()));
                }
                _ => {}
            }
        };
        let mut on_datagrams = |transmit: trunkline_core::Transmit, bytes: &[u8]| {
            if transmit.destination == other.address {
                let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
                let datagrams = bytes.chunks(size).map(|data| (now + DELAY, data.into()));
                other.coming.extend(datagrams);
            }
        };
        laws::drain(node, now, &mut on_event, &mut on_datagrams);
        oracle.look(now, at, node);
        oracle.count_refusals(now, at, node);
    }

    fn hand(&mut self, at: usize, remote: SocketAddr, data: BytesMut) {
        let now = self.now;
        let datagram = Datagram {
            remote,
            local_ip: None,
            ecn: None,
            data,
        };
        let node = &mut self.parties[at].node;
        node.handle_input(now, NodeInput::Datagram(datagram));
        self.settle(at);
    }

    fn deliver(&mut self, at: usize) {
        let from = self.parties[1 - at].address;
        if let Some((_, data)) = self.parties[at].coming.pop_front() {
            self.hand(at, from, data);
        }
    }

    /// Lets time pass: everything arrives, and every timeout is given, when it is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        loop {
            let wanted = self.parties.iter().enumerate().flat_map(|(at, party)| {
                let arrival = party.coming.iter().map(|(due, _)| *due).min();
                [
                    arrival.map(|due| (due, at, true)),
                    party.node.poll_timeout().map(|due| (due, at, false)),
                ]
            });
            // Who has spoken is not dead: datagrams come first.
            let next = wanted
                .flatten()
                .min_by_key(|(due, at, arrives)| (*due, !arrives, *at));
            let Some((due, at, arrives)) = next.filter(|(due, ..)| *due <= end) else {
                break;
            };
            steps = if due > self.now { 0 } else { steps + 1 };
            assert!(steps < 2_000, "{steps} steps without time advancing");
            self.now = self.now.max(due);
            if arrives {
                self.deliver(at);
            } else {
                let now = self.now;
                self.parties[at].node.handle_input(now, NodeInput::Timeout);
                self.settle(at);
                let node = &self.parties[at].node;
                let spins = node.poll_timeout().is_some_and(|due| due <= now);
                assert!(
                    !spins,
                    "node {at} wants a timeout just after one: {:?}",
                    node.timeout_reason()
                );
            }
        }
        self.now = end;
    }
}
