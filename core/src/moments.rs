//! A grid of instants: timers that may as well fire a little early fire on it, together.

use std::time::{Duration, Instant};

use crate::spans::remainder;

/// So far apart they are.
const APART: Duration = Duration::from_millis(2);

/// The moments of one node, the same for all its sessions and connections. To wake up costs many times what
/// there is to be done for one of them, here and at the peer, whose socket takes together what comes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    epoch: Instant,
}

impl Moments {
    /// One of them is `epoch`.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { epoch }
    }

    /// The last one that is not after the deadline.
    pub(crate) fn last_by(self, deadline: Instant) -> Instant {
        let since = deadline.saturating_duration_since(self.epoch);
        let after = remainder(since, APART);
        deadline.checked_sub(after).unwrap_or(deadline)
    }

    /// The same for something that begins to wait now; the deadline itself, if there is none until then.
    pub(crate) fn last_between(self, now: Instant, deadline: Instant) -> Instant {
        let moment = self.last_by(deadline);
        if moment > now { moment } else { deadline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    #[test]
    fn nothing_is_late_and_few_moments_serve_all() {
        let epoch = Instant::now();
        let moments = Moments::new(epoch);
        let mut used = Vec::new();
        for after in (0..20_000).step_by(7) {
            let deadline = epoch + MICROSECOND * after;
            let moment = moments.last_by(deadline);
            assert!(moment <= deadline && moment + APART > deadline);
            used.push(moment);
        }
        used.dedup();
        assert!(
            used.into_iter()
                .eq((0..10).map(|times| epoch + APART * times))
        );
    }

    #[test]
    fn what_may_wait_for_less_has_its_own_moment() {
        let epoch = Instant::now();
        let moments = Moments::new(epoch);
        let now = epoch + MICROSECOND;
        let soon = now + MICROSECOND;
        assert_eq!(moments.last_between(now, soon), soon);
        assert_eq!(moments.last_between(now, now + APART), epoch + APART);
    }
}
