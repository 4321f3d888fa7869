//! `pipeline` and `rpc` at a rate: so many messages a second in all, one after the other from each
//! connection in turn, whatever has been answered.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use trunkline_core::{Event, Node, SessionKey};
use trunkline_testkit::peers::bare::{
    self, Application, Moment, Place, close, dial, ensure_intact,
};
use trunkline_testkit::peers::{Latencies, Measurement, Meter, Plan, Report};

use super::endpoints;
use super::load::{Kind, PATIENCE, note};

/// Connections that come up at a time.
const AT_ONCE: usize = 32;

pub(crate) fn run(plan: &Plan, rate: f64) -> Result<Report> {
    let mut endpoints = endpoints(plan.connect, plan.endpoints.min(plan.conns))?;
    let places = dial(plan.connect, &mut endpoints, plan.conns, AT_ONCE, note(16))?.places;
    let measurement = Measurement::start(plan);
    let mut paced = Paced::new(plan, rate, &measurement.meter, &places, endpoints.len());
    bare::run(&mut endpoints, &mut paced)?;
    let latencies = paced.kind.latencies;
    let window = measurement.finish()?;
    let report = Report::load(plan, &window, latencies, Latencies::default());
    close(&mut endpoints, &places)?;
    Ok(report)
}

/// The sessions of one endpoint, and its share of the messages.
#[derive(Default)]
struct Share {
    sessions: Vec<SessionKey>,
    sent: u64,
}

struct Paced<'a> {
    meter: &'a Meter,
    kind: Kind,
    began: Instant,
    /// Between two messages of one session.
    period: Duration,
    /// By endpoint.
    shares: Vec<Share>,
}

impl<'a> Paced<'a> {
    fn new(plan: &Plan, rate: f64, meter: &'a Meter, places: &[Place], endpoints: usize) -> Self {
        let mut shares: Vec<Share> = (0..endpoints).map(|_| Share::default()).collect();
        for place in places {
            shares[place.endpoint].sessions.push(place.session);
        }
        Self {
            meter,
            kind: Kind::small(plan),
            began: Instant::now(),
            period: Duration::from_secs_f64(places.len() as f64 / rate),
            shares,
        }
    }

    /// When an endpoint's next message is due: its sessions' lie evenly over their period, and its own
    /// among those of the other endpoints.
    fn due(&self, number: usize) -> Instant {
        let share = &self.shares[number];
        let own = share.sent as f64 + number as f64 / self.shares.len() as f64;
        self.began + self.period.mul_f64(own / share.sessions.len() as f64)
    }
}

impl Application for Paced<'_> {
    fn event(
        &mut self,
        _: usize,
        _: &mut Node,
        Moment { lag, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        let Event::Settled { outcome, after, .. } = event else {
            return ensure_intact(&event);
        };
        ensure!(
            self.kind.is_answered_by(&outcome),
            "a message was not answered as it should be: {outcome:?}"
        );
        let latency = self.meter.is_measuring().then(|| after + lag);
        self.kind.complete(latency);
        Ok(())
    }

    fn act(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()> {
        self.kind.count(self.meter);
        while self.due(number) <= now {
            let share = &mut self.shares[number];
            let turn = share.sent as usize % share.sessions.len();
            let mut due = 1;
            self.kind.send(node, now, share.sessions[turn], &mut due)?;
            ensure!(due == 0, "the rate is above what the server answers");
            share.sent += 1;
        }
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        let due = (0..self.shares.len()).map(|number| self.due(number)).min();
        let next = due.map(|due| due.saturating_duration_since(now));
        next.map(|next| next.min(PATIENCE))
    }

    fn is_done(&self) -> bool {
        self.meter.is_stopped()
    }
}
