//! Whether to look for datagrams for a moment before going to sleep.

use std::time::Duration;

/// A loop that finds nothing in vain again and again looks once in so many sleeps. What that costs is
/// little beside the sleeps, and after it a few hundred of them find out that it pays again.
const MOST: u32 = 256;

/// When a loop that has nothing to do should go on looking at its socket for a moment (*busy
/// polling*), and when it should sleep at once.
///
/// Going to sleep and being woken takes a thread tens of microseconds, more than what a peer nearby
/// takes to answer. So looking first makes answers come sooner, and for less processor time, as long as
/// something mostly comes; where it does not, it is waste. Each look in vain doubles the number of
/// sleeps until the next look, and each look that finds something halves it: a loop whose looks
/// mostly succeed looks each time, others nearly never. It is what the Linux kernel does for idle virtual
/// processors (*halt polling*).
///
/// On a single processor nobody else can do anything meanwhile: use [`BusyPoll::NEVER`] there.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use trunkline_core::BusyPoll;
/// # fn datagrams_wait() -> bool { false }
/// # fn sleep_until_datagrams_come_or_a_deadline_has_come() {}
/// let mut busy_poll = BusyPoll::default();
/// for _turn in 0..3 {
///     // … all that there is to do; then:
///     let mut found = false;
///     if let Some(time) = busy_poll.before_sleep() {
///         let begin = Instant::now();
///         while !found && begin.elapsed() < time {
///             found = datagrams_wait();
///         }
///         busy_poll.looked(found);
///     }
///     if !found {
///         sleep_until_datagrams_come_or_a_deadline_has_come();
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct BusyPoll {
    time: Duration,
    /// How many sleeps lie between two looks.
    pause: u32,
    /// How many of them are left.
    left: u32,
}

impl BusyPoll {
    /// Every sleep begins at once.
    pub const NEVER: Self = Self::new(Duration::ZERO);

    /// Looks take at most so long, each; [`Duration::ZERO`]: there are none. The default is 100 µs.
    pub const fn new(time: Duration) -> Self {
        Self {
            time,
            pause: 0,
            left: 0,
        }
    }

    /// For how long to look before the sleep that is to begin now; `None`: not at all. Say then what
    /// came of it: [`BusyPoll::looked`].
    pub fn before_sleep(&mut self) -> Option<Duration> {
        if self.time.is_zero() {
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

    /// A look has found something to do, or nothing.
    pub fn looked(&mut self, found: bool) {
        self.pause = if found {
            self.pause / 2
        } else {
            (self.pause * 2).clamp(1, MOST)
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

    /// In how many of so many sleeps it looks; each look finds something if `finds` says so.
    fn looks(busy_poll: &mut BusyPoll, sleeps: u32, mut finds: impl FnMut(u32) -> bool) -> u32 {
        let mut looks = 0;
        for sleep in 0..sleeps {
            if busy_poll.before_sleep().is_some() {
                looks += 1;
                busy_poll.looked(finds(sleep));
            }
        }
        looks
    }

    #[test]
    fn who_always_finds_something_always_looks() {
        assert_eq!(looks(&mut BusyPoll::default(), 1_000, |_| true), 1_000);
    }

    #[test]
    fn who_never_finds_anything_nearly_never_looks() {
        let mut busy_poll = BusyPoll::default();
        looks(&mut busy_poll, 1_000, |_| false);
        let looks = looks(&mut busy_poll, 100 * (MOST + 1), |_| false);
        assert_eq!(looks, 100);
    }

    #[test]
    fn it_comes_back_within_some_hundred_sleeps() {
        let mut busy_poll = BusyPoll::default();
        looks(&mut busy_poll, 10_000, |_| false);
        looks(&mut busy_poll, 2 * MOST, |_| true);
        assert_eq!(looks(&mut busy_poll, 100, |_| true), 100);
    }

    #[test]
    fn one_in_four_is_too_few_and_three_in_four_are_enough() {
        let mut rare = BusyPoll::default();
        let mut often = BusyPoll::default();
        looks(&mut rare, 10_000, |sleep| sleep % 4 == 0);
        looks(&mut often, 10_000, |sleep| sleep % 4 != 0);
        assert!(looks(&mut rare, 10_000, |sleep| sleep % 4 == 0) < 1_000);
        assert!(looks(&mut often, 10_000, |sleep| sleep % 4 != 0) > 5_000);
    }

    #[test]
    fn never_is_never() {
        assert_eq!(looks(&mut BusyPoll::NEVER.clone(), 1_000, |_| true), 0);
    }
}
