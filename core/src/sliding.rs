//! A table whose entries are numbered in the order they came, and mostly leave in that order.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

/// Holes in the ring that are not worth moving anything for.
const SLACK: usize = 64;

/// A ring this small is kept when it empties, so that a table with a few entries at a time does
/// not allocate for each of them.
const KEPT_CAPACITY: usize = 16;

/// Entries numbered 1, 2, 3 …; finding and removing one takes constant time.
///
/// Memory is proportional to the entries that live, not to the span of their numbers: live
/// entries that stand in front of many holes move to a tree. Each moves at most once. An empty
/// table has allocated nothing, or keeps a ring of a few slots.
#[derive(Debug)]
pub(crate) struct SlidingTable<T> {
    /// The number of the ring's first slot.
    base: u64,
    /// The numbers from `base` on. The first slot is never a hole.
    ring: VecDeque<Option<T>>,
    in_ring: usize,
    /// Live entries with numbers below `base`.
    stragglers: BTreeMap<u64, T>,
}

impl<T> SlidingTable<T> {
    pub(crate) const fn new() -> Self {
        Self::with_next_number(1)
    }

    const fn with_next_number(base: u64) -> Self {
        Self {
            base,
            ring: VecDeque::new(),
            in_ring: 0,
            stragglers: BTreeMap::new(),
        }
    }

    /// Adds an entry and returns its number.
    pub(crate) fn push(&mut self, entry: T) -> u64 {
        let number = self.next_number();
        self.ring.push_back(Some(entry));
        self.in_ring += 1;
        number
    }

    /// Adds an entry whose number somebody else gave: a table of the same numbers as another one.
    #[allow(dead_code, reason = "the driver's alone, which is a feature")]
    pub(crate) fn insert(&mut self, number: u64, entry: T) {
        if self.ring.is_empty() && number >= self.base {
            self.base = number;
        }
        let Some(index) = self.index(number) else {
            self.stragglers.insert(number, entry);
            return;
        };
        if self.ring.len() <= index {
            self.ring.resize_with(index + 1, || None);
        }
        if self.ring[index].replace(entry).is_none() {
            self.in_ring += 1;
        }
        self.bound_holes();
    }

    /// The number that the next entry gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        match self.index(number) {
            Some(index) => self.ring.get(index)?.as_ref(),
            None => self.stragglers.get(&number),
        }
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        match self.index(number) {
            Some(index) => self.ring.get_mut(index)?.as_mut(),
            None => self.stragglers.get_mut(&number),
        }
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let index = self.index(number);
        let entry = match index {
            Some(index) => self.ring.get_mut(index)?.take(),
            None => self.stragglers.remove(&number),
        };
        if entry.is_some() {
            self.in_ring -= usize::from(index.is_some());
            self.pop_holes();
            self.bound_holes();
            self.shrink();
        }
        entry
    }

    /// How many entries live.
    pub(crate) fn len(&self) -> usize {
        self.in_ring + self.stragglers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oldest entry.
    pub(crate) fn first(&self) -> Option<(u64, &T)> {
        self.iter().next()
    }

    /// The number of the oldest entry.
    pub(crate) fn first_number(&self) -> Option<u64> {
        self.first().map(|(number, _)| number)
    }

    /// All entries, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let stragglers = self
            .stragglers
            .iter()
            .map(|(number, entry)| (*number, entry));
        let ring = (self.base..).zip(&self.ring);
        stragglers.chain(ring.filter_map(|(number, slot)| Some((number, slot.as_ref()?))))
    }

    /// Takes all entries out, oldest first; numbering goes on. The table is empty at once,
    /// however much of the iterator is used.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u64, T)> + use<T> {
        let next = self.next_number();
        mem::replace(self, Self::with_next_number(next)).into_iter()
    }

    /// All entries, oldest first.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = (u64, T)> + use<T> {
        let ring = (self.base..).zip(self.ring);
        let ring = ring.filter_map(|(number, slot)| Some((number, slot?)));
        self.stragglers.into_iter().chain(ring)
    }

    /// Where in the ring a number stands, or would; `None` if it stands before the ring.
    fn index(&self, number: u64) -> Option<usize> {
        // A number that does not fit is far behind the end of any ring.
        Some(usize::try_from(number.checked_sub(self.base)?).unwrap_or(usize::MAX))
    }

    fn pop_holes(&mut self) {
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.base += 1;
        }
    }

    fn bound_holes(&mut self) {
        while self.ring.len() > 2 * self.len() + SLACK
            && let Some(Some(entry)) = self.ring.pop_front()
        {
            self.stragglers.insert(self.base, entry);
            self.base += 1;
            self.in_ring -= 1;
            self.pop_holes();
        }
    }

    /// Gives memory back when three quarters of it are unused; half of the rest stays free, so
    /// that the cost of moving is spread over as many entries as caused it.
    fn shrink(&mut self) {
        if self.ring.capacity() > KEPT_CAPACITY && self.ring.len() < self.ring.capacity() / 4 {
            self.ring.shrink_to(2 * self.ring.len());
        }
    }
}

impl<T> Default for SlidingTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_numbered_from_one_and_found_until_removed() {
        let mut table = SlidingTable::default();
        assert_eq!((table.push("a"), table.push("b")), (1, 2));
        assert_eq!(table.remove(1), Some("a"));
        assert_eq!(table.remove(1), None);
        assert_eq!(table.get(2), Some(&"b"));
        assert_eq!(table.first_number(), Some(2));
        assert_eq!(table.push("c"), 3);
        assert_eq!(
            (table.get(0), table.get(9), table.get(u64::MAX)),
            (None, None, None)
        );
    }

    #[test]
    fn a_new_table_has_allocated_nothing() {
        assert_eq!(SlidingTable::<u64>::new().ring.capacity(), 0);
    }

    #[test]
    fn one_old_entry_does_not_hold_memory_for_a_million_settled_ones() {
        let mut table = SlidingTable::new();
        let old = table.push(0_u64);
        for n in 1..=1_000_000 {
            let number = table.push(n);
            assert_eq!(table.remove(number), Some(n));
            assert!(table.ring.len() <= 2 * table.len() + SLACK);
        }
        assert!(table.ring.capacity() <= 256, "{}", table.ring.capacity());
        assert_eq!(table.first(), Some((old, &0)));
        assert_eq!(table.drain().collect::<Vec<_>>(), [(old, 0)]);
        assert_eq!(table.push(7), 1_000_002);
    }

    #[test]
    fn a_burst_gives_its_memory_back() {
        for oldest_first in [true, false] {
            let mut table = SlidingTable::new();
            for n in 0..100_000 {
                table.push(n);
            }
            for n in 0..100_000 {
                table.remove(if oldest_first { n + 1 } else { 100_000 - n });
                if n % 1_000 == 0 {
                    assert!(table.ring.capacity() <= 8 * table.len() + 4 * SLACK);
                }
            }
            assert!(table.is_empty() && table.stragglers.is_empty());
            assert!(
                table.ring.capacity() <= KEPT_CAPACITY,
                "{}",
                table.ring.capacity()
            );
        }
    }

    #[test]
    fn iteration_is_in_order_across_stragglers_and_ring() {
        let mut table = SlidingTable::default();
        for i in 0..1_000_u64 {
            table.push(i);
        }
        for n in (1..=1_000).filter(|n| n % 100 != 0) {
            table.remove(n);
        }
        for i in 0..200 {
            let n = table.push(i);
            table.remove(n);
        }
        assert!(
            !table.stragglers.is_empty(),
            "the test means to see both halves"
        );
        let seen: Vec<u64> = table.iter().map(|(n, _)| n).collect();
        assert_eq!(seen, (1..=10).map(|i| i * 100).collect::<Vec<_>>());
    }

    #[test]
    fn the_oldest_entry_lives_however_the_older_ones_went() {
        let mut table = SlidingTable::default();
        for n in 1..=200_u64 {
            table.push(n);
        }
        for n in (2..=200).filter(|n| n % 4 != 0) {
            table.remove(n);
        }
        while let Some(first) = table.first_number() {
            assert_eq!(Some(first), table.iter().map(|(number, _)| number).next());
            assert!(table.remove(first).is_some(), "{first} was gone");
        }
        assert!(table.is_empty());
    }

    #[test]
    fn draining_takes_everything_even_if_nobody_looks() {
        let mut table = SlidingTable::new();
        table.push('a');
        drop(table.drain());
        assert!(table.is_empty());
        assert_eq!(table.push('b'), 2);
    }

    #[test]
    fn entries_may_be_given_their_numbers() {
        let mut table = SlidingTable::new();
        for number in [3, 4, 9, 6, 1] {
            table.insert(number, number);
        }
        assert_eq!(table.len(), 5);
        let numbers: Vec<_> = table.iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [1, 3, 4, 6, 9]);
        for number in [9, 3, 1, 6, 4] {
            assert_eq!(table.remove(number), Some(number));
        }
        table.insert(1_000_000, 0);
        assert_eq!(table.ring.len(), 1, "what nobody has is not kept room for");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Remove(prop::sample::Index),
        RemoveAny(u64),
        Change(prop::sample::Index),
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            500 => Just(Step::Push),
            400 => any::<prop::sample::Index>().prop_map(Step::Remove),
            50 => (0..600_u64).prop_map(Step::RemoveAny),
            50 => any::<prop::sample::Index>().prop_map(Step::Change),
            1 => Just(Step::Drain),
        ];
        prop::collection::vec(step, 0..1_000)
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(steps in steps()) {
            let mut table = SlidingTable::new();
            let mut model = BTreeMap::new();
            let mut next = 1;
            for step in steps {
                match step {
                    Step::Push => {
                        prop_assert_eq!(table.next_number(), next);
                        prop_assert_eq!(table.push(next * 10), next);
                        model.insert(next, next * 10);
                        next += 1;
                    }
                    Step::Remove(index) if !model.is_empty() => {
                        let number = *index.get(&model.keys().copied().collect::<Vec<_>>());
                        prop_assert_eq!(table.remove(number), model.remove(&number));
                    }
                    Step::RemoveAny(number) => {
                        prop_assert_eq!(table.remove(number), model.remove(&number));
                    }
                    Step::Change(index) if !model.is_empty() => {
                        let number = *index.get(&model.keys().copied().collect::<Vec<_>>());
                        *table.get_mut(number).unwrap() += 1;
                        *model.get_mut(&number).unwrap() += 1;
                    }
                    Step::Drain => {
                        let taken: Vec<_> = table.drain().collect();
                        prop_assert_eq!(taken, mem::take(&mut model).into_iter().collect::<Vec<_>>());
                    }
                    Step::Remove(_) | Step::Change(_) => {}
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.first(), model.first_key_value().map(|(n, entry)| (*n, entry)));
                prop_assert!(table.ring.len() <= 2 * table.len() + SLACK);
                prop_assert!(!matches!(table.ring.front(), Some(None)));
            }
            for number in 0..next + 2 {
                prop_assert_eq!(table.get(number), model.get(&number));
            }
            prop_assert!(table.iter().map(|(n, entry)| (n, *entry)).eq(model.clone()));
            prop_assert!(table.into_iter().eq(model));
        }
    }
}
