//! Room for what applications send: who was refused for want of it, and who is told when there is
//! some again.

use std::collections::BTreeSet;

use crate::id::SessionKey;
use crate::planted::{Bug, planted};

use super::tables::Session;
use super::{Event, Node};

/// What a node knows of the room in all its outboxes.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes in the outboxes of all sessions, answers aside.
    pub(super) outbox_bytes: usize,
    /// Sessions that wait for room in all outboxes together, which others may fill.
    short_of_bytes: BTreeSet<SessionKey>,
    /// The same for promises.
    short_of_promises: BTreeSet<SessionKey>,
}

/// What a session knows of it.
#[derive(Debug, Default)]
pub(super) struct SessionRoom {
    /// The share of [`Room::outbox_bytes`] that is this session's.
    outbox_bytes: usize,
    /// What commands were refused for: the application is told when there is some.
    wants: Wants,
}

/// Of what there was none left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    outbox: bool,
    promises: bool,
}

impl Wants {
    pub(super) const OUTBOX: Self = Self {
        outbox: true,
        promises: false,
    };
    pub(super) const PROMISES: Self = Self {
        outbox: false,
        promises: true,
    };
    const NOTHING: Self = Self {
        outbox: false,
        promises: false,
    };
    const BOTH: Self = Self {
        outbox: true,
        promises: true,
    };
}

impl Room {
    /// Brings the account of a session's outbox up to date.
    pub(super) fn account(&mut self, session: &mut Session) {
        let bytes = session.conversation.lanes.usage().bytes;
        let before = std::mem::replace(&mut session.room.outbox_bytes, bytes);
        self.outbox_bytes = self.outbox_bytes + bytes - before;
    }

    /// Forgets a session.
    pub(super) fn forget(&mut self, key: SessionKey, room: &SessionRoom) {
        self.short_of_bytes.remove(&key);
        self.short_of_promises.remove(&key);
        self.outbox_bytes -= room.outbox_bytes;
    }
}

impl Node {
    /// A command of the session was refused: it is told when there is room. `shared`: it is the
    /// node's table that was full, not the session's own.
    pub(super) fn owe_writable(&mut self, key: SessionKey, wants: Wants, shared: bool) {
        if let Some(session) = self.sessions.get_mut(key) {
            let owed = &mut session.room.wants;
            owed.outbox |= wants.outbox;
            owed.promises |= wants.promises;
        }
        if shared {
            self.note_shortage(key, wants, Wants::NOTHING);
        }
    }

    /// Others hold what is wanted and not found: nothing of the session's own would tell.
    fn note_shortage(&mut self, key: SessionKey, wanted: Wants, found: Wants) {
        if wanted.outbox && !found.outbox {
            self.room.short_of_bytes.insert(key);
        }
        if wanted.promises && !found.promises {
            self.room.short_of_promises.insert(key);
        }
    }

    /// Brings the node's account of a session's outbox up to date.
    pub(super) fn account(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            self.room.account(session);
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
        let room = &self.room;
        if room.short_of_bytes.is_empty() && room.short_of_promises.is_empty() {
            return;
        }
        let found = self.shared_room(Wants::BOTH);
        let room = &mut self.room;
        let mut told = BTreeSet::new();
        if found.outbox {
            told.append(&mut room.short_of_bytes);
        }
        if found.promises {
            told.append(&mut room.short_of_promises);
        }
        for key in told {
            self.tell_writable(key);
        }
    }

    /// Which of it the node's tables have room for: a share of them, so that one place does not wake
    /// a thousand sessions; and of bytes, what any message needs, or half.
    fn shared_room(&self, wants: Wants) -> Wants {
        let limits = &self.config.limits;
        let bytes = limits.outbox_bytes_total;
        let share = (bytes / 16).max(limits.frame_bytes).min(bytes / 2);
        let places = (limits.promises_total / 16).max(1);
        Wants {
            outbox: wants.outbox && self.room.outbox_bytes + share <= bytes,
            promises: wants.promises && self.promises + places <= limits.promises_total,
        }
    }

    /// What there is room for is told, and is owed no more. An outbox is told of when it is half
    /// empty, for it empties by many messages at a time; a promise table with its first free place,
    /// for the other promises may stay as they are for long.
    fn tell_writable(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let (wants, limits) = (session.room.wants, &self.config.limits);
        if wants == Wants::NOTHING {
            return;
        }
        let usage = session.conversation.lanes.usage();
        let own = Wants {
            outbox: wants.outbox
                && usage.messages <= limits.outbox_messages / 2
                && usage.bytes <= limits.outbox_bytes / 2,
            promises: wants.promises && session.conversation.promises.len() < limits.promises,
        };
        let found = self.shared_room(own);
        self.note_shortage(key, own, found);
        if found == Wants::NOTHING {
            return;
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.room.wants = Wants {
                outbox: wants.outbox && !found.outbox,
                promises: wants.promises && !found.promises,
            };
        }
        if planted(Bug::LoseWritable) && found.promises {
            return;
        }
        self.events.push(Event::Writable { session: key });
    }
}
