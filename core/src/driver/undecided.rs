//! Links about whose admission the application decides.

use std::collections::BTreeMap;
use std::time::Instant;

use super::admission::Patience;
use crate::LinkKey;

/// With so many, it is looked whose links have ended, and again with twice as many as were left. So what a look costs
/// is spread over those that came since.
const FIRST_LOOK: usize = 64;

/// When the time to decide is over.
type Due = (Instant, u64);

/// Who is being decided about, and until when. One that ends before may stay here until then; but there are never more
/// than twice as many as wait, who have places of the node's ([`crate::Limits::half_open`]).
pub(super) struct Undecided {
    links: BTreeMap<LinkKey, (Due, Patience)>,
    look_at: usize,
}

impl Default for Undecided {
    fn default() -> Self {
        Self {
            links: BTreeMap::new(),
            look_at: FIRST_LOOK,
        }
    }
}

impl Undecided {
    pub(super) fn insert(&mut self, link: LinkKey, due: Due, patience: Patience) {
        self.links.insert(link, (due, patience));
    }

    /// Nobody decides about a link any more; returns when its time would have been over.
    pub(super) fn remove(&mut self, link: LinkKey) -> Option<Due> {
        self.links.remove(&link).map(|(due, _)| due)
    }

    /// Nobody decides about any link any more; returns whom it was decided about.
    pub(super) fn take(&mut self) -> Vec<(LinkKey, Due)> {
        let links = std::mem::take(&mut self.links);
        links
            .into_iter()
            .map(|(link, (due, _))| (link, due))
            .collect()
    }

    /// Gives up those that do not wait, if it is time to look; returns when their time would have been over.
    pub(super) fn look(&mut self, waits: impl Fn(LinkKey) -> bool) -> Vec<Due> {
        if self.links.len() < self.look_at {
            return Vec::new();
        }
        let gone = self.links.extract_if(.., |link, _| !waits(*link));
        let gone = gone.map(|(_, (due, _))| due).collect();
        self.look_at = FIRST_LOOK.max(2 * self.links.len());
        gone
    }
}
