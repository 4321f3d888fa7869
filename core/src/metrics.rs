//! What a node counts and measures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::error::CloseCode;

/// How many different close codes are counted apart. A peer chooses its code among 2^32; more
/// of them than this are counted together.
const CODES_MAX: usize = 256;

/// What a node has right now, counted by whoever holds it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) sessions: usize,
    pub(crate) connected: usize,
    pub(crate) promises: usize,
    pub(crate) outbox_bytes: usize,
}

macro_rules! metrics {
    ($($(#[$doc:meta])+ $counter:ident,)+) => {
        /// The live counters and measurements of a node. [`MetricsSnapshot`] says what each is.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            $(pub(crate) $counter: u64,)+
            pub(crate) latency: Latency,
            rate: Rate,
            closed_by_code: BTreeMap<CloseCode, u64>,
            closed_by_other_code: u64,
        }

        impl Metrics {
            pub(crate) fn new(now: Instant) -> Self {
                Self {
                    $($counter: 0,)+
                    latency: Latency::new(),
                    rate: Rate::new(now),
                    closed_by_code: BTreeMap::new(),
                    closed_by_other_code: 0,
                }
            }

            /// Everything as it is now.
            pub(crate) fn snapshot(&self, now: Instant, gauges: Gauges) -> MetricsSnapshot {
                MetricsSnapshot {
                    sessions: gauges.sessions,
                    connected: gauges.connected,
                    promises: gauges.promises,
                    outbox_bytes: gauges.outbox_bytes,
                    messages_per_second: self.rate.per_second(now),
                    latency_count: self.latency.count(),
                    latency_mean: self.latency.mean(),
                    latency_p50: self.latency.quantile(0.5),
                    latency_p99: self.latency.quantile(0.99),
                    latency_p999: self.latency.quantile(0.999),
                    latency_max: self.latency.max(),
                    $($counter: self.$counter,)+
                    closed_by_code: self.closed_by_code.clone(),
                    closed_by_other_code: self.closed_by_other_code,
                }
            }
        }

        /// What a node counted and measured at one moment. Counters start at zero with the node
        /// and only grow; none carries a label for each client.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct MetricsSnapshot {
            /// Sessions that exist, with or without a link.
            pub sessions: usize,
            /// Sessions that have a link: connected clients, on a server.
            pub connected: usize,
            /// Promises that are pending.
            pub promises: usize,
            /// Bytes in all outboxes.
            pub outbox_bytes: usize,
            /// Messages, requests, replies and best-effort messages a second, both ways, over the
            /// last 9 to 10 seconds (or since the start of the node, if that is less).
            pub messages_per_second: f64,
            /// Promises whose latency was measured: from making one to its ack or reply.
            pub latency_count: u64,
            /// Mean latency; zero if none was measured.
            pub latency_mean: Duration,
            /// Latency that half of the promises did not exceed, within 1 % (2 % below 2 µs).
            pub latency_p50: Duration,
            /// Latency that 99 % of the promises did not exceed, within 1 %.
            pub latency_p99: Duration,
            /// Latency that 99.9 % of the promises did not exceed, within 1 %.
            pub latency_p999: Duration,
            /// Longest latency.
            pub latency_max: Duration,
            $($(#[$doc])+ pub $counter: u64,)+
            /// Links that were closed with a code, by code, whichever side closed them.
            pub closed_by_code: BTreeMap<CloseCode, u64>,
            /// Links that were closed with yet other codes, when 256 different ones had been seen.
            pub closed_by_other_code: u64,
        }
    };
}

metrics! {
    /// One-way reliable messages that were taken for sending.
    messages_sent,
    /// One-way reliable messages that were handed to the application.
    messages_received,
    /// Requests that were taken for sending.
    requests_sent,
    /// Requests that were handed to the application.
    requests_received,
    /// Replies that the application gave.
    replies_sent,
    /// Replies that settled a promise.
    replies_received,
    /// Acks that the application gave.
    acks_sent,
    /// Acks that settled a promise.
    acks_received,
    /// Rejections that the application gave.
    rejects_sent,
    /// Rejections that settled a promise.
    rejects_received,
    /// Calls of `broadcast`; what became of them is counted as best-effort messages.
    broadcasts,
    /// Best-effort messages that were queued, one for each session of a broadcast.
    best_effort_sent,
    /// Best-effort messages that were handed to the application.
    best_effort_received,
    /// Best-effort messages that were dropped: by the policy for slow consumers, or with their link.
    best_effort_dropped,
    /// Best-effort messages that were not queued, for their session had no link.
    best_effort_away,
    /// Messages that arrived a second time and were dropped.
    duplicates_dropped,
    /// Acks, replies and rejections for promises that had settled otherwise.
    late_answers,
    /// Promises that settled as `TimedOut`.
    promises_timed_out,
    /// Promises that settled as `Cancelled`.
    promises_cancelled,
    /// Promises that settled as `Lost`.
    promises_lost,
    /// Promises that settled as `Evicted`.
    promises_evicted,
    /// Messages without a promise that were given back as undelivered.
    undelivered,
    /// Sessions that were opened.
    sessions_opened,
    /// Links that carried on an earlier link's session.
    sessions_resumed,
    /// Sessions that were lost: unknown to the server, or not resumed within the retention time.
    sessions_lost,
    /// Sessions that were closed.
    sessions_closed,
    /// Links that were admitted.
    links_opened,
    /// Links that ended after they were admitted.
    links_closed,
    /// Links whose peer was silent for `heartbeat.misses` intervals.
    heartbeat_timeouts,
    /// Attempts of clients to come back.
    redials,
    /// Clients that admission refused.
    admissions_refused,
    /// Messages that were given back to the caller because an outbox was full.
    outbox_full,
    /// Messages that were given back to the caller because a promise table was full.
    promises_full,
    /// Calls whose time was earlier than that of a call before.
    clock_ran_back,
    /// UDP datagrams that were handled.
    datagrams_in,
    /// UDP datagrams that were given out to send.
    datagrams_out,
    /// Bytes of the UDP datagrams that were handled, without UDP and IP headers.
    bytes_in,
    /// Bytes of the UDP datagrams that were given out to send, without UDP and IP headers.
    bytes_out,
    /// Connection attempts that were dropped without an answer, for there were too many.
    incoming_ignored,
    /// Connection attempts that were asked to validate their address (QUIC Retry).
    incoming_retried,
    /// Connection attempts that were refused.
    incoming_refused,
    /// Requests that were not handed to the application, for their cancel overtook them.
    cancelled_early,
    /// Links that were looked at because they had work.
    links_visited,
    /// Frames that were read, on all streams.
    frames_in,
    /// Frames that were written, on all streams.
    frames_out,
}

impl Metrics {
    /// Counts messages of any kind, sent or received, for [`MetricsSnapshot::messages_per_second`].
    pub(crate) fn traffic(&mut self, now: Instant, messages: u64) {
        self.rate.add(now, messages);
    }

    /// Counts a link that was closed with that code.
    pub(crate) fn closed(&mut self, code: CloseCode) {
        if let Some(count) = self.closed_by_code.get_mut(&code) {
            *count += 1;
        } else if self.closed_by_code.len() < CODES_MAX {
            self.closed_by_code.insert(code, 1);
        } else {
            self.closed_by_other_code += 1;
        }
    }
}

/// A histogram of durations from 1 µs to 1 h in 16 KiB: buckets of equal width up to 2 µs, and 64
/// for each doubling from there on, so that a bucket's middle is within 1 % of all that is in it
/// (log-linear, as in Gil Tene's HdrHistogram, <https://hdrhistogram.org>).
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    buckets: Box<[u64; Self::BUCKETS]>,
    count: u64,
    total_nanos: u128,
    max: Duration,
}

impl Latency {
    /// 2^37 units of 2^5 ns are 73 minutes: 64 buckets below 2^6 units, 64 for each of 31 doublings.
    const BUCKETS: usize = 32 << Self::SPLIT_BITS;
    const SPLIT_BITS: u32 = 6;
    const UNIT_BITS: u32 = 5;
    const LONGEST: Duration = Duration::from_secs(3_600);

    pub(crate) fn new() -> Self {
        Self {
            buckets: Box::new([0; Self::BUCKETS]),
            count: 0,
            total_nanos: 0,
            max: Duration::ZERO,
        }
    }

    /// Adds a duration; one above an hour counts as an hour, except for the mean and the longest.
    pub(crate) fn record(&mut self, duration: Duration) {
        self.buckets[Self::bucket(duration)] += 1;
        self.count += 1;
        self.total_nanos += duration.as_nanos();
        self.max = self.max.max(duration);
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The mean of all, exactly; zero if there are none.
    pub(crate) fn mean(&self) -> Duration {
        let nanos = self
            .total_nanos
            .checked_div(u128::from(self.count))
            .unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The longest, exactly; zero if there are none.
    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// The duration that a share of all, from 0 to 1, did not exceed; zero if there are none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        if rank >= self.count {
            return self.max;
        }
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Self::middle(bucket).min(self.max);
            }
        }
        self.max
    }

    /// Adds all that another histogram recorded: that of another node of the process.
    #[cfg(test)]
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&*other.buckets) {
            *count += more;
        }
        self.count += other.count;
        self.total_nanos += other.total_nanos;
        self.max = self.max.max(other.max);
    }

    fn bucket(duration: Duration) -> usize {
        let units = duration.min(Self::LONGEST).as_nanos() as u64 >> Self::UNIT_BITS;
        let doublings = (u64::BITS - units.leading_zeros()).saturating_sub(Self::SPLIT_BITS + 1);
        // Above the linear part, the leading bit of the shifted units adds one to the doublings.
        ((doublings as usize) << Self::SPLIT_BITS) + (units >> doublings) as usize
    }

    fn middle(bucket: usize) -> Duration {
        let doublings = (bucket >> Self::SPLIT_BITS).saturating_sub(1);
        let steps = bucket - (doublings << Self::SPLIT_BITS);
        let twice = (2 * steps as u64 + 1) << doublings;
        Duration::from_nanos(twice << (Self::UNIT_BITS - 1))
    }
}

/// Events in each of the last ten seconds, the current one included.
#[derive(Clone, Debug)]
struct Rate {
    origin: Instant,
    /// The second of the last event, counted from `origin`. The count of second `n` is in slot
    /// `n % 10`.
    second: u64,
    counts: [u64; Self::SECONDS as usize],
}

impl Rate {
    const SECONDS: u64 = 10;

    fn new(origin: Instant) -> Self {
        Self {
            origin,
            second: 0,
            counts: [0; Self::SECONDS as usize],
        }
    }

    fn add(&mut self, now: Instant, events: u64) {
        let second = now.saturating_duration_since(self.origin).as_secs();
        if second > self.second {
            let oldest_stale = (self.second + 1).max((second + 1).saturating_sub(Self::SECONDS));
            for stale in oldest_stale..=second {
                self.counts[Self::slot(stale)] = 0;
            }
            self.second = second;
        }
        self.counts[Self::slot(self.second)] += events;
    }

    fn per_second(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.origin);
        let current = elapsed.as_secs().max(self.second);
        let oldest = (current + 1).saturating_sub(Self::SECONDS);
        // Slots after the last event's still hold older seconds.
        let events: u64 = (oldest..=self.second)
            .map(|second| self.counts[Self::slot(second)])
            .sum();
        let span = elapsed
            .saturating_sub(Duration::from_secs(oldest))
            .max(Duration::from_secs(1));
        events as f64 / span.as_secs_f64()
    }

    fn slot(second: u64) -> usize {
        (second % Self::SECONDS) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_snapshot_holds_what_was_counted() {
        let start = Instant::now();
        let mut metrics = Metrics::new(start);
        metrics.messages_sent += 3;
        metrics.frames_out += 4;
        metrics.traffic(start, 20);
        metrics.latency.record(micros(1_000));
        metrics.closed(CloseCode(3));
        metrics.closed(CloseCode(3));
        let gauges = Gauges {
            sessions: 5,
            connected: 4,
            promises: 3,
            outbox_bytes: 2,
        };
        let snapshot = metrics.snapshot(start + Duration::from_secs(2), gauges);
        assert_eq!(
            (
                snapshot.messages_sent,
                snapshot.frames_out,
                snapshot.frames_in
            ),
            (3, 4, 0)
        );
        assert_eq!((snapshot.sessions, snapshot.connected), (5, 4));
        assert_eq!((snapshot.promises, snapshot.outbox_bytes), (3, 2));
        assert_eq!(snapshot.messages_per_second, 10.0);
        assert_eq!(
            (snapshot.latency_count, snapshot.latency_max),
            (1, micros(1_000))
        );
        assert_eq!(
            (snapshot.latency_mean, snapshot.latency_p99),
            (micros(1_000), micros(1_000))
        );
        assert_eq!(snapshot.closed_by_code, BTreeMap::from([(CloseCode(3), 2)]));
    }

    #[test]
    fn a_peer_that_makes_up_close_codes_takes_no_memory() {
        let mut metrics = Metrics::new(Instant::now());
        for code in 0..10_000 {
            metrics.closed(CloseCode(code));
        }
        metrics.closed(CloseCode(7));
        assert_eq!(metrics.closed_by_code.len(), CODES_MAX);
        assert_eq!(metrics.closed_by_code[&CloseCode(7)], 2);
        assert_eq!(metrics.closed_by_other_code, 10_000 - CODES_MAX as u64);
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        let latency = Latency::new();
        assert_eq!(
            (latency.mean(), latency.max()),
            (Duration::ZERO, Duration::ZERO)
        );
        assert_eq!(latency.quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn a_histogram_takes_16_kib() {
        assert_eq!(size_of_val(&*Latency::new().buckets), 16 << 10);
    }

    #[test]
    fn quantiles_of_known_durations_are_found() {
        let mut latency = Latency::new();
        for n in 1..=100_000 {
            latency.record(micros(n));
        }
        for (share, expected) in [(0.0, 1.), (0.5, 50_000.), (0.99, 99_000.), (0.999, 99_900.)] {
            let found = latency.quantile(share).as_secs_f64() * 1e6;
            assert!((found / expected - 1.0).abs() < 0.016, "{share}: {found}");
        }
        assert_eq!(latency.quantile(1.0), micros(100_000));
        assert_eq!(latency.mean(), Duration::from_nanos(50_000_500));
    }

    #[test]
    fn one_slow_answer_shows_in_the_highest_quantile_alone() {
        let mut latency = Latency::new();
        for _ in 0..999 {
            latency.record(micros(100));
        }
        latency.record(Duration::from_secs(5));
        assert!(latency.quantile(0.99) < micros(102));
        assert!(latency.quantile(0.999) < micros(102));
        assert_eq!(latency.quantile(0.9999), Duration::from_secs(5));
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut last = 0;
        let mut nanos = 0_u64;
        while Duration::from_nanos(nanos) < Latency::LONGEST {
            let bucket = Latency::bucket(Duration::from_nanos(nanos));
            assert!(bucket == last || bucket == last + 1, "{nanos} ns");
            last = bucket;
            nanos += (nanos / 128).max(1);
        }
        assert!(last < Latency::BUCKETS && Latency::bucket(Duration::MAX) < Latency::BUCKETS);
    }

    #[test]
    fn durations_beyond_an_hour_are_kept_in_the_last_bucket() {
        let mut latency = Latency::new();
        latency.record(Duration::from_secs(4_000));
        latency.record(Duration::from_secs(8_000));
        let half = latency.quantile(0.5).as_secs_f64();
        assert!((half / 3_600.0 - 1.0).abs() < 0.01, "{half}");
        assert_eq!(
            (latency.mean(), latency.max()),
            (Duration::from_secs(6_000), Duration::from_secs(8_000))
        );
    }

    #[test]
    fn the_rate_covers_the_last_ten_seconds_and_nothing_before() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rate = Rate::new(start);
        rate.add(at(0), 5);
        assert_eq!(
            rate.per_second(at(10)),
            5.0,
            "less than a second counts as one"
        );
        assert_eq!(rate.per_second(at(2_500)), 2.0);
        for second in 0..60 {
            rate.add(at(second * 1_000 + 999), 100);
        }
        assert_eq!(rate.per_second(at(60_000)), 100.0);
        assert_eq!(rate.per_second(at(64_000)), 500.0 / 9.0);
        assert_eq!(rate.per_second(at(69_000)), 0.0);
        rate.add(at(1_000_000), 9);
        assert_eq!(
            rate.per_second(at(1_000_000)),
            1.0,
            "seconds without events are empty"
        );
    }

    proptest! {
        #[test]
        fn a_bucket_is_within_one_percent_of_what_is_in_it(nanos in 1_000..3_600_000_000_000_u64) {
            let middle = Latency::middle(Latency::bucket(Duration::from_nanos(nanos)));
            let error = (middle.as_nanos() as f64 / nanos as f64 - 1.0).abs();
            prop_assert!(error <= if nanos < 2_048 { 0.016 } else { 1.0 / 128.0 }, "{error}");
        }

        #[test]
        fn small_durations_are_as_exact_as_large_ones(exponent in 3.0..12.5) {
            let nanos = f64::powf(10.0, exponent) as u64;
            let middle = Latency::middle(Latency::bucket(Duration::from_nanos(nanos)));
            prop_assert!((middle.as_nanos() as f64 / nanos as f64 - 1.0).abs() <= 0.016);
        }

        #[test]
        fn merging_equals_recording_everything_in_one(
            first in prop::collection::vec(0..10_000_000_u64, 0..100),
            second in prop::collection::vec(0..10_000_000_u64, 0..100),
        ) {
            let record = |all: &[u64]| {
                let mut latency = Latency::new();
                all.iter().for_each(|nanos| latency.record(Duration::from_nanos(*nanos)));
                latency
            };
            let mut merged = record(&first);
            merged.merge(&record(&second));
            let whole = record(&[first, second].concat());
            prop_assert_eq!(merged.buckets, whole.buckets.clone());
            prop_assert_eq!((merged.count, merged.total_nanos, merged.max), (whole.count, whole.total_nanos, whole.max));
        }

        #[test]
        fn the_rate_equals_counting_what_is_not_older_than_its_window(
            steps in prop::collection::vec((0..4_000_u64, 0..5_u64), 1..60),
            pause in 0..15_000_u64,
        ) {
            let start = Instant::now();
            let mut rate = Rate::new(start);
            let mut now = 0;
            let mut events = Vec::new();
            for (passed, count) in steps {
                now += passed;
                rate.add(start + Duration::from_millis(now), count);
                events.push((now, count));
            }
            now += pause;
            let from = (now / 1_000 + 1).saturating_sub(10) * 1_000;
            let recent: u64 = events.iter().filter(|(at, _)| *at >= from).map(|(_, count)| count).sum();
            let expected = recent as f64 / ((now - from).max(1_000) as f64 / 1_000.0);
            let found = rate.per_second(start + Duration::from_millis(now));
            prop_assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
        }
    }
}
