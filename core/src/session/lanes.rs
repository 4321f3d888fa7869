//! The lanes of one session: an outbox and an inbox each.

use crate::config::Limits;
use crate::id::Lane;
use crate::inbox::{Arrival, Inbox};
use crate::outbox::{BadReceipt, Entry, Outbox, Usage};

use super::places::Places;

#[derive(Debug, Default)]
struct Pair {
    outbox: Outbox,
    inbox: Inbox,
}

/// The lanes of one session, the two answer lanes among them, and the best-effort inbox.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Those of the answer lanes, then those of the application's.
    pairs: Vec<Pair>,
    best_effort: Inbox,
    /// Where something may stand unwritten, or unreported; elsewhere there is none. A visit mostly finds
    /// nothing in any lane, and does not look at them all for that.
    unwritten: Places,
    unreported: Places,
    /// Of the application's messages.
    usage: Usage,
    /// Of answers, which are counted apart: what releases back-pressure must not be held up by it.
    answers: Usage,
}

const ANSWER_LANES: usize = 2;

const _: () = assert!(ANSWER_LANES + trunkline_proto::LANES_MAX as usize <= Places::COUNT);

impl Lanes {
    pub(crate) fn new(lanes: u8) -> Self {
        let count = usize::from(lanes) + ANSWER_LANES;
        Self {
            pairs: std::iter::repeat_with(Pair::default).take(count).collect(),
            best_effort: Inbox::default(),
            unwritten: Places::default(),
            unreported: Places::default(),
            usage: Usage::default(),
            answers: Usage::default(),
        }
    }

    /// The sequenced lanes in the order in which they are to be written: answers first.
    pub(crate) fn sequenced(&self) -> impl Iterator<Item = Lane> + use<> {
        let own = (self.pairs.len() - ANSWER_LANES) as u8;
        [Lane::ANSWERS, Lane::BULK_ANSWERS]
            .into_iter()
            .chain((0..own).filter_map(Lane::new))
    }

    /// The sequenced lanes that have something to write, in the order in which it is to be written.
    pub(crate) fn with_unwritten(&mut self) -> impl Iterator<Item = Lane> + use<> {
        for slot in self.unwritten {
            if self.pairs[slot].outbox.unwritten().is_none() {
                self.unwritten.remove(slot);
            }
        }
        self.unwritten.filter_map(lane_of)
    }

    /// The sequenced lanes of which the peer has to be told something, in the same order.
    pub(crate) fn with_unreported(&mut self) -> impl Iterator<Item = Lane> + use<> {
        for slot in self.unreported {
            if self.pairs[slot].inbox.unreported().is_none() {
                self.unreported.remove(slot);
            }
        }
        self.unreported.filter_map(lane_of)
    }

    /// What the application's messages take up.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// What answers take up that the peer is not known to hold.
    pub(crate) fn answers(&self) -> Usage {
        self.answers
    }

    /// Whether this side can write or make no more answers before the peer says that it holds those that were
    /// written.
    pub(crate) fn answers_are_stuck(&self, limits: &Limits) -> bool {
        let full = self.answers.is_full(0, limits);
        if !full && self.unwritten.is_empty() {
            return false;
        }
        let outboxes = self.pairs.iter().take(ANSWER_LANES);
        outboxes.map(|pair| &pair.outbox).any(|outbox| {
            let in_flight = outbox.in_flight();
            match outbox.unwritten() {
                None => full && in_flight > 0,
                Some(_) => in_flight >= limits.lane_window_bytes,
            }
        })
    }

    /// Whether some lane can be written no further before the peer says what it holds of it.
    pub(crate) fn window_is_full(&self, limits: &Limits) -> bool {
        let mut outboxes = self.unwritten.map(|slot| &self.pairs[slot].outbox);
        outboxes.any(|outbox| {
            outbox.in_flight() >= limits.lane_window_bytes && outbox.unwritten().is_some()
        })
    }

    /// Whether messages are written that the peer has not said that it holds: once it does, there is room for others.
    pub(crate) fn has_messages_in_flight(&self) -> bool {
        let mut own = self.pairs.iter().skip(ANSWER_LANES);
        own.any(|pair| pair.outbox.in_flight() > 0)
    }

    /// Inlined, as all that an entry goes through: moving one that has just been made stalls the
    /// processor.
    #[inline(always)]
    pub(crate) fn push(&mut self, lane: Lane, entry: Entry) {
        let Some(slot) = self.slot(lane) else { return };
        let usage = self.usage_of(lane);
        usage.messages += 1;
        usage.bytes += entry.weight();
        self.pairs[slot].outbox.push(entry);
        self.unwritten.insert(slot);
    }

    pub(crate) fn outbox_mut(&mut self, lane: Lane) -> Option<&mut Outbox> {
        self.slot(lane).map(|slot| &mut self.pairs[slot].outbox)
    }

    /// The peer's session holds everything of the lane below `next`, of what was sent on this link if `on_link`.
    pub(crate) fn held_by_peer(
        &mut self,
        lane: Lane,
        next: u64,
        on_link: bool,
    ) -> Result<(), BadReceipt> {
        let slot = self.slot(lane).ok_or(BadReceipt)?;
        let released = self.pairs[slot].outbox.received(next, on_link)?;
        self.release(lane, released);
        Ok(())
    }

    /// Nobody wants a waiting message of that weight any more: there is room for another.
    pub(crate) fn abandon(
        &mut self,
        lane: Lane,
        weight: usize,
        wanted: impl FnMut(&Entry) -> bool,
    ) {
        let Some(slot) = self.slot(lane) else { return };
        self.release(lane, Usage::one(weight));
        self.pairs[slot].outbox.abandon(weight, wanted);
    }

    /// Takes out what waits and does not `fit`. The room of the application's messages with a promise is given
    /// back when that is settled.
    pub(crate) fn take_waiting(
        &mut self,
        mut fits: impl FnMut(Lane, &Entry) -> bool,
    ) -> Vec<(Lane, Entry)> {
        let mut taken = Vec::new();
        for lane in self.sequenced() {
            let Some(slot) = self.slot(lane) else {
                continue;
            };
            let misfits = self.pairs[slot]
                .outbox
                .take_waiting(|entry| fits(lane, entry));
            for entry in misfits {
                if entry.promise == 0 || is_answers(lane) {
                    self.release(lane, Usage::one(entry.weight()));
                }
                taken.push((lane, entry));
            }
        }
        taken
    }

    /// A new link: what the peer does not hold is written again.
    pub(crate) fn rewind(&mut self) {
        for (slot, pair) in self.pairs.iter_mut().enumerate() {
            pair.outbox.rewind();
            self.unwritten.insert(slot);
        }
        self.best_effort.restart();
    }

    /// An envelope of `bytes` bytes has come in that lane. `None`: there is no such lane.
    pub(crate) fn arrived(&mut self, lane: Lane, seq: u64, bytes: usize) -> Option<Arrival> {
        let arrival = self.inbox_mut(lane)?.arrived(seq, bytes);
        if let Some(slot) = self.slot(lane) {
            self.unreported.insert(slot);
        }
        Some(arrival)
    }

    pub(crate) fn inbox_mut(&mut self, lane: Lane) -> Option<&mut Inbox> {
        if lane == Lane::BEST_EFFORT {
            return Some(&mut self.best_effort);
        }
        self.slot(lane).map(|slot| &mut self.pairs[slot].inbox)
    }

    /// Whether the peer has ever sent anything in them.
    pub(crate) fn has_received(&self) -> bool {
        self.pairs.iter().any(|pair| pair.inbox.next() > 0)
    }

    /// Whether the peer holds all that anybody wants it to: what was given up unwritten may stand there still.
    pub(crate) fn is_empty(&self) -> bool {
        self.usage.messages == 0 && self.answers.messages == 0
    }

    /// Takes the outboxes apart: what the application's messages were, oldest first in each lane,
    /// and whether the peer may have them.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (Lane, Entry, bool)> {
        let Self {
            pairs,
            best_effort: _,
            unwritten: _,
            unreported: _,
            usage: _,
            answers: _,
        } = self;
        let own = pairs.into_iter().skip(ANSWER_LANES);
        own.zip(0u8..).flat_map(|(pair, number)| {
            let lane = Lane::new(number).unwrap_or(Lane::DEFAULT);
            pair.outbox
                .into_entries()
                .map(move |(entry, maybe)| (lane, entry, maybe))
        })
    }

    fn release(&mut self, lane: Lane, released: Usage) {
        self.usage_of(lane).release(released);
    }

    fn usage_of(&mut self, lane: Lane) -> &mut Usage {
        if is_answers(lane) {
            &mut self.answers
        } else {
            &mut self.usage
        }
    }

    fn slot(&self, lane: Lane) -> Option<usize> {
        match lane {
            Lane::ANSWERS => Some(0),
            Lane::BULK_ANSWERS => Some(1),
            Lane::BEST_EFFORT => None,
            lane => Some(ANSWER_LANES + usize::from(lane.number()))
                .filter(|slot| *slot < self.pairs.len()),
        }
    }
}

fn lane_of(slot: usize) -> Option<Lane> {
    match slot {
        0 => Some(Lane::ANSWERS),
        1 => Some(Lane::BULK_ANSWERS),
        slot => Lane::new((slot - ANSWER_LANES) as u8),
    }
}

pub(crate) fn is_answers(lane: Lane) -> bool {
    matches!(lane, Lane::ANSWERS | Lane::BULK_ANSWERS)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::Tag;
    use crate::outbox::Kind;

    fn entry() -> Entry {
        Entry {
            kind: Kind::Message,
            tag: Tag(1),
            promise: 0,
            deadline: None,
            body: Bytes::new(),
        }
    }

    fn to_write(lanes: &mut Lanes) -> Vec<Lane> {
        lanes.with_unwritten().collect()
    }

    fn write(lanes: &mut Lanes, lane: Lane) {
        let outbox = lanes.outbox_mut(lane).unwrap();
        assert!(outbox.write_next(|_| true, |_| true).is_some());
    }

    #[test]
    fn what_is_to_be_written_is_known_through_writing_and_resuming() {
        let last = Lane::new(3).unwrap();
        let mut lanes = Lanes::new(4);
        assert_eq!(to_write(&mut lanes), []);
        lanes.push(last, entry());
        lanes.push(Lane::DEFAULT, entry());
        lanes.push(Lane::ANSWERS, entry());
        let all = [Lane::ANSWERS, Lane::DEFAULT, last];
        assert_eq!(to_write(&mut lanes), all, "answers first");
        write(&mut lanes, Lane::DEFAULT);
        assert_eq!(to_write(&mut lanes), [Lane::ANSWERS, last]);
        write(&mut lanes, Lane::ANSWERS);
        write(&mut lanes, last);
        assert_eq!(to_write(&mut lanes), []);
        lanes.held_by_peer(last, 1, true).unwrap();
        lanes.rewind();
        assert_eq!(
            to_write(&mut lanes),
            all[..2],
            "the peer does not hold those"
        );
    }

    #[test]
    fn what_is_to_be_reported_is_known_until_it_is() {
        let mut lanes = Lanes::new(4);
        for lane in [Lane::BULK, Lane::BULK_ANSWERS] {
            assert_eq!(lanes.arrived(lane, 0, 100), Some(Arrival::New));
        }
        assert_eq!(lanes.arrived(Lane::new(4).unwrap(), 0, 100), None);
        assert_eq!(lanes.arrived(Lane::BEST_EFFORT, 0, 100), Some(Arrival::New));
        let all = [Lane::BULK_ANSWERS, Lane::BULK];
        assert_eq!(lanes.with_unreported().collect::<Vec<_>>(), all);
        lanes.inbox_mut(Lane::BULK).unwrap().reported(1);
        assert_eq!(lanes.with_unreported().collect::<Vec<_>>(), all[..1]);
        assert_eq!(lanes.arrived(Lane::BULK, 1, 100), Some(Arrival::New));
        assert_eq!(lanes.with_unreported().collect::<Vec<_>>(), all);
    }

    #[test]
    fn nothing_is_left_of_what_is_held_or_was_given_up_unwritten() {
        let mut lanes = Lanes::new(4);
        assert!(lanes.is_empty() && !lanes.has_messages_in_flight());
        for lane in [Lane::DEFAULT, Lane::ANSWERS] {
            lanes.push(lane, entry());
            assert!(!lanes.is_empty());
            write(&mut lanes, lane);
            assert_eq!(lanes.has_messages_in_flight(), lane == Lane::DEFAULT);
            assert!(!lanes.is_empty());
            lanes.held_by_peer(lane, 1, true).unwrap();
            assert!(lanes.is_empty() && !lanes.has_messages_in_flight());
        }
        lanes.push(Lane::BULK, entry());
        lanes.abandon(Lane::BULK, entry().weight(), |_| false);
        assert!(lanes.is_empty(), "it stands there still");
        assert_eq!(to_write(&mut lanes), [Lane::BULK]);
    }

    #[test]
    fn a_window_is_full_where_more_is_to_be_written() {
        let limits = Limits {
            lane_window_bytes: 1,
            ..Limits::default()
        };
        let mut lanes = Lanes::new(4);
        assert!(!lanes.window_is_full(&limits));
        for _ in 0..2 {
            lanes.push(Lane::BULK, entry());
        }
        assert!(!lanes.window_is_full(&limits));
        write(&mut lanes, Lane::BULK);
        assert!(lanes.window_is_full(&limits));
        write(&mut lanes, Lane::BULK);
        assert!(!lanes.window_is_full(&limits), "there is no more");
    }
}
