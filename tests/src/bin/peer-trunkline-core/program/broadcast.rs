//! `broadcast`: subscribers that count the events which the server sends to all of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use prost::Message as _;
use trunkline_core::{Event, Message, Node, Outcome, SendError};
use trunkline_testkit::peers::bare::{
    self, Application, Moment, Place, close, dial, ensure_intact, rest,
};
use trunkline_testkit::peers::{
    self, Broadcasting, Latencies, Plan, Report, Snapshot, Start, clock_ns, tag,
};

use super::endpoints;
use super::load::note;

/// Subscribers that connect at a time.
const AT_ONCE: usize = 32;

pub(crate) fn run(plan: &Plan) -> Result<Report> {
    let mut endpoints = endpoints(plan.connect, plan.endpoints.min(plan.conns))?;
    let control = dial(plan.connect, &mut endpoints[..1], 1, 1, note(16))?.places;
    let subscribe = Message::new(tag::SUBSCRIBE, Vec::new());
    let mut places = dial(plan.connect, &mut endpoints, plan.conns, AT_ONCE, subscribe)?.places;
    // Whatever the set-up left behind is to be over.
    rest(&mut endpoints, Duration::from_millis(500))?;

    let before = Snapshot::take(&plan.server_pids)?;
    let mut deliveries = Deliveries::new(plan, control[0], before.at);
    bare::run(&mut endpoints, &mut deliveries)?;
    let mut window = before.until(&Snapshot::take(&plan.server_pids)?);
    let Deliveries {
        came,
        total,
        latencies,
        ..
    } = deliveries;
    if came < total {
        bail!(
            "only {came} of {total} events came within {:?}",
            plan.duration
        );
    }
    window.messages = came;
    places.extend(control);
    close(&mut endpoints, &places)?;
    Ok(Report::broadcast(plan, Broadcasting { window, latencies }))
}

struct Deliveries {
    control: Place,
    /// What makes the server begin, until it is sent.
    start: Option<Start>,
    until: Instant,
    late: bool,
    total: u64,
    came: u64,
    /// Latencies mean something only where events are paced.
    paced: bool,
    latencies: Latencies,
}

impl Deliveries {
    fn new(plan: &Plan, control: Place, now: Instant) -> Self {
        let start = Start {
            events: plan.count,
            payload: plan.payload as u64,
            rate_hz: plan.rate.0.unwrap_or(0.0),
        };
        Self {
            control,
            start: Some(start),
            until: now + plan.duration,
            late: false,
            total: plan.conns as u64 * plan.count,
            came: 0,
            paced: plan.rate.0.is_some(),
            latencies: Latencies::default(),
        }
    }
}

impl Application for Deliveries {
    fn event(
        &mut self,
        _: usize,
        node: &mut Node,
        Moment { now, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        ensure_intact(&event)?;
        match event {
            Event::Message(delivery) if delivery.tag == tag::EVENT => {
                let event = peers::Event::decode(delivery.body)?;
                if self.paced {
                    let began = event
                        .began_ns()
                        .context("an event does not say when it began")?;
                    let latency = Duration::from_nanos(clock_ns()?.saturating_sub(began));
                    self.latencies.push(latency);
                }
                self.came += 1;
                node.ack(now, delivery.key)?;
            }
            Event::Settled { outcome, .. } if outcome != Outcome::Acked => {
                bail!("the server did not begin to broadcast: {outcome:?}")
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()> {
        self.late = now >= self.until;
        if number == self.control.endpoint
            && let Some(start) = self.start.take()
        {
            let message = Message::new(tag::START, start.encode_to_vec());
            node.send_acked(now, self.control.session, message, None)
                .map_err(|SendError { error, .. }| error)?;
        }
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        Some(self.until.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        self.late || self.came == self.total
    }
}
