//! Saying good-bye, so that the server need not wait for anybody to come back.

use std::time::{Duration, Instant};

use anyhow::Result;
use trunkline_core::{CloseCode, Event, Node};

use super::Place;
use super::endpoint::Endpoint;
use super::event_loop::{Application, Moment, run};

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Closes the sessions. The measurement is over: one that does not close in time does not matter.
pub fn close(endpoints: &mut [Endpoint], places: &[Place]) -> Result<()> {
    let now = Instant::now();
    for place in places {
        let node = &mut endpoints[place.endpoint].node;
        node.close(now, place.session, CloseCode::NORMAL, "measured")?;
    }
    let mut closing = Closing {
        open: places.len(),
        until: now + PATIENCE,
        over: false,
    };
    run(endpoints, &mut closing)
}

struct Closing {
    open: usize,
    until: Instant,
    over: bool,
}

impl Application for Closing {
    fn event(&mut self, _: usize, _: &mut Node, _: Moment, event: Event) -> Result<()> {
        self.open -= usize::from(matches!(event, Event::Closed { .. }));
        Ok(())
    }

    fn act(&mut self, _: usize, _: &mut Node, now: Instant) -> Result<()> {
        self.over = self.open == 0 || now >= self.until;
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        Some(self.until.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        self.over
    }
}
