//! S4: first packets from forged addresses, beside clients that live and clients that come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use trunkline_core::{CloseCode, Config, Event, Node};
use trunkline_testkit::peers::bare::{Application, Moment, Place, dial_of, rest, run as drive};
use trunkline_testkit::peers::{Latencies, Snapshot, resident_kib};

use super::arguments::{Engine, Flood, Spoofed};
use super::clients::{Clients, standing};
use super::flood::FloodProcess;
use super::server_process::{ServerProcess, Start};
use super::verdict::{Verdict, rounded};

/// How long a client may take to get in, 99 times of 100.
const CONNECT_MOST_MS: f64 = 1_000.0;
/// How much the server may grow.
const GROWTH_MOST_KIB: u64 = 64 << 10;
/// Which share of the flood has to be sent for it to be one.
const SENT_LEAST: f64 = 0.99;
/// Which share of what the server was sent it has to have looked at. What a full socket has lost
/// cost it nothing.
const SEEN_LEAST: f64 = 0.9;
/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(250);
/// What was left behind by the setting up is over by then.
const REST: Duration = Duration::from_secs(2);
/// Whoever is not in so long after the flood does not come.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Spoofed) -> Result<Verdict> {
    let engine = options.common.engine_or(Engine::Core);
    let server = ServerProcess::start(Start::new(engine))?;
    let (config, connections) = (Config::default(), options.connections);
    let Clients {
        mut endpoints,
        places,
    } = Clients::connect(server.address, &config, connections, &options.common)?;
    rest(&mut endpoints, REST)?;
    let calm = standing(server.address)?;

    let flood = FloodProcess::start(&Flood {
        to: server.address,
        rate: options.rate,
        sources: options.sources,
        protocol: options.protocol.clone(),
        seed: options.seed,
    })?;
    let before = Snapshot::take(&[server.pid])?;
    let mut besieged = Besieged::new(&server, &places, endpoints.len(), before.at, options)?;
    drive(&mut endpoints, &mut besieged)?;
    let used = before.until(&Snapshot::take(&[server.pid])?);
    let flooded = flood.stop()?;
    besieged.close(Instant::now() + PATIENCE);
    drive(&mut endpoints, &mut besieged)?;
    let standing = standing(server.address)?;

    let accepted = standing.links_opened - calm.links_opened;
    let failed = standing.protocol_mismatches - calm.protocol_mismatches;
    let retried = standing.retried - calm.retried;
    let ignored = standing.ignored - calm.ignored;
    // Some of these are clients that came, a few in a hundred thousand.
    let seen = (accepted + failed + retried + ignored) as f64 / flooded.sent.max(1) as f64;
    let rate = flooded.sent as f64 / flooded.seconds;
    let false_timeouts = besieged.timeouts
        + besieged.broken.values().sum::<u64>()
        + (standing.heartbeat_timeouts - calm.heartbeat_timeouts)
        + (standing.sessions_resumed - calm.sessions_resumed);
    let [p50, p99, most] = besieged.connects.percentiles([50.0, 99.0, 100.0]);
    let growth = besieged.kib_most.saturating_sub(besieged.kib_before);
    Ok(Verdict::new("S4")
        .with("engine", engine.name())
        .with("connections", connections)
        .with("minutes", rounded(options.minutes.as_secs_f64() / 60.0))
        .with("sources", options.sources)
        .with("protocol", options.protocol.clone())
        .check(
            "spoofed_per_second",
            rounded(rate),
            rate >= SENT_LEAST * f64::from(options.rate),
            "what was asked for",
        )
        .check(
            "share_that_the_server_saw",
            rounded(seen),
            seen >= SEEN_LEAST,
            "at least 0.9",
        )
        .with("server_accepted", accepted)
        .with("server_failed", failed)
        .with("server_retried", retried)
        .with("server_ignored", ignored)
        .with("connects_begun", besieged.begun)
        .count("connects", besieged.connects.count() as u64, besieged.begun)
        .with("connect_p50_ms", rounded(p50 / 1e3))
        .check(
            "connect_p99_ms",
            rounded(p99 / 1e3),
            p99 / 1e3 < CONNECT_MOST_MS,
            "under 1000",
        )
        .with("connect_most_ms", rounded(most / 1e3))
        .with("dials_failed", besieged.dials_failed)
        .count("false_timeouts", false_timeouts, 0)
        .with("broken", json!(besieged.broken))
        .check(
            "server_growth_kib",
            growth,
            growth <= GROWTH_MOST_KIB,
            "at most 65536",
        )
        .with(
            "server_cpu_share",
            rounded(used.server.total / used.time.as_secs_f64()),
        ))
}

/// Clients that live on, clients that come, are let in and leave, and how large the server is.
struct Besieged<'a> {
    server: &'a ServerProcess,
    /// Those that live on.
    live: BTreeSet<Place>,
    sockets: u64,
    /// How many had come before.
    came_before: u64,
    interval: Duration,
    next: Instant,
    begun: u64,
    /// When each was dialled that is not in yet.
    under_way: BTreeMap<Place, Instant>,
    connects: Latencies,
    dials_failed: u64,
    /// Nobody comes any more.
    closing: bool,
    until: Instant,
    over: bool,
    /// Links of the living that ended, by why.
    broken: BTreeMap<String, u64>,
    timeouts: u64,
    next_sample: Instant,
    kib_before: u64,
    kib_most: u64,
}

impl<'a> Besieged<'a> {
    fn new(
        server: &'a ServerProcess,
        living: &[Place],
        sockets: usize,
        now: Instant,
        options: &Spoofed,
    ) -> Result<Self> {
        let kib = resident_kib(&[server.pid])?;
        Ok(Self {
            server,
            live: living.iter().copied().collect(),
            sockets: sockets as u64,
            came_before: living.len() as u64,
            interval: Duration::from_secs(1) / options.connects,
            next: now,
            begun: 0,
            under_way: BTreeMap::new(),
            connects: Latencies::default(),
            dials_failed: 0,
            closing: false,
            until: now + options.minutes,
            over: false,
            broken: BTreeMap::new(),
            timeouts: 0,
            next_sample: now,
            kib_before: kib,
            kib_most: kib,
        })
    }

    /// Nobody comes any more: until all who came are in.
    fn close(&mut self, until: Instant) {
        self.closing = true;
        self.until = until;
        self.over = false;
    }
}

impl Application for Besieged<'_> {
    fn event(
        &mut self,
        number: usize,
        node: &mut Node,
        Moment { now, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        let place = |session| Place {
            endpoint: number,
            session,
        };
        match event {
            Event::Connected { session, .. } => {
                if let Some(began) = self.under_way.remove(&place(session)) {
                    self.connects.push(now - began);
                    node.close(now, session, CloseCode::NORMAL, "")?;
                }
            }
            Event::Disconnected {
                session, reason, ..
            } => {
                if self.live.contains(&place(session)) {
                    *self.broken.entry(reason.to_string()).or_default() += 1;
                } else if self.under_way.contains_key(&place(session)) {
                    self.dials_failed += 1;
                }
            }
            Event::HeartbeatTimeout { .. } => self.timeouts += 1,
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()> {
        self.over = now >= self.until || (self.closing && self.under_way.is_empty());
        if now >= self.next_sample || self.over {
            self.kib_most = self.kib_most.max(resident_kib(&[self.server.pid])?);
            self.next_sample = now + SAMPLE;
        }
        // Sockets take turns.
        while !self.closing && now >= self.next && self.begun % self.sockets == number as u64 {
            let session = usize::try_from(self.came_before + self.begun)?;
            let session = node.connect(now, dial_of(self.server.address, number, session)?)?;
            let place = Place {
                endpoint: number,
                session,
            };
            self.under_way.insert(place, now);
            self.begun += 1;
            self.next += self.interval;
        }
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        let mut next = self.until.min(self.next_sample);
        if !self.closing {
            next = next.min(self.next);
        }
        Some(next.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        self.over
    }
}
