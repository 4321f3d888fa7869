//! S2: acked messages across forced reconnects.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use prost::Message as _;
use trunkline_core::{CommandError, Config, Event, Message, Node, Outcome, SendError, SessionKey};
use trunkline_testkit::peers::bare::{Application, Endpoint, Moment, Place, run as drive};

use super::arguments::{Engine, Reconnects};
use super::clients::{Clients, standing};
use super::messages::{Numbered, tag};
use super::server_process::{ServerProcess, Start};
use super::verdict::{Verdict, rounded};

/// The first redial follows after that.
const REDIAL: Duration = Duration::from_millis(50);
const REDIAL_MOST: Duration = Duration::from_secs(1);
/// Longer than any step takes: one that takes longer does not end.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(options: &Reconnects) -> Result<Verdict> {
    let engine = options.common.engine_or(Engine::Tokio);
    let mut start = Start::new(engine);
    start.heartbeat = options.heartbeat;
    let server = ServerProcess::start(start)?;
    let mut config = Config::default();
    config.heartbeat.interval = options.heartbeat;
    // What is cut off for long is late, and not lost: PATIENCE is what bounds it.
    config.timeouts.promise = Duration::ZERO;
    config.redial.first = REDIAL;
    config.redial.cap = REDIAL_MOST;
    let connections = options.connections;
    let Clients {
        mut endpoints,
        places,
    } = Clients::connect(server.address, &config, connections, &options.common)?;

    let begin = Instant::now();
    let mut sending = Sending::new(&places, options);
    let steps = u64::from(options.cuts) + 1;
    for step in 1..=steps {
        sending.allow(step, steps, options.window);
        // Not to their end: what is under way at a cut is what it is about.
        let enough = options.count * step / steps;
        sending.until(&mut endpoints, Goal::Acked(enough))?;
        if step == steps {
            break;
        }
        cut(&mut endpoints, true);
        sending.until(&mut endpoints, Goal::Linked(0))?;
        cut(&mut endpoints, false);
        sending.until(&mut endpoints, Goal::Linked(places.len()))?;
        sending.cuts += 1;
    }
    let took = Instant::now() - begin;
    let standing = standing(server.address)?;
    Ok(Verdict::new("S2")
        .with("engine", engine.name())
        .with("connections", connections)
        .with("seconds", rounded(took.as_secs_f64()))
        .count("cuts", sending.cuts, u64::from(options.cuts))
        .check(
            "links_resumed",
            sending.resumed,
            sending.resumed >= u64::from(options.cuts) * u64::from(connections),
            "at least one a cut and connection",
        )
        .count("sent", sending.sent, options.count)
        .count("acked", sending.acked, options.count)
        .count("settled_otherwise", sending.otherwise, 0)
        .count("sessions_lost", sending.sessions_lost, 0)
        .count("handled", standing.in_order, options.count)
        .count("handled_twice_or_late", standing.repeated, 0)
        .count("left_out", standing.skipped, 0)
        .with("duplicates_dropped", standing.duplicates_dropped))
}

fn cut(endpoints: &mut [Endpoint], cut: bool) {
    for endpoint in endpoints {
        endpoint.cut(cut);
    }
}

/// When a step is over.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// So many messages are acked.
    Acked(u64),
    /// So many sessions have a link.
    Linked(usize),
}

/// One session's messages.
struct Line {
    session: SessionKey,
    /// How many it is to send in all.
    quota: u64,
    /// How many it may send by now.
    allowed: u64,
    sent: u64,
    acked: u64,
    linked: bool,
}

struct Sending {
    /// By endpoint.
    lines: Vec<Vec<Line>>,
    /// Where a session stands in its endpoint's lines.
    index: BTreeMap<Place, usize>,
    window: u64,
    goal: Goal,
    deadline: Instant,
    late: bool,
    linked: usize,
    cuts: u64,
    sent: u64,
    acked: u64,
    resumed: u64,
    otherwise: u64,
    sessions_lost: u64,
}

impl Sending {
    fn new(places: &[Place], options: &Reconnects) -> Self {
        let sessions = places.len() as u64;
        let mut lines: Vec<Vec<Line>> = Vec::new();
        let mut index = BTreeMap::new();
        for (number, place) in places.iter().enumerate() {
            if lines.len() <= place.endpoint {
                lines.resize_with(place.endpoint + 1, Vec::new);
            }
            let lines = &mut lines[place.endpoint];
            index.insert(*place, lines.len());
            let one_more = u64::from((number as u64) < options.count % sessions);
            lines.push(Line {
                session: place.session,
                quota: options.count / sessions + one_more,
                allowed: 0,
                sent: 0,
                acked: 0,
                linked: true,
            });
        }
        Self {
            lines,
            index,
            window: options.window,
            goal: Goal::Acked(0),
            deadline: Instant::now(),
            late: false,
            linked: places.len(),
            cuts: 0,
            sent: 0,
            acked: 0,
            resumed: 0,
            otherwise: 0,
            sessions_lost: 0,
        }
    }

    /// Each session may send its share of what is due by this step, and a window more, so that there
    /// is something under way when the step is over.
    fn allow(&mut self, step: u64, steps: u64, window: u64) {
        for line in self.lines.iter_mut().flatten() {
            line.allowed = (line.quota * step / steps + window).min(line.quota);
        }
    }

    fn until(&mut self, endpoints: &mut [Endpoint], goal: Goal) -> Result<()> {
        self.goal = goal;
        self.deadline = Instant::now() + PATIENCE;
        drive(endpoints, self)?;
        ensure!(
            !self.late,
            "{goal:?} was not reached within {PATIENCE:?}: {} acked, {} linked, {} settled otherwise",
            self.acked,
            self.linked,
            self.otherwise
        );
        Ok(())
    }

    fn line(&mut self, endpoint: usize, session: SessionKey) -> Option<&mut Line> {
        let index = *self.index.get(&Place { endpoint, session })?;
        self.lines.get_mut(endpoint)?.get_mut(index)
    }

    fn reached(&self) -> bool {
        match self.goal {
            Goal::Acked(count) => self.acked >= count,
            Goal::Linked(count) => self.linked == count,
        }
    }
}

impl Application for Sending {
    fn event(&mut self, number: usize, _: &mut Node, _: Moment, event: Event) -> Result<()> {
        match event {
            Event::Settled {
                promise, outcome, ..
            } => {
                if let Some(line) = self.line(number, promise.session) {
                    line.acked += 1;
                }
                match outcome {
                    Outcome::Acked => self.acked += 1,
                    _ => self.otherwise += 1,
                }
            }
            Event::Connected {
                session, resumed, ..
            } => {
                self.resumed += u64::from(resumed);
                if let Some(line) = self.line(number, session)
                    && !std::mem::replace(&mut line.linked, true)
                {
                    self.linked += 1;
                }
            }
            Event::Disconnected { session, .. } => {
                if let Some(line) = self.line(number, session)
                    && std::mem::take(&mut line.linked)
                {
                    self.linked -= 1;
                }
            }
            Event::SessionLost { .. } => self.sessions_lost += 1,
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()> {
        self.late = now >= self.deadline;
        let Some(lines) = self.lines.get_mut(number) else {
            return Ok(());
        };
        for line in lines {
            while line.sent < line.allowed && line.sent - line.acked < self.window {
                let body = Numbered { number: line.sent }.encode_to_vec();
                let message = Message::new(tag::NUMBERED, body);
                match node.send_acked(now, line.session, message, None) {
                    Ok(_) => {}
                    // Every ack makes room.
                    Err(SendError {
                        error: CommandError::OutboxFull | CommandError::PromisesFull,
                        ..
                    }) => break,
                    Err(SendError { error, .. }) => return Err(error.into()),
                }
                line.sent += 1;
                self.sent += 1;
            }
        }
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        Some(self.deadline.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        self.late || self.reached()
    }
}
