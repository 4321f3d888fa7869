//! Durations, and how long most of them were.

use std::time::Duration;

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

    /// The bounds that an exporter gets counts for, ascending. Dashboards and alerts name them, so they stay.
    pub(crate) const BOUNDS: [Duration; 18] = [
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(5),
        Duration::from_secs(10),
        Duration::from_secs(30),
        Duration::from_secs(60),
    ];

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

    /// The sum of all, exactly.
    pub(crate) fn sum(&self) -> Duration {
        const SECOND: u128 = 1_000_000_000;
        let nanos = (self.total_nanos % SECOND) as u32;
        let seconds = u64::try_from(self.total_nanos / SECOND);
        seconds.map_or(Duration::MAX, |seconds| Duration::new(seconds, nanos))
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

    /// How many did not exceed each of the [bounds](Self::BOUNDS), with all of the bucket that a bound is in.
    pub(crate) fn within_bounds(&self) -> [u64; Self::BOUNDS.len()] {
        let (mut seen, mut next) = (0, 0);
        Self::BOUNDS.map(|bound| {
            let end = Self::bucket(bound) + 1;
            seen += self.buckets[next..end].iter().sum::<u64>();
            next = end;
            seen
        })
    }

    /// Adds all that another histogram recorded: that of another node of the process.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
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
    fn bounds_are_inclusive_and_ascend() {
        let mut latency = Latency::new();
        for (number, bound) in (1..).zip(Latency::BOUNDS) {
            latency.record(bound);
            let counts = latency.within_bounds();
            assert_eq!(counts[number - 1..], [number as u64; 18][number - 1..]);
        }
        latency.record(Duration::from_secs(8_000));
        let counts: Vec<u64> = (1..=18).collect();
        assert_eq!(latency.within_bounds()[..], counts, "it exceeds them all");
        let sum = Latency::BOUNDS.iter().sum::<Duration>() + Duration::from_secs(8_000);
        assert_eq!(latency.sum(), sum);
    }

    #[test]
    fn a_sum_that_no_duration_holds_is_the_longest_one() {
        let mut latency = Latency::new();
        latency.record(Duration::MAX);
        assert_eq!(latency.sum(), Duration::MAX);
        latency.record(Duration::MAX);
        assert_eq!(latency.sum(), Duration::MAX);
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
        fn a_bound_counts_all_that_did_not_exceed_it_and_little_more(exponent in 3.0..12.5) {
            let took = Duration::from_nanos(f64::powf(10.0, exponent) as u64);
            let mut latency = Latency::new();
            latency.record(took);
            for (bound, count) in Latency::BOUNDS.into_iter().zip(latency.within_bounds()) {
                prop_assert!(count == 1 || took > bound, "{took:?} is missing at {bound:?}");
                prop_assert!(count == 0 || took < bound.mul_f64(1.016), "{took:?} counts at {bound:?}");
            }
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
    }
}
