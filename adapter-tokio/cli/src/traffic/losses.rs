//! What a lost session takes with it: which losses were announced, and how many they were.

/// What was under way when the last session was lost. Each sending has a number that goes up.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// The last sending before the loss.
    up_to: u64,
    /// How many of them have not settled.
    left: u64,
    lost: Total,
}

/// How many were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) lost: u64,
    /// Of these, how many the server may have handled.
    pub(crate) maybe_handled: u64,
}

impl Losses {
    /// The loss of the session was told, with so many under way.
    pub(crate) fn session_lost(&mut self, last_sending: u64, under_way: usize) {
        *self = Self {
            up_to: last_sending,
            left: under_way as u64,
            lost: Total::default(),
        };
    }

    /// Whether the loss of that sending's session was told.
    pub(crate) fn was_told(&self, sending: u64) -> bool {
        sending <= self.up_to
    }

    /// That was one.
    pub(crate) fn count(&mut self, maybe_handled: bool) {
        self.lost.lost += 1;
        self.lost.maybe_handled += u64::from(maybe_handled);
    }

    /// A sending has settled. When it was the last that was under way, says what was lost, if
    /// anything was.
    pub(crate) fn settled(&mut self, sending: u64) -> Option<Total> {
        if !self.was_told(sending) || self.left == 0 {
            return None;
        }
        self.left -= 1;
        (self.left == 0 && self.lost.lost > 0).then_some(self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_without_the_loss_of_a_session_was_not_told() {
        let mut losses = Losses::default();
        assert!(!losses.was_told(1));
        losses.session_lost(5, 2);
        assert!(losses.was_told(5));
        assert!(!losses.was_told(6));
    }

    #[test]
    fn the_last_of_those_under_way_tells_how_many_were_lost() {
        let mut losses = Losses::default();
        losses.session_lost(5, 3);
        losses.count(true);
        assert_eq!(losses.settled(3), None);
        // Answered at the last moment.
        assert_eq!(losses.settled(4), None);
        // Sent over the new session.
        assert_eq!(losses.settled(6), None);
        losses.count(false);
        let total = Total {
            lost: 2,
            maybe_handled: 1,
        };
        assert_eq!(losses.settled(5), Some(total));
        assert_eq!(losses.settled(5), None);
    }

    #[test]
    fn nothing_is_told_where_nothing_was_lost() {
        let mut losses = Losses::default();
        losses.session_lost(1, 1);
        assert_eq!(losses.settled(1), None);
    }
}
