//! Counts by name.

use std::collections::BTreeMap;

/// How often what happened, each by a name out of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn count(&mut self, kind: &'static str, times: u64) {
        *self.0.entry(kind).or_default() += times;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (kind, times) in &other.0 {
            self.count(kind, *times);
        }
    }

    /// What has happened.
    pub(super) fn happened(&self) -> impl Iterator<Item = &'static str> {
        let happened = self.0.iter().filter(|(_, times)| **times > 0);
        happened.map(|(kind, _)| *kind)
    }

    /// What has not.
    pub(super) fn missing(&self, of: &[&'static str]) -> Vec<&'static str> {
        let happened = |kind: &&str| self.0.get(*kind).is_some_and(|times| *times > 0);
        let kinds = of.iter().filter(|kind| !happened(kind));
        kinds.copied().collect()
    }
}
