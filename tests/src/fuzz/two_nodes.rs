//! Two nodes across a network that the input controls: see [`two_nodes`].

use std::time::{Duration, Instant};

use trunkline_core::{Config, Event, Lane, Outcome};

use crate::direction::{Cause, Fate};
use crate::swarm::{Plan, Ran, draw_settings, run_in};
use crate::world::NodeIndex;
use crate::{Certificates, Random, Traffic, World};

use super::input::Input;
use super::steps::{self, CLIENT, SERVER};
use super::{Reached, use_null_crypto};

pub(super) const FLOOR: &[&str] = &[
    "a datagram lost",
    "a datagram twice",
    "a datagram late",
    "a path cut",
    "nobody there",
    "a link broken",
    "a session resumed",
    "a session lost",
    "a session closed",
    "an ack",
    "a reply",
    "a rejection",
    "a promise timed out",
    "a promise cancelled",
    "a promise lost",
    "a best-effort message",
    "a redial",
    "a drain",
    "a cancel heard of",
    "a promise evicted",
    "a peer found dead",
    "a message that came back",
    "room again",
    "a full send buffer",
];

/// A server and a client, with null cryptography; what both applications ask of them and when, and
/// what becomes of every datagram, is the input's.
///
/// Then the network is left alone. All along, nodes keep the laws of their contract, and the
/// [oracle](crate::oracle) finds nothing; in the end both are connected, all is settled, and it can
/// be given up again without a trace.
///
/// The input: two bytes that say how the nodes are configured and how their applications decide, a
/// block of datagrams' fates, and what happens, as `steps` reads it.
pub fn two_nodes(data: &[u8]) -> Reached {
    let (plan, fates) = decode(data);
    let (ran, world) = run_plan(&plan, fates.clone());
    if let Some(said) = &ran.panicked {
        panic!("{said}\n{plan}fates: {fates:?}");
    }
    if let Some(violation) = ran.violations.first() {
        panic!("{violation}\n{plan}fates: {fates:?}");
    }
    reached(&ran.traffic, &world)
}

fn reached(traffic: &Traffic, world: &World) -> Reached {
    let mut reached = Reached::new();
    let mut count = |what, times: u64| {
        if times > 0 {
            reached.insert(what);
        }
    };
    count("a datagram lost", traffic.lost);
    count("a datagram twice", traffic.duplicated);
    count("a datagram late", traffic.reordered);
    count("a path cut", traffic.cut);
    count("nobody there", traffic.unreachable);
    count("a full send buffer", traffic.withheld);
    for node in [SERVER, CLIENT] {
        let log = world.log(NodeIndex(node));
        reached.extend(log.iter().filter_map(|(_, event)| told(event)));
    }
    reached
}

/// What has been reached where an application is told this.
pub(super) fn told(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Connected { resumed: true, .. } => "a session resumed",
        Event::Disconnected { .. } => "a link broken",
        Event::Reconnecting { .. } => "a redial",
        Event::SessionLost { .. } => "a session lost",
        Event::Closed { .. } => "a session closed",
        Event::HeartbeatTimeout { .. } => "a peer found dead",
        Event::Cancelled { .. } => "a cancel heard of",
        Event::Undelivered { .. } => "a message that came back",
        Event::Writable { .. } => "room again",
        Event::Drained { .. } => "a drain",
        Event::Message(delivery) if delivery.lane == Lane::BEST_EFFORT => "a best-effort message",
        Event::Settled { outcome, .. } => match outcome {
            Outcome::Acked => "an ack",
            Outcome::Replied { .. } => "a reply",
            Outcome::Rejected(_) => "a rejection",
            Outcome::TimedOut => "a promise timed out",
            Outcome::Cancelled => "a promise cancelled",
            Outcome::Evicted => "a promise evicted",
            Outcome::Lost { .. } => "a promise lost",
            _ => return None,
        },
        _ => return None,
    })
}

/// Plans of the swarm's, whole or their first steps, with fates from the same seeds.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let seed = |seed: u64| {
        let mut random = Random::new(seed);
        let mut plan = Plan::new(seed);
        plan.steps.truncate(random.pick(&[8, 16, 40, 64]));
        let mut out = (seed as u16).to_be_bytes().to_vec();
        let fates = random.pick(&[0, 10, 40, 200]);
        let share = random.pick(&[0.02, 0.1, 0.3]);
        out.push(fates);
        for _ in 0..fates {
            let harmed = random.chance(share);
            let fate = random.next_u64() as u8;
            out.push(if harmed { fate } else { 0 });
        }
        out.extend(steps::encode(&plan.steps));
        out
    };
    (0..400).map(seed).collect()
}

/// The plan that an input means, and the fates of its datagrams.
fn decode(data: &[u8]) -> (Plan, Vec<u8>) {
    let mut input = Input::new(data);
    let seed = input.short();
    let fates = input.block().to_vec();
    let [mut server, mut client] = draw_settings(&mut Random::new(seed.into()));
    for config in [&mut server, &mut client] {
        without_discovery(config);
        config.limits.half_open = config.limits.half_open.max(8);
        // More often, they are most of what is sent.
        config.heartbeat.interval = config.heartbeat.interval.max(Duration::from_secs(2));
    }
    let steps = steps::decode(&mut input);
    let plan = Plan {
        seed: seed.into(),
        servers: 1,
        clients: 1,
        server,
        client,
        asks: seed.is_multiple_of(5),
        converses: true,
        steps,
    };
    (plan, fates)
}

/// Padded probes would take most of a run's time, and nothing but QUIC sees them.
pub(super) fn without_discovery(config: &mut Config) {
    config.transport.mtu_discovery = false;
}

fn run_plan(plan: &Plan, fates: Vec<u8>) -> (Ran, World) {
    let mut world = null_world(plan.seed);
    world.path.delay = DELAY;
    world.steer(steering(fates));
    run_in(world, plan, None)
}

/// What a datagram takes that nothing is done to.
const DELAY: Duration = Duration::from_millis(5);

/// A world with null cryptography.
pub(super) fn null_world(seed: u64) -> World {
    use_null_crypto();
    World::with_certificates(seed, &certificates())
}

/// What nodes are given and null cryptography does not look at. Their making takes longer than most
/// runs.
pub(super) fn certificates() -> Certificates {
    thread_local! {
        static CERTIFICATES: Certificates =
            Certificates::new().expect("throwaway certificates can be made");
    }
    CERTIFICATES.with(Clone::clone)
}

/// Gives each datagram that gets through the next fate; those behind the last have none.
fn steering(fates: Vec<u8>) -> impl FnMut(Instant, Instant) -> Fate {
    let mut fates = fates.into_iter();
    move |now, at| fate(now, at, fates.next().unwrap_or(0))
}

/// What becomes of a datagram of now that would arrive at that time. The five low bits say what
/// happens, the others how much of it.
fn fate(now: Instant, at: Instant, byte: u8) -> Fate {
    let many = u32::from(byte >> 5) + 1;
    let arrives = |at: Instant, copy: Option<Instant>| Fate::Arrives {
        at,
        held_back: false,
        flipped: None,
        copy,
    };
    let late = |times: u32| Fate::Arrives {
        at: at + DELAY * many * times,
        held_back: true,
        flipped: None,
        copy: None,
    };
    match byte & 31 {
        1..6 => Fate::Dropped(Cause::Loss),
        6..9 => late(4),
        9..11 => late(40),
        11 => late(400),
        12..16 => arrives(at, Some(at + DELAY * many)),
        16 => arrives(at, Some(at + DELAY * many * 400)),
        17 => arrives(now + (at - now) / (many + 1), None),
        _ => arrives(at, None),
    }
}
