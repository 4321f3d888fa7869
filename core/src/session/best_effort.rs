//! Messages that wait for a peer's link, are gone with it, and never make anybody else wait.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::message::OVERHEAD;

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) queued: bool,
    /// Messages that were dropped: older ones, or this one.
    pub(crate) dropped: u64,
    /// The consumer is slow: there was no room, or what is replaced has waited for it.
    pub(crate) slow: bool,
    /// The policy says that this consumer has to go.
    pub(crate) disconnect: bool,
}

impl Offer {
    const QUEUED: Self = Self {
        queued: true,
        dropped: 0,
        slow: false,
        disconnect: false,
    };
}

#[derive(Debug)]
struct Waiting {
    frame: Bytes,
    key: Option<u64>,
}

impl Waiting {
    fn weight(&self) -> usize {
        OVERHEAD + self.frame.len()
    }
}

/// What an idle session keeps room for, in messages; there may be very many sessions.
const KEPT: usize = 8;

/// The best-effort side of a session.
#[derive(Debug, Default)]
pub(crate) struct BestEffort {
    /// In order; where a newer one of its key had to go to the end, there is nothing.
    waiting: VecDeque<Option<Waiting>>,
    /// The number of the first place; the others follow.
    first: u64,
    /// Where the one of each key stands, if the policy asks for that.
    by_key: BTreeMap<u64, u64>,
    waiting_messages: usize,
    waiting_bytes: usize,
    /// Sizes of the frames that are written to this link and not reported as received.
    in_flight: VecDeque<usize>,
    in_flight_bytes: usize,
    /// Frames of this link that are reported as received.
    received: u64,
    /// Something still waited when all was written that could be.
    left_over: bool,
    /// The application was told that this consumer is slow.
    pub(crate) slow: bool,
}

impl BestEffort {
    /// What a message with that body takes of the queue about, in bytes.
    #[cfg(feature = "driver")]
    pub(crate) fn queued_bytes(body: &Bytes) -> usize {
        body.len() + OVERHEAD
    }

    /// Queues an encoded frame within `limit` bytes, or does what the policy says.
    pub(crate) fn offer(
        &mut self,
        frame: Bytes,
        key: Option<u64>,
        limit: usize,
        policy: SlowConsumer,
    ) -> Offer {
        let offered = Waiting { frame, key };
        let key = key.filter(|_| policy == SlowConsumer::KeepLatest);
        let mut dropped = 0;
        if let Some(place) = key.and_then(|key| self.place_of(key))
            && let Some(slot) = self.waiting.get_mut(place)
            && let Some(earlier) = slot
        {
            dropped = 1;
            let bytes = self.waiting_bytes - earlier.weight() + offered.weight();
            if bytes <= limit {
                self.waiting_bytes = bytes;
                *earlier = offered;
                return Offer {
                    dropped,
                    slow: self.left_over,
                    ..Offer::QUEUED
                };
            }
            // Longer than the earlier one by more than there is room for: it is queued as if new.
            self.waiting_bytes -= earlier.weight();
            self.waiting_messages -= 1;
            *slot = None;
        }
        let full = self.waiting_bytes + offered.weight() > limit;
        let makes_room = matches!(policy, SlowConsumer::DropOldest | SlowConsumer::KeepLatest);
        while makes_room
            && self.waiting_bytes + offered.weight() > limit
            && self.pop_oldest().is_some()
        {
            dropped += 1;
        }
        if self.waiting_bytes + offered.weight() > limit {
            return Offer {
                queued: false,
                dropped: dropped + 1,
                slow: full,
                disconnect: policy == SlowConsumer::Disconnect,
            };
        }
        if let Some(key) = key {
            let number = self.first + self.waiting.len() as u64;
            self.by_key.insert(key, number);
        }
        self.waiting_messages += 1;
        self.waiting_bytes += offered.weight();
        self.waiting.push_back(Some(offered));
        Offer {
            dropped,
            slow: full,
            ..Offer::QUEUED
        }
    }

    fn place_of(&self, key: u64) -> Option<usize> {
        let number = self.by_key.get(&key)?;
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn pop_oldest(&mut self) -> Option<Waiting> {
        loop {
            let oldest = self.waiting.pop_front()?;
            let number = self.first;
            self.first += 1;
            let Some(oldest) = oldest else { continue };
            if let Some(key) = oldest.key
                && self.by_key.get(&key) == Some(&number)
            {
                self.by_key.remove(&key);
            }
            self.waiting_messages -= 1;
            self.waiting_bytes -= oldest.weight();
            return Some(oldest);
        }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting_messages > 0
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// All was written that the link took.
    pub(crate) fn wrote(&mut self) {
        self.left_over = self.has_waiting();
    }

    /// The next frame to write, if the peer's window of `window` bytes takes it.
    pub(crate) fn write_next(&mut self, window: usize) -> Option<Bytes> {
        if self.in_flight_bytes >= window {
            return None;
        }
        let frame = self.pop_oldest()?.frame;
        self.in_flight_bytes += frame.len();
        self.in_flight.push_back(frame.len());
        if !self.has_waiting() {
            self.slow = false;
            self.waiting.clear();
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
        let dropped = self.waiting_messages as u64;
        *self = Self::default();
        dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            let limit = 2 * (OVERHEAD + 10);
            queue.offer(frame(1), Some(1), limit, policy);
            queue.offer(frame(2), Some(2), limit, policy);
            let offer = queue.offer(frame(3), Some(3), limit, policy);
            let disconnect = policy == SlowConsumer::Disconnect;
            assert_eq!(
                offer,
                Offer {
                    queued,
                    dropped: 1,
                    slow: true,
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
        assert!(queue.by_key.is_empty());
    }

    /// A consumer is not slow because two of a key come at once.
    #[test]
    fn what_is_replaced_in_its_place_says_nothing_of_its_consumer() {
        let mut queue = BestEffort::default();
        let mut offer = |n, key| queue.offer(frame(n), Some(key), 1_000, SlowConsumer::KeepLatest);
        assert_eq!(offer(1, 7), Offer::QUEUED);
        let replaced = Offer {
            dropped: 1,
            ..Offer::QUEUED
        };
        assert_eq!(offer(2, 7), replaced);
        queue.wrote();
        let waited = queue.offer(frame(3), Some(7), 1_000, SlowConsumer::KeepLatest);
        assert_eq!((waited.dropped, waited.slow), (1, true));
    }

    proptest! {
        /// The queue holds what a plain list would, however keys and sizes follow each other.
        #[test]
        fn it_keeps_the_latest_of_each_key_and_its_order(
            steps in prop::collection::vec((0..6_u64, 0..300_usize, any::<bool>()), 0..200),
        ) {
            const LIMIT: usize = 1_000;
            let mut queue = BestEffort::default();
            let mut model: Vec<(u64, usize, u8)> = Vec::new();
            let weight = |model: &[(u64, usize, u8)]| -> usize {
                model.iter().map(|(_, size, _)| size + OVERHEAD).sum()
            };
            for ((key, size, takes), n) in steps.into_iter().zip((0..=u8::MAX).cycle()) {
                let size = size + 1;
                queue.offer(Bytes::from(vec![n; size]), Some(key), LIMIT, SlowConsumer::KeepLatest);
                let place = model.iter().position(|(other, ..)| *other == key);
                let mut changed = model.clone();
                match place {
                    Some(place) => changed[place] = (key, size, n),
                    None => changed.push((key, size, n)),
                }
                if weight(&changed) > LIMIT {
                    changed.retain(|(other, ..)| *other != key);
                    changed.push((key, size, n));
                    while weight(&changed) > LIMIT {
                        changed.remove(0);
                    }
                }
                model = changed;
                if takes && !model.is_empty() {
                    let (_, size, n) = model.remove(0);
                    prop_assert_eq!(queue.write_next(usize::MAX), Some(vec![n; size].into()));
                }
                prop_assert_eq!(queue.waiting_bytes(), weight(&model));
                prop_assert_eq!(queue.has_waiting(), !model.is_empty());
                prop_assert!(queue.by_key.len() == model.len() && queue.waiting.len() <= 32);
            }
            let left = model.into_iter().map(|(_, size, n)| Bytes::from(vec![n; size]));
            prop_assert!(std::iter::from_fn(|| queue.write_next(usize::MAX)).eq(left));
        }
    }

    #[test]
    fn the_latest_of_a_key_keeps_to_the_limit_when_it_is_longer_than_what_it_replaces() {
        let mut queue = BestEffort::default();
        let limit = 3 * (OVERHEAD + 10);
        for key in 0..3 {
            queue.offer(frame(1), Some(key), limit, SlowConsumer::KeepLatest);
        }
        let longer = Bytes::from(vec![2; OVERHEAD + 20]);
        let offer = queue.offer(longer, Some(1), limit, SlowConsumer::KeepLatest);
        let expected = Offer {
            queued: true,
            dropped: 2,
            slow: true,
            ..Offer::QUEUED
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
