//! Peers that go on at another address, until their application is told. It stands in no trace, as refusals do not: it
//! follows from what does.

use crate::logged::logged;

use super::{Event, Node};

impl Node {
    /// The next [`Event::Moved`]. However often a peer moves, it is told of where it is in the end, once.
    pub(super) fn next_move(&mut self) -> Option<Event> {
        while let Some(link) = self.moves.pop() {
            // Of a link that is gone there is nothing to tell; of one that is not up its `Connected` tells.
            let Some(entry) = self.links.get(link).filter(|entry| entry.link.is_up()) else {
                continue;
            };
            let Some(session) = entry.link.session else {
                continue;
            };
            let address = entry.carrier.shown_address();
            logged(|| tracing::debug!(?session, %address, "moved"));
            return Some(Event::Moved { session, address });
        }
        None
    }
}
