//! First packets that no link came of.

use std::time::{Duration, Instant};

/// Counts first packets that came to nothing as if each were a half-open link, for as long as such a
/// link may take: looking into one costs work too, and anybody can send it, from any address.
///
/// They fade away one by one, and not all at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failures {
    /// How long one takes to fade away after those before it.
    each: Duration,
    /// When the last one has.
    until: Option<Instant>,
}

impl Failures {
    /// As many as `half_open` fade away in the time that a link may be half open.
    pub(super) fn new(admission: Duration, half_open: usize) -> Self {
        let half_open = u32::try_from(half_open).unwrap_or(u32::MAX);
        Self {
            each: admission / half_open.max(1),
            until: None,
        }
    }

    pub(super) fn add(&mut self, now: Instant) {
        let from = self.until.map_or(now, |until| until.max(now));
        self.until = from.checked_add(self.each);
    }

    pub(super) fn count(&self, now: Instant) -> usize {
        let left = self
            .until
            .map(|until| until.saturating_duration_since(now).as_nanos());
        let count = left
            .unwrap_or_default()
            .div_ceil(self.each.as_nanos().max(1));
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_fade_away_one_by_one() {
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
    fn where_no_link_may_be_half_open_or_for_no_time_that_harms_nothing() {
        let now = Instant::now();
        for (admission, half_open, count) in [(SECOND, 0, 1), (Duration::ZERO, 10, 0)] {
            let mut failures = Failures::new(admission, half_open);
            failures.add(now);
            assert_eq!(failures.count(now), count);
        }
    }
}
