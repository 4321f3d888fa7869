//! What the server has handled of one run of a sender: how much, and whether any of it came twice
//! or out of order.

use std::collections::BTreeMap;

use trunkline_tokio::Lane;

use crate::messages;

/// So many gaps between handled numbers are remembered.
const GAPS: usize = 1_024;

/// What the server has handled of one run.
#[derive(Debug)]
pub(crate) struct Account {
    id: u64,
    pub(crate) run: u64,
    handled: u64,
    doubled: u64,
    disordered: u64,
    latest: BTreeMap<Lane, u64>,
    seen: Seen,
}

/// What is new in an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) doubled: bool,
    pub(crate) disordered: bool,
}

impl Account {
    pub(crate) fn new(id: u64, run: u64) -> Self {
        Self {
            id,
            run,
            handled: 0,
            doubled: 0,
            disordered: 0,
            latest: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// Another one is handled.
    pub(crate) fn enter(&mut self, lane: Lane, number: u64) -> Judgement {
        let latest = self.latest.entry(lane).or_default();
        let judgement = Judgement {
            doubled: !self.seen.insert(number),
            disordered: number < *latest,
        };
        *latest = number.max(*latest);
        self.handled += 1;
        self.doubled += u64::from(judgement.doubled);
        self.disordered += u64::from(judgement.disordered);
        judgement
    }

    /// As it is told to the sender.
    pub(crate) fn statement(&self) -> messages::Account {
        messages::Account {
            id: self.id,
            handled: self.handled,
            doubled: self.doubled,
            disordered: self.disordered,
        }
    }
}

/// A set of numbers that mostly follow each other, as ranges. Where there are too many gaps, the
/// lowest is forgotten: what comes out of it later counts as new, for nothing says otherwise.
#[derive(Debug, Default)]
struct Seen {
    /// First to last.
    ranges: BTreeMap<u64, u64>,
    /// What is below is not judged.
    forgotten_below: u64,
}

impl Seen {
    /// `false`: it is in already.
    fn insert(&mut self, number: u64) -> bool {
        if number < self.forgotten_below {
            return true;
        }
        let below = self.ranges.range(..=number).next_back();
        let (first, joined) = match below.map(|(&first, &last)| (first, last)) {
            Some((_, last)) if number <= last => return false,
            Some((first, last)) if last + 1 == number => (first, true),
            _ => (number, false),
        };
        let above = number
            .checked_add(1)
            .and_then(|next| self.ranges.remove(&next));
        self.ranges.insert(first, above.unwrap_or(number));
        if !joined && self.ranges.len() > GAPS {
            self.ranges.pop_first();
            let lowest = self.ranges.first_key_value();
            self.forgotten_below = lowest.map_or(0, |(&first, _)| first);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Lane = Lane::DEFAULT;

    #[test]
    fn what_comes_once_and_in_order_is_in_order() {
        let mut account = Account::new(7, 1);
        for number in [1, 2, 5, 6, 9] {
            let judgement = account.enter(DEFAULT, number);
            assert!(!judgement.doubled && !judgement.disordered, "{number}");
        }
        let statement = account.statement();
        assert_eq!((statement.id, statement.handled), (7, 5));
        assert_eq!((statement.doubled, statement.disordered), (0, 0));
        assert_eq!(
            account.seen.ranges,
            BTreeMap::from([(1, 2), (5, 6), (9, 9)])
        );
    }

    #[test]
    fn what_comes_twice_or_late_is_noticed() {
        let mut account = Account::new(7, 1);
        for number in [1, 2, 4] {
            account.enter(DEFAULT, number);
        }
        let late = account.enter(DEFAULT, 3);
        assert!(late.disordered && !late.doubled);
        let again = account.enter(DEFAULT, 4);
        assert!(again.doubled && !again.disordered);
        let both = account.enter(DEFAULT, 2);
        assert!(both.doubled && both.disordered);
        let statement = account.statement();
        assert_eq!((statement.doubled, statement.disordered), (2, 2));
        assert_eq!(account.seen.ranges, BTreeMap::from([(1, 4)]));
    }

    #[test]
    fn lanes_have_an_order_each() {
        let mut account = Account::new(7, 1);
        account.enter(Lane::BULK, 9);
        assert!(!account.enter(DEFAULT, 3).disordered);
        assert!(account.enter(Lane::BULK, 4).disordered);
    }

    #[test]
    fn memory_is_bounded_and_a_forgotten_gap_accuses_nobody() {
        let mut account = Account::new(7, 1);
        for number in 0..10_000 {
            account.enter(DEFAULT, 2 * number);
        }
        assert_eq!(account.seen.ranges.len(), GAPS);
        assert!(!account.enter(DEFAULT, 3).doubled);
        assert!(account.enter(DEFAULT, 19_998).doubled);
        assert!(!account.enter(DEFAULT, u64::MAX).doubled);
        assert!(account.enter(DEFAULT, u64::MAX).doubled);
    }
}
