//! Messages that the application was handed and owes an answer for.

use std::collections::VecDeque;

use crate::id::Lane;
use crate::sliding::SlidingTable;

/// A message whose answer is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) lane: Lane,
    pub(crate) seq: u64,
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
    /// Cancels that overtook their message, oldest first.
    early_cancels: VecDeque<u64>,
    /// The highest promise of the peer that was seen.
    seen: u64,
}

/// How many cancels that overtook their message are remembered.
const EARLY_CANCELS: usize = 64;

impl Deliveries {
    /// Takes note of a message. `None`: its cancel came before it, so nobody wants it.
    pub(crate) fn add(&mut self, owed: Owed) -> Option<u64> {
        self.seen = self.seen.max(owed.promise);
        if owed.promise != 0
            && let Some(at) = self
                .early_cancels
                .iter()
                .position(|number| *number == owed.promise)
        {
            self.early_cancels.remove(at);
            return None;
        }
        Some(self.owed.push(owed))
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
        self.owed.remove(number)
    }

    /// The peer does not wait for `promise` any more. Returns the delivery to be told, if any.
    pub(crate) fn cancel(&mut self, promise: u64) -> Option<u64> {
        let found = self
            .owed
            .iter()
            .find(|(_, o)| o.promise == promise && !o.cancelled);
        if let Some((number, _)) = found {
            if let Some(owed) = self.owed.get_mut(number) {
                owed.cancelled = true;
            }
            return Some(number);
        }
        if promise > self.seen {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(promise: u64) -> Owed {
        Owed {
            lane: Lane::DEFAULT,
            seq: 0,
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
    fn a_cancel_that_overtakes_its_request_stops_it() {
        let mut deliveries = Deliveries::default();
        assert_eq!(deliveries.cancel(3), None);
        assert_eq!(deliveries.add(owed(3)), None);
        assert_eq!(deliveries.len(), 0);
        assert_eq!(deliveries.cancel(3), None, "a late cancel is not kept");
        assert!(deliveries.add(owed(4)).is_some());
    }
}
