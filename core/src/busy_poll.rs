//! Whether to look for datagrams for a moment before going to sleep.

use std::time::Duration;

/// About what going to sleep and being woken costs a thread. A look that takes longer does not pay,
/// though it finds something.
const SLEEP: Duration = Duration::from_micros(50);

/// How many sleeps lie between two looks at first: many connections never live through so many.
const FIRST_PAUSE: u32 = 16;

/// How many at most. One look in so many sleeps costs next to nothing, and tells soon enough that looking
/// pays again.
const LONGEST_PAUSE: u32 = 256;

/// When a loop that has nothing to do should go on looking at its socket for a moment (*busy
/// polling*), and when it should sleep at once.
///
/// Going to sleep and being woken takes a thread some 50 µs, more than what a peer nearby takes to
/// answer. So looking first makes answers come sooner, and for less processor time, where they mostly
/// come within that time. Elsewhere it is waste. So each look in vain doubles the number of sleeps until
/// the next look, each one that finds something within 50 µs halves it, and each one that finds
/// something later makes it one more: a loop whose looks mostly succeed looks each time, others nearly
/// never.
///
/// A thread that looks takes a whole processor, and nothing else on it runs. On a single processor
/// nobody else could do anything meanwhile: use [`BusyPoll::NEVER`] there.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use trunkline_core::BusyPoll;
/// # fn datagrams_wait() -> bool { false }
/// # fn time_left() -> Option<Duration> { None }
/// # fn sleep_until_datagrams_come_or_a_deadline_has_come() {}
/// let mut busy_poll = BusyPoll::default();
/// for _turn in 0..3 {
///     // … all that there is to do; then:
///     let mut found = None;
///     if let Some(time) = busy_poll.before_sleep(time_left()) {
///         let begin = Instant::now();
///         while found.is_none() && begin.elapsed() < time {
///             found = datagrams_wait().then(|| begin.elapsed());
///         }
///         busy_poll.looked(found);
///     }
///     if found.is_none() {
///         sleep_until_datagrams_come_or_a_deadline_has_come();
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct BusyPoll {
    time: Duration,
    /// How many sleeps lie between two looks.
    pause: u32,
    /// How many of them are still to come.
    left: u32,
}

impl BusyPoll {
    /// Every sleep begins at once.
    pub const NEVER: Self = Self::new(Duration::ZERO);

    /// Looks take at most so long, each; [`Duration::ZERO`]: there are none. The default is 100 µs. A
    /// sleep that is known to be shorter begins at once, so long looks are rare where timers are short.
    pub const fn new(time: Duration) -> Self {
        Self {
            time,
            pause: FIRST_PAUSE,
            left: FIRST_PAUSE,
        }
    }

    /// For how long to look, at most, before the sleep that is to begin now, and that ends in any case
    /// after `left`, if that is known; `None`: not at all. The same again until it is told what came of
    /// a look.
    pub fn before_sleep(&mut self, left: Option<Duration>) -> Option<Duration> {
        if self.time.is_zero() || left.is_some_and(|left| left < self.time) {
            return None;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                None
            }
            None => Some(self.time),
        }
    }

    /// A look has found something to do, after so long, or nothing.
    pub fn looked(&mut self, found_after: Option<Duration>) {
        self.pause = match found_after {
            Some(time) if time <= SLEEP => self.pause / 2,
            Some(_) => (self.pause + 1).min(LONGEST_PAUSE),
            None => (self.pause * 2).clamp(1, LONGEST_PAUSE),
        };
        self.left = self.pause;
    }
}

impl Default for BusyPoll {
    fn default() -> Self {
        Self::new(Duration::from_micros(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Option<Duration> = Some(SLEEP);
    const SLOW: Option<Duration> = Some(Duration::from_micros(90));

    /// In how many of so many sleeps it looks; `finds` says what each look finds.
    fn looks(
        busy_poll: &mut BusyPoll,
        sleeps: u32,
        mut finds: impl FnMut(u32) -> Option<Duration>,
    ) -> u32 {
        let mut looks = 0;
        for sleep in 0..sleeps {
            if busy_poll.before_sleep(None).is_some() {
                looks += 1;
                busy_poll.looked(finds(sleep));
            }
        }
        looks
    }

    #[test]
    fn who_always_finds_something_soon_always_looks() {
        let mut busy_poll = BusyPoll::default();
        looks(&mut busy_poll, 3 * FIRST_PAUSE, |_| QUICK);
        assert_eq!(looks(&mut busy_poll, 1_000, |_| QUICK), 1_000);
    }

    #[test]
    fn who_never_finds_anything_nearly_never_looks() {
        let mut busy_poll = BusyPoll::default();
        looks(&mut busy_poll, 1_000, |_| None);
        let looks = looks(&mut busy_poll, 100 * (LONGEST_PAUSE + 1), |_| None);
        assert_eq!(looks, 100);
    }

    #[test]
    fn it_comes_back_within_some_hundred_sleeps() {
        let mut busy_poll = BusyPoll::default();
        looks(&mut busy_poll, 10_000, |_| None);
        looks(&mut busy_poll, 2 * LONGEST_PAUSE, |_| QUICK);
        assert_eq!(looks(&mut busy_poll, 100, |_| QUICK), 100);
    }

    #[test]
    fn one_in_four_is_too_few_and_three_in_four_are_enough() {
        let mut rare = BusyPoll::default();
        let mut often = BusyPoll::default();
        let rarely = |sleep: u32| QUICK.filter(|_| sleep.is_multiple_of(4));
        let mostly = |sleep: u32| QUICK.filter(|_| !sleep.is_multiple_of(4));
        looks(&mut rare, 10_000, rarely);
        looks(&mut often, 10_000, mostly);
        assert!(looks(&mut rare, 10_000, rarely) < 1_000);
        assert!(looks(&mut often, 10_000, mostly) > 5_000);
    }

    #[test]
    fn what_comes_late_makes_nobody_look_more_often() {
        let mut busy_poll = BusyPoll::default();
        looks(&mut busy_poll, 3 * FIRST_PAUSE, |_| QUICK);
        looks(&mut busy_poll, 100_000, |_| SLOW);
        assert!(looks(&mut busy_poll, 100 * LONGEST_PAUSE, |_| SLOW) <= 100);
        // Now and then something quick.
        let mixed = |sleep: u32| {
            if sleep.is_multiple_of(10) {
                QUICK
            } else {
                SLOW
            }
        };
        let looks = looks(&mut busy_poll, 10_000, mixed);
        assert!(looks < 2_000, "{looks}");
    }

    #[test]
    fn a_sleep_that_ends_sooner_begins_at_once() {
        let mut busy_poll = BusyPoll::default();
        looks(&mut busy_poll, 3 * FIRST_PAUSE, |_| QUICK);
        let time = busy_poll.before_sleep(None).unwrap();
        assert_eq!(busy_poll.before_sleep(Some(time)), Some(time));
        assert_eq!(busy_poll.before_sleep(Some(time / 2)), None);
        assert_eq!(busy_poll.before_sleep(None), Some(time));
    }

    #[test]
    fn never_is_never() {
        assert_eq!(looks(&mut BusyPoll::NEVER.clone(), 1_000, |_| QUICK), 0);
    }
}
