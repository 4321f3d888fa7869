//! What becomes of each packet: decided without a socket, a clock or a hidden draw.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::bottleneck::Bottleneck;
use super::draws::{Dice, Draw, Draws};
use super::loss::Loss;
use super::orders::Change;
use super::settings::{Direction, Directions, Impairments};

/// A packet that is to be overtaken is held back between this and [`HOLD_MOST`], and the packets
/// behind it do not wait.
const HOLD_LEAST: Duration = Duration::from_millis(1);
const HOLD_MOST: Duration = Duration::from_millis(20);
/// A second copy follows the first one within the jitter, or within this if there is less.
const LAG: Duration = Duration::from_millis(1);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never arrives.
    Dropped(Cause),
    /// It arrives.
    Forwarded {
        /// When.
        after: Duration,
        /// Where it is damaged, if it is.
        corrupt: Option<Flip>,
        /// When an undamaged second copy arrives, if one does.
        copy: Option<Duration>,
    },
}

/// Why a packet never arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Lost at random.
    Loss,
    /// The path was cut.
    Cut,
    /// The queue was full.
    QueueFull,
}

/// One bit to turn over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flip {
    /// In which byte of the packet.
    pub(crate) offset: usize,
    /// Which bit of it.
    pub(crate) mask: u8,
}

/// What became of one direction's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Packets that came.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Lost at random.
    pub(crate) lost: u64,
    /// Dropped while the path was cut.
    pub(crate) cut: u64,
    /// Dropped because the queue was full.
    pub(crate) queue_full: u64,
    /// Held back to be overtaken.
    pub(crate) reordered: u64,
    /// Sent twice.
    pub(crate) duplicated: u64,
    /// Damaged.
    pub(crate) corrupted: u64,
}

/// One path, both ways. The same settings, seed and order of packets in each direction give the
/// same losses, jitter, copies and damage; what the rate and the cuts do depends on time as well.
#[derive(Debug)]
pub(crate) struct Engine {
    start: Instant,
    impairments: Impairments,
    /// Those that it began with.
    configured: Impairments,
    cut: Option<Directions>,
    up: Way,
    down: Way,
}

/// One direction.
#[derive(Debug)]
struct Way {
    dice: Dice,
    loss: Loss,
    bottleneck: Option<Bottleneck>,
    last_arrival: Duration,
    counts: Counts,
}

impl Engine {
    /// A path whose blackouts count from `start`.
    pub(crate) fn new(impairments: Impairments, seed: u64, start: Instant) -> Self {
        let way = |direction| Way {
            dice: Dice::new(seed, direction),
            loss: Loss::new(impairments.loss, impairments.burst),
            bottleneck: impairments
                .rate
                .map(|rate| Bottleneck::new(rate, impairments.queue_bytes())),
            last_arrival: Duration::ZERO,
            counts: Counts::default(),
        };
        Self {
            start,
            impairments,
            configured: impairments,
            cut: None,
            up: way(Direction::Up),
            down: way(Direction::Down),
        }
    }

    /// Decides about the next packet of a direction, of so many bytes.
    pub(crate) fn packet(&mut self, now: Instant, direction: Direction, length: usize) -> Fate {
        let elapsed = now.saturating_duration_since(self.start);
        let impaired = self.impairments.directions.include(direction);
        let cut = self.is_ordered_cut(direction) || impaired && self.impairments.is_cut(elapsed);
        let way = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        way.counts.packets += 1;
        way.counts.bytes += length as u64;
        let fate = if impaired {
            way.decide(&self.impairments, elapsed, cut, length)
        } else if cut {
            Fate::Dropped(Cause::Cut)
        } else {
            Fate::Forwarded {
                after: Duration::ZERO,
                corrupt: None,
                copy: None,
            }
        };
        way.count(fate);
        fate
    }

    /// Cuts these ways, and no others, until [`Engine::heal`]. What is under way already arrives.
    pub(crate) fn cut(&mut self, ways: Directions) {
        self.cut = Some(ways);
    }

    /// Makes one impairment another, until [`Engine::heal`]. What is under way already is not touched.
    pub(crate) fn change(&mut self, change: Change) {
        self.impair(change.made_in(self.impairments));
    }

    /// Ends what [`Engine::cut`] and [`Engine::change`] began.
    pub(crate) fn heal(&mut self) {
        self.cut = None;
        self.impair(self.configured);
    }

    fn impair(&mut self, impairments: Impairments) {
        let Impairments { loss, burst, .. } = self.impairments;
        if (loss, burst) != (impairments.loss, impairments.burst) {
            for way in [&mut self.up, &mut self.down] {
                way.loss = Loss::new(impairments.loss, impairments.burst);
            }
        }
        self.impairments = impairments;
    }

    /// Whether packets of that direction are being dropped by a cut.
    pub(crate) fn is_cut(&self, now: Instant, direction: Direction) -> bool {
        let elapsed = now.saturating_duration_since(self.start);
        self.is_ordered_cut(direction)
            || self.impairments.directions.include(direction) && self.impairments.is_cut(elapsed)
    }

    fn is_ordered_cut(&self, direction: Direction) -> bool {
        self.cut.is_some_and(|ways| ways.include(direction))
    }

    /// What became of the packets so far.
    pub(crate) fn counts(&self, direction: Direction) -> Counts {
        match direction {
            Direction::Up => self.up.counts,
            Direction::Down => self.down.counts,
        }
    }
}

impl Way {
    fn decide(
        &mut self,
        impairments: &Impairments,
        now: Duration,
        cut: bool,
        length: usize,
    ) -> Fate {
        // Both before anything that depends on time, so that the order alone decides about them.
        let draws = self.dice.next_packet();
        let lost = self.loss.next(draws.loss);
        if cut {
            return Fate::Dropped(Cause::Cut);
        }
        if lost {
            return Fate::Dropped(Cause::Loss);
        }
        let left = match &mut self.bottleneck {
            Some(bottleneck) => bottleneck.pass(now, length),
            None => Some(now),
        };
        let Some(left) = left else {
            return Fate::Dropped(Cause::QueueFull);
        };
        let on_time = left
            .saturating_add(delayed(impairments, &draws))
            .max(self.last_arrival);
        let reordered = draws.reorder.falls_in(impairments.reorder);
        let arrival = if reordered {
            self.counts.reordered += 1;
            on_time.saturating_add(within(HOLD_LEAST, HOLD_MOST, draws.hold))
        } else {
            self.last_arrival = on_time;
            on_time
        };
        let duplicated = draws.duplicate.falls_in(impairments.duplicate);
        let copy = arrival.saturating_add(within(
            Duration::ZERO,
            impairments.jitter.max(LAG),
            draws.lag,
        ));
        Fate::Forwarded {
            after: arrival.saturating_sub(now),
            corrupt: corruption(impairments, &draws, length),
            copy: duplicated.then(|| copy.saturating_sub(now)),
        }
    }

    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Dropped(Cause::Loss) => self.counts.lost += 1,
            Fate::Dropped(Cause::Cut) => self.counts.cut += 1,
            Fate::Dropped(Cause::QueueFull) => self.counts.queue_full += 1,
            Fate::Forwarded { corrupt, copy, .. } => {
                self.counts.corrupted += u64::from(corrupt.is_some());
                self.counts.duplicated += u64::from(copy.is_some());
            }
        }
    }
}

/// How long this packet is under way.
fn delayed(impairments: &Impairments, draws: &Draws) -> Duration {
    let Impairments { delay, jitter, .. } = *impairments;
    let spread = within(Duration::ZERO, jitter.saturating_mul(2), draws.jitter);
    delay.saturating_add(spread).saturating_sub(jitter)
}

/// Which bit is flipped, if one is. An empty packet has none.
fn corruption(impairments: &Impairments, draws: &Draws, length: usize) -> Option<Flip> {
    if length == 0 || !draws.corrupt.falls_in(impairments.corrupt) {
        return None;
    }
    let bit = draws.position.below(length as u64 * 8);
    let offset = usize::try_from(bit / 8).ok()?;
    Some(Flip {
        offset,
        mask: 1 << (bit % 8),
    })
}

/// The duration that `draw` picks from `least` to `most`.
fn within(least: Duration, most: Duration, draw: Draw) -> Duration {
    let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX - 1);
    least + Duration::from_nanos(draw.below(span.saturating_add(1)))
}

#[cfg(test)]
mod tests;
