//! What a connection has told that nobody has asked for yet.

use std::collections::VecDeque;

use super::connection::ConnectionEvent;
use crate::error::Fault;

/// What QUIC has told, and what was found wrong with it, until the node looks at the link. There is no more of it than
/// there may be streams: what tells that one may be read is not in it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    events: VecDeque<ConnectionEvent>,
    fault: Finding,
}

#[derive(Debug, Default)]
enum Finding {
    #[default]
    Nothing,
    Found(Fault),
    /// It is told once: the link ends.
    Told,
}

impl Told {
    /// QUIC has told something.
    pub(super) fn add(&mut self, event: ConnectionEvent) {
        self.events.push_back(event);
    }

    /// The peer did what no link survives.
    pub(super) fn found(&mut self, fault: Fault) {
        if let Finding::Nothing = self.fault {
            self.fault = Finding::Found(fault);
        }
    }

    /// Whether there is a fault that nobody was told of yet.
    pub(super) fn has_fault(&self) -> bool {
        matches!(self.fault, Finding::Found(_))
    }

    /// The next of it.
    pub(super) fn take(&mut self) -> Option<ConnectionEvent> {
        let event = self.events.pop_front();
        if event.is_some() {
            if self.events.is_empty() {
                // Links are idle for most of their time.
                self.events = VecDeque::new();
            }
            return event;
        }
        if !self.has_fault() {
            return None;
        }
        match std::mem::replace(&mut self.fault, Finding::Told) {
            Finding::Found(fault) => Some(ConnectionEvent::Fault(fault)),
            Finding::Nothing | Finding::Told => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::Dir;

    use super::*;
    use crate::error::CloseCode;

    #[test]
    fn it_comes_in_its_order_and_a_fault_once_behind_it() {
        let mut told = Told::default();
        let fault = |reason: &str| Fault::new(CloseCode::FLOODED, reason);
        told.add(ConnectionEvent::Connected);
        told.found(fault("the first"));
        told.found(fault("another"));
        told.add(ConnectionEvent::Opened(Dir::Uni));
        assert!(told.has_fault());
        assert!(matches!(told.take(), Some(ConnectionEvent::Connected)));
        assert!(matches!(
            told.take(),
            Some(ConnectionEvent::Opened(Dir::Uni))
        ));
        assert!(
            matches!(told.take(), Some(ConnectionEvent::Fault(found)) if found == fault("the first"))
        );
        told.found(fault("again"));
        assert!(!told.has_fault() && told.take().is_none());
        assert_eq!(told.events.capacity(), 0);
    }
}
