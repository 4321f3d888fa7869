//! How much of what has happened a turn passes on.

/// What one turn passes on at most, before other tasks get theirs.
const MOST: usize = 4_096;

/// What a turn after a rest passes on: there was nothing to do here, and so there is for a peer that waits
/// for an answer. It is to begin with the first ones, and not to rest until all are made.
const FIRST: usize = 16;

/// Where more than so many wait, both ends have enough to do.
const FEW: usize = 128;

/// How much more each turn passes on after that. Where both ends are busy anyway, the fewest packets are
/// the fastest.
const GROWTH: usize = 4;

/// How many events a turn passes on.
#[derive(Debug)]
pub(super) struct Portion {
    events: usize,
    /// With so many tasks to wake, a turn passes on no more.
    wakes: usize,
    rested: bool,
}

impl Portion {
    /// For a runtime that wakes so many tasks at once ([`super::Runtime::wakes_at_once`]).
    pub(super) fn new(wakes: usize) -> Self {
        Self {
            events: MOST,
            wakes: wakes.max(1),
            rested: false,
        }
    }

    /// The driver rests until something happens.
    pub(super) fn rest(&mut self) {
        self.rested = true;
    }

    /// A turn begins; with commands, it follows from work here, and not from a rest.
    pub(super) fn begin(&mut self, with_commands: bool) {
        self.events = match (std::mem::take(&mut self.rested), with_commands) {
            (true, false) => FIRST,
            (true, true) => MOST,
            (false, _) => (self.events * GROWTH).min(MOST),
        };
    }

    /// Whether a turn that has passed on so many goes on, with so many that wait, and so many tasks
    /// to wake for those that it has passed on.
    pub(super) fn allows(&mut self, passed_on: usize, waiting: usize, woken: usize) -> bool {
        if passed_on == self.events && waiting > FEW {
            self.events = MOST;
        }
        passed_on < self.events && woken < self.wakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many events a turn passes on.
    fn turn(portion: &mut Portion, with_commands: bool, waiting: usize) -> usize {
        portion.begin(with_commands);
        (0..waiting)
            .take_while(|passed_on| portion.allows(*passed_on, waiting - passed_on, *passed_on))
            .count()
    }

    #[test]
    fn after_a_rest_turns_begin_small_and_grow() {
        let mut portion = Portion::new(usize::MAX);
        assert_eq!(turn(&mut portion, false, 100), 100);
        portion.rest();
        assert_eq!(turn(&mut portion, false, 100), FIRST);
        assert_eq!(turn(&mut portion, true, 84), 64);
        assert_eq!(turn(&mut portion, true, 100), 100);
    }

    #[test]
    fn many_events_are_not_held_back() {
        let mut portion = Portion::new(usize::MAX);
        portion.rest();
        assert_eq!(turn(&mut portion, false, 1_000), 1_000);
        assert_eq!(turn(&mut portion, true, 10_000), MOST);
    }

    #[test]
    fn a_turn_ends_with_as_many_wake_ups_as_its_runtime_takes() {
        let mut portion = Portion::new(128);
        assert_eq!(turn(&mut portion, false, 1_000), 128);
        portion.rest();
        assert_eq!(turn(&mut portion, false, 1_000), 128);
        assert_eq!(turn(&mut portion, true, 100), 100);
    }

    #[test]
    fn who_is_woken_by_commands_was_not_at_rest() {
        let mut portion = Portion::new(usize::MAX);
        portion.rest();
        assert_eq!(turn(&mut portion, false, 100), FIRST);
        portion.rest();
        assert_eq!(turn(&mut portion, true, 100), 100);
        assert_eq!(turn(&mut portion, false, 100), 100, "it did not rest again");
    }
}
