//! When a client dials again.

use std::time::{Duration, Instant};

use crate::config::Redial;
use crate::planted::{Bug, planted};
use crate::spans::{nanoseconds, part};

/// The longest delay that a server's hint can ask for.
pub(crate) const HINT_MAX: Duration = Duration::from_secs(600);

/// Exponential backoff with equal jitter: the delay doubles with each attempt up to a cap, and a
/// share of it is drawn at random, so that clients that lost a server together do not come back
/// together. See Marc Brooker, "Exponential Backoff And Jitter",
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>; "equal" there is
/// a share of one half, the default of [`Redial::jitter`].
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    redial: Redial,
    /// Delays given out since the last stable link.
    attempt: u32,
    connected_since: Option<Instant>,
    /// The least delay of the next attempt.
    hint: Duration,
}

impl Backoff {
    pub(crate) const fn new(redial: Redial) -> Self {
        Self {
            redial,
            attempt: 0,
            connected_since: None,
            hint: Duration::ZERO,
        }
    }

    /// The delay before the next attempt, for a draw from `0.0..1.0`; `None` when
    /// [`Redial::max_attempts`] attempts have been made since the last stable link.
    ///
    /// It is `first * 2^n`, at most `cap`, less `jitter * random` of it. Where that is less than
    /// the server's hint, it is the hint, and `jitter * random` of it on top: the least
    /// delay is kept, and clients that got the same hint still spread.
    pub(crate) fn next_delay(&mut self, random: f64) -> Option<Duration> {
        if self
            .redial
            .max_attempts
            .is_some_and(|most| self.attempt >= most)
        {
            return None;
        }
        let full = doubled(self.redial.first, self.attempt).min(self.redial.cap);
        self.attempt = self.attempt.saturating_add(1);
        let jittered = if planted(Bug::RedialWithoutJitter) {
            full
        } else {
            full - share(full, self.redial.jitter, random)
        };
        let hint = std::mem::take(&mut self.hint);
        let delay = if jittered < hint {
            hint + share(hint, self.redial.jitter, random)
        } else {
            jittered
        };
        Some(delay)
    }

    /// The number of the attempt that the last delay stands before: 1 for the first one after a
    /// stable link, 0 when there was none.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A link was established (and admitted). What the server hinted at before no longer counts.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.connected_since = Some(now);
        self.hint = Duration::ZERO;
    }

    /// The link ended. Delays start at `first` again if it held for [`Redial::stable_after`].
    pub(crate) fn disconnected(&mut self, now: Instant) {
        let since = self.connected_since.take();
        if since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.redial.stable_after)
        {
            self.attempt = 0;
        }
    }

    /// The server says when it wants to see this client again: the next attempt waits at least so
    /// long. At most 10 minutes count, for a hostile server must not send a client away for ever.
    pub(crate) fn hint(&mut self, retry_after: Duration) {
        self.hint = retry_after.min(HINT_MAX);
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    // 2^32 times the shortest delay is far above the longest cap.
    nanoseconds(first.as_nanos() << times.min(32))
}

/// `span * jitter * random`.
fn share(span: Duration, jitter: f64, random: f64) -> Duration {
    part(part(span, jitter), random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn ten(random: f64, mut backoff: Backoff) -> Vec<f64> {
        (0..10)
            .map(|_| backoff.next_delay(random).unwrap().as_secs_f64())
            .collect()
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let delays = ten(0.0, Backoff::new(Redial::default()));
        assert_eq!(delays, [1., 2., 4., 8., 16., 32., 60., 60., 60., 60.]);
    }

    #[test]
    fn jitter_takes_up_to_its_share_off() {
        let delays = ten(0.5, Backoff::new(Redial::default()));
        assert_eq!(delays, [0.75, 1.5, 3., 6., 12., 24., 45., 45., 45., 45.]);
        let none = Redial {
            jitter: 0.0,
            ..Redial::default()
        };
        assert_eq!(ten(0.9, Backoff::new(none))[..3], [1., 2., 4.]);
        let all = Redial {
            jitter: 1.0,
            ..Redial::default()
        };
        assert_eq!(Backoff::new(all).next_delay(0.75), Some(SECOND / 4));
    }

    #[test]
    fn delays_are_the_same_to_the_nanosecond_on_every_machine() {
        let redial = Redial {
            first: Duration::from_nanos(1_234_567_891),
            jitter: 0.3,
            ..Redial::default()
        };
        let mut backoff = Backoff::new(redial);
        let nanos: Vec<_> = (0..3)
            .map(|_| backoff.next_delay(0.777).unwrap().as_nanos())
            .collect();
        assert_eq!(nanos, [946_790_116, 1_893_580_232, 3_787_160_464]);
    }

    #[test]
    fn only_a_stable_link_starts_the_delays_anew() {
        let start = Instant::now();
        let mut backoff = Backoff::new(Redial::default());
        for _ in 0..3 {
            backoff.next_delay(0.0);
        }
        assert_eq!(backoff.attempt(), 3);
        backoff.connected(start);
        backoff.disconnected(start + seconds(30) - Duration::from_nanos(1));
        assert_eq!(backoff.next_delay(0.0), Some(seconds(8)));
        backoff.connected(start + seconds(40));
        backoff.disconnected(start + seconds(70));
        assert_eq!(backoff.attempt(), 0);
        assert_eq!(backoff.next_delay(0.0), Some(SECOND));
        assert_eq!(backoff.attempt(), 1);
        // A dial that failed is no link, however much later its failure is noticed.
        backoff.disconnected(start + seconds(1_000));
        assert_eq!(backoff.next_delay(0.0), Some(seconds(2)));
    }

    #[test]
    fn attempts_end_where_they_are_told_to() {
        let start = Instant::now();
        let mut backoff = Backoff::new(Redial {
            max_attempts: Some(2),
            ..Redial::default()
        });
        assert!(backoff.next_delay(0.0).is_some() && backoff.next_delay(0.0).is_some());
        assert_eq!(
            (backoff.next_delay(0.0), backoff.next_delay(0.0)),
            (None, None)
        );
        assert_eq!(backoff.attempt(), 2);
        backoff.connected(start);
        backoff.disconnected(start + seconds(30));
        assert_eq!(backoff.next_delay(0.0), Some(SECOND));
    }

    #[test]
    fn a_hint_delays_one_attempt_and_spreads_those_who_got_it() {
        let mut backoff = Backoff::new(Redial::default());
        backoff.hint(seconds(10));
        assert_eq!(
            backoff.clone().next_delay(0.5),
            Some(Duration::from_millis(12_500))
        );
        assert_eq!(backoff.next_delay(0.0), Some(seconds(10)));
        assert_eq!(
            backoff.next_delay(0.0),
            Some(seconds(2)),
            "it counts once, and the attempt counts"
        );
        backoff.hint(SECOND);
        assert_eq!(
            backoff.next_delay(0.0),
            Some(seconds(4)),
            "a shorter hint changes nothing"
        );
        backoff.hint(seconds(1_000_000));
        assert_eq!(backoff.next_delay(0.0), Some(HINT_MAX));
    }

    #[test]
    fn a_hint_of_a_draining_server_survives_the_end_of_the_link_and_an_older_one_does_not() {
        let start = Instant::now();
        let mut backoff = Backoff::new(Redial::default());
        backoff.hint(seconds(50));
        backoff.connected(start);
        let mut drained = backoff.clone();
        drained.hint(seconds(20));
        for (mut backoff, expected) in [(backoff, SECOND), (drained, seconds(20))] {
            backoff.disconnected(start + seconds(60));
            assert_eq!(backoff.next_delay(0.0), Some(expected));
        }
    }

    proptest! {
        #[test]
        fn delays_stay_in_their_envelope(
            first in 1..100_000_u64,
            cap in 0..86_300_000_u64,
            jitter in 0.0..=1.0,
            draws in prop::collection::vec(0.0..1.0, 1..100),
        ) {
            let first = Duration::from_millis(first);
            let cap = first + Duration::from_millis(cap);
            let mut backoff = Backoff::new(Redial { first, cap, jitter, ..Redial::default() });
            let mut full = first;
            for (n, random) in draws.into_iter().enumerate() {
                let delay = backoff.next_delay(random).unwrap();
                prop_assert!(delay <= full);
                let least = full.as_secs_f64() * (1.0 - jitter);
                prop_assert!(delay.as_secs_f64() >= least - 1e-4, "{delay:?} of {full:?}");
                prop_assert_eq!(backoff.attempt() as usize, n + 1);
                full = (full * 2).min(cap);
            }
        }

        #[test]
        fn no_draw_and_no_setting_can_break_the_arithmetic(
            redial in (any::<u64>(), any::<u64>(), any::<f64>()),
            hint in any::<u64>(),
            random in any::<f64>(),
        ) {
            let (first, cap, jitter) = redial;
            let (first, cap) = (Duration::from_nanos(first), Duration::from_nanos(cap));
            let mut backoff = Backoff::new(Redial { first, cap, jitter, ..Redial::default() });
            for _ in 0..70 {
                backoff.hint(Duration::from_nanos(hint));
                let delay = backoff.next_delay(random).unwrap();
                prop_assert!(delay <= cap.max(2 * HINT_MAX));
            }
        }
    }
}
