//! Room for what applications send: who was refused for want of it, and who is told when there is
//! some again.

use std::collections::BTreeSet;

use crate::id::SessionKey;

use super::{Event, Node};

/// What a node knows of the room in all its outboxes.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes in the outboxes of all sessions, answers aside.
    pub(super) outbox_bytes: usize,
    /// Sessions that wait for the node's tables, which others may fill.
    short: BTreeSet<SessionKey>,
}

/// What a session knows of it.
#[derive(Debug, Default)]
pub(super) struct SessionRoom {
    /// The share of [`Room::outbox_bytes`] that is this session's.
    outbox_bytes: usize,
    /// Commands were refused for want of room: the application is told when there is some.
    pub(super) owes_writable: bool,
}

impl Room {
    /// Forgets a session.
    pub(super) fn forget(&mut self, key: SessionKey, room: &SessionRoom) {
        self.short.remove(&key);
        self.outbox_bytes -= room.outbox_bytes;
    }
}

impl Node {
    /// A command of the session was refused: it is told when there is room.
    pub(super) fn owe_writable(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.room.owes_writable = true;
            // Others may hold what it waits for: nothing of its own would tell.
            self.room.short.insert(key);
        }
    }

    /// Brings the node's account of a session's outbox up to date.
    pub(super) fn account(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            let bytes = session.conversation.lanes.usage().bytes;
            let before = std::mem::replace(&mut session.room.outbox_bytes, bytes);
            self.room.outbox_bytes = self.room.outbox_bytes + bytes - before;
        }
    }

    /// There may be room again where a command found none.
    pub(super) fn room_again(&mut self, key: SessionKey) {
        self.account(key);
        self.tell_writable(key);
        self.room_for_others();
    }

    /// The same for the sessions that wait for what others held.
    pub(super) fn room_for_others(&mut self) {
        if !self.room.short.is_empty() && self.has_room() {
            for key in std::mem::take(&mut self.room.short) {
                self.tell_writable(key);
            }
        }
    }

    fn has_room(&self) -> bool {
        let limits = &self.config.limits;
        self.promises <= limits.promises_total / 2
            && self.room.outbox_bytes <= limits.outbox_bytes_total / 2
    }

    /// Half empty, so that one message of room does not wake a thousand senders.
    fn tell_writable(&mut self, key: SessionKey) {
        let has_room = self.has_room();
        let limits = &self.config.limits;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if !session.room.owes_writable {
            return;
        }
        if !has_room {
            self.room.short.insert(key);
            return;
        }
        let usage = session.conversation.lanes.usage();
        if usage.messages <= limits.outbox_messages / 2
            && usage.bytes <= limits.outbox_bytes / 2
            && session.conversation.promises.len() <= limits.promises / 2
        {
            session.room.owes_writable = false;
            self.events.push(Event::Writable { session: key });
        }
    }
}
