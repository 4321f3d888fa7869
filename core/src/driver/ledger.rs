//! Who waits for what: which promise, or which place in a backlog, a ticket stands for.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::time::Instant;

use super::command::Submission;
use super::mailbox::{Settlement, Ticket};
use super::tag::Spread;
use crate::{PromiseKey, SessionKey};

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By a ticket's index, where the driver has put what it stands for.
    places: Vec<(u32, Place)>,
    /// How many of these stand for something.
    placed: usize,
    promises: HashMap<PromiseKey, Ticket, BuildHasherDefault<Spread>>,
    alarms: BTreeMap<(Instant, u64), Alarm>,
    alarm: u64,
    /// What is to be told to those who wait, all at once.
    pub(crate) settled: Vec<(Ticket, Settlement)>,
}

/// Where the driver has put what a ticket stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it has settled.
    #[default]
    Nowhere,
    /// With the node.
    Promise(PromiseKey),
    /// In the session's backlog, at that number.
    Backlog(SessionKey, u64),
}

/// What happens at a deadline of the driver's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The time of a message that waits in a session's backlog is over.
    Blocked(SessionKey, u64),
    /// A session that is to close waits for its backlog no longer.
    Leave(SessionKey),
}

/// What an idle ledger keeps room for; beyond it, a burst's memory is given back.
const KEPT: usize = 1_024;

impl Ledger {
    pub(crate) fn put(&mut self, ticket: Ticket, place: Place) {
        let index = ticket.index as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, (0, Place::Nowhere));
        }
        let (_, before) = std::mem::replace(&mut self.places[index], (ticket.generation, place));
        self.placed += usize::from(before == Place::Nowhere);
        if let Place::Promise(promise) = place {
            self.promises.insert(promise, ticket);
        }
    }

    /// Forgets a ticket, and says where it was.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Place {
        let place = self.vacate(ticket);
        if let Place::Promise(promise) = place {
            self.promises.remove(&promise);
        }
        place
    }

    fn vacate(&mut self, ticket: Ticket) -> Place {
        let place = match self.places.get_mut(ticket.index as usize) {
            Some((generation, place)) if *generation == ticket.generation => std::mem::take(place),
            _ => return Place::Nowhere,
        };
        self.placed -= usize::from(place != Place::Nowhere);
        if self.placed == 0 && self.places.len() > KEPT {
            (self.places, self.promises) = (Vec::new(), HashMap::default());
        }
        place
    }

    /// Settles whoever waits for a promise.
    pub(crate) fn settle_promise(&mut self, promise: PromiseKey, settlement: Settlement) {
        if let Some(ticket) = self.promises.remove(&promise) {
            self.vacate(ticket);
            self.settled.push((ticket, settlement));
        }
    }

    /// Settles a ticket.
    pub(crate) fn settle(&mut self, ticket: Ticket, settlement: Settlement) {
        self.take(ticket);
        self.settled.push((ticket, settlement));
    }

    pub(crate) fn set_alarm(&mut self, deadline: Instant, alarm: Alarm) -> (Instant, u64) {
        self.alarm += 1;
        let key = (deadline, self.alarm);
        self.alarms.insert(key, alarm);
        key
    }

    pub(crate) fn clear_alarm(&mut self, alarm: Option<(Instant, u64)>) {
        if let Some(key) = alarm {
            self.alarms.remove(&key);
        }
    }

    pub(crate) fn next_alarm(&self) -> Option<Instant> {
        self.alarms
            .first_key_value()
            .map(|((deadline, _), _)| *deadline)
    }

    /// The next alarm whose deadline has come.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Alarm> {
        let first = self.alarms.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

/// Messages of one session that wait for room in its outbox, in order. Each keeps its number until
/// it leaves.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    entries: BTreeMap<u64, Blocked>,
    last: u64,
}

/// A message that waits for room.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) submission: Submission,
    pub(crate) deadline: Option<Instant>,
    pub(crate) alarm: Option<(Instant, u64)>,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A number behind all others.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Puts a message in its place.
    pub(crate) fn put(&mut self, number: u64, blocked: Blocked) {
        self.entries.insert(number, blocked);
    }

    /// Takes one out; says whether it was the first, so that another may have its turn.
    pub(crate) fn remove(&mut self, number: u64) -> Option<(Blocked, bool)> {
        let first = self.entries.first_key_value()?.0 == &number;
        Some((self.entries.remove(&number)?, first))
    }

    /// The first one.
    pub(crate) fn pop(&mut self) -> Option<(u64, Blocked)> {
        self.entries.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::command::Sender;
    use crate::driver::mailbox::Wanted;
    use crate::{Key, Message, Tag};

    const SESSION: SessionKey = SessionKey(Key {
        slot: 3,
        generation: 1,
    });

    fn blocked(tag: u64) -> Blocked {
        let message = Message::new(Tag(tag), &b""[..]);
        let sender = Sender::Waits(Ticket {
            index: 0,
            generation: 0,
        });
        let submission = Submission {
            message,
            wanted: Wanted::Room,
            sender,
        };
        Blocked {
            submission,
            deadline: None,
            alarm: None,
        }
    }

    #[test]
    fn a_ticket_finds_its_promise_until_either_is_settled() {
        let mut ledger = Ledger::default();
        let ticket = Ticket {
            index: 5,
            generation: 2,
        };
        let promise = PromiseKey {
            session: SESSION,
            number: 9,
        };
        ledger.put(ticket, Place::Promise(promise));
        assert_eq!(
            ledger.take(Ticket {
                generation: 1,
                ..ticket
            }),
            Place::Nowhere
        );
        ledger.settle_promise(promise, Settlement::Accepted);
        assert_eq!(ledger.settled.len(), 1);
        assert_eq!(ledger.take(ticket), Place::Nowhere);
        ledger.settle_promise(promise, Settlement::Accepted);
        assert_eq!(ledger.settled.len(), 1);
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mut ledger = Ledger::default();
        let promise = |index| PromiseKey {
            session: SESSION,
            number: u64::from(index),
        };
        for index in 0..10_000 {
            let ticket = Ticket {
                index,
                generation: index,
            };
            ledger.put(ticket, Place::Backlog(SESSION, 1));
            ledger.put(ticket, Place::Promise(promise(index)));
        }
        for index in 0..10_000 {
            assert_eq!(ledger.placed, 10_000 - index as usize);
            ledger.settle_promise(promise(index), Settlement::Accepted);
        }
        assert_eq!(ledger.places.capacity() + ledger.promises.capacity(), 0);
    }

    #[test]
    fn a_backlog_keeps_its_order_when_some_leave_early_or_come_back() {
        let mut backlog = Backlog::default();
        let numbers: Vec<_> = (0..4)
            .map(|tag| {
                let number = backlog.next_number();
                backlog.put(number, blocked(tag));
                number
            })
            .collect();
        assert!(backlog.remove(numbers[2]).is_some_and(|(_, first)| !first));
        assert!(backlog.remove(numbers[0]).is_some_and(|(_, first)| first));
        assert!(backlog.remove(numbers[2]).is_none());
        let (number, first) = backlog.pop().unwrap();
        assert_eq!((number, first.submission.message.tag), (numbers[1], Tag(1)));
        backlog.put(number, first);
        let tags: Vec<_> = std::iter::from_fn(|| backlog.pop())
            .map(|(_, blocked)| blocked.submission.message.tag.0)
            .collect();
        assert_eq!(tags, [1, 3]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn alarms_go_off_in_order_and_not_before_their_time() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let late = ledger.set_alarm(now + Duration::from_secs(2), Alarm::Blocked(SESSION, 2));
        let early = Alarm::Leave(SESSION);
        ledger.set_alarm(now + Duration::from_secs(1), early);
        assert_eq!(ledger.due(now), None);
        assert_eq!(ledger.next_alarm(), Some(now + Duration::from_secs(1)));
        assert_eq!(ledger.due(now + Duration::from_secs(3)), Some(early));
        ledger.clear_alarm(Some(late));
        assert_eq!(ledger.due(now + Duration::from_secs(3)), None);
    }
}
