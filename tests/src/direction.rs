//! One direction of a path: what becomes of each datagram, from the path's settings, what went
//! before, and the direction's own random numbers.

use std::time::{Duration, Instant};

use crate::{Path, Random};

/// A datagram that is to be overtaken is held back between this …
const HOLD_LEAST: Duration = Duration::from_millis(1);
/// … and this.
const HOLD_MOST: Duration = Duration::from_millis(20);
/// Nothing arrives in no time: else two nodes could talk for ever at one instant.
const DELAY_LEAST: Duration = Duration::from_micros(1);

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Dropped(Cause),
    Arrives {
        at: Instant,
        held_back: bool,
        /// Which bit is flipped, if one is.
        flipped: Option<usize>,
        /// When a second copy arrives, if one does.
        copy: Option<Instant>,
    },
}

/// Why a datagram never arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Loss,
    Cut,
    QueueFull,
    TooLarge,
}

/// One direction of a path between two nodes.
#[derive(Debug)]
pub(crate) struct Direction {
    /// Its own settings; `None`: those of every path.
    pub(crate) own: Option<Path>,
    /// After so many more datagrams nothing gets through any more.
    pub(crate) cut_after: Option<u64>,
    /// Until then whatever arrives is held, and then comes all at once.
    pub(crate) held_until: Option<Instant>,
    /// Datagrams that were sent.
    pub(crate) sent: u64,
    random: Random,
    /// The state of the loss chain: in the bad one everything gets lost.
    bad: bool,
    /// When the bottleneck has sent all that waits for it.
    free_at: Instant,
}

/// A datagram's random numbers. Each takes as many, used or not, so that what becomes of a
/// datagram depends on its place in the order and not on which impairments are on.
struct Draws {
    loss: f64,
    jitter: f64,
    reorder: f64,
    hold: f64,
    corrupt: f64,
    position: f64,
    duplicate: f64,
    lag: f64,
}

impl Direction {
    pub(crate) fn new(random: Random, now: Instant) -> Self {
        Self {
            own: None,
            cut_after: None,
            held_until: None,
            sent: 0,
            random,
            bad: false,
            free_at: now,
        }
    }

    /// Decides about the next datagram, of `length` bytes.
    pub(crate) fn decide(&mut self, path: &Path, now: Instant, length: usize) -> Fate {
        let draws = self.draw();
        let lost = self.is_lost(path, draws.loss);
        self.sent += 1;
        let burnt = self.cut_after == Some(0);
        self.cut_after = self.cut_after.map(|left| left.saturating_sub(1));
        if path.cut || burnt {
            return Fate::Dropped(Cause::Cut);
        }
        if path.mtu.is_some_and(|mtu| length > mtu) {
            return Fate::Dropped(Cause::TooLarge);
        }
        if lost {
            return Fate::Dropped(Cause::Loss);
        }
        let Some(left) = self.pass_bottleneck(path, now, length) else {
            return Fate::Dropped(Cause::QueueFull);
        };
        let after = |jitter: f64| {
            let delay = path.delay.checked_add(part(path.jitter, jitter))?;
            left.checked_add(delay.max(DELAY_LEAST))
        };
        let held_back = draws.reorder < path.reorder;
        let hold = HOLD_LEAST + part(HOLD_MOST - HOLD_LEAST, draws.hold);
        let hold = if held_back { hold } else { Duration::ZERO };
        let at = after(draws.jitter).and_then(|at| at.checked_add(hold));
        let Some(at) = at else {
            return Fate::Dropped(Cause::Cut);
        };
        let bits = length * 8;
        Fate::Arrives {
            at,
            held_back,
            flipped: (draws.corrupt < path.corrupt && bits > 0)
                .then(|| ((bits as f64 * draws.position) as usize).min(bits - 1)),
            copy: (draws.duplicate < path.duplicate)
                .then(|| after(draws.lag))
                .flatten(),
        }
    }

    /// A two-state chain (Gilbert, "Capacity of a burst-noise channel", 1960; Elliott, 1963) in its
    /// simplest form: everything passes in the good state and nothing in the bad one. The mean stay
    /// in the bad state is the mean burst, and the share of datagrams that find it bad is the loss.
    fn is_lost(&mut self, path: &Path, draw: f64) -> bool {
        let (worsen, stay) = match path.burst {
            Some(burst) if path.loss < 1.0 => {
                let burst = burst.max(1.0);
                (path.loss / (burst * (1.0 - path.loss)), 1.0 - 1.0 / burst)
            }
            // Either state turns bad with the same chance: no memory.
            _ => (path.loss, path.loss),
        };
        self.bad = draw < if self.bad { stay } else { worsen };
        self.bad
    }

    /// When the datagram has left the bottleneck; `None`: the queue is full. An idle bottleneck
    /// takes a datagram of any size.
    fn pass_bottleneck(&mut self, path: &Path, now: Instant, length: usize) -> Option<Instant> {
        let Some(rate) = path.rate.map(|rate| rate.max(1)) else {
            self.free_at = now;
            return Some(now);
        };
        let waiting = self.free_at.saturating_duration_since(now);
        let waiting = (waiting.as_nanos() * u128::from(rate)).div_ceil(8_000_000_000);
        let full = waiting + length as u128 > u128::from(path.queue_bytes(rate));
        if waiting > 0 && full {
            return None;
        }
        let nanos = (length as u128 * 8_000_000_000).div_ceil(u128::from(rate));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now) + takes;
        Some(self.free_at)
    }

    fn draw(&mut self) -> Draws {
        let mut next = || self.random.fraction();
        Draws {
            loss: next(),
            jitter: next(),
            reorder: next(),
            hold: next(),
            corrupt: next(),
            position: next(),
            duplicate: next(),
            lag: next(),
        }
    }
}

/// A part of a span, in whole nanoseconds, with one product and one cast: the same everywhere.
fn part(span: Duration, of_one: f64) -> Duration {
    Duration::from_nanos((span.as_nanos() as f64 * of_one) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction() -> (Direction, Instant) {
        let now = Instant::now();
        (Direction::new(Random::new(7), now), now)
    }

    /// The share lost and the mean burst of 100,000 datagrams.
    fn measured(loss: f64, burst: Option<f64>) -> (f64, f64) {
        let (mut direction, now) = direction();
        let path = Path {
            loss,
            burst,
            ..Path::default()
        };
        let lost: Vec<bool> = (0..100_000)
            .map(|_| direction.decide(&path, now, 100) == Fate::Dropped(Cause::Loss))
            .collect();
        let count = lost.iter().filter(|lost| **lost).count() as f64;
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
        (count / lost.len() as f64, count / bursts.max(1.0))
    }

    #[test]
    fn loss_has_its_share_and_its_bursts_their_mean_length() {
        for (loss, burst) in [(0.02, 3.0), (0.3, 3.0), (0.1, 20.0), (0.4, 1.0)] {
            let (share, length) = measured(loss, Some(burst));
            assert!(
                (share / loss - 1.0).abs() < 0.1,
                "{share} instead of {loss}"
            );
            assert!(
                (length / burst - 1.0).abs() < 0.1,
                "{length} instead of {burst}"
            );
        }
        let (share, length) = measured(0.1, None);
        assert!((share - 0.1).abs() < 0.01 && (length - 1.0 / 0.9).abs() < 0.02);
        assert_eq!(measured(0.0, Some(5.0)).0, 0.0);
        assert_eq!(measured(1.0, Some(5.0)).0, 1.0);
    }

    #[test]
    fn a_bottleneck_sends_one_after_the_other_and_drops_what_its_queue_does_not_hold() {
        let (mut direction, now) = direction();
        // 1,000 bytes take a millisecond.
        let path = Path {
            rate: Some(8_000_000),
            queue: Some(3_000),
            delay: Duration::from_millis(10),
            ..Path::default()
        };
        let arrivals: Vec<_> = (0..5)
            .map(|_| match direction.decide(&path, now, 1_000) {
                Fate::Arrives { at, .. } => Some((at - now).as_millis()),
                Fate::Dropped(cause) => {
                    assert_eq!(cause, Cause::QueueFull);
                    None
                }
            })
            .collect();
        assert_eq!(arrivals, [Some(11), Some(12), Some(13), None, None]);
        let later = now + Duration::from_millis(1);
        assert!(matches!(
            direction.decide(&path, later, 1_000),
            Fate::Arrives { at, .. } if at == now + Duration::from_millis(14)
        ));
    }

    #[test]
    fn shares_are_kept_and_a_flipped_bit_lies_inside() {
        let (mut direction, now) = direction();
        let path = Path {
            reorder: 0.3,
            corrupt: 0.2,
            duplicate: 0.1,
            ..Path::default()
        };
        let (mut held, mut corrupt, mut copies) = (0, 0, 0);
        for _ in 0..10_000 {
            let Fate::Arrives {
                at,
                held_back,
                flipped,
                copy,
            } = direction.decide(&path, now, 10)
            else {
                panic!("nothing is lost here")
            };
            assert!(flipped.is_none_or(|bit| bit < 80));
            let on_time = at == now + path.delay;
            assert!(held_back != on_time && at - now <= path.delay + HOLD_MOST);
            held += u32::from(held_back);
            corrupt += u32::from(flipped.is_some());
            copies += u32::from(copy.is_some());
        }
        let near = |count: u32, share: f64| (f64::from(count) / 10_000.0 - share).abs() < 0.02;
        assert!(near(held, 0.3) && near(corrupt, 0.2) && near(copies, 0.1));
    }

    #[test]
    fn what_the_mtu_does_not_carry_vanishes() {
        let (mut direction, now) = direction();
        let path = Path {
            mtu: Some(1_300),
            ..Path::default()
        };
        assert_eq!(
            direction.decide(&path, now, 1_301),
            Fate::Dropped(Cause::TooLarge)
        );
        assert!(matches!(
            direction.decide(&path, now, 1_300),
            Fate::Arrives { .. }
        ));
    }
}
