//! Lines of clients that go on at other addresses. Each of them may do so once a round trip: so many lines are written a
//! second, and then how many were not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// So many lines are written in each [`WINDOW`], of all clients together: as many as of those that are not let in.
const LINES: u32 = 50;

const WINDOW: Duration = Duration::from_secs(1);

/// What is left of a window's lines.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    window: Mutex<Window>,
    /// There are some that nobody has been told of.
    untold: Notify,
}

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
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.is_over(now) {
            (window.since, window.written) = (Some(now), 0);
        }
        let room = window.written < LINES;
        window.written += u32::from(room);
        window.left_out += u64::from(!room);
        if !room {
            self.untold.notify_one();
        }
        room
    }

    /// Waits until some are left out and a window has passed since, in which there may be more.
    pub(crate) async fn some_left_out(&self) {
        self.untold.notified().await;
        tokio::time::sleep(WINDOW).await;
    }

    /// How many were left out since this was asked last, if any.
    pub(crate) fn take_left_out(&self) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = std::mem::take(&mut window.left_out);
        (left_out > 0).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_moves_a_second_and_then_how_many_more() {
        let moves = Moves::default();
        let (now, begun) = (Instant::now(), tokio::time::Instant::now());
        let written = (0..60).filter(|_| moves.may(now)).count();
        assert_eq!(written, 50);
        // Nothing else has to happen for it.
        moves.some_left_out().await;
        assert_eq!(begun.elapsed(), WINDOW);
        assert_eq!(moves.take_left_out(), Some(10));
        assert_eq!(moves.take_left_out(), None, "once");
        assert!(moves.may(now + WINDOW));
        let more = tokio::time::timeout(10 * WINDOW, moves.some_left_out());
        assert!(more.await.is_err(), "none is left out any more");
    }
}
