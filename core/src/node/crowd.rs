//! Answers that peers do not take. What makes more of them is not read then: of one session that has too many
//! ([`crate::Limits::outbox_bytes`]), and, once all together have too many, of those that have more than their share.

use super::Node;

/// A share is at least as much, in bytes.
const SHARE_MIN: usize = 64 << 10;

/// Reading goes on once all answers together take no more quarters of their room than that: it is not left
/// again with the next answer.
const FEW_QUARTERS: usize = 3;

impl Node {
    /// From how much on, in bytes, a session has too much in answers because all together have; no limit, unless they
    /// do. Peers that take theirs need hardly any, so that those that do not keep nobody else from being served.
    pub(super) fn answers_crowd_at(&self) -> usize {
        let all = self.config.limits.outbox_bytes_total;
        if self.room.answer_bytes < all {
            return usize::MAX;
        }
        (all / self.sessions.len().max(1)).max(SHARE_MIN)
    }

    /// Reads on where it was left because of others, once they have a good deal less.
    pub(super) fn read_the_crowd(&mut self) {
        let few = self.config.limits.outbox_bytes_total / 4 * FEW_QUARTERS;
        if self.crowded_out.is_empty() || self.room.answer_bytes > few {
            return;
        }
        let lives = |link| self.links.get(link).is_some();
        self.crowded_out.move_to(&mut self.dirty, lives);
    }
}
