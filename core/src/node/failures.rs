//! First packets that no link came of.

use std::time::{Duration, Instant};

/// First packets that came to nothing: looking into one costs work as a half-open link does, and anybody
/// can send it, from any address.
///
/// So many count at most as there may be half-open links of addresses that nobody has shown, and they are
/// forgotten evenly, all of them in the time that such a link may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failures {
    /// For how long they are counted at most.
    window: Duration,
    most: usize,
    /// How long it takes until one more is forgotten.
    each: Duration,
    /// When the last one is.
    until: Option<Instant>,
}

impl Failures {
    /// Counts up to `most`, which take `window` to be forgotten.
    pub(super) fn new(window: Duration, most: usize) -> Self {
        let shares = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        Self {
            window,
            most,
            each: window / shares,
            until: None,
        }
    }

    pub(super) fn add(&mut self, now: Instant) {
        let from = self.until.map_or(now, |until| until.max(now));
        self.until = Some((from + self.each).min(now + self.window));
    }

    pub(super) fn count(&self, now: Instant) -> usize {
        let left = self
            .until
            .map(|until| until.saturating_duration_since(now).as_nanos());
        let count = left
            .unwrap_or_default()
            .div_ceil(self.each.as_nanos().max(1));
        usize::try_from(count).map_or(self.most, |count| count.min(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_are_forgotten_one_by_one() {
        let mut now = Instant::now();
        let mut failures = Failures::new(10 * SECOND, 10);
        assert_eq!(failures.count(now), 0);
        for _ in 0..5 {
            failures.add(now);
        }
        assert_eq!(failures.count(now), 5);
        now += SECOND * 5 / 2;
        assert_eq!(failures.count(now), 3);
        now += 3_600 * SECOND;
        assert_eq!(failures.count(now), 0);
        failures.add(now);
        assert_eq!(failures.count(now), 1);
    }

    #[test]
    fn however_many_there_were_they_are_forgotten_in_time() {
        let now = Instant::now();
        let mut failures = Failures::new(10 * SECOND, 10);
        for _ in 0..10_000 {
            failures.add(now);
        }
        assert_eq!(failures.count(now), 10);
        assert_eq!(failures.count(now + 10 * SECOND), 0);
        let mut uneven = Failures::new(10 * SECOND, 3);
        for _ in 0..4 {
            uneven.add(now);
        }
        assert_eq!(uneven.count(now), 3);
    }

    #[test]
    fn where_no_link_may_be_half_open_or_for_no_time_that_harms_nothing() {
        let now = Instant::now();
        for (admission, half_open, count) in [(SECOND, 0, 0), (Duration::ZERO, 10, 0)] {
            let mut failures = Failures::new(admission, half_open);
            failures.add(now);
            assert_eq!(failures.count(now), count);
        }
    }
}
