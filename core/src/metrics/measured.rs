//! What several nodes of one server counted and measured, as if they were one.

use super::latency::Latency;
use super::{Metrics, MetricsSnapshot};

/// What one node counted and measured, to be put together with others': [`Node::measured`](crate::Node::measured).
#[derive(Clone, Debug)]
pub struct Measured {
    snapshot: MetricsSnapshot,
    latency: Latency,
}

impl Measured {
    pub(crate) fn new(snapshot: MetricsSnapshot, metrics: &Metrics) -> Self {
        let latency = metrics.latency.clone();
        Self { snapshot, latency }
    }

    /// What is left of one that ends: its counters and latencies, no gauge but that it was started.
    pub(crate) fn of_ended(metrics: &Metrics) -> Self {
        let mut snapshot = metrics.counted();
        snapshot.shards_started = 1;
        Self::new(snapshot, metrics)
    }

    /// All of them together, as if the nodes were one: quantiles are those of all latencies. A broadcast counts once, for the
    /// shards of a server all send the same: of broadcasts, it is the most that one of them has sent.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use trunkline_core::{Measured, Node};
    /// # fn scrape(shards: &[Node]) -> String {
    /// let now = Instant::now();
    /// let all = Measured::sum(shards.iter().map(|shard| shard.measured(now)));
    /// all.open_metrics().to_string()
    /// # }
    /// ```
    pub fn sum(all: impl IntoIterator<Item = Self>) -> MetricsSnapshot {
        let mut broadcasts = 0;
        let mut sum: Option<Self> = None;
        for one in all {
            broadcasts = one.snapshot.broadcasts.max(broadcasts);
            match &mut sum {
                None => sum = Some(one),
                Some(sum) => {
                    sum.snapshot.add(&one.snapshot);
                    sum.latency.merge(&one.latency);
                }
            }
        }
        let Some(Self {
            mut snapshot,
            latency,
        }) = sum
        else {
            return MetricsSnapshot::default();
        };
        snapshot.broadcasts = broadcasts;
        snapshot.measure(&latency);
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::Gauges;
    use super::*;
    use crate::error::CloseCode;

    #[test]
    fn an_ended_node_leaves_what_it_counted_and_nothing_that_it_had() {
        let start = Instant::now();
        let mut metrics = Metrics::new(start);
        metrics.messages_sent = 3;
        metrics.broadcasts = 2;
        metrics.latency.record(Duration::from_millis(1));
        metrics.closed(CloseCode(3));
        metrics.traffic(start, 20);
        let now = start + Duration::from_secs(1);
        let had = Gauges {
            shards_running: 1,
            shards_started: 1,
            sessions: 5,
            connected: 4,
            promises: 3,
            deliveries: 6,
            outbox_bytes: 2,
            answer_bytes: 1,
            ..Gauges::default()
        };
        let running = metrics.snapshot(now, had);
        assert!(running.gauges().all(|(_, value)| value > 0.0));
        let ended = Measured::sum(vec![Measured::of_ended(&metrics)]);
        let mut left = ended.gauges().filter(|(_, value)| *value != 0.0);
        assert_eq!(left.next(), Some(("shards_started", 1.0)));
        assert_eq!(left.next(), None);
        let idle = Metrics::new(start).snapshot(now, had);
        let idle = Measured::new(idle, &Metrics::new(start));
        let mut sum = Measured::sum(vec![idle, Measured::of_ended(&metrics)]);
        assert_eq!((sum.shards_started, sum.shards_running), (2, 1));
        sum.shards_started = running.shards_started;
        sum.messages_per_second = running.messages_per_second;
        assert_eq!(sum, running);
    }

    #[test]
    fn what_several_nodes_measured_is_as_if_one_had() {
        let start = Instant::now();
        let (mut one, mut other, mut both) = (
            Metrics::new(start),
            Metrics::new(start),
            Metrics::new(start),
        );
        for number in 1..=1_000 {
            let took = Duration::from_micros(number * number);
            let node = if number % 3 == 0 {
                &mut one
            } else {
                &mut other
            };
            for metrics in [node, &mut both] {
                metrics.latency.record(took);
                metrics.messages_sent += number;
                metrics.closed(CloseCode(number as u32 % 5));
                metrics.traffic(start, 3);
            }
        }
        // Each node counts a call for all of them.
        (one.broadcasts, other.broadcasts, both.broadcasts) = (7, 7, 7);
        let gauges = |sessions| Gauges {
            sessions,
            connected: 1,
            promises: 2,
            deliveries: 4,
            outbox_bytes: 3,
            answer_bytes: 5,
            ..Gauges::default()
        };
        let now = start + Duration::from_secs(1);
        let measured = |metrics: &Metrics, sessions| {
            Measured::new(metrics.snapshot(now, gauges(sessions)), metrics)
        };
        let sum = Measured::sum(vec![measured(&one, 5), measured(&other, 6)]);
        let mut expected = both.snapshot(now, gauges(11));
        (expected.connected, expected.promises, expected.outbox_bytes) = (2, 4, 6);
        (expected.answer_bytes, expected.deliveries) = (10, 8);
        assert_eq!(sum, expected);
    }
}
