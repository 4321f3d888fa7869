//! Deadlines of entries that were given equal timeouts. Since time only grows, those of one timeout
//! come due in the order in which they were set: a queue each, in which setting and taking out cost
//! the same however many there are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use slab::Slab;

/// Where an entry stands. Whoever has set it takes it out, once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

/// The queues of all timeouts that are in use. Each is watched by a timer `W` of the caller's, from
/// its first entry on to its last.
#[derive(Debug)]
pub(crate) struct Cohorts<O, W> {
    entries: Slab<Entry<O>>,
    queues: Slab<Queue<W>>,
    /// Where each timeout's queue is.
    places: BTreeMap<Duration, usize>,
}

#[derive(Debug)]
struct Entry<O> {
    deadline: Instant,
    queue: usize,
    owner: O,
    before: Option<usize>,
    behind: Option<usize>,
}

#[derive(Debug)]
struct Queue<W> {
    timeout: Duration,
    first: usize,
    last: usize,
    watch: W,
}

/// Room for so many entries and queues is kept when there are none.
const KEPT: usize = 64;

impl<O, W> Default for Cohorts<O, W> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            queues: Slab::new(),
            places: BTreeMap::new(),
        }
    }
}

impl<O: Copy, W: Default> Cohorts<O, W> {
    /// Puts an entry at the end of its timeout's queue. `deadline` is not before that of the entry
    /// set last. Returns the watch of the queue if that was empty: it is to be set to `deadline`.
    pub(crate) fn set(
        &mut self,
        deadline: Instant,
        timeout: Duration,
        owner: O,
    ) -> (Place, Option<&mut W>) {
        let place = self.entries.vacant_key();
        let known = self.places.get(&timeout).copied();
        let queue = known.unwrap_or_else(|| {
            let queue = self.queues.insert(Queue {
                timeout,
                first: place,
                last: place,
                watch: W::default(),
            });
            self.places.insert(timeout, queue);
            queue
        });
        let mut before = None;
        let mut watch = None;
        match self.queues.get_mut(queue) {
            Some(queue) if known.is_some() => {
                before = Some(std::mem::replace(&mut queue.last, place));
            }
            queue => watch = queue.map(|queue| &mut queue.watch),
        }
        if let Some(last) = before.and_then(|last| self.entries.get_mut(last)) {
            last.behind = Some(place);
        }
        self.entries.insert(Entry {
            deadline,
            queue,
            owner,
            before,
            behind: None,
        });
        (Place(place), watch)
    }

    /// Takes an entry out. Returns the watch of its queue if that is empty now: there is nothing
    /// to be watched any more.
    pub(crate) fn cancel(&mut self, place: &Place) -> Option<W> {
        let entry = self.entries.try_remove(place.0)?;
        let Entry {
            queue,
            before,
            behind,
            ..
        } = entry;
        if let Some(before) = before.and_then(|before| self.entries.get_mut(before)) {
            before.behind = behind;
        }
        if let Some(behind) = behind.and_then(|behind| self.entries.get_mut(behind)) {
            behind.before = before;
        }
        if let (Some(_), Some(_)) = (before, behind) {
            return None;
        }
        match (self.queues.get_mut(queue), before, behind) {
            (Some(queue), None, Some(first)) => queue.first = first,
            (Some(queue), Some(last), None) => queue.last = last,
            _ => {
                if self.entries.is_empty() && self.entries.capacity() > KEPT {
                    self.entries = Slab::with_capacity(KEPT);
                }
                let Queue { timeout, watch, .. } = self.queues.try_remove(queue)?;
                self.places.remove(&timeout);
                if self.queues.is_empty() && self.queues.capacity() > KEPT {
                    self.queues = Slab::with_capacity(KEPT);
                }
                return Some(watch);
            }
        }
        None
    }

    /// The first entry of a timeout's queue: when it is due, and whose it is.
    pub(crate) fn first(&self, timeout: Duration) -> Option<(Instant, O)> {
        let queue = self.queues.get(*self.places.get(&timeout)?)?;
        let entry = self.entries.get(queue.first)?;
        Some((entry.deadline, entry.owner))
    }

    /// What watches a timeout's queue.
    pub(crate) fn watch(&mut self, timeout: Duration) -> Option<&mut W> {
        let queue = self.queues.get_mut(*self.places.get(&timeout)?)?;
        Some(&mut queue.watch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const TIMEOUTS: [Duration; 3] = [
        Duration::from_millis(5),
        Duration::from_secs(1),
        Duration::from_secs(30),
    ];

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize),
        /// Takes out the entry of that index among those that are there.
        Cancel(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..TIMEOUTS.len()).prop_map(Step::Set),
            any::<usize>().prop_map(Step::Cancel),
            (0..100_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn each_queue_is_what_was_set_and_not_taken_out(
            steps in proptest::collection::vec(step(), 0..200)
        ) {
            let mut now = Instant::now();
            let mut cohorts = Cohorts::<u64, u8>::default();
            let mut model: [VecDeque<(Instant, u64)>; 3] = Default::default();
            let mut places = Vec::new();
            for (step, owner) in steps.into_iter().zip(0..) {
                match step {
                    Step::Pass(millis) => now += Duration::from_millis(millis),
                    Step::Set(which) => {
                        let timeout = TIMEOUTS[which];
                        let was_empty = model[which].is_empty();
                        let (place, watch) = cohorts.set(now + timeout, timeout, owner);
                        prop_assert_eq!(watch.is_some(), was_empty);
                        model[which].push_back((now + timeout, owner));
                        places.push((which, owner, place));
                    }
                    Step::Cancel(_) if places.is_empty() => {}
                    Step::Cancel(index) => {
                        let (which, owner, place) = places.remove(index % places.len());
                        let freed = cohorts.cancel(&place).is_some();
                        model[which].retain(|(_, other)| *other != owner);
                        prop_assert_eq!(freed, model[which].is_empty());
                    }
                }
                for (timeout, expected) in TIMEOUTS.iter().zip(&model) {
                    prop_assert_eq!(cohorts.first(*timeout), expected.front().copied());
                    prop_assert_eq!(cohorts.watch(*timeout).is_some(), !expected.is_empty());
                }
            }
        }
    }

    #[test]
    fn memory_of_many_timeouts_is_given_back() {
        let mut cohorts = Cohorts::<u32, u8>::default();
        let now = Instant::now();
        let places: Vec<_> = (0..10_000)
            .map(|owner| {
                let timeout = Duration::from_millis(owner.into());
                cohorts.set(now + timeout, timeout, owner).0
            })
            .collect();
        for place in &places {
            assert!(cohorts.cancel(place).is_some());
        }
        assert!(cohorts.queues.capacity() <= KEPT && cohorts.places.is_empty());
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let mut cohorts = Cohorts::<u32, u8>::default();
        let (now, timeout) = (Instant::now(), TIMEOUTS[1]);
        let places: Vec<_> = (0..10_000)
            .map(|owner| cohorts.set(now + timeout, timeout, owner).0)
            .collect();
        places.iter().for_each(|place| {
            cohorts.cancel(place);
        });
        assert!(cohorts.entries.capacity() <= KEPT && cohorts.queues.is_empty());
        assert!(cohorts.places.is_empty());
    }
}
