//! The entries of a heap. Each is read through one door, so that a test can count how many an
//! operation looks at.

use std::ops::Index;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Entries<E> {
    entries: Vec<E>,
    #[cfg(test)]
    examined: AtomicU64,
}

impl<E> Entries<E> {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            #[cfg(test)]
            examined: AtomicU64::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(super) fn get(&self, position: usize) -> Option<&E> {
        #[cfg(test)]
        self.examined.fetch_add(1, Ordering::Relaxed);
        self.entries.get(position)
    }

    pub(super) fn set(&mut self, position: usize, entry: E) {
        self.entries[position] = entry;
    }

    pub(super) fn push(&mut self, entry: E) {
        self.entries.push(entry);
    }

    pub(super) fn pop(&mut self) -> Option<E> {
        self.entries.pop()
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.entries.shrink_to(capacity);
    }

    /// How many entries were looked at so far.
    #[cfg(test)]
    pub(super) fn examined(&self) -> u64 {
        self.examined.load(Ordering::Relaxed)
    }
}

impl<E> Index<usize> for Entries<E> {
    type Output = E;

    fn index(&self, position: usize) -> &E {
        #[cfg(test)]
        self.examined.fetch_add(1, Ordering::Relaxed);
        &self.entries[position]
    }
}
