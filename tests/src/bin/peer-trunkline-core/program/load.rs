//! `pipeline`, `bulk`, `rpc` and `mixed`: whatever is answered is sent again, all that a turn has
//! brought at once.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use prost::Message as _;
use trunkline_core::{CommandError, Event, Message, Node, Outcome, SendError, SessionKey};
use trunkline_testkit::peers::bare::{
    self, Application, Moment, Place, close, dial, ensure_intact,
};
use trunkline_testkit::peers::{
    Counter, Echo, Latencies, Measurement, Meter, Note, Plan, Report, Workload, note_lane, tag,
};

use super::endpoints;

/// How often it is looked whether the window is over, should nothing happen.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

pub(crate) fn run(plan: &Plan) -> Result<Report> {
    let mut endpoints = endpoints(plan.connect, plan.conns)?;
    let places = dial(plan.connect, &mut endpoints, plan.conns, 1, note(16))?.places;
    let measurement = Measurement::start(plan);
    let mut load = Load::new(plan, &measurement.meter, &places);
    bare::run(&mut endpoints, &mut load)?;
    let (latencies, bulk_latencies) = (load.small.latencies, load.bulk.latencies);
    let window = measurement.finish()?;
    let report = Report::load(plan, &window, latencies, bulk_latencies);
    let report = endpoints[0].counted(report);
    close(&mut endpoints, &places)?;
    Ok(report)
}

/// An acked message with a payload of that size.
pub(crate) fn note(payload: usize) -> Message {
    let payload = Bytes::from(vec![0x5a; payload]);
    let lane = note_lane(payload.len());
    Message::new(tag::NOTE, Note { payload }.encode_to_vec()).on(lane)
}

fn echo(payload: usize) -> Message {
    let payload = Bytes::from(vec![0x5a; payload]);
    Message::new(tag::ECHO, Echo { payload }.encode_to_vec())
}

/// One kind of message, encoded once.
pub(super) struct Kind {
    message: Message,
    is_request: bool,
    counter: Counter,
    pub(super) latencies: Latencies,
    /// Completed in this turn, and not yet given to the meter.
    completed: u64,
}

impl Kind {
    fn new(message: Message, is_request: bool, counter: Counter) -> Self {
        Self {
            message,
            is_request,
            counter,
            latencies: Latencies::default(),
            completed: 0,
        }
    }

    /// What a workload's small messages are; all there are but in `mixed`.
    pub(super) fn small(plan: &Plan) -> Self {
        let is_request = matches!(plan.workload, Workload::Rpc | Workload::Mixed);
        let message = if is_request { echo } else { note };
        Self::new(message(plan.payload), is_request, Counter::Messages)
    }

    /// Whether that is the answer which such a message is to have.
    pub(super) fn is_answered_by(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Replied { body, .. } => {
                self.is_request && body.len() == self.message.body.len()
            }
            Outcome::Acked => !self.is_request,
            _ => false,
        }
    }

    /// Gives the meter what was completed since.
    pub(super) fn count(&mut self, meter: &Meter) {
        if self.completed > 0 {
            meter.add(self.counter, std::mem::take(&mut self.completed));
        }
    }

    pub(super) fn complete(&mut self, latency: Option<Duration>) {
        self.completed += 1;
        if let Some(latency) = latency {
            self.latencies.push(latency);
        }
    }

    /// Sends as many as `due` says; stops where the node has no room for more.
    pub(super) fn send(
        &self,
        node: &mut Node,
        now: Instant,
        session: SessionKey,
        due: &mut usize,
    ) -> Result<()> {
        while *due > 0 {
            let message = self.message.clone();
            let sent = if self.is_request {
                node.request(now, session, message, None)
            } else {
                node.send_acked(now, session, message, None)
            };
            match sent {
                Ok(_) => *due -= 1,
                // Every answer makes room, and brings the next turn.
                Err(SendError {
                    error: CommandError::OutboxFull | CommandError::PromisesFull,
                    ..
                }) => return Ok(()),
                Err(SendError { error, .. }) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The session of one endpoint, and what is not in flight there but should be.
struct Line {
    session: SessionKey,
    small_due: usize,
    bulk_due: usize,
}

struct Load<'a> {
    meter: &'a Meter,
    small: Kind,
    /// The large messages beside the small ones, in `mixed` alone.
    bulk: Kind,
    /// By endpoint.
    lines: Vec<Line>,
}

impl<'a> Load<'a> {
    fn new(plan: &Plan, meter: &'a Meter, places: &[Place]) -> Self {
        let mixed = plan.workload == Workload::Mixed;
        let bulk_window = if mixed { plan.bulk_window } else { 0 };
        let mut places = places.to_vec();
        places.sort_unstable();
        Self {
            meter,
            small: Kind::small(plan),
            bulk: Kind::new(note(plan.bulk_payload), false, Counter::Bulk),
            lines: places
                .iter()
                .map(|place| Line {
                    session: place.session,
                    small_due: plan.concurrency,
                    bulk_due: bulk_window,
                })
                .collect(),
        }
    }
}

impl Application for Load<'_> {
    fn event(
        &mut self,
        number: usize,
        _: &mut Node,
        Moment { lag, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        let Event::Settled { outcome, after, .. } = event else {
            return ensure_intact(&event);
        };
        let latency = self.meter.is_measuring().then(|| after + lag);
        let line = &mut self.lines[number];
        match outcome {
            answer if self.small.is_answered_by(&answer) => {
                line.small_due += 1;
                self.small.complete(latency);
            }
            Outcome::Acked => {
                line.bulk_due += 1;
                self.bulk.complete(latency);
            }
            Outcome::Replied { body, .. } => bail!("a reply has {} bytes", body.len()),
            other => bail!("a message was not answered: {other:?}"),
        }
        Ok(())
    }

    fn act(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()> {
        self.small.count(self.meter);
        self.bulk.count(self.meter);
        let line = &mut self.lines[number];
        self.small
            .send(node, now, line.session, &mut line.small_due)?;
        self.bulk.send(node, now, line.session, &mut line.bulk_due)
    }

    fn patience(&self, _: Instant) -> Option<Duration> {
        Some(PATIENCE)
    }

    fn is_done(&self) -> bool {
        self.meter.is_stopped()
    }
}
