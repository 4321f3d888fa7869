//! S1: many connections over a path that loses datagrams in bursts.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use trunkline_core::{Config, Event, Node};
use trunkline_testkit::Path;
use trunkline_testkit::peers::bare::{Application, Moment, rest, run as drive};
use trunkline_testkit::peers::{Snapshot, resident_kib};

use super::arguments::{Engine, Lossy};
use super::clients::{Clients, datagrams, datagrams_lost, standing};
use super::server_process::{ServerProcess, Start};
use super::verdict::{Verdict, rounded};

/// What a connection may cost the server.
const KIB_MOST: f64 = 30.0;
/// How much the server may grow once a fifth of the time is over.
const GROWTH_MOST_KIB: i64 = 1_024;
/// How many datagrams get lost in a row, on average.
const BURST: f64 = 3.0;
/// How many standard deviations chance is allowed.
const SIGMAS: f64 = 5.0;
/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_secs(5);
/// What was left behind by the setting up is over by then.
const REST: Duration = Duration::from_secs(2);

pub(crate) fn run(options: &Lossy) -> Result<Verdict> {
    let engine = options.common.engine_or(Engine::Core);
    let server = ServerProcess::start(Start::new(engine))?;
    let kib_before = resident_kib(&[server.pid])?;
    let (config, connections) = (Config::default(), options.connections);
    let mut clients = Clients::connect(server.address, &config, connections, &options.common)?;
    rest(&mut clients.endpoints, REST)?;

    let path = Path {
        loss: options.loss,
        burst: Some(BURST),
        ..Path::default()
    };
    for (number, endpoint) in clients.endpoints.iter_mut().enumerate() {
        endpoint.impair(path, options.seed.wrapping_add(number as u64));
    }
    let before = Snapshot::take(&[server.pid])?;
    let mut watch = Watch::new(server.pid, before.at, options.minutes);
    drive(&mut clients.endpoints, &mut watch)?;
    let used = before.until(&Snapshot::take(&[server.pid])?);
    let standing = standing(server.address)?;

    // Links that come back after a false timeout count as well as those that are gone.
    let false_timeouts = watch.timeouts
        + watch.broken.values().sum::<u64>()
        + standing.heartbeat_timeouts
        + standing.sessions_resumed;
    let (settled, most, last) = watch.memory(options.minutes / 5);
    let kib = (most as f64 - kib_before as f64) / f64::from(connections);
    let growth = last as i64 - settled as i64;
    let (met, lost) = (
        datagrams(&clients.endpoints),
        datagrams_lost(&clients.endpoints),
    );
    let due = losses(met, options.loss);
    Ok(Verdict::new("S1")
        .with("engine", engine.name())
        .with("connections", connections)
        .with("minutes", options.minutes.as_secs_f64() / 60.0)
        .with("loss", options.loss)
        .with("datagrams", met)
        .with("seed", options.seed)
        .count("false_timeouts", false_timeouts, 0)
        .with("broken", json!(watch.broken))
        .count("connected", standing.connected - 1, u64::from(connections))
        .check(
            "server_kib_per_connection",
            rounded(kib),
            kib <= KIB_MOST,
            "at most 30",
        )
        .check(
            "server_growth_kib",
            growth,
            growth < GROWTH_MOST_KIB,
            "under 1024 over the last four fifths",
        )
        .check(
            "datagrams_lost",
            lost,
            due.contains(&lost),
            &format!("{} to {}", due.start(), due.end()),
        )
        .with(
            "server_cpu_share",
            rounded(used.server.total / used.time.as_secs_f64()),
        ))
}

/// How many of so many datagrams may have got lost: the share that is due, more or less by chance, which bursts
/// make larger. At least one in any case, or nobody has seen a loss.
fn losses(datagrams: u64, loss: f64) -> RangeInclusive<u64> {
    let due = datagrams as f64 * loss;
    // Whether one is lost goes with whether the one before it was, less so with those further away.
    let worsens = loss / (BURST * (1.0 - loss));
    let goes_with = (1.0 - 1.0 / BURST - worsens).clamp(0.0, 1.0);
    let variance = due * (1.0 - loss) * (1.0 + goes_with) / (1.0 - goes_with);
    // Each path begins without a loss, and a burst more or less is no finding.
    let slack = SIGMAS * variance.sqrt() + BURST;
    let least = (due - slack).floor().max(1.0) as u64;
    least..=(due + slack).ceil() as u64
}

/// Sees what breaks, and how large the server is.
struct Watch {
    server: i32,
    start: Instant,
    until: Instant,
    over: bool,
    /// Links that ended, by why.
    broken: BTreeMap<String, u64>,
    /// Servers that were found dead.
    timeouts: u64,
    next_sample: Instant,
    /// When, and how many KiB.
    samples: Vec<(Duration, u64)>,
}

impl Watch {
    fn new(server: i32, start: Instant, length: Duration) -> Self {
        Self {
            server,
            start,
            until: start + length,
            over: false,
            broken: BTreeMap::new(),
            timeouts: 0,
            next_sample: start,
            samples: Vec::new(),
        }
    }

    /// The server's memory in KiB: after that time, at its most, and at the end.
    fn memory(&self, settled: Duration) -> (u64, u64, u64) {
        let mut after = self.samples.iter().filter(|(at, _)| *at >= settled);
        let last = self.samples.last().map_or(0, |(_, kib)| *kib);
        let settled = after.next().map_or(last, |(_, kib)| *kib);
        let most = self.samples.iter().map(|(_, kib)| *kib).max();
        (settled, most.unwrap_or_default(), last)
    }
}

impl Application for Watch {
    fn event(&mut self, _: usize, _: &mut Node, _: Moment, event: Event) -> Result<()> {
        match event {
            Event::Disconnected { reason, .. } => {
                *self.broken.entry(reason.to_string()).or_default() += 1;
            }
            Event::HeartbeatTimeout { .. } => self.timeouts += 1,
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, _: usize, _: &mut Node, now: Instant) -> Result<()> {
        self.over = now >= self.until;
        if now >= self.next_sample || self.over {
            self.samples
                .push((now - self.start, resident_kib(&[self.server])?));
            self.next_sample = now + SAMPLE;
        }
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        let next = self.until.min(self.next_sample);
        Some(next.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_datagrams_get_lost_as_are_to() {
        let due = losses(1_000_000, 0.02);
        assert!((18_000..19_500).contains(due.start()), "{due:?}");
        assert!((20_500..22_000).contains(due.end()), "{due:?}");
        assert!(!due.contains(&0));
        // Of few, it may be any number but none.
        assert_eq!(*losses(100, 0.02).start(), 1);
        assert!(!losses(100, 0.02).contains(&50));
        assert!(losses(0, 0.02).start() > &0, "nothing was lost of nothing");
        // Whoever asks for no losses has none.
        assert!(!losses(1_000_000, 0.0).contains(&0));
    }

    #[test]
    fn memory_is_that_of_the_right_moments() {
        let mut watch = Watch::new(1, Instant::now(), Duration::from_secs(10));
        let sample = |second, kib| (Duration::from_secs(second), kib);
        watch.samples = vec![
            sample(0, 100),
            sample(3, 170),
            sample(6, 160),
            sample(9, 165),
        ];
        assert_eq!(watch.memory(Duration::from_secs(5)), (160, 170, 165));
    }
}
