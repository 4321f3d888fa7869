//! Deadlines of entries that were given equal timeouts. Since time only grows, those of one timeout
//! come due in the order in which they were set: a queue each, in which setting and taking out cost
//! the same however many there are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::sliding::SlidingTable;

/// Where an entry stands. Whoever has set it takes it out, once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    queue: usize,
    number: u64,
}

/// The queues of all timeouts that are in use. Each is watched by a timer `W` of the caller's, from
/// its first entry on to its last.
#[derive(Debug)]
pub(crate) struct Cohorts<O, W> {
    queues: Slab<Queue<O, W>>,
    /// Where each timeout's queue is.
    places: BTreeMap<Duration, usize>,
    /// How many of the queues are empty.
    resting: usize,
}

#[derive(Debug)]
struct Queue<O, W> {
    timeout: Duration,
    /// When each entry is due, and whose it is: those set first stand first.
    entries: SlidingTable<(Instant, O)>,
    watch: W,
}

/// So many empty queues are kept, for their timeouts are likely to be used again.
const KEPT: usize = 8;

impl<O, W> Default for Cohorts<O, W> {
    fn default() -> Self {
        Self {
            queues: Slab::new(),
            places: BTreeMap::new(),
            resting: 0,
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
        let key = match self.places.get(&timeout) {
            Some(key) => *key,
            None => self.begin(timeout),
        };
        let queue = &mut self.queues[key];
        let was_empty = queue.entries.is_empty();
        let number = queue.entries.push((deadline, owner));
        self.resting -= usize::from(was_empty);
        let place = Place { queue: key, number };
        (place, was_empty.then_some(&mut queue.watch))
    }

    fn begin(&mut self, timeout: Duration) -> usize {
        let key = self.queues.insert(Queue {
            timeout,
            entries: SlidingTable::new(),
            watch: W::default(),
        });
        self.places.insert(timeout, key);
        self.resting += 1;
        key
    }

    /// Takes an entry out. If its queue is empty then, there is nothing to be watched any more, and
    /// `unwatch` is called.
    pub(crate) fn cancel(&mut self, place: &Place, unwatch: impl FnOnce(&mut W)) {
        let Some(queue) = self.queues.get_mut(place.queue) else {
            return;
        };
        let entry = queue.entries.remove(place.number);
        if entry.is_none() || !queue.entries.is_empty() {
            return;
        }
        unwatch(&mut queue.watch);
        self.resting += 1;
        if self.resting > KEPT {
            self.forget(place.queue);
        }
    }

    /// Forgets an empty queue.
    fn forget(&mut self, key: usize) {
        let queue = self.queues.remove(key);
        self.places.remove(&queue.timeout);
        self.resting -= 1;
        let all_rest = self.queues.len() == self.resting;
        if all_rest && self.queues.capacity() > 4 * KEPT {
            *self = Self::default();
        }
    }

    /// The first entry of a timeout's queue: when it is due, and whose it is.
    pub(crate) fn first(&self, timeout: Duration) -> Option<(Instant, O)> {
        let queue = self.queues.get(*self.places.get(&timeout)?)?;
        queue.entries.first().map(|(_, entry)| *entry)
    }

    /// What watches a timeout's queue, unless that is empty.
    pub(crate) fn watch(&mut self, timeout: Duration) -> Option<&mut W> {
        let queue = self.queues.get_mut(*self.places.get(&timeout)?)?;
        (!queue.entries.is_empty()).then_some(&mut queue.watch)
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
                        let mut freed = false;
                        cohorts.cancel(&place, |_| freed = true);
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
        let mut freed = 0;
        for place in &places {
            cohorts.cancel(place, |_| freed += 1);
        }
        assert_eq!(freed, places.len());
        assert!(cohorts.queues.capacity() <= 4 * KEPT && cohorts.places.len() <= KEPT);
    }

    #[test]
    fn a_timeout_in_use_keeps_its_queue() {
        let mut cohorts = Cohorts::<u32, u8>::default();
        let (now, timeout) = (Instant::now(), TIMEOUTS[1]);
        let (first, watch) = cohorts.set(now + timeout, timeout, 1);
        *watch.unwrap() = 7;
        cohorts.cancel(&first, |watch| assert_eq!(*watch, 7));
        assert_eq!(
            (cohorts.first(timeout), cohorts.watch(timeout)),
            (None, None)
        );
        let (second, watch) = cohorts.set(now + timeout, timeout, 2);
        assert_eq!((watch.copied(), cohorts.queues.len()), (Some(7), 1));
        cohorts.cancel(&first, |_| panic!("it was taken out before"));
        assert_eq!(cohorts.first(timeout), Some((now + timeout, 2)));
        cohorts.cancel(&second, |_| ());
        assert_eq!(cohorts.resting, 1);
    }
}
