//! The table of promises of one session: pending acks and replies. Each settles exactly once.

use std::time::Duration;

use crate::id::Lane;
use crate::sliding::SlidingTable;

/// What a promise waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    Ack,
    Reply,
}

/// A pending ack or reply. Its owner keeps what it needs to time it out in `timer`.
#[derive(Debug)]
pub(crate) struct Promise<T> {
    pub(crate) awaits: Awaits,
    /// How old the node was.
    pub(crate) made: Duration,
    /// The lane of its message.
    pub(crate) lane: Lane,
    /// What its message counts for in the outbox, in bytes.
    pub(crate) weight: usize,
    /// The sequence number of its message, once that is written to a link.
    pub(crate) seq: Option<u64>,
    pub(crate) timer: T,
}

/// The pending promises of one session, by the number that stands on the wire.
#[derive(Debug)]
pub(crate) struct Promises<T> {
    pending: SlidingTable<Promise<T>>,
}

impl<T> Default for Promises<T> {
    fn default() -> Self {
        Self {
            pending: SlidingTable::default(),
        }
    }
}

impl<T> Promises<T> {
    /// The number that the next promise gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.pending.next_number()
    }

    pub(crate) fn add(&mut self, promise: Promise<T>) -> u64 {
        self.pending.push(promise)
    }

    pub(crate) fn is_pending(&self, number: u64) -> bool {
        self.pending.get(number).is_some()
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Promise<T>> {
        self.pending.get(number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Promise<T>> {
        self.pending.get_mut(number)
    }

    /// Takes a promise out in order to settle it. `None`: it has settled already, or never was.
    pub(crate) fn take(&mut self, number: u64) -> Option<Promise<T>> {
        self.pending.remove(number)
    }

    pub(crate) fn oldest(&self) -> Option<u64> {
        self.pending.first_number()
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Takes all promises out, oldest first.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = (u64, Promise<T>)> + use<T> {
        self.pending.drain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_taken_once() {
        let mut promises = Promises::default();
        let number = promises.add(Promise {
            awaits: Awaits::Ack,
            made: Duration::ZERO,
            lane: Lane::DEFAULT,
            weight: 0,
            seq: None,
            timer: (),
        });
        assert_eq!(number, 1);
        assert!(promises.is_pending(number));
        assert!(promises.take(number).is_some());
        assert!(promises.take(number).is_none());
        assert_eq!(promises.len(), 0);
        assert_eq!(promises.next_number(), 2);
    }
}
