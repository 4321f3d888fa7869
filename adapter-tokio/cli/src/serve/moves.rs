//! Lines of clients that go on at other addresses. Each of them may do so once a round trip: so many lines are written a
//! second, and then how many were not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many lines are written in each [`WINDOW`], of all clients together: as many as of those that are not let in.
const LINES: u32 = 50;

const WINDOW: Duration = Duration::from_secs(1);

/// What is left of a window's lines.
#[derive(Debug, Default)]
pub(crate) struct Moves(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        self.since
            .is_none_or(|since| now.saturating_duration_since(since) >= WINDOW)
    }
}

impl Moves {
    /// Whether one more is written now; otherwise it counts as left out.
    pub(crate) fn may(&self, now: Instant) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.is_over(now) {
            (window.since, window.written) = (Some(now), 0);
        }
        let room = window.written < LINES;
        window.written += u32::from(room);
        window.left_out += u64::from(!room);
        room
    }

    /// How many were left out, once their window is over.
    pub(crate) fn take_left_out(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = window.left_out > 0 && window.is_over(now);
        told.then(|| std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_moves_a_second_and_then_how_many_more() {
        let moves = Moves::default();
        let now = Instant::now();
        let written = (0..60).filter(|_| moves.may(now)).count();
        assert_eq!(written, 50);
        assert_eq!(moves.take_left_out(now), None, "there may be more");
        let later = now + WINDOW;
        assert_eq!(moves.take_left_out(later), Some(10));
        assert_eq!(moves.take_left_out(later), None, "once");
        assert!(moves.may(later));
    }
}
