//! The time of day, as the node was told it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use quinn_proto::TimeSource;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// The time of day: what it was at the node's origin, plus what has passed since, unless the node was told
/// otherwise: no monotonic clock knows of a machine that slept, or was set.
///
/// The node sets it on each input; clones share it. Only certificates, tickets and address tokens
/// are judged by it, never a timer, so that changes of the system's clock disturb nothing else.
#[derive(Clone, Debug)]
pub(crate) struct WallClock {
    origin: Instant,
    origin_wall: SystemTime,
    passed_ns: Arc<AtomicU64>,
    /// By how much it was corrected, in all.
    correction_ns: Arc<AtomicI64>,
}

impl WallClock {
    /// A clock at its origin.
    pub(crate) fn new(origin: Instant, origin_wall: SystemTime) -> Self {
        Self {
            origin,
            origin_wall,
            passed_ns: Arc::default(),
            correction_ns: Arc::default(),
        }
    }

    /// Sets this clock and its clones to `now`, to its origin if `now` lies before it.
    pub(crate) fn set(&self, now: Instant) {
        let passed = now.saturating_duration_since(self.origin).as_nanos();
        self.passed_ns
            .store(u64::try_from(passed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// It is so late by now. A correction of more than 292 years is cut.
    pub(crate) fn correct(&self, wall: SystemTime) {
        let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let by = match wall.duration_since(self.read()) {
            Ok(ahead) => nanos(ahead),
            Err(behind) => -nanos(behind.duration()),
        };
        let before = self.correction_ns.load(Ordering::Relaxed);
        self.correction_ns
            .store(before.saturating_add(by), Ordering::Relaxed);
    }

    /// The time of day, as it was when the clock was set last.
    pub(crate) fn read(&self) -> SystemTime {
        let passed = self.passed_ns.load(Ordering::Relaxed);
        self.after(Duration::from_nanos(passed))
    }

    /// What it will show when it is set to `now`.
    pub(crate) fn at(&self, now: Instant) -> SystemTime {
        self.after(now.saturating_duration_since(self.origin))
    }

    fn after(&self, passed: Duration) -> SystemTime {
        let wall = self.origin_wall.checked_add(passed);
        let correction = self.correction_ns.load(Ordering::Relaxed);
        let by = Duration::from_nanos(correction.unsigned_abs());
        let corrected = wall.and_then(|wall| match correction {
            0.. => wall.checked_add(by),
            _ => wall.checked_sub(by),
        });
        corrected.unwrap_or(self.origin_wall)
    }
}

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        self.read()
    }
}

impl TimeProvider for WallClock {
    /// `None` before 1970, where no certificate can be judged: TLS then fails.
    fn current_time(&self) -> Option<UnixTime> {
        self.read()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .map(UnixTime::since_unix_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_show_what_one_was_set_to() {
        let origin = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let clock = WallClock::new(origin, wall);
        let clone = clock.clone();
        assert_eq!(clone.read(), wall);
        clock.set(origin + Duration::from_millis(2_500));
        assert_eq!(TimeSource::now(&clone), wall + Duration::from_millis(2_500));
        assert_eq!(clone.current_time().map(|time| time.as_secs()), Some(1_002));
    }

    #[test]
    fn what_it_was_told_counts_from_then_on() {
        let second = Duration::from_secs(1);
        let origin = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + 1_000 * second;
        let clock = WallClock::new(origin, wall);
        let clone = clock.clone();
        for (after, told) in [(1, 5_000), (2, 4), (3, 0), (4, 1_000_000_000)] {
            clock.set(origin + after * second);
            clock.correct(SystemTime::UNIX_EPOCH + told * second);
            clock.set(origin + (after + 1) * second);
            assert_eq!(clone.read(), SystemTime::UNIX_EPOCH + (told + 1) * second);
            let later = clone.at(origin + (after + 8) * second);
            assert_eq!(later, SystemTime::UNIX_EPOCH + (told + 8) * second);
        }
    }

    #[test]
    fn it_never_shows_a_time_before_its_origin() {
        let origin = Instant::now();
        let clock = WallClock::new(origin + Duration::from_secs(1), SystemTime::UNIX_EPOCH);
        clock.set(origin);
        assert_eq!(clock.read(), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn there_is_no_tls_time_before_1970() {
        let clock = WallClock::new(
            Instant::now(),
            SystemTime::UNIX_EPOCH - Duration::from_secs(1),
        );
        assert_eq!(clock.current_time(), None);
    }
}
