//! Cancels that a peer has to be told on the next link.

use std::collections::VecDeque;

/// How many cancels wait for the next link. They are hints: what is not told runs to its end, and
/// its answer is discarded.
const LATER: usize = 256;

/// How many of those last told are remembered. The peer remembers as many that overtook their message.
const TOLD: usize = 64;

/// What this side has given up, as far as the peer may not know it.
///
/// Nothing acknowledges a cancel. What was told on a link that then died may never have come, so it is told
/// again on the next one; twice does no harm. Nor does it if it was told, or answered, long ago: nothing says
/// so, and 64 of them are 400 bytes of a link's first packets.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    later: Vec<u64>,
    /// Oldest first.
    told: VecDeque<u64>,
}

impl Cancels {
    /// A promise was given up, and there is no link to say so.
    pub(crate) fn later(&mut self, promise: u64) {
        if self.later.len() < LATER {
            self.later.push(promise);
        }
    }

    /// The peer is told now.
    pub(crate) fn told(&mut self, promise: u64) {
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        self.told.push_back(promise);
    }

    /// What was told on the link that is lost is to be told again.
    pub(crate) fn link_lost(&mut self) {
        for promise in std::mem::take(&mut self.told) {
            self.later(promise);
        }
    }

    /// What the next link is to begin with.
    pub(crate) fn take(&mut self) -> Vec<u64> {
        let all = std::mem::take(&mut self.later);
        for promise in &all {
            self.told(*promise);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_on_one_link_is_told_again_on_the_next() {
        let mut cancels = Cancels::default();
        cancels.told(1);
        cancels.link_lost();
        cancels.later(2);
        assert_eq!(cancels.take(), [1, 2]);
        assert!(cancels.take().is_empty());
        cancels.link_lost();
        assert_eq!(
            cancels.take(),
            [1, 2],
            "that link may have been dead as well"
        );
    }

    #[test]
    fn the_last_ones_are_remembered_and_as_many_wait_as_there_is_room_for() {
        let mut cancels = Cancels::default();
        (0..1_000).for_each(|promise| cancels.told(promise));
        cancels.link_lost();
        let told: Vec<u64> = (1_000 - TOLD as u64..1_000).collect();
        assert_eq!(cancels.take(), told);
        cancels.link_lost();
        (0..1_000).for_each(|promise| cancels.later(promise));
        assert_eq!(cancels.take().len(), LATER);
    }
}
