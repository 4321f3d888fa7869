//! What a node did under two configurations.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::format::{Build, Ending};
use crate::node::Event;

/// What a recorded node did, and what it would have done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Comparison {
    /// With the configuration that it had.
    pub recorded: Timeline,
    /// With the other one.
    pub other: Timeline,
    /// What the recorded program was built from.
    pub recorded_by: Build,
    /// How the trace ends. What stands behind the last whole record of one that is cut short was not looked at.
    pub ending: Ending,
}

/// What a node did.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Its events, and how long after its origin each came.
    pub events: Vec<(Duration, Event)>,
    /// Links that it dialled.
    pub dialled: u64,
    /// Of these, how many more than were recorded: nobody answered them.
    pub unanswered: u64,
    /// Links that peers began.
    pub accepted: u64,
    /// Control and lane writes.
    pub writes: u64,
}

impl Comparison {
    /// The place of the first event that differs in kind, time, or content (of bodies, the lengths).
    pub fn first_difference(&self) -> Option<usize> {
        let (one, other) = (&self.recorded.events, &self.other.events);
        let same = one
            .iter()
            .zip(other)
            .take_while(|((at, one), (when, other))| {
                at == when && one.name() == other.name() && one.head_digest() == other.head_digest()
            });
        let same = same.count();
        (same < one.len().max(other.len())).then_some(same)
    }
}

impl Timeline {
    /// How many events of each kind there were.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for (_, event) in &self.events {
            *counts.entry(event.name()).or_default() += 1;
        }
        counts
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            events,
            dialled,
            unanswered,
            accepted,
            writes,
        } = self;
        write!(
            f,
            "{} events, {dialled} links dialled, {accepted} accepted, {writes} writes",
            events.len()
        )?;
        match unanswered {
            0 => Ok(()),
            more => write!(
                f,
                "; {more} more links than were recorded, which nobody answered"
            ),
        }
    }
}
