//! The packets that are under way.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tokio::time::Instant;

/// Packets that wait for the moment of their release; those of one moment leave in the order in
/// which they came. Bounded: what does not fit is given back.
#[derive(Debug)]
pub(super) struct DelayLine<T> {
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    numbered: u64,
    bytes: usize,
    most_packets: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    release: Instant,
    number: u64,
    bytes: usize,
    packet: T,
}

impl<T> DelayLine<T> {
    pub(super) fn new(most_packets: usize, most_bytes: usize) -> Self {
        Self {
            waiting: BinaryHeap::new(),
            numbered: 0,
            bytes: 0,
            most_packets,
            most_bytes,
        }
    }

    /// Keeps a packet until then. False: there is no room, and it is gone.
    #[must_use]
    pub(super) fn push(&mut self, release: Instant, bytes: usize, packet: T) -> bool {
        if self.waiting.len() >= self.most_packets
            || self.bytes.saturating_add(bytes) > self.most_bytes
        {
            return false;
        }
        self.bytes += bytes;
        self.numbered += 1;
        self.waiting.push(Reverse(Waiting {
            release,
            number: self.numbered,
            bytes,
            packet,
        }));
        true
    }

    /// The next packet whose moment has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let Reverse(first) = self.waiting.pop()?;
        self.bytes -= first.bytes;
        Some(first.packet)
    }

    /// When the next packet is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(first)| first.release)
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.release, self.number).cmp(&(other.release, other.number))
    }
}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Waiting<T> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn packets_leave_when_due_and_in_order() {
        let start = Instant::now();
        let later = start + Duration::from_millis(1);
        let mut line = DelayLine::new(10, 1_000);
        assert!(
            line.push(later, 1, "third")
                && line.push(start, 1, "first")
                && line.push(start, 1, "second")
        );
        assert_eq!(line.next(), Some(start));
        assert_eq!(
            [
                line.pop_due(start),
                line.pop_due(start),
                line.pop_due(start)
            ],
            [Some("first"), Some("second"), None]
        );
        assert_eq!(line.next(), Some(later));
        assert_eq!(line.pop_due(later), Some("third"));
        assert_eq!(line.next(), None);
    }

    #[test]
    fn packets_and_bytes_are_bounded_and_room_comes_back() {
        let now = Instant::now();
        let mut line = DelayLine::new(2, 100);
        assert!(
            line.push(now, 60, ())
                && !line.push(now, 60, ())
                && line.push(now, 40, ())
                && !line.push(now, 0, ())
        );
        assert_eq!(line.pop_due(now), Some(()));
        assert!(line.push(now, 60, ()));
    }
}
