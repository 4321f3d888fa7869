//! When acknowledgements go out that nothing else carries: those of many connections at the same moments.

use std::time::{Duration, Instant};

use crate::moments::Moments;

/// How long a peer waits for one at most: QUIC's own default (RFC 9000, section 18.2). A peer that asks for
/// another delay has its acknowledgements by that, to the moment.
const MAX_ACK_DELAY: Duration = Duration::from_millis(25);

/// Puts one connection's acknowledgements to the last moment before they are due, so that no peer waits longer
/// than it was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckMoments {
    moments: Moments,
    /// The deadline that is known to be an acknowledgement's.
    due: Option<Instant>,
}

impl AckMoments {
    pub(super) fn new(moments: Moments) -> Self {
        Self { moments, due: None }
    }

    /// A datagram has come, and since then the connection's next deadline is this one. QUIC does not say what
    /// it is for: it is an acknowledgement's if it is due when that of this datagram is.
    pub(super) fn came(&mut self, now: Instant, deadline: Option<Instant>) {
        if deadline == now.checked_add(MAX_ACK_DELAY) {
            self.due = deadline;
        }
    }

    /// Whether the connection's next deadline is an acknowledgement's.
    pub(super) fn is_due_by(&self, deadline: Instant) -> bool {
        self.due == Some(deadline)
    }

    /// When to do what is due by the connection's next deadline.
    pub(super) fn moment(&self, deadline: Instant) -> Instant {
        if self.is_due_by(deadline) {
            self.moments.last_by(deadline)
        } else {
            deadline
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    fn begin() -> (Instant, AckMoments) {
        let epoch = Instant::now();
        (epoch, AckMoments::new(Moments::new(epoch)))
    }

    #[test]
    fn it_is_the_first_datagram_that_counts() {
        let (epoch, mut acks) = begin();
        let first = epoch + 17 * MICROSECOND;
        let due = first + MAX_ACK_DELAY;
        acks.came(first, Some(due));
        acks.came(first + MICROSECOND, Some(due));
        assert_eq!(acks.moment(due), epoch + Duration::from_millis(24));
    }

    #[test]
    fn other_deadlines_are_kept() {
        let (epoch, mut acks) = begin();
        let now = epoch + 17 * MICROSECOND;
        let probe = now + MAX_ACK_DELAY - MICROSECOND;
        acks.came(now, Some(probe));
        assert_eq!(acks.moment(probe), probe);
        acks.came(now, Some(now + MAX_ACK_DELAY));
        assert_eq!(acks.moment(probe), probe);
    }
}
