//! The lanes of one session: an outbox and an inbox each.

use crate::config::Limits;
use crate::id::Lane;
use crate::inbox::Inbox;
use crate::outbox::{BadReceipt, Entry, Outbox, Usage};

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
    /// Of the application's messages.
    usage: Usage,
    /// Of answers, which are counted apart: what releases back-pressure must not be held up by it.
    answers: Usage,
}

const ANSWER_LANES: usize = 2;

impl Lanes {
    pub(crate) fn new(lanes: u8) -> Self {
        let count = usize::from(lanes) + ANSWER_LANES;
        Self {
            pairs: std::iter::repeat_with(Pair::default).take(count).collect(),
            best_effort: Inbox::default(),
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
        let outboxes = self.pairs.iter().map(|pair| &pair.outbox);
        let mut full = outboxes.filter(|outbox| outbox.in_flight() >= limits.lane_window_bytes);
        full.any(|outbox| outbox.unwritten().is_some())
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
    }

    pub(crate) fn outbox_mut(&mut self, lane: Lane) -> Option<&mut Outbox> {
        self.slot(lane).map(|slot| &mut self.pairs[slot].outbox)
    }

    /// The peer's session holds everything of the lane below `next`.
    pub(crate) fn held_by_peer(&mut self, lane: Lane, next: u64) -> Result<(), BadReceipt> {
        let slot = self.slot(lane).ok_or(BadReceipt)?;
        let released = self.pairs[slot].outbox.received(next)?;
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
        self.pairs.iter_mut().for_each(|pair| pair.outbox.rewind());
        self.best_effort.restart();
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

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.iter().all(|pair| pair.outbox.is_empty())
    }

    /// Takes the outboxes apart: what the application's messages were, oldest first in each lane,
    /// and whether the peer may have them.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (Lane, Entry, bool)> {
        let Self {
            pairs,
            best_effort: _,
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

pub(crate) fn is_answers(lane: Lane) -> bool {
    matches!(lane, Lane::ANSWERS | Lane::BULK_ANSWERS)
}
