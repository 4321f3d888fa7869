//! Who is told and woken, and what waits for its time.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Key;

    const SESSION: SessionKey = SessionKey(Key {
        slot: 3,
        generation: 1,
    });

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
