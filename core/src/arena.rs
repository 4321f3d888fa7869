//! A slab whose keys carry a generation, so that a stale key finds nothing.

use std::marker::PhantomData;

use slab::Slab;

use crate::id::{Key, LinkKey, SessionKey};

/// A key of an arena: a type of its own for each, so that a link's is never taken for a session's.
pub(crate) trait ArenaKey: Copy {
    fn from_key(key: Key) -> Self;
    fn key(self) -> Key;
}

macro_rules! arena_key {
    ($name:ident) => {
        impl ArenaKey for $name {
            fn from_key(key: Key) -> Self {
                Self(key)
            }
            fn key(self) -> Key {
                self.0
            }
        }
    };
}
arena_key!(SessionKey);
arena_key!(LinkKey);

/// A table of `T` under keys of type `K`. Slots are used again, keys are not: a slot's generation
/// is counted on when its entry goes, and wraps after 2^32 entries of the same slot.
#[derive(Debug)]
pub(crate) struct Arena<K, T> {
    slab: Slab<T>,
    /// How often each slot's entry was removed; it outlives the entry.
    generations: Vec<u32>,
    /// What the first slot is called in keys.
    first: u32,
    keys: PhantomData<K>,
}

impl<K, T> Arena<K, T> {
    pub(crate) const fn new() -> Self {
        Self::starting_at(0)
    }

    /// A table whose keys' slots begin with that number, so that those of several tables differ.
    pub(crate) const fn starting_at(first: u32) -> Self {
        Self {
            slab: Slab::new(),
            generations: Vec::new(),
            first,
            keys: PhantomData,
        }
    }
}

impl<K, T> Default for Arena<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: ArenaKey, T> Arena<K, T> {
    #[cfg(test)]
    pub(crate) fn insert(&mut self, entry: T) -> K {
        self.insert_with(|_| entry)
    }

    /// Adds an entry that is made from its own key.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(K) -> T) -> K {
        let entry = self.slab.vacant_entry();
        let slot = entry.key();
        if self.generations.len() <= slot {
            self.generations.resize(slot + 1, 0);
        }
        // Slots are the lowest free ones, and memory ends long before 2^32 of them.
        let key = K::from_key(Key {
            slot: self.first + slot as u32,
            generation: self.generations[slot],
        });
        entry.insert(make(key));
        key
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<T> {
        let slot = self.slot(key)?;
        let removed = self.slab.try_remove(slot)?;
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        Some(removed)
    }

    pub(crate) fn get(&self, key: K) -> Option<&T> {
        self.slab.get(self.slot(key)?)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let slot = self.slot(key)?;
        self.slab.get_mut(slot)
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// All entries, in the order of their slots: the same for the same history. It takes time for
    /// as many slots as were ever used at once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slab
            .iter()
            .map(|(slot, entry)| (self.key(slot), entry))
    }

    fn key(&self, slot: usize) -> K {
        K::from_key(Key {
            slot: self.first + slot as u32,
            generation: self.generations[slot],
        })
    }

    /// The slot of a key that is not an old one; there is nothing in it before it was given out.
    fn slot(&self, key: K) -> Option<usize> {
        let Key { slot, generation } = key.key();
        let slot = slot.checked_sub(self.first)? as usize;
        (self.generations.get(slot) == Some(&generation)).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Links<T> = Arena<LinkKey, T>;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut arena = Links::default();
        let first = arena.insert_with(|_| "first");
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second");
        assert_eq!(
            first.0.slot, second.0.slot,
            "the test means to see the slot used again"
        );
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.get_mut(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.get(second), Some(&"second"));
        assert_eq!(arena.len(), 1);
    }

    #[test]
    fn keys_of_tables_that_begin_elsewhere_differ_and_find_nothing_in_each_other() {
        let (mut one, mut other) = (Links::starting_at(0), Links::starting_at(1 << 24));
        let (first, second) = (one.insert("one"), other.insert("other"));
        assert_eq!(second.0.slot, 1 << 24);
        assert_eq!(
            (one.get(first), other.get(second)),
            (Some(&"one"), Some(&"other"))
        );
        assert_eq!((one.get(second), other.get(first)), (None, None));
        assert_eq!(other.iter().collect::<Vec<_>>(), [(second, &"other")]);
        assert_eq!(other.remove(second), Some("other"));
    }

    #[test]
    fn a_key_finds_nothing_in_an_empty_slot_or_beyond_the_last() {
        let mut arena = Links::new();
        let key = arena.insert(1);
        arena.remove(key);
        let next = LinkKey(Key {
            generation: key.0.generation + 1,
            ..key.0
        });
        let beyond = LinkKey(Key {
            slot: 1_000,
            generation: 0,
        });
        for key in [key, next, beyond] {
            assert_eq!(arena.get(key), None);
            assert_eq!(arena.remove(key), None);
        }
        assert_eq!(
            arena.insert(2),
            next,
            "a failed removal does not count as one"
        );
    }

    #[test]
    fn generations_wrap() {
        let mut arena = Links::new();
        let key = arena.insert(1);
        arena.generations[0] = u32::MAX;
        assert_eq!(arena.get(key), None);
        let last = LinkKey(Key {
            slot: 0,
            generation: u32::MAX,
        });
        assert_eq!(arena.remove(last), Some(1));
        assert_eq!(
            arena.insert(2).0,
            Key {
                slot: 0,
                generation: 0
            }
        );
    }

    #[test]
    fn an_entry_can_know_its_own_key() {
        let mut arena = Arena::<SessionKey, SessionKey>::new();
        let key = arena.insert_with(|key| key);
        assert_eq!(arena.get(key), Some(&key));
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map_with_fresh_keys(
            steps in prop::collection::vec(any::<Option<prop::sample::Index>>(), 0..300)
        ) {
            let mut arena = Links::new();
            let mut model = BTreeMap::new();
            let mut ever = BTreeSet::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Some(index) if !model.is_empty() => {
                        let key = *index.get(&model.keys().copied().collect::<Vec<_>>());
                        prop_assert_eq!(arena.remove(key), model.remove(&key));
                    }
                    _ => {
                        let key = arena.insert(n);
                        prop_assert!(ever.insert(key), "a key was given out twice");
                        model.insert(key, n);
                    }
                }
                prop_assert_eq!(arena.len(), model.len());
                // Live keys differ in their slots, so their order is that of the slots.
                prop_assert!(arena.iter().eq(model.iter().map(|(key, n)| (*key, n))));
            }
            for key in ever {
                prop_assert_eq!(arena.get(key), model.get(&key));
            }
        }
    }
}
