//! The time, looked up less often than it is asked for.

use std::time::{Duration, Instant};

/// Pieces of work that all together took less than this are quick.
const QUICK: Duration = Duration::from_micros(500);

/// So many pieces of work begin at most by what one look at the clock has shown, however long they take then.
const MOST: u32 = 8;

/// The time, for work that follows upon each other: to look at a clock costs as much as a small handler. Where
/// pieces of work take long, it is looked up before each.
#[derive(Debug)]
pub(crate) struct Glance {
    time: Option<Instant>,
    /// How often it is told without a look at the clock.
    stride: u32,
    left: u32,
}

impl Glance {
    /// Before the first look.
    pub(crate) fn new() -> Self {
        Self {
            time: None,
            stride: 0,
            left: 0,
        }
    }

    /// The time now, or a little earlier: another piece of work begins.
    pub(crate) fn now(&mut self, clock: impl FnOnce() -> Instant) -> Instant {
        if let (Some(time), Some(left)) = (self.time, self.left.checked_sub(1)) {
            self.left = left;
            return time;
        }
        let now = clock();
        let quick = self.time.is_some_and(|before| now < before + QUICK);
        self.stride = if quick {
            (self.stride * 2 + 1).min(MOST - 1)
        } else {
            0
        };
        self.left = self.stride;
        *self.time.insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the clock was looked at, for so many pieces of work of that length, and the largest error.
    fn looks(pieces: u32, length: Duration) -> (u32, Duration) {
        let (mut glance, mut looks, mut error) = (Glance::new(), 0, Duration::ZERO);
        let begin = Instant::now();
        for piece in 0..pieces {
            let now = begin + length * piece;
            let told = glance.now(|| {
                looks += 1;
                now
            });
            error = error.max(now - told);
        }
        (looks, error)
    }

    #[test]
    fn small_work_shares_a_look_at_the_clock() {
        let (looks, error) = looks(1_000, Duration::from_nanos(200));
        assert!(looks < 140, "{looks}");
        assert!(error < Duration::from_micros(10), "{error:?}");
    }

    #[test]
    fn long_work_has_its_own() {
        assert_eq!(looks(100, Duration::from_millis(1)), (100, Duration::ZERO));
    }

    #[test]
    fn work_that_becomes_slow_is_noticed() {
        let (mut glance, mut now) = (Glance::new(), Instant::now());
        for _ in 0..100 {
            glance.now(|| now);
        }
        let mut stale = 0;
        for _ in 0..100 {
            now += Duration::from_millis(50);
            stale += u32::from(glance.now(|| now) != now);
        }
        assert!(stale <= MOST, "{stale}");
    }
}
