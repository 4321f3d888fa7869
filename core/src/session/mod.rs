//! A session: what survives links. It owns lanes, promises, deliveries and the best-effort queue,
//! and knows nothing of QUIC or of other sessions, and of timers only where its promises' deadlines
//! stand.

mod best_effort;
mod cancels;
mod deliveries;
mod lanes;
mod places;
mod strays;
mod tokens;

pub(crate) use best_effort::BestEffort;
pub(crate) use cancels::Cancels;
pub(crate) use deliveries::{Deliveries, Owed};
pub(crate) use lanes::{Lanes, is_answers};
pub(crate) use strays::{Stray, Strays};
pub(crate) use tokens::{Token, Tokens};

use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_proto as wire;

use crate::cohorts::Place;
use crate::config::Limits;
use crate::error::Status;
use crate::id::{Lane, Tag};
use crate::message::Outcome;
use crate::outbox::{Entry, Kind};
use crate::planted::{Bug, planted};
use crate::promise::{Awaits, Promise, Promises};

/// The state that both peers hold of their conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) lanes: Lanes,
    pub(crate) promises: Promises<Option<Place>>,
    pub(crate) deliveries: Deliveries,
    pub(crate) best_effort: BestEffort,
    pub(crate) strays: Strays,
    /// The peer's promises that the application has accepted, not yet put into an envelope.
    pending_acks: Vec<u64>,
    pub(crate) cancels: Cancels,
}

/// A promise, and the place of its deadline.
pub(crate) type Timed = Promise<Option<Place>>;

/// Promises that have not come to their end, by number.
pub(crate) type Pending = Vec<(u64, Timed)>;

/// How many acks one envelope carries at most: so many fit into the smallest frame that a peer may
/// ask for, however far apart their numbers lie.
const ACKS_PER_ENVELOPE: usize = 256;

impl Conversation {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            lanes: Lanes::new(limits.lanes),
            promises: Promises::default(),
            deliveries: Deliveries::default(),
            best_effort: BestEffort::default(),
            strays: Strays::default(),
            pending_acks: Vec::new(),
            cancels: Cancels::default(),
        }
    }

    /// The conversation that follows this one when its session is lost: nothing goes on but the
    /// numbers that keys are made of. The second part is what is lost.
    pub(crate) fn renew(&mut self, limits: &Limits) -> (Lanes, Pending) {
        let old = std::mem::replace(self, Self::new(limits));
        let Self {
            lanes,
            mut promises,
            deliveries,
            best_effort: _,
            strays: _,
            pending_acks: _,
            cancels: _,
        } = old;
        let lost = promises.drain().collect();
        self.promises = promises;
        self.deliveries = deliveries.renewed();
        (lanes, lost)
    }

    /// Queues a message; with `awaits`, a promise for it is made, when the node has that age.
    pub(crate) fn enqueue(
        &mut self,
        made: Duration,
        lane: Lane,
        awaits: Option<Awaits>,
        deadline: Option<Instant>,
        tag: Tag,
        body: Bytes,
    ) -> Option<u64> {
        let kind = if awaits == Some(Awaits::Reply) {
            Kind::Request
        } else {
            Kind::Message
        };
        let mut entry = Entry {
            kind,
            tag,
            promise: 0,
            deadline,
            body,
        };
        let number = awaits.map(|awaits| {
            self.promises.push(Promise {
                awaits,
                made,
                lane,
                weight: entry.weight(),
                seq: None,
                timer: None,
            })
        });
        entry.promise = number.unwrap_or(0);
        self.lanes.push(lane, entry);
        number
    }

    /// The peer has answered a promise, which is taken out. `None`: there is none that this answers.
    pub(crate) fn answered(&mut self, number: u64, outcome: &Outcome) -> Option<Timed> {
        let Promise {
            awaits, seq, lane, ..
        } = self.promises.get(number)?;
        // An ack does not answer a request, nor a reply a message, nor anything what was never
        // written.
        let misfit = matches!(
            (outcome, awaits),
            (Outcome::Acked, Awaits::Reply) | (Outcome::Replied { .. }, Awaits::Ack)
        );
        let (lane, seq) = (*lane, (*seq).filter(|_| !misfit)?);
        // The peer answered this message, so it holds it, and all before it in its lane.
        self.lanes.held_by_peer(lane, seq + 1, true).ok();
        self.promises.remove(number)
    }

    /// Takes a promise out with an outcome that the peer did not decide. `None`: it has settled
    /// already.
    pub(crate) fn settle(&mut self, number: u64) -> Option<Timed> {
        let promise = self.promises.remove(number)?;
        if promise.seq.is_some() {
            self.strays.expect();
        } else {
            let promises = &self.promises;
            self.lanes.abandon(promise.lane, promise.weight, |entry| {
                entry.promise == 0 || promises.contains(entry.promise)
            });
        }
        Some(promise)
    }

    /// The application accepted a delivery. Nothing is sent if nobody waits.
    pub(crate) fn ack(&mut self, owed: &Owed) {
        self.release(owed);
        if owed.promise != 0 && !owed.cancelled {
            self.pending_acks.push(owed.promise);
        }
    }

    /// The application replied to or rejected a delivery. `false`: it owes it no answer.
    pub(crate) fn answer(&mut self, delivery: u64, answer: Answer) -> bool {
        let Some(owed) = self.deliveries.take(delivery) else {
            return false;
        };
        self.release(&owed);
        if owed.promise == 0 || owed.cancelled {
            return true;
        }
        let (kind, tag, body) = match answer {
            Answer::Reply(tag, body) => (Kind::Reply, tag, body),
            Answer::Reject(status) => (Kind::Reject(status), Tag(0), Bytes::new()),
        };
        let lane = if body.len() > wire::BULK_ABOVE {
            Lane::BULK_ANSWERS
        } else {
            Lane::ANSWERS
        };
        self.lanes.push(
            lane,
            Entry {
                kind,
                tag,
                promise: owed.promise,
                deadline: None,
                body,
            },
        );
        true
    }

    /// Puts the acks that have gathered into envelopes of the answers lane.
    pub(crate) fn gather_acks(&mut self) {
        if self.pending_acks.is_empty() {
            return;
        }
        let mut numbers = std::mem::take(&mut self.pending_acks);
        numbers.sort_unstable();
        if planted(Bug::DropAck) && numbers.len() > 2 {
            numbers.pop();
        }
        for numbers in numbers.chunks(ACKS_PER_ENVELOPE) {
            let entry = Entry {
                kind: Kind::Acks(numbers.to_vec()),
                tag: Tag(0),
                promise: 0,
                deadline: None,
                body: Bytes::new(),
            };
            self.lanes.push(Lane::ANSWERS, entry);
        }
    }

    /// The link is lost. Returns how many best-effort messages go with it.
    pub(crate) fn link_lost(&mut self) -> u64 {
        self.cancels.link_lost();
        self.best_effort.link_lost()
    }

    /// Whether the peer holds everything that this side had to say.
    pub(crate) fn has_said_all(&self) -> bool {
        self.pending_acks.is_empty() && self.lanes.is_empty()
    }

    /// Whether nothing is under way in either direction, so that closing loses nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.has_said_all() && self.promises.is_empty() && self.deliveries.len() == 0
    }

    fn release(&mut self, owed: &Owed) {
        if let Some(inbox) = self.lanes.inbox_mut(owed.lane) {
            inbox.answered(owed.bytes);
        }
    }
}

/// What the application answers, an ack aside.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Tag, Bytes),
    Reject(Status),
}
