//! Messages that the application was handed and owes an answer for.

use std::collections::{BTreeMap, VecDeque};

use crate::id::Lane;
use crate::sliding::SlidingTable;

/// A message whose answer is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) lane: Lane,
    /// The peer's promise; 0: nobody waits.
    pub(crate) promise: u64,
    pub(crate) is_request: bool,
    pub(crate) cancelled: bool,
    /// What it counts for in the lane's window.
    pub(crate) bytes: usize,
}

/// The owed answers of one session, by delivery number.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    owed: SlidingTable<Owed>,
    /// Where promises stand in `owed`. It is made by a cancel and kept until nothing is owed, so that
    /// peers that never cancel do not pay for it, and those that do nothing else are cheap.
    by_promise: Option<BTreeMap<u64, u64>>,
    /// Cancels that may have overtaken their message, oldest first.
    early_cancels: VecDeque<u64>,
    /// How many of `owed` nobody waits for.
    unawaited: usize,
}

/// How many cancels that may have overtaken their message are remembered.
const EARLY_CANCELS: usize = 64;

impl Deliveries {
    /// Takes note of a message. `None`: its cancel came before it, so nobody wants it.
    pub(crate) fn add(&mut self, owed: Owed) -> Option<u64> {
        if owed.promise != 0
            && let Some(at) = self
                .early_cancels
                .iter()
                .position(|number| *number == owed.promise)
        {
            self.early_cancels.remove(at);
            return None;
        }
        self.unawaited += usize::from(owed.promise == 0);
        let number = self.owed.push(owed);
        if let Some(by_promise) = &mut self.by_promise
            && owed.promise != 0
        {
            by_promise.entry(owed.promise).or_insert(number);
        }
        Some(number)
    }

    /// Those of the session that follows a lost one. Numbers go on, so that a key of the lost
    /// session never means a delivery of the new one.
    pub(crate) fn renewed(mut self) -> Self {
        drop(self.owed.drain());
        Self {
            owed: self.owed,
            ..Self::default()
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Owed> {
        self.owed.get(number)
    }

    pub(crate) fn take(&mut self, number: u64) -> Option<Owed> {
        let taken = self.owed.remove(number)?;
        self.unawaited -= usize::from(taken.promise == 0);
        if self.owed.is_empty() {
            self.by_promise = None;
        } else if let Some(by_promise) = &mut self.by_promise
            && by_promise.get(&taken.promise) == Some(&number)
        {
            by_promise.remove(&taken.promise);
        }
        Some(taken)
    }

    /// The peer does not wait for `promise` any more. Returns the delivery to be told, if any.
    pub(crate) fn cancel(&mut self, promise: u64) -> Option<u64> {
        if let Some(number) = self.place_of(promise) {
            let owed = self.owed.get_mut(number).filter(|o| !o.cancelled)?;
            owed.cancelled = true;
            return Some(number);
        }
        // Whether its message has been answered or is still to come, in a lane that is behind another one, cannot
        // be told from its number.
        if promise != 0 && !self.early_cancels.contains(&promise) {
            if self.early_cancels.len() == EARLY_CANCELS {
                self.early_cancels.pop_front();
            }
            self.early_cancels.push_back(promise);
        }
        None
    }

    pub(crate) fn len(&self) -> usize {
        self.owed.len()
    }

    /// Whether the application has still to deal with messages whose sender does not wait: it counts
    /// on them all the same.
    pub(crate) fn has_unawaited(&self) -> bool {
        self.unawaited > 0
    }

    /// Which delivery the peer's promise waits for; the oldest, if a peer uses one twice.
    fn place_of(&mut self, promise: u64) -> Option<u64> {
        if self.owed.is_empty() {
            return None;
        }
        let owed = &self.owed;
        let by_promise = self.by_promise.get_or_insert_with(|| {
            let newest_first = owed.iter().collect::<Vec<_>>().into_iter().rev();
            let waited_for = newest_first.filter(|(_, owed)| owed.promise != 0);
            waited_for.map(|(at, owed)| (owed.promise, at)).collect()
        });
        by_promise.get(&promise).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(promise: u64) -> Owed {
        Owed {
            lane: Lane::DEFAULT,
            promise,
            is_request: true,
            cancelled: false,
            bytes: 1,
        }
    }

    #[test]
    fn a_cancel_finds_its_delivery_once() {
        let mut deliveries = Deliveries::default();
        let number = deliveries.add(owed(7)).unwrap();
        assert_eq!(deliveries.cancel(7), Some(number));
        assert_eq!(deliveries.cancel(7), None);
        assert!(deliveries.take(number).unwrap().cancelled);
    }

    #[test]
    fn cancels_find_what_came_before_and_after_the_first_of_them() {
        let mut deliveries = Deliveries::default();
        let first = deliveries.add(owed(1)).unwrap();
        let second = deliveries.add(owed(2)).unwrap();
        deliveries.add(owed(0)).unwrap();
        assert_eq!(deliveries.cancel(2), Some(second));
        let third = deliveries.add(owed(3)).unwrap();
        assert_eq!(deliveries.cancel(3), Some(third));
        deliveries.take(first).unwrap();
        assert_eq!(deliveries.cancel(1), None, "it was answered");
        assert_eq!(deliveries.cancel(0), None, "nobody waits for it");
    }

    #[test]
    fn a_promise_that_a_peer_uses_twice_means_its_oldest_delivery() {
        let mut deliveries = Deliveries::default();
        let first = deliveries.add(owed(1)).unwrap();
        deliveries.add(owed(1)).unwrap();
        assert_eq!(deliveries.cancel(1), Some(first));
        deliveries.add(owed(1)).unwrap();
        assert_eq!(deliveries.cancel(1), None);
    }

    #[test]
    fn where_promises_stand_is_forgotten_once_nothing_is_owed() {
        let mut deliveries = Deliveries::default();
        let number = deliveries.add(owed(1)).unwrap();
        assert_eq!(deliveries.cancel(1), Some(number));
        assert_eq!(deliveries.by_promise.as_ref().unwrap().len(), 1);
        deliveries.take(number).unwrap();
        assert!(deliveries.by_promise.is_none());
    }

    #[test]
    fn what_nobody_waits_for_is_known_until_it_is_dealt_with() {
        let mut deliveries = Deliveries::default();
        deliveries.add(owed(1)).unwrap();
        assert!(!deliveries.has_unawaited());
        let number = deliveries.add(owed(0)).unwrap();
        assert!(deliveries.has_unawaited());
        assert!(deliveries.take(number).is_some() && deliveries.take(number).is_none());
        assert!(!deliveries.has_unawaited());
        deliveries.add(owed(0)).unwrap();
        assert!(!deliveries.renewed().has_unawaited());
    }

    #[test]
    fn a_cancel_that_overtakes_its_request_stops_it() {
        let mut deliveries = Deliveries::default();
        assert_eq!(deliveries.cancel(3), None);
        assert_eq!(deliveries.cancel(3), None, "it is told once more");
        assert_eq!(deliveries.add(owed(3)), None);
        assert!(deliveries.early_cancels.is_empty());
        assert_eq!(deliveries.len(), 0);
        assert!(deliveries.add(owed(4)).is_some());
    }

    /// A large request takes a lane of its own, in which it comes after later small ones.
    #[test]
    fn a_cancel_stops_a_request_that_later_ones_have_overtaken() {
        let mut deliveries = Deliveries::default();
        let later = deliveries.add(owed(2)).unwrap();
        assert_eq!(deliveries.cancel(1), None);
        assert_eq!(deliveries.add(owed(1)), None);
        assert!(deliveries.take(later).is_some());
        for promise in 3..1_000 {
            assert_eq!(deliveries.cancel(promise), None);
        }
        assert_eq!(deliveries.cancel(0), None);
        assert_eq!(deliveries.early_cancels.len(), EARLY_CANCELS);
        assert_eq!(deliveries.add(owed(999)), None);
        assert!(deliveries.add(owed(3)).is_some());
        assert!(deliveries.add(owed(0)).is_some());
    }
}
