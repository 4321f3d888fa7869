//! The event queue. Messages in it are bounded; other events are bounded by the tables they
//! speak of, and always find room.

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

    pub(super) fn push(&mut self, event: Event) {
        log(&event);
        if let Some(bytes) = weight(&event) {
            self.messages += 1;
            self.bytes += bytes;
        }
        self.events.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Some(bytes) = weight(&event) {
            self.messages -= 1;
            self.bytes -= bytes;
        }
        Some(event)
    }

    /// Whether streams may be read.
    pub(super) fn has_room(&self) -> bool {
        self.messages < self.max_messages && self.bytes < self.max_bytes
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
