//! S7: connections that come and go.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use trunkline_core::{CloseCode, Config, Event, Node};
use trunkline_testkit::peers::bare::{Application, Moment, dial_of, rest, run as drive};
use trunkline_testkit::peers::{Snapshot, resident_kib};

use super::arguments::{Churn, Engine};
use super::clients::{endpoints, standing};
use super::server_process::{ServerProcess, Start};
use super::verdict::{Verdict, rounded};

/// By how much the server's memory may differ from what it was after a tenth.
const DIFFERENCE_MOST: f64 = 0.05;
/// QUIC remembers a closed connection for three probe timeouts.
const REST: Duration = Duration::from_secs(3);

pub(crate) fn run(options: &Churn) -> Result<Verdict> {
    let engine = options.common.engine_or(Engine::Core);
    let server = ServerProcess::start(Start::new(engine))?;
    let sockets = usize::from(options.common.sockets);
    let mut endpoints = endpoints(server.address, &Config::default(), sockets)?;
    let before = Snapshot::take(&[server.pid])?;
    let mut coming = ComingAndGoing {
        server: &server,
        count: options.count,
        each: (options.common.at_once as usize).div_ceil(sockets),
        begun: 0,
        closed: 0,
        broken: 0,
        under_way: vec![0; sockets],
        kib: Vec::new(),
    };
    drive(&mut endpoints, &mut coming)?;
    let used = before.until(&Snapshot::take(&[server.pid])?);
    let (broken, kib) = (coming.broken, coming.kib);
    rest(&mut endpoints, REST)?;
    let standing = standing(server.address)?;

    let now = Instant::now();
    let left: usize = endpoints
        .iter()
        .map(|endpoint| {
            let metrics = endpoint.node.metrics(now);
            metrics.sessions + (metrics.links_opened - metrics.links_closed) as usize
        })
        .sum();
    let (first, last) = (kib[0], kib[kib.len() - 1]);
    let difference = (last as f64 - first as f64) / first as f64;
    Ok(Verdict::new("S7")
        .with("engine", engine.name())
        .with("connections", options.count)
        .with("seconds", rounded(used.time.as_secs_f64()))
        .with(
            "connections_per_second",
            rounded(options.count as f64 / used.time.as_secs_f64()),
        )
        .count("broken", broken, 0)
        .count("server_sessions_left", standing.sessions - 1, 0)
        .count("server_links_left", standing.links - 1, 0)
        .count("client_sessions_and_links_left", left as u64, 0)
        .count(
            "server_sessions_opened",
            standing.sessions_opened - 1,
            options.count,
        )
        .with("server_kib_after_each_tenth", json!(kib))
        .check(
            "server_memory_difference",
            rounded(difference),
            difference.abs() <= DIFFERENCE_MOST,
            "within 0.05 of what it was after the first tenth",
        ))
}

struct ComingAndGoing<'a> {
    server: &'a ServerProcess,
    count: u64,
    /// Connections that each endpoint has under way at a time.
    each: usize,
    begun: u64,
    closed: u64,
    /// Links that ended otherwise.
    broken: u64,
    under_way: Vec<usize>,
    /// The server's memory after each tenth.
    kib: Vec<u64>,
}

impl Application for ComingAndGoing<'_> {
    fn event(
        &mut self,
        number: usize,
        node: &mut Node,
        Moment { now, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        match event {
            Event::Connected { session, .. } => {
                node.close(now, session, CloseCode::NORMAL, "")?;
            }
            Event::Disconnected { retained: true, .. } => self.broken += 1,
            Event::Closed { .. } => {
                self.under_way[number] -= 1;
                self.closed += 1;
                if self.closed * 10 >= self.count * (self.kib.len() as u64 + 1) {
                    self.kib.push(resident_kib(&[self.server.pid])?);
                    eprintln!("{} have come and gone", self.closed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()> {
        while self.under_way[number] < self.each && self.begun < self.count {
            let dial = dial_of(self.server.address, number, usize::try_from(self.begun)?)?;
            node.connect(now, dial)?;
            self.under_way[number] += 1;
            self.begun += 1;
        }
        Ok(())
    }

    fn patience(&self, _: Instant) -> Option<Duration> {
        None
    }

    fn is_done(&self) -> bool {
        self.closed == self.count
    }
}
