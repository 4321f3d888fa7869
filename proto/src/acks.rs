//! Promises that are settled as acked, as runs: how many numbers are skipped since the end of the
//! last run, then how many follow one another. The numbers before the first run end with 0.

use std::iter::FusedIterator;
use std::ops::RangeInclusive;

/// The most numbers (two a run) that one ACKS envelope holds. A sender stays far below: 256 runs
/// fit into any frame.
pub const ACK_NUMBERS_MAX: usize = 8192;

/// The most promises that one ACKS envelope settles.
pub const ACKED_MAX: u64 = 1 << 16;

/// A list of acks that is not well made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcksError {
    /// A run lacks its length.
    #[error("the list of acks has an odd count of numbers: the last run lacks its length")]
    Odd,
    /// A run has no promise.
    #[error("the list of acks holds a run of length 0")]
    EmptyRun,
    /// A run ends beyond 64 bits.
    #[error("the list of acks runs beyond the largest promise number")]
    Overflow,
    /// Too much for one envelope.
    #[error(
        "the list of acks is longer than an envelope may hold ({ACK_NUMBERS_MAX} numbers, {ACKED_MAX} promises)"
    )]
    TooMany,
    /// A promise number is not above the last one.
    #[error("promise numbers must ascend, and begin at 1")]
    NotAscending,
}

/// Makes an ACKS envelope's list from ascending promise numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckRuns {
    numbers: Vec<u64>,
    last: u64,
    promises: u64,
}

impl AckRuns {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            numbers: Vec::new(),
            last: 0,
            promises: 0,
        }
    }

    /// Adds a promise. After [`AcksError::TooMany`] the list is as before: send it, and go on with
    /// an empty one.
    pub fn push(&mut self, promise: u64) -> Result<(), AcksError> {
        let skipped = promise
            .checked_sub(self.last)
            .and_then(|step| step.checked_sub(1));
        let skipped = skipped.ok_or(AcksError::NotAscending)?;
        if self.promises == ACKED_MAX {
            return Err(AcksError::TooMany);
        }
        let full = self.numbers.len() + 2 > ACK_NUMBERS_MAX;
        match self.numbers.last_mut() {
            Some(length) if skipped == 0 => *length += 1,
            _ if full => return Err(AcksError::TooMany),
            _ => self.numbers.extend([skipped, 1]),
        }
        self.last = promise;
        self.promises += 1;
        Ok(())
    }

    /// The list as it stands in the envelope.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// How many promises are in it.
    pub const fn promises(&self) -> u64 {
        self.promises
    }

    /// Whether no promise is in it.
    pub const fn is_empty(&self) -> bool {
        self.promises == 0
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.last = 0;
        self.promises = 0;
    }
}

/// The runs of promises that an ACKS envelope's list settles, ascending. The whole list is checked
/// before the first is given; all runs together hold at most [`ACKED_MAX`] promises.
pub fn acked(numbers: &[u64]) -> Result<Acked<'_>, AcksError> {
    if numbers.len() > ACK_NUMBERS_MAX {
        return Err(AcksError::TooMany);
    }
    let (runs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(AcksError::Odd);
    }
    let mut last = 0;
    let mut promises = 0_u64;
    for &run in runs {
        if run[1] == 0 {
            return Err(AcksError::EmptyRun);
        }
        last = *run_after(last, run).ok_or(AcksError::Overflow)?.end();
        promises = promises.saturating_add(run[1]);
    }
    if promises > ACKED_MAX {
        return Err(AcksError::TooMany);
    }
    Ok(Acked {
        runs: runs.iter(),
        last: 0,
    })
}

/// The runs of promises of an ACKS envelope: see [`acked`]. Flatten it for single promises.
#[derive(Clone, Debug)]
pub struct Acked<'a> {
    runs: std::slice::Iter<'a, [u64; 2]>,
    last: u64,
}

impl Iterator for Acked<'_> {
    type Item = RangeInclusive<u64>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = run_after(self.last, *self.runs.next()?)?;
        self.last = *run.end();
        Some(run)
    }
}

impl FusedIterator for Acked<'_> {}

fn run_after(last: u64, [skipped, length]: [u64; 2]) -> Option<RangeInclusive<u64>> {
    let first = last.checked_add(skipped)?.checked_add(1)?;
    Some(first..=first.checked_add(length.checked_sub(1)?)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn runs_of(promises: &[u64]) -> AckRuns {
        let mut runs = AckRuns::new();
        for &promise in promises {
            runs.push(promise).unwrap();
        }
        runs
    }

    #[test]
    fn runs_count_from_the_end_of_the_last_one() {
        assert_eq!(runs_of(&[1, 2, 3, 5, 9, 10]).numbers(), [0, 3, 1, 1, 3, 2]);
        assert_eq!(runs_of(&[u64::MAX]).numbers(), [u64::MAX - 1, 1]);
    }

    proptest! {
        #[test]
        fn any_ascending_promises_come_back(promises in proptest::collection::btree_set(1..300_u64, 0..200)) {
            let promises: Vec<u64> = BTreeSet::into_iter(promises).collect();
            let runs = runs_of(&promises);
            prop_assert_eq!(runs.promises(), promises.len() as u64);
            prop_assert_eq!(acked(runs.numbers()).unwrap().flatten().collect::<Vec<_>>(), promises);
        }

        #[test]
        fn any_accepted_list_ascends_and_is_bounded(
            numbers in proptest::collection::vec(prop_oneof![0..4_u64, any::<u64>()], 0..12),
        ) {
            if let Ok(runs) = acked(&numbers) {
                prop_assert_eq!(runs.clone().count() * 2, numbers.len());
                let promises: Vec<u64> = runs.flatten().collect();
                prop_assert!(promises.len() as u64 <= ACKED_MAX);
                prop_assert!(promises.is_sorted_by(|a, b| a < b));
                prop_assert!(promises.first().is_none_or(|&first| first > 0));
            }
        }
    }

    #[test]
    fn badly_made_lists_are_refused_as_a_whole() {
        assert_eq!(acked(&[0]).err(), Some(AcksError::Odd));
        assert_eq!(acked(&[0, 1, 5]).err(), Some(AcksError::Odd));
        assert_eq!(acked(&[0, 0]).err(), Some(AcksError::EmptyRun));
        assert_eq!(acked(&[u64::MAX, 1]).err(), Some(AcksError::Overflow));
        assert_eq!(acked(&[u64::MAX - 1, 2]).err(), Some(AcksError::Overflow));
        assert_eq!(acked(&[0, u64::MAX, 0, 1]).err(), Some(AcksError::Overflow));
        assert_eq!(acked(&[0, ACKED_MAX + 1]).err(), Some(AcksError::TooMany));
        assert_eq!(
            acked(&[1; ACK_NUMBERS_MAX + 2]).err(),
            Some(AcksError::TooMany)
        );
        assert!(acked(&[0, ACKED_MAX]).is_ok());
        assert!(acked(&[1; ACK_NUMBERS_MAX]).is_ok());
    }

    #[test]
    fn promises_that_do_not_ascend_are_not_added() {
        let mut runs = runs_of(&[4]);
        for promise in [0, 3, 4] {
            assert_eq!(runs.push(promise), Err(AcksError::NotAscending));
        }
        assert_eq!(AckRuns::new().push(0), Err(AcksError::NotAscending));
        assert_eq!(runs, runs_of(&[4]));
    }

    #[test]
    fn a_full_list_refuses_and_stays_good() {
        let mut sparse = AckRuns::new();
        let full = (1..).find(|n| sparse.push(n * 2).is_err());
        assert_eq!(full, Some(ACK_NUMBERS_MAX as u64 / 2 + 1));
        assert!(acked(sparse.numbers()).is_ok());
        let mut dense = AckRuns::new();
        let full = (1..).find(|&n| dense.push(n).is_err());
        assert_eq!(full, Some(ACKED_MAX + 1));
        assert!(acked(dense.numbers()).is_ok());
        dense.clear();
        assert_eq!(dense.push(7), Ok(()));
        assert_eq!(dense, runs_of(&[7]));
    }
}
