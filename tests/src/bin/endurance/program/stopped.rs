//! S6: clients that stop reading a broadcast, beside others that go on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use serde_json::{Value, json};
use trunkline_core::{CommandError, Config, Event, Node, SessionKey};
use trunkline_testkit::peers::bare::{Application, Endpoint, Moment, run as drive};
use trunkline_testkit::peers::{self, Latencies, Snapshot, clock_ns, resident_kib, tag};

use super::arguments::{Engine, Policy, Stopped};
use super::clients::{Clients, standing, told_slow};
use super::messages::Slow;
use super::server_process::{ServerProcess, Start};
use super::verdict::{Verdict, rounded};

/// How soon the server has to do something about who has stopped.
const APPLIED_MOST: Duration = Duration::from_secs(2);
/// How much longer the others' 99th percentile may become.
const MOVED_MOST: f64 = 0.2;
/// What was left behind by the setting up, or by those who read again, is over by then, or after the
/// time that is measured if that is shorter.
const REST: Duration = Duration::from_secs(3);
/// A broadcast that took no longer has not waited for anybody.
const NEW: Duration = Duration::from_millis(500);
/// Whoever gets nothing new until then does not get it.
const PATIENCE: Duration = Duration::from_secs(60);

const POLICIES: [Policy; 4] = [
    Policy::DropNewest,
    Policy::DropOldest,
    Policy::KeepLatest,
    Policy::Disconnect,
];

pub(crate) fn run(options: &Stopped) -> Result<Verdict> {
    ensure!(
        options.stopped < options.connections,
        "--stopped {} leaves nobody who reads: give less than --connections {}",
        options.stopped,
        options.connections
    );
    let engine = options.common.engine_or(Engine::Core);
    let mut verdict = Verdict::new("S6")
        .with("engine", engine.name())
        .with("connections", options.connections)
        .with("stopped", options.stopped)
        .with("broadcasts_per_second", options.broadcasts.rate)
        .with("payload", options.broadcasts.payload)
        .with("queue", options.broadcasts.queue);
    for policy in POLICIES {
        if options.policy.is_none_or(|only| only == policy) {
            let found = under(policy, engine, options)?;
            verdict = found.judged(verdict, policy, options);
        }
    }
    Ok(verdict)
}

/// What was found under one policy, in all rounds.
struct Found {
    /// How long all read together.
    reading: Latencies,
    /// The same clients, while others do not read.
    beside: Latencies,
    /// How long it took until each of those that stopped was found slow.
    applied: Vec<Duration>,
    /// How often readers were found slow while others did not read.
    readers_slow: u64,
    /// Links of readers that ended at any time, by why.
    readers_broken: BTreeMap<String, u64>,
    dropped: u64,
    closed_as_slow: u64,
    growth_kib: u64,
    server_cpu_share: f64,
    client_cpu_share: f64,
}

fn under(policy: Policy, engine: Engine, options: &Stopped) -> Result<Found> {
    let mut start = Start::new(engine);
    start.broadcasts = Some((options.broadcasts, policy));
    let server = ServerProcess::start(start)?;
    let config = Config::default();
    let connect =
        |connections, common| Clients::connect(server.address, &config, connections, &common);
    let readers = options.connections - options.stopped;
    let mut endpoints = connect(readers, options.common)?.endpoints;
    let readers = endpoints.len();
    let stopping = connect(options.stopped, options.common.with_sockets(1))?;
    endpoints.extend(stopping.endpoints);
    let sessions = stopping.places.iter().map(|place| place.session);
    let mut listening = Listening::new(readers, sessions.collect(), options.time.min(REST));
    let stopping = endpoints[readers].local_address()?;

    listening.rest(&mut endpoints)?;
    let kib_before = resident_kib(&[server.pid])?;
    let before = Snapshot::take(&[server.pid])?;
    let mut found = Found {
        reading: Latencies::default(),
        beside: Latencies::default(),
        applied: Vec::new(),
        readers_slow: 0,
        readers_broken: BTreeMap::new(),
        dropped: 0,
        closed_as_slow: 0,
        growth_kib: 0,
        server_cpu_share: 0.0,
        client_cpu_share: 0.0,
    };
    let mut stops = Vec::new();
    for _ in 0..options.rounds {
        let reading = listening.listen(&mut endpoints, options.time)?;
        found.reading.merge(reading);
        let stop_ns = clock_ns()?;
        let beside = listening.listen(&mut endpoints[..readers], options.time)?;
        found.beside.merge(beside);
        stops.push(stop_ns..clock_ns()?);
        let kib = resident_kib(&[server.pid])?;
        found.growth_kib = found.growth_kib.max(kib.saturating_sub(kib_before));
        listening.rest(&mut endpoints)?;
    }
    let used = before.until(&Snapshot::take(&[server.pid])?);
    let seconds = used.time.as_secs_f64();
    found.server_cpu_share = used.server.total / seconds;
    found.client_cpu_share = used.client.total / seconds;
    // Only now: nobody listens meanwhile.
    let told = told_slow(server.address)?;
    for stop in stops {
        found.count(&told.slow, stop, stopping)?;
    }
    let standing = standing(server.address)?;
    found.readers_broken = listening.broken;
    found.dropped = standing.best_effort_dropped;
    found.closed_as_slow = standing.closed_as_slow;
    Ok(found)
}

impl Found {
    /// Counts who was found slow in that time.
    fn count(&mut self, slow: &[Slow], stop: Range<u64>, stopping: SocketAddr) -> Result<()> {
        for Slow { client, at_ns } in slow.iter().filter(|slow| stop.contains(&slow.at_ns)) {
            let client: SocketAddr = client.parse().context("an address that is none")?;
            if client == stopping {
                self.applied.push(Duration::from_nanos(at_ns - stop.start));
            } else {
                self.readers_slow += 1;
            }
        }
        Ok(())
    }

    fn judged(mut self, verdict: Verdict, policy: Policy, options: &Stopped) -> Verdict {
        let name = |what: &str| format!("{} {what}", policy.name());
        let wanted = u64::from(options.stopped) * u64::from(options.rounds);
        let last = self.applied.iter().max().copied().unwrap_or_default();
        let p99 = |latencies: &mut Latencies| latencies.percentiles([99.0])[0] / 1e3;
        let (reading, beside) = (p99(&mut self.reading), p99(&mut self.beside));
        let moved = beside / reading - 1.0;
        let closed = if policy == Policy::Disconnect {
            wanted
        } else {
            0
        };
        let broken = self.readers_broken.values().sum::<u64>();
        let more: [(&str, Value); 8] = [
            (
                "deliveries",
                json!(self.reading.count() + self.beside.count()),
            ),
            ("p99_ms_all_read", json!(rounded(reading))),
            ("p99_ms_some_do_not", json!(rounded(beside))),
            ("readers_broken", json!(self.readers_broken)),
            ("dropped", json!(self.dropped)),
            ("server_growth_kib", json!(self.growth_kib)),
            ("server_cpu_share", json!(rounded(self.server_cpu_share))),
            ("client_cpu_share", json!(rounded(self.client_cpu_share))),
        ];
        more.into_iter()
            .fold(verdict, |verdict, (what, value)| {
                verdict.with(&name(what), value)
            })
            .count(&name("found_slow"), self.applied.len() as u64, wanted)
            .check(
                &name("last_found_slow_after_seconds"),
                rounded(last.as_secs_f64()),
                last <= APPLIED_MOST,
                "at most 2",
            )
            .count(&name("links_closed"), self.closed_as_slow, closed)
            .count(&name("readers_found_slow"), self.readers_slow, 0)
            .count(&name("readers_links_ended"), broken, 0)
            .check(
                &name("p99_moved_by"),
                rounded(moved),
                moved < MOVED_MOST,
                "under 0.2",
            )
    }
}

/// Takes what is broadcast, and measures how long it was under way.
struct Listening {
    /// Endpoints that never stop.
    readers: usize,
    /// Sessions of the one that does.
    stopping: Vec<SessionKey>,
    /// Those among them that have got nothing new since they read again.
    behind: BTreeSet<SessionKey>,
    rest: Duration,
    /// Links of readers that ended, by why.
    broken: BTreeMap<String, u64>,
    latencies: Latencies,
    until: Instant,
    /// Until when nobody may be behind any more, if that is waited for.
    back_by: Option<Instant>,
    over: bool,
}

impl Listening {
    fn new(readers: usize, stopping: Vec<SessionKey>, rest: Duration) -> Self {
        Self {
            readers,
            stopping,
            behind: BTreeSet::new(),
            rest,
            broken: BTreeMap::new(),
            latencies: Latencies::default(),
            until: Instant::now(),
            back_by: None,
            over: false,
        }
    }

    /// How long broadcasts take to the readers, in so much time.
    fn listen(&mut self, endpoints: &mut [Endpoint], time: Duration) -> Result<Latencies> {
        self.latencies = Latencies::default();
        self.until = Instant::now() + time;
        self.back_by = None;
        self.over = false;
        drive(endpoints, self)?;
        Ok(std::mem::take(&mut self.latencies))
    }

    /// Lets what has piled up go by, until all get again what is new.
    fn rest(&mut self, endpoints: &mut [Endpoint]) -> Result<()> {
        let now = Instant::now();
        self.behind = self.stopping.iter().copied().collect();
        self.until = now + self.rest;
        self.back_by = Some(now + PATIENCE);
        self.over = false;
        drive(endpoints, self)?;
        let behind = self.behind.len();
        ensure!(behind == 0, "{behind} clients that read again get nothing");
        Ok(())
    }
}

impl Application for Listening {
    fn event(
        &mut self,
        number: usize,
        node: &mut Node,
        Moment { now, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        match event {
            Event::Message(delivery) if delivery.tag == tag::EVENT => {
                let event = peers::Event::decode(delivery.body)?;
                let began = event
                    .began_ns()
                    .context("a broadcast does not say when it began")?;
                let took = Duration::from_nanos(clock_ns()?.saturating_sub(began));
                if number < self.readers {
                    self.latencies.push(took);
                } else if took < NEW {
                    self.behind.remove(&delivery.key.session);
                }
                match node.ack(now, delivery.key) {
                    // Its session may have ended meanwhile.
                    Ok(()) | Err(CommandError::UnknownDelivery) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Event::Disconnected { reason, .. } if number < self.readers => {
                *self.broken.entry(reason.to_string()).or_default() += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, _: usize, _: &mut Node, now: Instant) -> Result<()> {
        let settled = |back_by| self.behind.is_empty() || now >= back_by;
        self.over = now >= self.until && self.back_by.is_none_or(settled);
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        let next = if now < self.until {
            Some(self.until)
        } else {
            self.back_by
        };
        next.map(|at| at.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        self.over
    }
}
