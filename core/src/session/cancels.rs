//! Cancels that a peer has to be told on the next link.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many cancels wait for the next link. They are hints: what is not told runs to its end, and
/// its answer is discarded.
const LATER: usize = 256;

/// How many of those last told are remembered. The peer remembers as many that overtook their message.
const TOLD: usize = 64;

/// What this side has given up, as far as the peer may not know it.
///
/// Nothing acknowledges a cancel. What was told on a link that then died may never have come, so it is told
/// again on the next one; twice does no harm.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    later: Vec<u64>,
    /// When they were told, oldest first.
    told: VecDeque<(Instant, u64)>,
}

impl Cancels {
    /// A promise was given up, and there is no link to say so.
    pub(crate) fn later(&mut self, promise: u64) {
        if self.later.len() < LATER {
            self.later.push(promise);
        }
    }

    /// The peer is told now.
    pub(crate) fn told(&mut self, now: Instant, promise: u64) {
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        self.told.push_back((now, promise));
    }

    /// The link is lost. It may have carried nothing for as long as `dying`.
    pub(crate) fn link_lost(&mut self, now: Instant, dying: Duration) {
        for (at, promise) in std::mem::take(&mut self.told) {
            if now.saturating_duration_since(at) <= dying {
                self.later(promise);
            }
        }
    }

    /// What the next link is to begin with.
    pub(crate) fn take(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYING: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_told_on_a_dying_link_is_told_again() {
        let now = Instant::now();
        let mut cancels = Cancels::default();
        cancels.told(now, 1);
        cancels.told(now + DYING, 2);
        cancels.link_lost(now + 2 * DYING, DYING);
        cancels.later(3);
        assert_eq!(cancels.take(), [2, 3], "the first was told long before");
        cancels.link_lost(now + 2 * DYING, DYING);
        assert!(cancels.take().is_empty());
    }

    #[test]
    fn the_last_ones_are_remembered_and_as_many_wait_as_there_is_room_for() {
        let now = Instant::now();
        let mut cancels = Cancels::default();
        for promise in 0..1_000 {
            cancels.told(now, promise);
        }
        cancels.link_lost(now, DYING);
        let told: Vec<u64> = (1_000 - TOLD as u64..1_000).collect();
        assert_eq!(cancels.take(), told);
        for promise in 0..1_000 {
            cancels.later(promise);
        }
        assert_eq!(cancels.take().len(), LATER);
    }
}
