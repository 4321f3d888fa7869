//! S3: the server is killed under all its clients, and comes back.

use std::time::{Duration, Instant};

use anyhow::Result;
use trunkline_core::{Config, Event, Node};
use trunkline_testkit::most_within;
use trunkline_testkit::peers::bare::{Application, Moment, rest, run as drive};

use super::arguments::{Engine, Restart};
use super::clients::{Clients, standing};
use super::server_process::{ServerProcess, Start, address_to_come_back_to};
use super::verdict::{Verdict, rounded};

/// How long the last client may take.
const BACK_MOST: Duration = Duration::from_secs(30);
/// Which share of all attempts may fall into one [`WINDOW`].
const CROWD_MOST: f64 = 0.02;
const WINDOW: Duration = Duration::from_millis(100);
/// Whoever is not back by then does not come.
const PATIENCE: Duration = Duration::from_secs(180);
/// What was left behind by the setting up is over by then.
const REST: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &Restart) -> Result<Verdict> {
    let engine = options.common.engine_or(Engine::Core);
    let mut start = Start::new(engine);
    start.listen = address_to_come_back_to();
    let server = ServerProcess::start(start)?;
    start.listen = server.address;
    let (config, connections) = (Config::default(), options.connections);
    let mut clients = Clients::connect(server.address, &config, connections, &options.common)?;
    rest(&mut clients.endpoints, REST)?;

    server.kill()?;
    let away = Instant::now() + options.away;
    let mut coming_back = ComingBack::new(connections, away);
    drive(&mut clients.endpoints, &mut coming_back)?;
    start.keys += u8::from(options.lose_keys);
    let server = ServerProcess::start(start)?;
    let returned = Instant::now();
    coming_back.wait_until(returned + PATIENCE);
    drive(&mut clients.endpoints, &mut coming_back)?;
    let standing = standing(server.address)?;

    let ComingBack {
        missing,
        mut back,
        attempts,
        sessions_lost,
        ..
    } = coming_back;
    back.sort_unstable();
    let after = |share: f64| {
        let rank = (back.len() as f64 * share) as usize;
        let at = back.get(rank).or(back.last());
        at.map_or(0.0, |at| (*at - returned).as_secs_f64())
    };
    let most_at_once = most_within(WINDOW, attempts.clone());
    let crowd = most_at_once as f64 / attempts.len().max(1) as f64;
    let most = BACK_MOST
        + if options.lose_keys {
            // Silence is all that they can go by.
            config.heartbeat.interval * config.heartbeat.misses
        } else {
            Duration::ZERO
        };
    let last = after(1.0);
    let verdict = Verdict::new("S3")
        .with("engine", engine.name())
        .with("connections", connections)
        .with("keys_kept", !options.lose_keys)
        .with("away_seconds", options.away.as_secs_f64())
        .count("not_back", missing as u64, 0)
        .count("connected", standing.connected - 1, u64::from(connections))
        .count("sessions_lost_told", sessions_lost, u64::from(connections))
        .with("half_back_after_seconds", rounded(after(0.5)))
        .with("nearly_all_back_after_seconds", rounded(after(0.99)))
        .check(
            "all_back_after_seconds",
            rounded(last),
            last <= most.as_secs_f64(),
            &format!("at most {}", most.as_secs()),
        )
        .with("attempts", attempts.len());
    Ok(verdict.check(
        "largest_share_of_attempts_in_100_ms",
        rounded(crowd),
        crowd <= CROWD_MOST || connections < 1_000,
        "at most 0.02",
    ))
}

struct ComingBack {
    /// Clients that are not back. All are still there as far as they know, but none is back.
    missing: usize,
    until: Instant,
    over: bool,
    /// When each came back.
    back: Vec<Instant>,
    /// When each dial begins.
    attempts: Vec<Instant>,
    sessions_lost: u64,
}

impl ComingBack {
    fn new(connections: u32, until: Instant) -> Self {
        Self {
            missing: connections as usize,
            until,
            over: false,
            back: Vec::new(),
            attempts: Vec::new(),
            sessions_lost: 0,
        }
    }

    fn wait_until(&mut self, until: Instant) {
        self.until = until;
        self.over = false;
    }
}

impl Application for ComingBack {
    fn event(
        &mut self,
        _: usize,
        _: &mut Node,
        Moment { now, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        match event {
            Event::Reconnecting { delay, .. } => self.attempts.push(now + delay),
            Event::SessionLost { .. } => self.sessions_lost += 1,
            Event::Connected { .. } => {
                self.missing = self.missing.saturating_sub(1);
                self.back.push(now);
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, _: usize, _: &mut Node, now: Instant) -> Result<()> {
        self.over = self.missing == 0 || now >= self.until;
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        Some(self.until.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        self.over
    }
}
