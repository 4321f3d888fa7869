//! Which links have work, each once, in the order in which the work came up.

use crate::id::{Key, LinkKey};

/// No slot.
const NONE: u32 = u32::MAX;

/// A fair queue of links: first in, first out, each at most once. All operations on one take constant
/// time.
///
/// Only live keys are to be marked: one slot holds one key, and a newer key of a slot throws an
/// older one out. Memory is proportional to the highest slot that was ever marked.
#[derive(Debug)]
pub(crate) struct DirtyQueue {
    /// One node a slot: a list that is linked through the slots, so that any key can leave it.
    nodes: Vec<Node>,
    head: u32,
    tail: u32,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    generation: u32,
    queued: bool,
    previous: u32,
    next: u32,
}

const IDLE: Node = Node {
    generation: 0,
    queued: false,
    previous: NONE,
    next: NONE,
};

impl DirtyQueue {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            head: NONE,
            tail: NONE,
            len: 0,
        }
    }

    /// Puts a key at the end of the queue; `false` if it waits already, and keeps its place.
    pub(crate) fn mark(&mut self, link: LinkKey) -> bool {
        let is_new = !self.contains(link);
        if is_new {
            self.append(link);
        }
        is_new
    }

    /// Apart, so that a key that waits already, as most do, costs no call.
    #[inline(never)]
    fn append(&mut self, LinkKey(key): LinkKey) {
        let slot = key.slot as usize;
        if slot >= self.nodes.len() {
            self.nodes.resize(slot + 1, IDLE);
        }
        self.unlink(key.slot);
        let node = Node {
            generation: key.generation,
            queued: true,
            previous: self.tail,
            next: NONE,
        };
        self.nodes[slot] = node;
        match self.tail {
            NONE => self.head = key.slot,
            tail => self.nodes[tail as usize].next = key.slot,
        }
        self.tail = key.slot;
        self.len += 1;
    }

    /// Takes the link that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<LinkKey> {
        let slot = self.head;
        let node = self.nodes.get(slot as usize)?;
        let key = Key {
            slot,
            generation: node.generation,
        };
        self.unlink(slot);
        Some(LinkKey(key))
    }

    /// Takes a link out; says whether it was there.
    pub(crate) fn remove(&mut self, link: LinkKey) -> bool {
        let waits = self.contains(link);
        if waits {
            self.unlink(link.0.slot);
        }
        waits
    }

    /// Puts all that wait here at the end of another queue, but for those that do not live any more: a link may
    /// have gone while it waited, and another have its slot.
    pub(crate) fn move_to(&mut self, other: &mut Self, lives: impl Fn(LinkKey) -> bool) {
        while let Some(link) = self.pop() {
            if lives(link) {
                other.mark(link);
            }
        }
    }

    fn contains(&self, LinkKey(key): LinkKey) -> bool {
        let node = self.nodes.get(key.slot as usize);
        node.is_some_and(|node| node.queued && node.generation == key.generation)
    }

    /// How many links wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn unlink(&mut self, slot: u32) {
        let Node {
            queued,
            previous,
            next,
            ..
        } = self.nodes[slot as usize];
        if !queued {
            return;
        }
        match previous {
            NONE => self.head = next,
            previous => self.nodes[previous as usize].next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => self.nodes[next as usize].previous = previous,
        }
        self.nodes[slot as usize].queued = false;
        self.len -= 1;
    }
}

impl Default for DirtyQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn key(slot: u32, generation: u32) -> LinkKey {
        LinkKey(Key { slot, generation })
    }

    #[test]
    fn who_marks_again_after_its_turn_stands_behind_all_others() {
        let mut queue = DirtyQueue::new();
        for slot in [5, 1, 3] {
            assert!(queue.mark(key(slot, 0)));
        }
        assert!(!queue.mark(key(5, 0)));
        assert_eq!(queue.len(), 3);
        assert_eq!(queue.pop(), Some(key(5, 0)));
        assert!(queue.mark(key(5, 0)));
        assert_eq!(queue.pop(), Some(key(1, 0)));
        assert_eq!(queue.pop(), Some(key(3, 0)));
        assert_eq!(queue.pop(), Some(key(5, 0)));
        assert_eq!(queue.pop(), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_newer_key_of_a_slot_throws_the_older_one_out() {
        let mut queue = DirtyQueue::new();
        queue.mark(key(0, 0));
        queue.mark(key(1, 0));
        assert!(queue.mark(key(0, 1)));
        assert_eq!(queue.len(), 2);
        assert_eq!(
            (queue.pop(), queue.pop(), queue.pop()),
            (Some(key(1, 0)), Some(key(0, 1)), None)
        );
    }

    #[test]
    fn marking_and_popping_for_ever_takes_no_memory() {
        let mut queue = DirtyQueue::new();
        for _ in 0..10_000 {
            assert!(queue.mark(key(3, 0)));
            assert_eq!(queue.pop(), Some(key(3, 0)));
        }
        assert_eq!(queue.nodes.len(), 4);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn who_lives_waits_on_in_another_queue() {
        let (mut queue, mut other) = (DirtyQueue::new(), DirtyQueue::new());
        for slot in [5, 1, 3] {
            queue.mark(key(slot, 0));
        }
        other.mark(key(3, 0));
        queue.move_to(&mut other, |link| link != key(5, 0));
        assert!(queue.is_empty());
        assert_eq!(
            (other.pop(), other.pop(), other.pop()),
            (Some(key(3, 0)), Some(key(1, 0)), None)
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Mark(LinkKey),
        Pop,
        Remove(LinkKey),
    }

    fn step() -> impl Strategy<Value = Step> {
        let keys = || (0..12_u32, 0..2_u32).prop_map(|(slot, generation)| key(slot, generation));
        prop_oneof![
            4 => keys().prop_map(Step::Mark),
            3 => Just(Step::Pop),
            1 => keys().prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_list_without_repetitions(steps in prop::collection::vec(step(), 0..300)) {
            let mut queue = DirtyQueue::new();
            let mut model = VecDeque::new();
            for step in steps {
                match step {
                    Step::Mark(key) => {
                        let fresh = !model.contains(&key);
                        prop_assert_eq!(queue.mark(key), fresh);
                        if fresh {
                            model.retain(|other: &LinkKey| other.0.slot != key.0.slot);
                            model.push_back(key);
                        }
                    }
                    Step::Pop => prop_assert_eq!(queue.pop(), model.pop_front()),
                    Step::Remove(key) => {
                        prop_assert_eq!(queue.remove(key), model.contains(&key));
                        model.retain(|other| *other != key);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            prop_assert!(std::iter::from_fn(|| queue.pop()).eq(model));
        }
    }
}
