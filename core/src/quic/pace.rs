//! How often something may be done, by the time that has passed and not by the gaps between.

use std::time::{Duration, Instant};

/// So much unused time may be made up for at once.
const MADE_UP_FOR: Duration = Duration::from_millis(100);

/// Lets something be done once each interval on average. Whoever looks at the time once for a whole
/// batch of datagrams may do it as often within the batch as the time since the last one allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When all that was done would have been done, at one an interval; `None`: nothing was.
    done_by: Option<Instant>,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            done_by: None,
        }
    }

    /// Whether it may be done now; then it counts as done.
    pub(super) fn may(&mut self, now: Instant) -> bool {
        let done_by = self.done_by.map_or(now, |done_by| done_by.max(now));
        let ahead = done_by.saturating_duration_since(now);
        if !ahead.is_zero() && ahead + self.interval > MADE_UP_FOR {
            return false;
        }
        self.done_by = done_by.checked_add(self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn times(pace: &mut Pace, now: Instant) -> usize {
        (0..10_000).filter(|_| pace.may(now)).count()
    }

    #[test]
    fn a_batch_makes_up_for_the_time_since_the_last_one_and_no_more() {
        let mut now = Instant::now();
        let mut pace = Pace::new(MILLISECOND);
        assert_eq!(times(&mut pace, now), 100);
        assert_eq!(times(&mut pace, now), 0);
        now += 7 * MILLISECOND;
        assert_eq!(times(&mut pace, now), 7);
        now += Duration::from_secs(3_600);
        assert_eq!(times(&mut pace, now), 100);
    }

    #[test]
    fn a_long_interval_is_kept_one_by_one() {
        let mut now = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(1));
        assert_eq!(times(&mut pace, now), 1);
        now += Duration::from_millis(999);
        assert_eq!(times(&mut pace, now), 0);
        now += MILLISECOND;
        assert_eq!(times(&mut pace, now), 1);
    }

    #[test]
    fn no_interval_is_no_limit() {
        assert_eq!(
            times(&mut Pace::new(Duration::ZERO), Instant::now()),
            10_000
        );
    }
}
