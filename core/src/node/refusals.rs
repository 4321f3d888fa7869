//! Whom a node did not let in, until its application is told. Peers bring that about as often as they like, so there
//! is a bound to what waits; and it stands in no trace, for it follows from what does.

use std::collections::VecDeque;

use trunkline_proto as wire;

use crate::error::{CloseCode, from_peer};
use crate::id::{ClientId, LinkKey};
use crate::planted::{Bug, planted};

use super::log::log;
use super::{Event, Node};

/// While so many are untold, others are only counted.
const UNTOLD_MAX: usize = 256;

/// Told last, when nothing else is left: so traces are what they are without them.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    untold: VecDeque<Event>,
}

impl Refusals {
    pub(super) fn is_empty(&self) -> bool {
        self.untold.is_empty()
    }
}

impl Node {
    /// A client that has said who it is does not come in.
    pub(super) fn refused(
        &mut self,
        link: LinkKey,
        client: ClientId,
        code: CloseCode,
        reason: &str,
    ) {
        let Some(entry) = self.links.get(link) else {
            return;
        };
        self.metrics.clients_refused += 1;
        if planted(Bug::ForgetRefusal) {
            return;
        }
        if self.refusals.untold.len() >= UNTOLD_MAX {
            self.metrics.refusals_untold += 1;
            return;
        }
        let event = Event::Refused {
            link,
            client,
            address: entry.carrier.address(),
            code,
            reason: from_peer(reason, wire::REASON_MAX),
        };
        self.strangers.refused(self.now, || log(&event));
        self.refusals.untold.push_back(event);
    }

    /// The next [`Event::Refused`].
    pub(super) fn next_refusal(&mut self) -> Option<Event> {
        self.refusals.untold.pop_front()
    }
}
