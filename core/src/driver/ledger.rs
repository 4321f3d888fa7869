//! Who is told and woken, and what waits for its time or for room.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

use super::command::{Sender, Submission};
use super::harmless::wake;
use super::waiter::{Settlement, Ticket};
use crate::{LinkKey, SessionKey};

/// Who is to be woken, and when something is to be done.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    alarms: BTreeMap<(Instant, u64), Alarm>,
    alarm: u64,
    /// Who is to be woken at the end of the turn.
    pub(crate) woken: Vec<Waker>,
    /// How many of those have been told what became of their message.
    told: usize,
}

/// What happens at a deadline of the driver's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The time of a message that waits in a session's backlog is over.
    Blocked(SessionKey, u64),
    /// A session that is to close waits for its backlog no longer.
    Leave(SessionKey),
    /// The time to decide about a link's admission is over.
    Undecided(LinkKey),
}

impl Ledger {
    /// Settles a ticket; whoever waits is woken at the end of the turn.
    pub(crate) fn settle(&mut self, ticket: Ticket, settlement: Settlement) {
        if let Some(waker) = ticket.settle(settlement) {
            self.woken.push(waker);
            self.told += 1;
        }
    }

    /// How many have been told since the last time.
    pub(crate) fn take_told(&mut self) -> usize {
        std::mem::take(&mut self.told)
    }

    /// Wakes those who are to be woken.
    pub(crate) fn wake(&mut self) {
        self.woken.drain(..).for_each(wake);
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

    /// Leaves only messages that nobody waits for, and takes out the others.
    pub(crate) fn take_waiting(&mut self) -> Vec<Blocked> {
        let waited = |blocked: &mut Blocked| matches!(blocked.submission.sender, Sender::Waits(_));
        let waiting = self.entries.extract_if(.., |_, blocked| waited(blocked));
        waiting.map(|(_, blocked)| blocked).collect()
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
    use crate::driver::command::Wanted;
    use crate::driver::waiter::wait;
    use crate::{Key, Message, Tag};

    const SESSION: SessionKey = SessionKey(Key {
        slot: 3,
        generation: 1,
    });

    fn blocked(tag: u64) -> Blocked {
        let message = Message::new(Tag(tag), &b""[..]);
        let submission = Submission {
            message,
            wanted: Wanted::Room,
            sender: Sender::Waits(
                wait(
                    Message::new(Tag(tag), &b""[..]),
                    Wanted::Room,
                    Waker::noop(),
                )
                .0,
            ),
        };
        Blocked {
            submission,
            deadline: None,
            alarm: None,
        }
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
