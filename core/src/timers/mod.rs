//! All deadlines of a node in one queue, one entry an owner.

mod entries;

use std::time::Instant;

use self::entries::Entries;

/// Children of a heap node: a flatter heap than a binary one touches less memory.
const ARITY: usize = 4;

/// Below this many entries, memory is not given back.
const KEPT_CAPACITY: usize = 64;

/// No slot.
const NONE: u32 = u32::MAX;

/// The handle of one owner's entry in [`Timers`], kept by the owner; disarmed at first, and
/// again, without being told, once the timer has fired.
///
/// Cancel before dropping it: an armed timer fires whether or not its handle still exists.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TimerSlot {
    slot: u32,
    /// Which arming it was. Never used again, so a handle whose timer fired is stale.
    order: u64,
}

impl Default for TimerSlot {
    fn default() -> Self {
        Self {
            slot: NONE,
            order: 0,
        }
    }
}

/// Exact deadlines in a 4-ary heap in which each owner's entry can be found, moved and removed.
///
/// Reading the next deadline takes constant time, everything else the logarithm of the entries;
/// setting a deadline later than all others, and cancelling it, do not climb the heap. What is
/// due fires in the order of deadlines, equal ones in the order in which they were set.
#[derive(Debug)]
pub(crate) struct Timers<O> {
    heap: Entries<Entry<O>>,
    /// Where in the heap each slot's entry stands; for a free slot, the next free one.
    positions: Vec<u32>,
    free: u32,
    last_order: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry<O> {
    deadline: Instant,
    order: u64,
    slot: u32,
    owner: O,
}

impl<O> Entry<O> {
    fn is_before(&self, other: &Self) -> bool {
        (self.deadline, self.order) < (other.deadline, other.order)
    }
}

impl<O: Copy> Timers<O> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: Entries::new(),
            positions: Vec::new(),
            free: NONE,
            last_order: 0,
        }
    }

    /// Arms the owner's timer, or moves it if it is armed. Setting the deadline that it has
    /// already keeps its place among equal ones.
    pub(crate) fn set(&mut self, slot: &mut TimerSlot, owner: O, deadline: Instant) {
        let Some(position) = self.position(slot) else {
            self.insert(slot, owner, deadline);
            return;
        };
        let entry = self.heap[position];
        if entry.deadline == deadline {
            self.heap.set(position, Entry { owner, ..entry });
            return;
        }
        self.last_order += 1;
        slot.order = self.last_order;
        let entry = Entry {
            deadline,
            order: slot.order,
            slot: slot.slot,
            owner,
        };
        self.place(position, entry);
    }

    /// Disarms the timer, if it is armed.
    pub(crate) fn cancel(&mut self, slot: &mut TimerSlot) {
        if let Some(position) = self.position(slot) {
            self.remove(position);
        }
        *slot = TimerSlot::default();
    }

    /// When the timer fires, if it is armed.
    pub(crate) fn deadline(&self, slot: &TimerSlot) -> Option<Instant> {
        Some(self.heap[self.position(slot)?].deadline)
    }

    /// The next deadline and its owner.
    pub(crate) fn next(&self) -> Option<(Instant, O)> {
        self.heap.get(0).map(|entry| (entry.deadline, entry.owner))
    }

    /// The owner of the next deadline if that is `now` or earlier; its timer is disarmed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<O> {
        let first = self.heap.get(0).filter(|first| first.deadline <= now)?;
        let owner = first.owner;
        self.remove(0);
        Some(owner)
    }

    /// How many timers are armed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// How many timers were looked at so far, by anything.
    #[cfg(test)]
    pub(crate) fn examined(&self) -> u64 {
        self.heap.examined()
    }

    fn position(&self, slot: &TimerSlot) -> Option<usize> {
        let position = *self.positions.get(slot.slot as usize)? as usize;
        let entry = self.heap.get(position)?;
        // For a free slot, `position` means nothing, but then the entry there has another slot.
        (entry.slot == slot.slot && entry.order == slot.order).then_some(position)
    }

    fn insert(&mut self, slot: &mut TimerSlot, owner: O, deadline: Instant) {
        self.last_order += 1;
        let index = if self.free == NONE {
            self.positions.push(NONE);
            (self.positions.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.positions[index as usize];
            index
        };
        *slot = TimerSlot {
            slot: index,
            order: self.last_order,
        };
        let entry = Entry {
            deadline,
            order: slot.order,
            slot: index,
            owner,
        };
        self.heap.push(entry);
        self.rise(self.heap.len() - 1, entry);
    }

    fn remove(&mut self, position: usize) {
        let slot = self.heap[position].slot;
        self.positions[slot as usize] = self.free;
        self.free = slot;
        if let Some(last) = self.heap.pop()
            && position < self.heap.len()
        {
            self.place(position, last);
        }
        self.shrink();
    }

    /// Puts an entry where another one was, and from there to where it belongs.
    fn place(&mut self, position: usize, entry: Entry<O>) {
        let settled = self.rise(position, entry);
        if settled == position {
            self.sink(position, entry);
        }
    }

    fn rise(&mut self, mut position: usize, entry: Entry<O>) -> usize {
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if !entry.is_before(&self.heap[parent]) {
                break;
            }
            self.put(position, self.heap[parent]);
            position = parent;
        }
        self.put(position, entry);
        position
    }

    fn sink(&mut self, mut position: usize, entry: Entry<O>) {
        loop {
            let first = position * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let earliest = children.reduce(|earliest, child| {
                if self.heap[child].is_before(&self.heap[earliest]) {
                    child
                } else {
                    earliest
                }
            });
            let Some(child) = earliest.filter(|child| self.heap[*child].is_before(&entry)) else {
                break;
            };
            self.put(position, self.heap[child]);
            position = child;
        }
        self.put(position, entry);
    }

    fn put(&mut self, position: usize, entry: Entry<O>) {
        self.positions[entry.slot as usize] = position as u32;
        self.heap.set(position, entry);
    }

    fn shrink(&mut self) {
        if self.heap.capacity() > KEPT_CAPACITY && self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(2 * self.heap.len());
        }
        // Handles name slots, so slots can go only all at once. `last_order` stays, and with it
        // every handle of before stays stale.
        if self.heap.is_empty() && self.positions.len() > KEPT_CAPACITY {
            self.positions = Vec::new();
            self.free = NONE;
        }
    }
}

impl<O: Copy> Default for Timers<O> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn nothing_is_due_before_its_deadline_and_everything_at_it() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let mut slot = TimerSlot::default();
        timers.set(&mut slot, 'a', start + ms(5));
        assert_eq!(timers.next(), Some((start + ms(5), 'a')));
        assert_eq!(
            timers.pop_due(start + ms(5) - Duration::from_nanos(1)),
            None
        );
        assert_eq!(timers.pop_due(start + ms(5)), Some('a'));
        assert_eq!(timers.pop_due(start + ms(5)), None);
        assert_eq!((timers.next(), timers.deadline(&slot)), (None, None));
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_in_which_they_were_set() {
        let at = Instant::now();
        let mut timers = Timers::new();
        let mut slots: Vec<_> = (0..100).map(|_| TimerSlot::default()).collect();
        for (owner, slot) in slots.iter_mut().enumerate() {
            timers.set(slot, owner, at);
        }
        timers.set(&mut slots[3], 3, at);
        timers.set(&mut slots[7], 7, at + ms(1));
        timers.set(&mut slots[7], 7, at);
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(at)).collect();
        let expected: Vec<_> = (0..100).filter(|owner| *owner != 7).chain([7]).collect();
        assert_eq!(fired, expected);
    }

    #[test]
    fn the_handle_of_a_fired_timer_cannot_touch_its_successor() {
        let at = Instant::now();
        let mut timers = Timers::new();
        let (mut old, mut new) = (TimerSlot::default(), TimerSlot::default());
        timers.set(&mut old, "old", at);
        assert_eq!(timers.pop_due(at), Some("old"));
        timers.set(&mut new, "new", at + ms(1));
        assert_eq!(
            old.slot, new.slot,
            "the test means to see the slot used again"
        );
        assert_eq!(timers.deadline(&old), None);
        timers.cancel(&mut old);
        assert_eq!(timers.next(), Some((at + ms(1), "new")));
        timers.set(&mut old, "old", at + ms(2));
        assert_eq!(timers.len(), 2);
        assert_eq!(timers.deadline(&new), Some(at + ms(1)));
    }

    #[test]
    fn the_latest_timer_comes_and_goes_without_moving_another() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let mut slots: Vec<_> = (0..10_000).map(|_| TimerSlot::default()).collect();
        for (owner, slot) in slots.iter_mut().enumerate() {
            timers.set(slot, owner, start + ms(owner as u64 * 7919 % 10_000));
        }
        let order = |timers: &Timers<usize>| {
            let owner = |position: usize| timers.heap[position].owner;
            (0..10_000).map(owner).collect::<Vec<_>>()
        };
        let before = order(&timers);
        let mut slot = TimerSlot::default();
        timers.set(&mut slot, 10_000, start + ms(20_000));
        assert_eq!(timers.position(&slot), Some(10_000));
        timers.cancel(&mut slot);
        assert_eq!(before, order(&timers));
    }

    #[test]
    fn memory_shrinks_after_a_burst_and_old_handles_stay_stale() {
        let at = Instant::now();
        let mut timers = Timers::new();
        let mut slots: Vec<_> = (0..100_000).map(|_| TimerSlot::default()).collect();
        for (owner, slot) in slots.iter_mut().enumerate() {
            timers.set(slot, owner, at);
        }
        while timers.pop_due(at).is_some() {}
        assert!(timers.heap.capacity() <= KEPT_CAPACITY && timers.positions.capacity() == 0);
        let mut slot = TimerSlot::default();
        timers.set(&mut slot, 7, at);
        for old in &slots {
            assert_eq!(timers.deadline(old), None);
        }
    }

    #[test]
    fn the_next_deadline_is_read_from_one_entry_and_changes_touch_few() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let mut slots: Vec<_> = (0..10_000).map(|_| TimerSlot::default()).collect();
        for (owner, slot) in slots.iter_mut().enumerate() {
            timers.set(slot, owner, start + ms(owner as u64 * 7919 % 10_000));
        }
        let before = timers.examined();
        assert_eq!(timers.next(), Some((start, 0)));
        assert_eq!(timers.examined() - before, 1);
        // 10,000 entries stand on 7 levels of 4 children each: 2 comparisons of a child at most.
        for (owner, slot) in slots.iter_mut().enumerate() {
            let before = timers.examined();
            timers.set(slot, owner, start + ms(owner as u64 * 104_729 % 10_000));
            let examined = timers.examined() - before;
            assert!(examined <= 7 * ARITY as u64 * 2 + 10, "{examined}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize, u64),
        Cancel(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..60_usize, 0..50_u64).prop_map(|(owner, after)| Step::Set(owner, after)),
            2 => (0..60_usize).prop_map(Step::Cancel),
            1 => (0..20_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map_ordered_by_deadline(steps in prop::collection::vec(step(), 0..600)) {
            let mut now = Instant::now();
            let mut timers = Timers::new();
            let mut slots: Vec<_> = (0..60).map(|_| TimerSlot::default()).collect();
            // What is armed: by owner, and by deadline and the order of setting.
            let mut armed = BTreeMap::<usize, (Instant, usize)>::new();
            let mut queue = BTreeMap::<(Instant, usize), usize>::new();
            for (order, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Set(owner, after) => {
                        let deadline = now + ms(after);
                        timers.set(&mut slots[owner], owner, deadline);
                        if armed.get(&owner).is_none_or(|(old, _)| *old != deadline) {
                            if let Some(old) = armed.insert(owner, (deadline, order)) {
                                queue.remove(&old);
                            }
                            queue.insert((deadline, order), owner);
                        }
                    }
                    Step::Cancel(owner) => {
                        timers.cancel(&mut slots[owner]);
                        if let Some(old) = armed.remove(&owner) {
                            queue.remove(&old);
                        }
                    }
                    Step::Pass(by) => {
                        now += ms(by);
                        while let Some(owner) = timers.pop_due(now) {
                            let ((deadline, _), expected) = queue.pop_first().unwrap();
                            prop_assert_eq!(owner, expected);
                            prop_assert!(deadline <= now);
                            armed.remove(&owner);
                        }
                    }
                }
                let next = queue.first_key_value().map(|((deadline, _), owner)| (*deadline, *owner));
                prop_assert_eq!(timers.next(), next);
                prop_assert_eq!(timers.len(), armed.len());
                for (owner, slot) in slots.iter().enumerate() {
                    let deadline = armed.get(&owner).map(|(deadline, _)| *deadline);
                    prop_assert_eq!(timers.deadline(slot), deadline);
                }
            }
        }
    }
}
