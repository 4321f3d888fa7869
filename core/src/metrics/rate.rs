//! How often something happened of late.

use std::time::{Duration, Instant};

/// Events in each of the last ten seconds, the current one included.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    origin: Instant,
    /// The second of the last event, counted from `origin`. The count of second `n` is in slot
    /// `n % 10`.
    second: u64,
    /// When that second ends.
    ends: Instant,
    counts: [u64; Self::SECONDS as usize],
}

impl Rate {
    const SECONDS: u64 = 10;

    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            second: 0,
            ends: origin + Duration::from_secs(1),
            counts: [0; Self::SECONDS as usize],
        }
    }

    pub(super) fn add(&mut self, now: Instant, events: u64) {
        if now >= self.ends {
            let second = now.saturating_duration_since(self.origin).as_secs();
            self.ends = self.origin + Duration::from_secs(second + 1);
            let oldest_stale = (self.second + 1).max((second + 1).saturating_sub(Self::SECONDS));
            for stale in oldest_stale..=second {
                self.counts[Self::slot(stale)] = 0;
            }
            self.second = second;
        }
        self.counts[Self::slot(self.second)] += events;
    }

    pub(super) fn per_second(&self, now: Instant) -> f64 {
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
