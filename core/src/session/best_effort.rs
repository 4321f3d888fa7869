//! Messages that wait for a peer's link, are gone with it, and never make anybody else wait.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::config::SlowConsumer;

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) queued: bool,
    /// Messages that were dropped: older ones, or this one.
    pub(crate) dropped: u64,
    /// The policy says that this consumer has to go.
    pub(crate) disconnect: bool,
}

#[derive(Debug)]
struct Waiting {
    frame: Bytes,
    key: Option<u64>,
}

impl Waiting {
    fn weight(&self) -> usize {
        BestEffort::OVERHEAD + self.frame.len()
    }
}

/// What an idle session keeps room for, in messages; there may be very many sessions.
const KEPT: usize = 8;

/// The best-effort side of a session.
#[derive(Debug, Default)]
pub(crate) struct BestEffort {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Sizes of the frames that are written to this link and not reported as received.
    in_flight: VecDeque<usize>,
    in_flight_bytes: usize,
    /// Frames of this link that are reported as received.
    received: u64,
    /// The application was told that this consumer is slow.
    pub(crate) slow: bool,
}

impl BestEffort {
    /// What a message that waits counts for beside its frame, in bytes: its own memory, so that empty
    /// messages are not free.
    pub(crate) const OVERHEAD: usize = 64;

    /// What a message with that body takes of the queue about, in bytes.
    #[cfg(feature = "driver")]
    pub(crate) fn queued_bytes(body: &Bytes) -> usize {
        body.len() + Self::OVERHEAD
    }

    /// Queues an encoded frame within `limit` bytes, or does what the policy says.
    pub(crate) fn offer(
        &mut self,
        frame: Bytes,
        key: Option<u64>,
        limit: usize,
        policy: SlowConsumer,
    ) -> Offer {
        let mut dropped = 0;
        let offered = Waiting { frame, key };
        if policy == SlowConsumer::KeepLatest
            && key.is_some()
            && let Some(place) = self.waiting.iter().position(|w| w.key == key)
            && let Some(earlier) = self.waiting.get_mut(place)
        {
            let bytes = self.waiting_bytes - earlier.weight() + offered.weight();
            if bytes <= limit {
                self.waiting_bytes = bytes;
                *earlier = offered;
                return Offer {
                    queued: true,
                    dropped: 1,
                    disconnect: false,
                };
            }
            // Longer than the earlier one by more than there is room for: it is queued as if new.
            self.waiting_bytes -= earlier.weight();
            self.waiting.remove(place);
            dropped += 1;
        }
        if self.waiting_bytes + offered.weight() > limit {
            match policy {
                SlowConsumer::DropNewest => {
                    return Offer {
                        queued: false,
                        dropped: 1,
                        disconnect: false,
                    };
                }
                SlowConsumer::Disconnect => {
                    return Offer {
                        queued: false,
                        dropped: 1,
                        disconnect: true,
                    };
                }
                SlowConsumer::DropOldest | SlowConsumer::KeepLatest => {
                    while self.waiting_bytes + offered.weight() > limit {
                        let Some(oldest) = self.waiting.pop_front() else {
                            return Offer {
                                queued: false,
                                dropped: dropped + 1,
                                disconnect: false,
                            };
                        };
                        self.waiting_bytes -= oldest.weight();
                        dropped += 1;
                    }
                }
            }
        }
        self.waiting_bytes += offered.weight();
        self.waiting.push_back(offered);
        Offer {
            queued: true,
            dropped,
            disconnect: false,
        }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The next frame to write, if the peer's window of `window` bytes takes it.
    pub(crate) fn write_next(&mut self, window: usize) -> Option<Bytes> {
        if self.in_flight_bytes >= window {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.waiting_bytes -= next.weight();
        let frame = next.frame;
        self.in_flight_bytes += frame.len();
        self.in_flight.push_back(frame.len());
        if self.waiting.is_empty() {
            self.slow = false;
            self.waiting.shrink_to(KEPT);
        }
        Some(frame)
    }

    /// The peer has received `count` frames on this link. `false`: more than were written.
    pub(crate) fn received(&mut self, count: u64) -> bool {
        while self.received < count {
            let Some(bytes) = self.in_flight.pop_front() else {
                return false;
            };
            self.in_flight_bytes -= bytes;
            self.received += 1;
        }
        if self.in_flight.is_empty() {
            self.in_flight.shrink_to(KEPT);
        }
        true
    }

    /// The link is gone, and with it what waited. Returns how many messages were not written.
    pub(crate) fn link_lost(&mut self) -> u64 {
        let dropped = self.waiting.len() as u64;
        *self = Self::default();
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: u8) -> Bytes {
        Bytes::from(vec![n; 10])
    }

    fn contents(queue: &mut BestEffort) -> Vec<u8> {
        std::iter::from_fn(|| queue.write_next(usize::MAX))
            .map(|f| f[0])
            .collect()
    }

    #[test]
    fn each_policy_drops_what_it_says() {
        for (policy, kept, queued) in [
            (SlowConsumer::DropNewest, vec![1, 2], false),
            (SlowConsumer::DropOldest, vec![2, 3], true),
            (SlowConsumer::KeepLatest, vec![2, 3], true),
            (SlowConsumer::Disconnect, vec![1, 2], false),
        ] {
            let mut queue = BestEffort::default();
            let limit = 2 * (BestEffort::OVERHEAD + 10);
            queue.offer(frame(1), Some(1), limit, policy);
            queue.offer(frame(2), Some(2), limit, policy);
            let offer = queue.offer(frame(3), Some(3), limit, policy);
            let disconnect = policy == SlowConsumer::Disconnect;
            assert_eq!(
                offer,
                Offer {
                    queued,
                    dropped: 1,
                    disconnect
                },
                "{policy:?}"
            );
            assert_eq!(contents(&mut queue), kept, "{policy:?}");
        }
    }

    #[test]
    fn the_latest_of_a_key_replaces_the_waiting_one_in_its_place() {
        let mut queue = BestEffort::default();
        for (n, key) in [(1, 7), (2, 8), (3, 7)] {
            queue.offer(frame(n), Some(key), 1_000, SlowConsumer::KeepLatest);
        }
        assert_eq!(contents(&mut queue), [3, 2]);
    }

    #[test]
    fn the_latest_of_a_key_keeps_to_the_limit_when_it_is_longer_than_what_it_replaces() {
        let mut queue = BestEffort::default();
        let limit = 3 * (BestEffort::OVERHEAD + 10);
        for key in 0..3 {
            queue.offer(frame(1), Some(key), limit, SlowConsumer::KeepLatest);
        }
        let longer = Bytes::from(vec![2; BestEffort::OVERHEAD + 20]);
        let offer = queue.offer(longer, Some(1), limit, SlowConsumer::KeepLatest);
        let expected = Offer {
            queued: true,
            dropped: 2,
            disconnect: false,
        };
        assert_eq!(offer, expected, "the one of its key, and the oldest");
        assert_eq!(queue.waiting_bytes(), limit);
        assert_eq!(contents(&mut queue), [1, 2]);
    }

    #[test]
    fn empty_messages_are_not_free() {
        let mut queue = BestEffort::default();
        let dropped = |queue: &mut BestEffort| {
            let offer = queue.offer(Bytes::new(), None, 1_024, SlowConsumer::DropNewest);
            offer.dropped
        };
        assert_eq!(
            (0..100).map(|_| dropped(&mut queue)).sum::<u64>(),
            100 - 1_024 / 64
        );
    }

    #[test]
    fn the_window_opens_with_the_peers_receipts() {
        let mut queue = BestEffort::default();
        (1..=3).for_each(|n| {
            queue.offer(frame(n), None, 1_000, SlowConsumer::DropNewest);
        });
        assert!(queue.write_next(15).is_some());
        assert!(queue.write_next(15).is_some());
        assert!(queue.write_next(15).is_none());
        assert!(queue.received(1));
        assert!(queue.write_next(15).is_some());
        assert!(!queue.received(4), "more than was written");
    }

    #[test]
    fn a_bursts_room_is_given_back_once_the_peer_has_it() {
        let mut queue = BestEffort::default();
        for _ in 0..1_000 {
            queue.offer(frame(1), None, usize::MAX, SlowConsumer::DropNewest);
        }
        assert_eq!(contents(&mut queue).len(), 1_000);
        assert!(queue.received(1_000));
        let room = queue.waiting.capacity() + queue.in_flight.capacity();
        assert!(room <= 4 * KEPT, "{room}");
    }
}
