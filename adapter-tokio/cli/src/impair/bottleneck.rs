//! The slow place of a path: a rate, and a queue in front of it.

use std::time::Duration;

use super::settings::Rate;

/// A link that sends one packet after the other, and the bounded queue of those that wait for it.
/// Times are since the path's beginning.
#[derive(Debug)]
pub(super) struct Bottleneck {
    rate: Rate,
    queue: usize,
    free_at: Duration,
}

impl Bottleneck {
    pub(super) fn new(rate: Rate, queue: usize) -> Self {
        Self {
            rate,
            queue,
            free_at: Duration::ZERO,
        }
    }

    /// When a packet that arrives now has left; `None`: the queue has no room for it. An idle link
    /// takes a packet of any size.
    pub(super) fn pass(&mut self, now: Duration, length: usize) -> Option<Duration> {
        let backlog = self.rate.bytes_in(self.free_at.saturating_sub(now));
        if backlog > 0 && backlog.saturating_add(length) > self.queue {
            return None;
        }
        self.free_at = self
            .free_at
            .max(now)
            .saturating_add(self.rate.duration_of(length));
        Some(self.free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bottleneck(queue: usize) -> Bottleneck {
        // 1,000 bytes take a millisecond.
        Bottleneck::new(Rate::new(8_000_000).expect("not zero"), queue)
    }

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn packets_leave_one_after_the_other() {
        let mut link = bottleneck(10_000);
        assert_eq!(link.pass(millis(0), 1_000), Some(millis(1)));
        assert_eq!(link.pass(millis(0), 1_000), Some(millis(2)));
        assert_eq!(link.pass(millis(5), 1_000), Some(millis(6)));
    }

    #[test]
    fn a_full_queue_drops_and_has_room_again_as_it_drains() {
        let mut link = bottleneck(3_000);
        let passed = (0..10)
            .filter(|_| link.pass(millis(0), 1_000).is_some())
            .count();
        assert_eq!(passed, 3);
        assert_eq!(link.pass(Duration::from_micros(900), 1_000), None);
        assert_eq!(link.pass(millis(1), 1_000), Some(millis(4)));
    }

    #[test]
    fn a_packet_larger_than_the_queue_passes_when_nothing_waits() {
        let mut link = bottleneck(500);
        assert_eq!(link.pass(millis(0), 1_000), Some(millis(1)));
        assert_eq!(link.pass(millis(0), 1_000), None);
    }
}
