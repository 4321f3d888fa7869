//! Room for what applications send: who was refused for want of it, and who is told when there is
//! some again.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use crate::id::{LinkKey, SessionKey};
use crate::planted::{Bug, planted};
use crate::timers::TimerSlot;

use super::tables::Session;
use super::{Event, Node, TimeoutReason};

/// What a node knows of the room in all its outboxes.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes in the outboxes of all sessions, answers aside.
    pub(super) outbox_bytes: usize,
    /// The same of answers.
    pub(super) answer_bytes: usize,
    /// Sessions that wait for room in all outboxes together, which others may fill.
    short_of_bytes: Queue,
    /// The same for promises.
    short_of_promises: Queue,
    /// When those who still wait have their turn, whether or not more room is made until then.
    next_turn: TimerSlot,
}

/// So many are told at a time of what does not suffice for all, for it may be that one of them does not use it.
const FEW: usize = 16;

/// There is plenty for all while this part of everything is free, one in so many.
const PLENTY_PART: usize = 16;

/// For so long those have it to themselves.
const TURN: Duration = Duration::from_millis(10);

/// Sessions that wait for what all share.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeSet<SessionKey>,
    /// None of them can do with less than that.
    least: usize,
    /// Whose turn it was.
    latest: Option<SessionKey>,
}

/// What a session does with its turn.
enum Turn {
    /// There is what it waits for.
    Takes,
    /// It needs more: so much.
    Waits(usize),
    /// It has no room of its own, or no use for any: it hears of that elsewhere.
    Leaves,
}

impl Queue {
    fn insert(&mut self, key: SessionKey, needs: usize) {
        self.least = match self.waiting.is_empty() {
            true => needs,
            false => self.least.min(needs),
        };
        self.waiting.insert(key);
    }

    /// Takes out so many of those that can use it, round and round.
    fn take(&mut self, most: usize, turn: impl Fn(SessionKey) -> Turn) -> Vec<SessionKey> {
        let after = self.latest.map_or(Unbounded, Excluded);
        let later = self.waiting.range((after, Unbounded));
        let until = self.latest.map(|latest| self.waiting.range(..=latest));
        let (mut taken, mut leaving, mut least) = (Vec::new(), Vec::new(), usize::MAX);
        for key in later.chain(until.into_iter().flatten()) {
            if taken.len() == most {
                least = self.least;
                break;
            }
            match turn(*key) {
                Turn::Takes => taken.push(*key),
                Turn::Leaves => leaving.push(*key),
                Turn::Waits(needs) => least = least.min(needs),
            }
        }
        for key in taken.iter().chain(&leaving) {
            self.waiting.remove(key);
        }
        self.least = least;
        self.latest = taken.last().copied().or(self.latest);
        taken
    }
}

/// What a session knows of it.
#[derive(Debug, Default)]
pub(super) struct SessionRoom {
    /// The share of [`Room::outbox_bytes`] that is this session's.
    outbox_bytes: usize,
    /// The same of [`Room::answer_bytes`].
    answer_bytes: usize,
    /// What commands were refused for: the application is told when there is some.
    wants: Wants,
    /// It was the session's own outbox that was full.
    filled_outbox: bool,
    /// The smallest message that found no room in an outbox, in bytes.
    refused: usize,
}

impl SessionRoom {
    /// Whether a message found no room, and there has been none since.
    pub(super) fn is_refused(&self) -> bool {
        self.wants.outbox
    }
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
        let before = std::mem::replace(&mut session.room.outbox_bytes, bytes);
        self.outbox_bytes = self.outbox_bytes + bytes - before;
        let bytes = session.conversation.lanes.answers().bytes;
        let before = std::mem::replace(&mut session.room.answer_bytes, bytes);
        self.answer_bytes = self.answer_bytes + bytes - before;
    }

    /// Forgets a session.
    pub(super) fn forget(&mut self, key: SessionKey, room: &SessionRoom) {
        self.short_of_bytes.waiting.remove(&key);
        self.short_of_promises.waiting.remove(&key);
        self.outbox_bytes -= room.outbox_bytes;
        self.answer_bytes -= room.answer_bytes;
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
            room.filled_outbox |= own;
            let refused_before = std::mem::replace(&mut room.wants.outbox, true);
            let may_ask = |link: &LinkKey| {
                let entry = self.links.get(*link);
                entry.is_some_and(|entry| entry.link.is_up() && !entry.link.has_asked)
            };
            let under_way = session.conversation.lanes.has_messages_in_flight();
            if let Some(link) = session.link.filter(may_ask)
                && under_way
                && !refused_before
            {
                // Nothing else may have it ask its peer for receipts.
                self.mark(link);
            }
        }
        if shared {
            self.room.short_of_bytes.insert(key, size);
        }
    }

    /// The same for a promise. `shared`: it was the node's table that was full.
    pub(super) fn owe_promise(&mut self, key: SessionKey, shared: bool) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.room.wants.promises = true;
        }
        if shared {
            self.room.short_of_promises.insert(key, 1);
        }
    }

    /// Brings the node's account of a session's outbox up to date.
    pub(super) fn account(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            self.room.account(session);
        }
        self.read_the_crowd();
    }

    /// There may be room again where a command found none.
    pub(super) fn room_again(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            self.room.account(session);
            if session.room.wants != Wants::NOTHING {
                self.tell_writable(key);
            }
        }
        self.read_the_crowd();
        self.room_for_others();
    }

    /// The same for the sessions that wait for what others held. All are told when there is plenty, which does
    /// not wake a thousand for one place. There may not be for long, for others keep what they have: until then a
    /// few are told of what there is. So large messages may wait for as long as smaller ones fit.
    pub(super) fn room_for_others(&mut self) {
        let (room, limits) = (&self.room, &self.config.limits);
        if room.short_of_bytes.waiting.is_empty() && room.short_of_promises.waiting.is_empty() {
            return;
        }
        let mut told = BTreeSet::new();
        let free = limits.outbox_bytes_total.saturating_sub(room.outbox_bytes);
        let plenty = self.plenty_of_bytes();
        if !room.short_of_bytes.waiting.is_empty() && free >= plenty.min(room.short_of_bytes.least)
        {
            let mut queue = std::mem::take(&mut self.room.short_of_bytes);
            if free >= plenty {
                told.append(&mut queue.waiting);
            } else {
                told.extend(queue.take(FEW, |key| self.turn_at_bytes(key, free)));
            }
            self.room.short_of_bytes = queue;
        }
        let limits = &self.config.limits;
        let free = limits.promises_total.saturating_sub(self.promises);
        if !self.room.short_of_promises.waiting.is_empty() && free > 0 {
            let plenty = limits.promises_total / PLENTY_PART;
            let mut queue = std::mem::take(&mut self.room.short_of_promises);
            if free >= plenty {
                told.append(&mut queue.waiting);
            } else {
                told.extend(queue.take(FEW.min(free), |key| self.turn_at_promises(key)));
            }
            self.room.short_of_promises = queue;
        }
        for key in told {
            self.tell_writable(key);
        }
        self.time_next_turn();
    }

    /// Others have their turn soon, if there is what one of them may need: for it may be that nobody who was told
    /// makes use of it.
    fn time_next_turn(&mut self) {
        let (room, limits) = (&self.room, &self.config.limits);
        let bytes = limits.outbox_bytes_total.saturating_sub(room.outbox_bytes);
        let of_bytes =
            !room.short_of_bytes.waiting.is_empty() && bytes >= room.short_of_bytes.least;
        let of_promises =
            !room.short_of_promises.waiting.is_empty() && self.promises < limits.promises_total;
        let next_turn = &mut self.room.next_turn;
        if !of_bytes && !of_promises {
            self.timers.cancel(next_turn);
        } else if self.timers.deadline(next_turn).is_none() {
            let deadline = self.now + TURN;
            self.timers.set(next_turn, TimeoutReason::Room, deadline);
        }
    }

    fn turn_at_bytes(&self, key: SessionKey, free: usize) -> Turn {
        match self.sessions.get(key) {
            Some(session) if self.finds_own(session).outbox => match session.room.refused {
                needs if needs <= free => Turn::Takes,
                needs => Turn::Waits(needs),
            },
            _ => Turn::Leaves,
        }
    }

    fn turn_at_promises(&self, key: SessionKey) -> Turn {
        match self.sessions.get(key) {
            Some(session) if self.finds_own(session).promises => Turn::Takes,
            _ => Turn::Leaves,
        }
    }

    /// What is plenty of room in all outboxes together: a share of it; what any message needs; or half.
    fn plenty_of_bytes(&self) -> usize {
        let limits = &self.config.limits;
        let bytes = limits.outbox_bytes_total;
        (bytes / PLENTY_PART).max(limits.frame_bytes).min(bytes / 2)
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
        let takes_sends = !session.is_closed_to_sends();
        Wants {
            outbox: room.wants.outbox && outbox && takes_sends,
            promises: room.wants.promises && promises && takes_sends,
        }
    }

    /// What there is room for is told, and is owed no more. What the session waits for among others is told when
    /// it is its turn.
    fn tell_writable(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let (room, limits) = (&self.room, &self.config.limits);
        let waits = Wants {
            outbox: room.short_of_bytes.waiting.contains(&key),
            promises: room.short_of_promises.waiting.contains(&key),
        };
        let own = self.finds_own(session).without(waits);
        let needs = session.room.refused;
        let found = Wants {
            outbox: own.outbox && room.outbox_bytes + needs <= limits.outbox_bytes_total,
            promises: own.promises && self.promises < limits.promises_total,
        };
        // Others hold it: nothing of the session's own would tell.
        let short = own.without(found);
        if short.outbox {
            self.room.short_of_bytes.insert(key, needs);
        }
        if short.promises {
            self.room.short_of_promises.insert(key, 1);
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
