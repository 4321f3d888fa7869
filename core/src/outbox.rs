//! What one lane has still to get to the peer's session: kept until the peer says that it holds it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::config::Limits;
use crate::error::Status;
use crate::id::Tag;
use crate::message::OVERHEAD;
use crate::planted::{Bug, planted};

/// What an entry is on the wire.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A one-way message; with a promise it wants an ack.
    Message,
    Request,
    Reply,
    Reject(Status),
    /// Acks of these promises of the peer, ascending.
    Acks(Vec<u64>),
}

/// A message, request or answer on its way.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) tag: Tag,
    /// The sender's promise (message, request) or the peer's that is settled; 0: none.
    pub(crate) promise: u64,
    pub(crate) deadline: Option<Instant>,
    pub(crate) body: Bytes,
}

impl Entry {
    /// What the entry counts for in limits, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let own = match &self.kind {
            Kind::Acks(numbers) => numbers.len() * 8,
            Kind::Reject(status) => status.reason.len(),
            _ => 0,
        };
        OVERHEAD + own + self.body.len()
    }
}

/// What messages take up in outboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Usage {
    /// That of one message.
    pub(crate) fn one(bytes: usize) -> Self {
        Self { messages: 1, bytes }
    }

    /// Whether one more message of `bytes` bytes is too much.
    pub(crate) fn is_full(self, bytes: usize, limits: &Limits) -> bool {
        self.messages >= limits.outbox_messages || self.bytes + bytes > limits.outbox_bytes
    }

    /// So much was let go.
    pub(crate) fn release(&mut self, released: Self) {
        self.messages -= released.messages;
        self.bytes -= released.bytes;
    }
}

/// The peer says that it holds what was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadReceipt;

/// The sending side of one lane. An entry gets its sequence number when it is first written, so
/// that one which is cancelled before leaves no gap.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// First those with a sequence number, from `base`; then those that wait for one. All stay where they were
    /// put: to move them costs as much as to write them.
    entries: VecDeque<Entry>,
    base: u64,
    /// How many have a sequence number.
    numbered: usize,
    /// How many of those are written to the present link.
    written: usize,
    /// Weight of those.
    written_bytes: usize,
    /// How many of those that wait nobody wants any more, and their weight: they count in no limit.
    abandoned: usize,
    abandoned_bytes: usize,
}

/// So many entries' room is kept.
const KEPT: usize = 64;

/// Abandoned entries are swept out once there are so many, and half of those that wait.
const SWEEP: usize = 32;

/// Or once they weigh so much, in bytes, and so much for each of those that wait.
const SWEEP_BYTES: usize = 64 << 10;

impl Outbox {
    #[inline(always)]
    pub(crate) fn push(&mut self, entry: Entry) {
        // Most lanes of most sessions hold one at a time: no room for four then.
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(entry);
    }

    /// Sequence number of the next entry to be written.
    pub(crate) fn next_seq(&self) -> u64 {
        self.base + self.written as u64
    }

    /// The first unwritten entry, and how many there are.
    pub(crate) fn unwritten(&self) -> Option<(&Entry, usize)> {
        let first = self.entries.get(self.written)?;
        Some((first, self.entries.len() - self.written))
    }

    /// Weight of what is written to the present link and not yet held by the peer.
    pub(crate) fn in_flight(&self) -> usize {
        self.written_bytes
    }

    /// The entry to write next: a replayed one first; else the oldest waiting one that is still
    /// `wanted`, if it `fits`. What is not wanted is let go.
    pub(crate) fn write_next(
        &mut self,
        mut wanted: impl FnMut(&Entry) -> bool,
        fits: impl FnOnce(&Entry) -> bool,
    ) -> Option<Writing<'_>> {
        let first_time = self.written == self.numbered;
        if first_time && !wanted(self.entries.get(self.written)?) {
            self.pass_unwanted(wanted);
        }
        let seq = self.next_seq();
        let entry = self.entries.get(self.written)?;
        if first_time {
            if !fits(entry) {
                return None;
            }
            self.numbered += 1;
        }
        self.written += 1;
        self.written_bytes += entry.weight();
        Some(Writing {
            seq,
            entry,
            first_time,
        })
    }

    /// Lets go of waiting entries up to the first that is wanted.
    fn pass_unwanted(&mut self, mut wanted: impl FnMut(&Entry) -> bool) {
        if self.abandoned >= SWEEP {
            self.sweep(&mut wanted);
        }
        let unwanted = self.entries.range(self.numbered..);
        let unwanted = unwanted.take_while(|entry| !wanted(entry)).count();
        let gone = self.entries.drain(self.numbered..self.numbered + unwanted);
        let bytes = gone.map(|entry| entry.weight()).sum();
        self.abandoned = self.abandoned.saturating_sub(unwanted);
        self.abandoned_bytes = self.abandoned_bytes.saturating_sub(bytes);
    }

    /// The peer's session holds everything below `next`. Returns what is let go. Before a link it may hold all that
    /// was ever sent; on one, what that has carried, for the place of an envelope in its stream is its number.
    pub(crate) fn received(&mut self, next: u64, on_link: bool) -> Result<Usage, BadReceipt> {
        let mut released = Usage::default();
        let sent = if on_link { self.written } else { self.numbered };
        if next > self.base + sent as u64 {
            return Err(BadReceipt);
        }
        while self.base < next {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            let weight = entry.weight();
            self.base += 1;
            self.numbered -= 1;
            if self.written > 0 {
                self.written -= 1;
                self.written_bytes -= weight;
            }
            released.messages += 1;
            released.bytes += weight;
        }
        // A burst's memory is given back when three quarters of it are unused, for there may be very many lanes.
        if self.entries.capacity() > KEPT && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(KEPT.max(2 * self.entries.len()));
        }
        Ok(released)
    }

    /// A new link: everything that the peer does not hold is written again, oldest first.
    pub(crate) fn rewind(&mut self) {
        if planted(Bug::ForgetOutboxOnResume) {
            return;
        }
        if planted(Bug::ReplayFromWrongNumber) {
            self.base = self.base.saturating_sub(1);
        }
        self.written = 0;
        self.written_bytes = 0;
    }

    /// Nobody wants one of the waiting entries any more, which has that weight. It goes when its turn comes, or when
    /// those like it take up too much memory.
    pub(crate) fn abandon(&mut self, weight: usize, wanted: impl FnMut(&Entry) -> bool) {
        self.abandoned += 1;
        self.abandoned_bytes += weight;
        let waiting = self.entries.len() - self.numbered;
        let many = self.abandoned >= SWEEP && self.abandoned * 2 >= waiting;
        if many || self.abandoned_bytes >= SWEEP_BYTES.max(OVERHEAD * waiting) {
            self.sweep(wanted);
        }
    }

    /// Lets go of all that wait and are not `wanted`.
    fn sweep(&mut self, mut wanted: impl FnMut(&Entry) -> bool) {
        let mut numbered = self.numbered;
        self.entries.retain(|entry| {
            if let Some(left) = numbered.checked_sub(1) {
                numbered = left;
                return true;
            }
            wanted(entry)
        });
        self.abandoned = 0;
        self.abandoned_bytes = 0;
    }

    /// Takes out the waiting entries that do not `fit`, oldest first.
    pub(crate) fn take_waiting(&mut self, mut fits: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        if self.entries.range(self.numbered..).all(&mut fits) {
            return Vec::new();
        }
        let waiting = self.entries.split_off(self.numbered);
        let (kept, taken): (Vec<_>, Vec<_>) = waiting.into_iter().partition(fits);
        self.entries.extend(kept);
        taken
    }

    /// Everything that the peer is not known to hold, oldest first, and whether it may have it.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (Entry, bool)> {
        let Self {
            entries, numbered, ..
        } = self;
        let place = 0..;
        entries
            .into_iter()
            .zip(place)
            .map(move |(entry, place)| (entry, place < numbered))
    }
}

/// An entry to be written now.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    pub(crate) seq: u64,
    pub(crate) entry: &'a Entry,
    /// Whether no earlier link has carried it.
    pub(crate) first_time: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(promise: u64) -> Entry {
        Entry {
            kind: Kind::Message,
            tag: Tag(1),
            promise,
            deadline: None,
            body: Bytes::from_static(b"x"),
        }
    }

    fn write_all(outbox: &mut Outbox) -> Vec<(u64, u64, bool)> {
        let mut out = Vec::new();
        while let Some(w) = outbox.write_next(|_| true, |_| true) {
            out.push((w.seq, w.entry.promise, w.first_time));
        }
        out
    }

    #[test]
    fn one_entry_takes_the_room_of_one_and_a_burst_gives_its_room_back() {
        let mut outbox = Outbox::default();
        outbox.push(entry(0));
        assert_eq!(outbox.entries.capacity(), 1);
        for promise in 1..1_000 {
            outbox.push(entry(promise));
        }
        write_all(&mut outbox);
        outbox.received(900, true).unwrap();
        assert!(outbox.entries.capacity() < 300);
        outbox.received(1_000, true).unwrap();
        assert!(outbox.entries.capacity() <= KEPT);
        outbox.push(entry(1_000));
        assert_eq!(write_all(&mut outbox), [(1_000, 1_000, true)]);
    }

    #[test]
    fn what_the_peer_does_not_hold_is_written_again_in_order() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|p| outbox.push(entry(p)));
        assert_eq!(
            write_all(&mut outbox),
            [(0, 1, true), (1, 2, true), (2, 3, true)]
        );
        assert_eq!(outbox.received(1, true).map(|r| r.messages), Ok(1));
        outbox.push(entry(4));
        outbox.rewind();
        assert_eq!(outbox.in_flight(), 0);
        assert_eq!(
            write_all(&mut outbox),
            [(1, 2, false), (2, 3, false), (3, 4, true)]
        );
        assert_eq!(outbox.received(4, true).map(|r| r.messages), Ok(3));
        assert!(outbox.entries.is_empty());
        assert_eq!(outbox.in_flight(), 0);
    }

    #[test]
    fn a_cancelled_entry_leaves_no_gap() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|p| outbox.push(entry(p)));
        outbox.abandon(OVERHEAD, |e| e.promise != 2);
        let mut seqs = Vec::new();
        while let Some(w) = outbox.write_next(|e| e.promise != 2, |_| true) {
            seqs.push((w.seq, w.entry.promise));
        }
        assert_eq!(seqs, [(0, 1), (1, 3)]);
    }

    #[test]
    fn what_has_a_number_stays_though_nobody_wants_it() {
        let mut outbox = Outbox::default();
        (1..=2).for_each(|p| outbox.push(entry(p)));
        write_all(&mut outbox);
        (3..=5).for_each(|p| outbox.push(entry(p)));
        let wanted = |e: &Entry| e.promise == 5;
        assert!(
            outbox
                .write_next(wanted, |_| true)
                .is_some_and(|w| w.seq == 2)
        );
        outbox.rewind();
        let seqs = write_all(&mut outbox);
        assert_eq!(seqs, [(0, 1, false), (1, 2, false), (2, 5, false)]);
    }

    #[test]
    fn abandoned_entries_take_up_no_memory_for_long() {
        let mut outbox = Outbox::default();
        for promise in 1..=1_000 {
            outbox.push(entry(promise));
            outbox.abandon(OVERHEAD, |e| e.promise > promise);
        }
        assert!(outbox.entries.len() <= SWEEP, "{}", outbox.entries.len());
    }

    #[test]
    fn an_entry_that_does_not_fit_waits_and_so_do_those_behind_it() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|p| outbox.push(entry(p)));
        assert!(outbox.write_next(|_| true, |e| e.promise == 1).is_some());
        assert!(outbox.write_next(|_| true, |e| e.promise != 2).is_none());
        let taken = outbox.take_waiting(|e| e.promise != 2);
        assert_eq!(taken.iter().map(|e| e.promise).collect::<Vec<_>>(), [2]);
        assert_eq!(write_all(&mut outbox), [(1, 3, true)]);
    }

    #[test]
    fn a_receipt_for_what_was_never_sent_is_refused() {
        let mut outbox = Outbox::default();
        outbox.push(entry(1));
        assert_eq!(outbox.received(1, true), Err(BadReceipt));
        write_all(&mut outbox);
        assert_eq!(outbox.received(2, true), Err(BadReceipt));
        assert!(outbox.received(1, true).is_ok());
        assert_eq!(
            outbox.received(0, true).map(|r| r.messages),
            Ok(0),
            "an old receipt changes nothing"
        );
    }

    #[test]
    fn loss_tells_what_may_have_arrived_from_what_cannot() {
        let mut outbox = Outbox::default();
        outbox.push(entry(1));
        write_all(&mut outbox);
        outbox.push(entry(2));
        let lost: Vec<_> = outbox
            .into_entries()
            .map(|(e, maybe)| (e.promise, maybe))
            .collect();
        assert_eq!(lost, [(1, true), (2, false)]);
    }

    #[test]
    fn large_ones_that_nobody_wants_do_not_stay_for_many_small_ones() {
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            outbox.push(entry(0));
        }
        for promise in 1..=3 {
            let body = vec![0; SWEEP_BYTES / 2].into();
            let large = Entry {
                body,
                ..entry(promise)
            };
            let weight = large.weight();
            outbox.push(large);
            outbox.abandon(weight, |e| e.promise == 0 || e.promise > promise);
        }
        let large = outbox.entries.iter().filter(|e| e.promise > 0).count();
        assert_eq!((large, outbox.entries.len()), (1, 101));
    }
}
