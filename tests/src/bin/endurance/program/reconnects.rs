//! S2: acked messages across forced reconnects.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use prost::Message as _;
use trunkline_core::{
    CommandError, Config, DisconnectReason, Event, Message, Node, Outcome, SendError, SessionKey,
};
use trunkline_testkit::peers::bare::{Application, Endpoint, Moment, Place, run as drive};

use super::arguments::{Engine, Reconnects};
use super::clients::{Clients, datagrams_lost, standing};
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
    // Cuts in which every link died of silence, and the links of all.
    let (mut cuts, mut killed) = (0, 0);
    let steps = u64::from(options.cuts) + 1;
    for step in 1..=steps {
        sending.allow(step, steps, options.window);
        // Not to their end: what is under way at a cut is what it is about.
        let enough = options.count * step / steps;
        sending.until(&mut endpoints, Goal::Acked(enough))?;
        if step == steps {
            break;
        }
        // A link that is down by itself is none that the cut could kill.
        sending.until(&mut endpoints, Goal::Linked(places.len()))?;
        let lost = datagrams_lost(&endpoints);
        cut(&mut endpoints, true);
        sending.silenced = 0;
        sending.until(&mut endpoints, Goal::Linked(0))?;
        cut(&mut endpoints, false);
        let lost = datagrams_lost(&endpoints) - lost;
        let all = sending.silenced == u64::from(connections);
        cuts += u64::from(all && lost > 0);
        killed += sending.silenced;
        sending.until(&mut endpoints, Goal::Linked(places.len()))?;
    }
    let links = u64::from(options.cuts) * u64::from(connections);
    let took = Instant::now() - begin;
    let standing = standing(server.address)?;
    Ok(Verdict::new("S2")
        .with("engine", engine.name())
        .with("connections", connections)
        .with("seconds", rounded(took.as_secs_f64()))
        .count("cuts", cuts, u64::from(options.cuts))
        .count("links_killed", killed, links)
        .check(
            "links_resumed",
            sending.resumed,
            sending.resumed >= links,
            "at least one a cut and connection",
        )
        .check(
            "server_links_resumed",
            standing.sessions_resumed,
            standing.sessions_resumed >= links,
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
    /// Links of this cut that ended for nothing but their peer's silence.
    silenced: u64,
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
            silenced: 0,
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

    /// A link has ended, or a dial.
    fn ended(&mut self, endpoint: usize, session: SessionKey, reason: &DisconnectReason) {
        if let Some(line) = self.line(endpoint, session)
            && std::mem::take(&mut line.linked)
        {
            self.linked -= 1;
            self.silenced += u64::from(*reason == DisconnectReason::HeartbeatTimeout);
        }
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
            Event::Disconnected {
                session, reason, ..
            } => self.ended(number, session, &reason),
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use trunkline_core::Key;

    use super::super::arguments::{Arguments, Figure};
    use super::*;

    #[test]
    fn a_cut_has_killed_the_links_that_died_of_silence_and_no_others() {
        let arguments = Arguments::parse_from(["endurance", "s2", "--count", "10"]);
        let Figure::S2(options) = arguments.figure else {
            panic!("{arguments:?}");
        };
        let sessions = [0, 1, 2].map(|slot| {
            SessionKey(Key {
                slot,
                generation: 0,
            })
        });
        let places = sessions.map(|session| Place {
            endpoint: 0,
            session,
        });
        let mut sending = Sending::new(&places, &options);
        let silence = DisconnectReason::HeartbeatTimeout;
        sending.ended(0, sessions[0], &silence);
        sending.ended(0, sessions[1], &DisconnectReason::Reset);
        assert_eq!((sending.linked, sending.silenced), (1, 1));
        // What follows are dials.
        sending.ended(0, sessions[0], &silence);
        sending.ended(0, sessions[1], &silence);
        assert_eq!((sending.linked, sending.silenced), (1, 1));
        sending.ended(0, sessions[2], &silence);
        assert_eq!((sending.linked, sending.silenced), (0, 2));
    }
}
