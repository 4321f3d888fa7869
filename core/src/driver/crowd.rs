//! Those who were woken together: they commonly send again, and one turn serves them all.

/// So many make a crowd.
const CROWD: usize = 4;

/// So many commands are worth a turn, whoever else is on the way: about as many small messages as
/// one send call takes.
const ENOUGH: usize = 64;

/// So often the driver steps aside before a turn. Others run meanwhile; if nobody can, it costs less
/// than the turn does.
const PATIENCE: u32 = 2;

/// How many were woken and have not been heard of since. On a runtime of several threads each of them
/// would otherwise have the driver run for its message alone, for whoever is woken by a task commonly
/// runs right after it.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    awaited: usize,
    /// How often the driver has stepped aside since its last turn.
    steps: u32,
}

impl Crowd {
    /// So many are woken; says whether that is a crowd.
    pub(super) fn wake(&mut self, count: usize) -> bool {
        self.awaited += count;
        count >= CROWD
    }

    /// Whether the driver should step aside once more, for others to come beside those that have left
    /// so many commands. If not, its turn is now.
    pub(super) fn is_on_its_way(&mut self, commands: usize) -> bool {
        let missing = self.awaited.saturating_sub(commands);
        if missing >= CROWD && commands < ENOUGH && self.steps < PATIENCE {
            self.steps += 1;
            return true;
        }
        // Nobody in all that time: they have something else to do.
        let nobody = commands == 0 && self.steps == PATIENCE;
        self.awaited = if nobody { 0 } else { missing };
        self.steps = 0;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the driver steps aside with so many commands before its turn.
    fn steps(crowd: &mut Crowd, commands: usize) -> usize {
        std::iter::from_fn(|| crowd.is_on_its_way(commands).then_some(())).count()
    }

    #[test]
    fn a_crowd_is_waited_for_until_it_has_come_or_enough_of_it_has() {
        let mut crowd = Crowd::default();
        assert!(crowd.wake(200));
        assert_eq!(steps(&mut crowd, 3), 2);
        assert_eq!(steps(&mut crowd, ENOUGH), 0);
        assert_eq!(steps(&mut crowd, 200 - 3 - ENOUGH - CROWD), 0);
        assert_eq!(steps(&mut crowd, 1), 0, "three more are no crowd");
    }

    #[test]
    fn who_stays_away_is_not_waited_for_again() {
        let mut crowd = Crowd::default();
        crowd.wake(200);
        assert_eq!(steps(&mut crowd, 0), 2);
        assert_eq!(steps(&mut crowd, 0), 0);
        assert_eq!(steps(&mut crowd, 1), 0);
    }

    #[test]
    fn one_at_a_time_is_served_at_once() {
        let mut crowd = Crowd::default();
        for _ in 0..100 {
            assert!(!crowd.wake(1));
            assert_eq!(steps(&mut crowd, 1), 0);
        }
    }
}
