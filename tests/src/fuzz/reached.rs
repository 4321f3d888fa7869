//! What an input has reached.

use std::ptr;

/// What an input has reached, in words. Bodies say the same ones again and again, so these are told
/// apart by their places: a fuzzer takes an interest in each comparison of bytes.
#[derive(Clone, Debug, Default)]
pub struct Reached(Vec<&'static str>);

impl Reached {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// This has been reached.
    pub fn insert(&mut self, what: &'static str) {
        if !self.0.iter().any(|known| ptr::eq(*known, what)) {
            self.0.push(what);
        }
    }

    /// Whether this has been.
    pub fn contains(&self, what: &str) -> bool {
        self.0.contains(&what)
    }
}

impl Extend<&'static str> for Reached {
    fn extend<T: IntoIterator<Item = &'static str>>(&mut self, all: T) {
        for what in all {
            self.insert(what);
        }
    }
}

impl IntoIterator for Reached {
    type Item = &'static str;
    type IntoIter = std::vec::IntoIter<&'static str>;

    /// Each of them, and hardly one twice.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
