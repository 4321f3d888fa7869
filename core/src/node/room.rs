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
    /// How many of them are those of sessions without a link, where they stay.
    resting_bytes: usize,
    /// Sessions that wait for room in all outboxes together, which others may fill.
    short_of_bytes: Queue,
    /// The same for promises.
    short_of_promises: Queue,
}

/// So many are told at a time of what does not suffice for all, for it may be that one of them does not use it.
const FEW: usize = 16;

/// Sessions that wait for what all share.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeSet<SessionKey>,
    /// Whose turn it was.
    latest: Option<SessionKey>,
}

impl Queue {
    /// Takes out so many of those that can use it, round and round.
    fn take(&mut self, most: usize, mut can: impl FnMut(SessionKey) -> bool) -> Vec<SessionKey> {
        let latest = self.latest;
        let later = self.waiting.iter().filter(|key| Some(**key) > latest);
        let earlier = self.waiting.iter().filter(|key| Some(**key) <= latest);
        let in_turn = later.chain(earlier).copied();
        let taken: Vec<_> = in_turn.filter(|key| can(*key)).take(most).collect();
        for key in &taken {
            self.waiting.remove(key);
        }
        self.latest = taken.last().copied().or(latest);
        taken
    }
}

/// What a session knows of it.
#[derive(Debug, Default)]
pub(super) struct SessionRoom {
    /// The share of [`Room::outbox_bytes`] that is this session's.
    outbox_bytes: usize,
    /// That of [`Room::resting_bytes`].
    resting_bytes: usize,
    /// What commands were refused for: the application is told when there is some.
    wants: Wants,
    /// It was the session's own outbox that was full.
    filled_outbox: bool,
    /// The smallest message that found no room in an outbox, in bytes.
    refused: usize,
}

/// Of what there was none left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wants {
    outbox: bool,
    promises: bool,
}

impl Wants {
    const NOTHING: Self = Self {
        outbox: false,
        promises: false,
    };

    fn without(self, others: Self) -> Self {
        Self {
            outbox: self.outbox && !others.outbox,
            promises: self.promises && !others.promises,
        }
    }
}

impl Room {
    /// Brings the account of a session's outbox up to date.
    pub(super) fn account(&mut self, session: &mut Session) {
        let bytes = session.conversation.lanes.usage().bytes;
        let resting = if session.connected_since.is_none() {
            bytes
        } else {
            0
        };
        let before = std::mem::replace(&mut session.room.outbox_bytes, bytes);
        self.outbox_bytes = self.outbox_bytes + bytes - before;
        let before = std::mem::replace(&mut session.room.resting_bytes, resting);
        self.resting_bytes = self.resting_bytes + resting - before;
    }

    /// Forgets a session.
    pub(super) fn forget(&mut self, key: SessionKey, room: &SessionRoom) {
        self.short_of_bytes.waiting.remove(&key);
        self.short_of_promises.waiting.remove(&key);
        self.outbox_bytes -= room.outbox_bytes;
        self.resting_bytes -= room.resting_bytes;
    }
}

impl Node {
    /// A message of so many bytes found an outbox full: the session is told when there is room. `own`: its own
    /// was full; `shared`: all together were.
    pub(super) fn owe_outbox(&mut self, key: SessionKey, size: usize, own: bool, shared: bool) {
        if let Some(session) = self.sessions.get_mut(key) {
            let room = &mut session.room;
            room.refused = match room.wants.outbox {
                true => room.refused.min(size),
                false => size,
            };
            room.wants.outbox = true;
            room.filled_outbox |= own;
        }
        if shared {
            self.room.short_of_bytes.waiting.insert(key);
        }
    }

    /// The same for a promise. `shared`: it was the node's table that was full.
    pub(super) fn owe_promise(&mut self, key: SessionKey, shared: bool) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.room.wants.promises = true;
        }
        if shared {
            self.room.short_of_promises.waiting.insert(key);
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
        if let Some(session) = self.sessions.get_mut(key) {
            self.room.account(session);
            if session.room.wants != Wants::NOTHING {
                self.tell_writable(key);
            }
        }
        self.room_for_others();
    }

    /// The same for the sessions that wait for what others held. All are told when there is plenty, which does
    /// not wake a thousand for one place. When there cannot be for as long as sessions without a link keep theirs,
    /// a few are told of what there is.
    pub(super) fn room_for_others(&mut self) {
        let room = &mut self.room;
        if room.short_of_bytes.waiting.is_empty() && room.short_of_promises.waiting.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut room.short_of_bytes);
        let mut promises = std::mem::take(&mut room.short_of_promises);
        let mut told = BTreeSet::new();
        let (limits, plenty) = (&self.config.limits, self.plenty_of_bytes());
        if self.room.outbox_bytes + plenty <= limits.outbox_bytes_total {
            told.append(&mut bytes.waiting);
        } else if self.room.resting_bytes + plenty > limits.outbox_bytes_total {
            told.extend(bytes.take(FEW, |key| self.finds(key).outbox));
        }
        // How long promises stay, nothing says.
        let free = limits.promises_total.saturating_sub(self.promises);
        if free >= (limits.promises_total / 16).max(1) {
            told.append(&mut promises.waiting);
        } else {
            told.extend(promises.take(FEW.min(free), |key| self.finds(key).promises));
        }
        self.room.short_of_bytes = bytes;
        self.room.short_of_promises = promises;
        for key in told {
            self.tell_writable(key);
        }
    }

    /// What is plenty of room in all outboxes together: a share of it; what any message needs; or half.
    fn plenty_of_bytes(&self) -> usize {
        let limits = &self.config.limits;
        let bytes = limits.outbox_bytes_total;
        (bytes / 16).max(limits.frame_bytes).min(bytes / 2)
    }

    /// What a session wants and there is room for in its own tables. An outbox that was full counts when it is half
    /// empty, for it empties by many messages at a time; a promise table with its first free place, for the
    /// other promises may stay as they are for long.
    fn finds_own(&self, session: &Session) -> Wants {
        let (room, limits) = (&session.room, &self.config.limits);
        let usage = session.conversation.lanes.usage();
        let outbox = match room.filled_outbox {
            true => {
                usage.messages <= limits.outbox_messages / 2
                    && usage.bytes <= limits.outbox_bytes / 2
            }
            false => !usage.is_full(room.refused, limits),
        };
        let promises = session.conversation.promises.len() < limits.promises;
        Wants {
            outbox: room.wants.outbox && outbox,
            promises: room.wants.promises && promises,
        }
    }

    /// The same, and in the node's.
    fn finds(&self, key: SessionKey) -> Wants {
        let Some(session) = self.sessions.get(key) else {
            return Wants::NOTHING;
        };
        let (own, limits) = (self.finds_own(session), &self.config.limits);
        let bytes = self.room.outbox_bytes + session.room.refused;
        Wants {
            outbox: own.outbox && bytes <= limits.outbox_bytes_total,
            promises: own.promises && self.promises < limits.promises_total,
        }
    }

    /// What there is room for is told, and is owed no more. What the session waits for among others is told when
    /// it is its turn.
    fn tell_writable(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let room = &mut self.room;
        let waits = Wants {
            outbox: room.short_of_bytes.waiting.contains(&key),
            promises: room.short_of_promises.waiting.contains(&key),
        };
        let own = self.finds_own(session).without(waits);
        let found = self.finds(key).without(waits);
        // Others hold it: nothing of the session's own would tell.
        let short = own.without(found);
        if short.outbox {
            self.room.short_of_bytes.waiting.insert(key);
        }
        if short.promises {
            self.room.short_of_promises.waiting.insert(key);
        }
        if found == Wants::NOTHING {
            return;
        }
        if let Some(session) = self.sessions.get_mut(key) {
            let room = &mut session.room;
            room.wants = room.wants.without(found);
            room.filled_outbox &= !found.outbox;
        }
        if planted(Bug::LoseWritable) && found.promises {
            return;
        }
        self.events.push(Event::Writable { session: key });
    }
}
