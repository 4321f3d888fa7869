//! Time in which nothing is asked of the endpoints, but they live on.

use std::time::{Duration, Instant};

use anyhow::Result;
use trunkline_core::{Event, Node};

use super::endpoint::Endpoint;
use super::ensure_intact;
use super::event_loop::{Application, Moment, run};

/// Lets the endpoints rest for so long.
pub fn rest(endpoints: &mut [Endpoint], time: Duration) -> Result<()> {
    let mut rest = Rest {
        until: Instant::now() + time,
        over: false,
    };
    run(endpoints, &mut rest)
}

struct Rest {
    until: Instant,
    over: bool,
}

impl Application for Rest {
    fn event(&mut self, _: usize, _: &mut Node, _: Moment, event: Event) -> Result<()> {
        ensure_intact(&event)
    }

    fn act(&mut self, _: usize, _: &mut Node, now: Instant) -> Result<()> {
        self.over = now >= self.until;
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        Some(self.until.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        self.over
    }
}
