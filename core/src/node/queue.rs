//! The event queue. Messages in it are bounded; other events are bounded by the tables they
//! speak of, and always find room; refusals, which are by none, wait [elsewhere](super::refusals).

use std::collections::VecDeque;

use crate::message::Outcome;

use super::events::Event;
use super::log::log;

pub(super) struct EventQueue {
    events: VecDeque<Event>,
    messages: usize,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

impl EventQueue {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            events: VecDeque::new(),
            messages: 0,
            bytes: 0,
            max_messages,
            max_bytes,
        }
    }

    /// Inlined, so that an event is made in its place: moving one that has just been made stalls
    /// the processor.
    #[inline(always)]
    pub(super) fn push(&mut self, event: Event) {
        if !matches!(event, Event::Message(_) | Event::Settled { .. }) {
            log(&event);
        }
        if let Some(bytes) = weight(&event) {
            self.messages += 1;
            self.bytes += bytes;
        }
        self.events.push_back(event);
    }

    /// Counts the next event as taken: [`Self::pop`] follows. `false`: there is none.
    pub(super) fn release(&mut self) -> bool {
        let Some(event) = self.events.front() else {
            // Begin again where memory is warm: mostly few wait at a time, in room that a burst once needed.
            self.events.clear();
            return false;
        };
        if let Some(bytes) = weight(event) {
            self.messages -= 1;
            self.bytes -= bytes;
        }
        true
    }

    /// The event that was released.
    pub(super) fn pop(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether streams may be read.
    pub(super) fn has_room(&self) -> bool {
        self.messages < self.max_messages && self.bytes < self.max_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// What an event that came from a stream weighs.
fn weight(event: &Event) -> Option<usize> {
    match event {
        Event::Message(delivery) => Some(delivery.body.len()),
        Event::Settled {
            outcome: Outcome::Replied { body, .. },
            ..
        } => Some(body.len()),
        _ => None,
    }
}
