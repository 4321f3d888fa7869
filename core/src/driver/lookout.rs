//! What the driver does when it has nothing to do: it looks for a moment, if that pays, and sleeps.

use std::time::Duration;

use crate::BusyPoll;

/// Looking holds up everything else on the driver's thread, so others who can run go first: the driver
/// steps aside once before it looks, and once more if it had something to do since.
#[derive(Debug)]
pub(super) struct Lookout {
    busy_poll: BusyPoll,
    /// It has stepped aside for a look that takes so long.
    due: Option<Duration>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    StepAside,
    Look(Duration),
    Sleep,
}

impl Lookout {
    pub(super) fn new(busy_poll: BusyPoll) -> Self {
        Self {
            busy_poll,
            due: None,
        }
    }

    /// After a turn that leaves nothing to do, and that had something to do, or nothing either.
    pub(super) fn next(&mut self, was_busy: bool) -> Next {
        match self.due.take() {
            Some(time) if !was_busy => Next::Look(time),
            due => {
                self.due = due.or_else(|| self.busy_poll.before_sleep());
                self.due.map_or(Next::Sleep, |_| Next::StepAside)
            }
        }
    }

    /// It has looked, and found something to do, or nothing.
    pub(super) fn looked(&mut self, found: bool) {
        self.busy_poll.looked(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_micros(7);

    #[test]
    fn others_go_first_whenever_there_was_something_to_do() {
        let mut lookout = Lookout::new(BusyPoll::new(TIME));
        assert_eq!(lookout.next(true), Next::StepAside);
        assert_eq!(lookout.next(true), Next::StepAside);
        assert_eq!(lookout.next(false), Next::Look(TIME));
        lookout.looked(true);
        assert_eq!(lookout.next(false), Next::StepAside);
        assert_eq!(lookout.next(false), Next::Look(TIME));
    }

    #[test]
    fn after_a_look_in_vain_it_sleeps_at_once() {
        let mut lookout = Lookout::new(BusyPoll::new(TIME));
        assert_eq!(lookout.next(false), Next::StepAside);
        assert_eq!(lookout.next(false), Next::Look(TIME));
        lookout.looked(false);
        assert_eq!(lookout.next(true), Next::Sleep);
        assert_eq!(lookout.next(false), Next::StepAside);
    }

    #[test]
    fn without_looks_nobody_steps_aside() {
        let mut lookout = Lookout::new(BusyPoll::NEVER);
        assert_eq!(lookout.next(true), Next::Sleep);
        assert_eq!(lookout.next(false), Next::Sleep);
    }
}
