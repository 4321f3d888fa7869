//! What a demonstration measures besides its books.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::ledger::Arrivals;

/// What was measured on the way.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// From asking to the reply, on the path before the cut.
    pub(crate) requests: Vec<Duration>,
    /// From sending to the ack, on the path before the cut.
    pub(crate) acks: Vec<Duration>,
    pub(crate) broadcasts: Broadcasts,
    pub(crate) cut: Option<Outage>,
    /// What went wrong, a sentence each.
    pub(crate) problems: Vec<String>,
}

/// Best effort, counted apart.
#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    /// Broadcasts so far; each one's number.
    pub(crate) calls: u64,
    /// Copies that were queued, one for each client with a link.
    pub(crate) queued: u64,
    /// Copies that nobody was there for.
    pub(crate) away: u64,
    /// Which of them went to the group.
    pub(crate) to_group: BTreeSet<u64>,
}

impl Broadcasts {
    /// How many of the group's a client has got that is not in it.
    pub(crate) fn strayed(&self, arrivals: &Arrivals) -> u64 {
        self.to_group
            .iter()
            .filter(|&&number| arrivals.has(number))
            .count() as u64
    }
}

/// The cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// How long the path was cut.
    pub(crate) length: Duration,
    /// Messages that were sent meanwhile, both ways.
    pub(crate) messages: u64,
    /// Messages that had arrived when it began, and whose acks were lost in it.
    pub(crate) unacked: u64,
    /// From the path's return until the last client was back.
    pub(crate) back_after: Option<Duration>,
    /// The longest wait of a message for its ack, the cut included.
    pub(crate) longest_ack: Duration,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// What half of them did not exceed.
    pub(crate) p50: f64,
    /// What 99 % of them did not exceed.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl Latency {
    /// Those of all these; zero if there are none.
    pub(crate) fn of(durations: &[Duration]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        // The nearest rank: the smallest one that so many do not exceed.
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            let duration = sorted.get(rank.saturating_sub(1));
            duration.map_or(0.0, |&duration| milliseconds(duration))
        };
        Self {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// With three digits behind the point, which is what a clock on a busy machine is good for.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// Likewise.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_members_at_the_nearest_rank() {
        let hundred: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(&hundred);
        assert_eq!(
            latency,
            Latency {
                p50: 50.0,
                p99: 99.0,
                max: 100.0
            }
        );
        let one = Latency::of(&[Duration::from_micros(1_500)]);
        assert_eq!((one.p50, one.p99, one.max), (1.5, 1.5, 1.5));
        assert_eq!(Latency::of(&[]), Latency::default());
    }

    #[test]
    fn a_broadcast_strays_only_if_it_was_the_groups() {
        let broadcasts = Broadcasts {
            to_group: BTreeSet::from([1, 2]),
            ..Broadcasts::default()
        };
        let mut arrivals = Arrivals::default();
        arrivals.note(3, true);
        assert_eq!(broadcasts.strayed(&arrivals), 0);
        arrivals.note(4, true);
        arrivals.note(2, true);
        assert_eq!(broadcasts.strayed(&arrivals), 1);
    }
}
