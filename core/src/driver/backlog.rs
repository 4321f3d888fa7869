//! What waits for room in a session's outbox or for a promise's place: none of it holds up what waits for something else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::command::{Sender, Submission, Wanted};
use crate::Lane;

/// Messages of one session that wait, in order. Each keeps its number until it leaves.
///
/// There may be no place for another promise for long, and peers may wait for messages before they settle one: so who
/// wants a promise waits apart from the others. A request owes no order to anything; an acked message holds up
/// its lane.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Those that want room alone.
    plain: BTreeMap<u64, Blocked>,
    /// Those that want a promise as well, and of the others those that are behind an acked one in its lane.
    promising: BTreeMap<u64, Blocked>,
    /// The acked ones.
    acked: BTreeSet<(Lane, u64)>,
    /// The next one has found no room: nobody goes before it.
    full: bool,
    last: u64,
}

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) submission: Submission,
    pub(crate) deadline: Option<Instant>,
    pub(crate) alarm: Option<(Instant, u64)>,
}

impl Blocked {
    /// The lane that it holds up.
    pub(crate) fn holds_up(&self) -> Option<Lane> {
        match self.submission.wanted {
            Wanted::Ack(_) => Some(lane_of(&self.submission)),
            Wanted::Room | Wanted::Reply(_) => None,
        }
    }
}

/// The lane of a plain or an acked message.
fn lane_of(submission: &Submission) -> Lane {
    submission.message.lane.unwrap_or(Lane::DEFAULT)
}

/// What a message has found none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    Room,
    Promises,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.promising.is_empty()
    }

    /// Whether a message that comes now is behind one that waits.
    pub(crate) fn is_before(&self, submission: &Submission) -> bool {
        if submission.wanted != Wanted::Room {
            return !self.is_empty();
        }
        let held_up = self.is_held_up(lane_of(submission), u64::MAX);
        self.full || !self.plain.is_empty() || held_up
    }

    /// A number behind all others.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Puts a message in its place.
    pub(crate) fn put(&mut self, number: u64, blocked: Blocked) {
        if let Some(lane) = blocked.holds_up() {
            self.acked.insert((lane, number));
        }
        let submission = &blocked.submission;
        let plain = submission.wanted == Wanted::Room;
        match plain && !self.is_held_up(lane_of(submission), number) {
            true => self.plain.insert(number, blocked),
            false => self.promising.insert(number, blocked),
        };
    }

    /// The first message has found none of that.
    pub(crate) fn is_short(&mut self, short: Short) {
        self.full |= short == Short::Room;
    }

    /// There may be some of everything again.
    pub(crate) fn begin(&mut self) {
        self.full = false;
    }

    /// Takes out the first one; where there are no `promises`, the first that wants none. If it is an acked one, its lane
    /// is held up until it is [put](Self::put) back or is [gone](Self::gone).
    pub(crate) fn next(&mut self, promises: bool) -> Option<(u64, Blocked)> {
        let plain = self.plain.first_key_value().map(|(number, _)| *number);
        let promising = self.promising.first_key_value().map(|(number, _)| *number);
        match (plain, promising.filter(|_| promises)) {
            (Some(plain), Some(promising)) if promising < plain => self.promising.pop_first(),
            (Some(_), _) => self.plain.pop_first(),
            (None, Some(_)) => self.promising.pop_first(),
            (None, None) => None,
        }
    }

    /// An acked message of that lane is gone: those behind it wait for it no longer.
    pub(crate) fn gone(&mut self, lane: Lane, number: u64) {
        if !self.acked.remove(&(lane, number)) || self.is_held_up(lane, number) {
            return;
        }
        let mut later = self.acked.range((lane, number)..=(lane, u64::MAX));
        let until = later.next().map_or(u64::MAX, |(_, number)| *number);
        let behind = |_: &u64, blocked: &mut Blocked| {
            let submission = &blocked.submission;
            submission.wanted == Wanted::Room && lane_of(submission) == lane
        };
        let freed = self.promising.extract_if(number..until, behind);
        self.plain.extend(freed);
    }

    /// Takes one out; says whether others may have their turn now.
    pub(crate) fn remove(&mut self, number: u64) -> Option<(Blocked, bool)> {
        let is_first = |entries: &BTreeMap<u64, Blocked>| {
            let first = entries.first_key_value();
            first.is_some_and(|(first, _)| *first == number)
        };
        let first = is_first(&self.plain) || is_first(&self.promising);
        let blocked = self.plain.remove(&number);
        let blocked = blocked.or_else(|| self.promising.remove(&number))?;
        let lane = blocked.holds_up();
        if let Some(lane) = lane {
            self.gone(lane, number);
        }
        Some((blocked, first || lane.is_some()))
    }

    /// Leaves only messages that nobody waits for, and takes out the others, in order.
    pub(crate) fn take_waiting(&mut self) -> Vec<Blocked> {
        let all = std::iter::from_fn(|| self.pop()).collect::<Vec<_>>();
        let (waiting, left): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(_, blocked)| matches!(blocked.submission.sender, Sender::Waits(_)));
        for (number, blocked) in left {
            self.put(number, blocked);
        }
        waiting.into_iter().map(|(_, blocked)| blocked).collect()
    }

    /// Takes out the first one for good.
    pub(crate) fn pop(&mut self) -> Option<(u64, Blocked)> {
        let (number, blocked) = self.next(true)?;
        if let Some(lane) = blocked.holds_up() {
            self.gone(lane, number);
        }
        Some((number, blocked))
    }

    /// Whether an acked message of that lane waits that is before that number.
    fn is_held_up(&self, lane: Lane, number: u64) -> bool {
        let before = self.acked.range((lane, 0)..(lane, number));
        before.take(1).count() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::driver::waiter::wait;
    use crate::{Message, Tag};

    fn blocked(tag: u64, lane: u8, wanted: Wanted) -> Blocked {
        let mut message = Message::new(Tag(tag), &b""[..]);
        message.lane = Lane::new(lane);
        let sender = Sender::Waits(wait(message.clone(), wanted, Waker::noop()).0);
        let submission = Submission {
            message,
            wanted,
            sender,
        };
        Blocked {
            submission,
            deadline: None,
            alarm: None,
        }
    }

    fn backlog(entries: &[(u8, Wanted)]) -> Backlog {
        let mut backlog = Backlog::default();
        for (lane, wanted) in entries {
            let number = backlog.next_number();
            backlog.put(number, blocked(number, *lane, *wanted));
        }
        backlog
    }

    const ROOM: Wanted = Wanted::Room;
    const ACK: Wanted = Wanted::Ack(None);
    const REPLY: Wanted = Wanted::Reply(None);

    /// The numbers of those that leave while there is no promise, or while there are some.
    fn leave(backlog: &mut Backlog, promises: bool) -> Vec<u64> {
        std::iter::from_fn(|| {
            let (number, blocked) = backlog.next(promises)?;
            assert_eq!(blocked.submission.message.tag, Tag(number));
            if let Some(lane) = blocked.holds_up() {
                backlog.gone(lane, number);
            }
            Some(number)
        })
        .collect()
    }

    #[test]
    fn a_backlog_keeps_its_order_when_some_leave_early_or_come_back() {
        let mut backlog = backlog(&[(0, ROOM); 4]);
        assert!(backlog.remove(3).is_some_and(|(_, next)| !next));
        assert!(backlog.remove(1).is_some_and(|(_, next)| next));
        assert!(backlog.remove(3).is_none());
        let (number, first) = backlog.next(true).unwrap();
        assert_eq!((number, first.submission.message.tag), (2, Tag(2)));
        backlog.put(number, first);
        assert_eq!(leave(&mut backlog, true), [2, 4]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn who_wants_a_promise_holds_up_its_lane_if_it_is_acked_and_nothing_else() {
        let entries = [
            (0, REPLY),
            (0, ROOM),
            (2, ACK),
            (2, ROOM),
            (0, REPLY),
            (2, ACK),
            (2, ROOM),
            (3, ROOM),
        ];
        assert_eq!(
            leave(&mut backlog(&entries), true),
            [1, 2, 3, 4, 5, 6, 7, 8]
        );
        let mut backlog = backlog(&entries);
        assert_eq!(leave(&mut backlog, false), [2, 8]);
        let (number, asks) = backlog.next(true).unwrap();
        let (second, acked) = backlog.next(true).unwrap();
        assert_eq!((number, second), (1, 3));
        // As long as it is not gone, it may come back.
        assert_eq!(leave(&mut backlog, false), []);
        backlog.put(second, acked);
        assert!(backlog.remove(second).is_some_and(|(_, next)| next));
        assert_eq!(leave(&mut backlog, false), [4]);
        backlog.put(number, asks);
        assert_eq!(leave(&mut backlog, true), [1, 5, 6, 7]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn an_acked_message_that_leaves_early_frees_what_waits_for_no_other() {
        let mut backlog = backlog(&[(2, ACK), (2, ACK), (2, ROOM)]);
        assert!(backlog.remove(2).is_some());
        assert_eq!(leave(&mut backlog, false), []);
        assert!(backlog.remove(1).is_some());
        assert_eq!(leave(&mut backlog, false), [3]);
    }

    #[test]
    fn who_comes_now_is_behind_those_alone_that_wait_for_the_same() {
        let before = |entries: &[(u8, Wanted)], full: bool, lane, wanted| {
            let mut backlog = backlog(entries);
            if full {
                backlog.is_short(Short::Room);
            }
            backlog.is_before(&blocked(9, lane, wanted).submission)
        };
        for wanted in [ROOM, ACK, REPLY] {
            assert!(!before(&[], false, 0, wanted));
            assert!(before(&[(0, REPLY)], true, 0, wanted));
            assert!(before(&[(0, ROOM)], false, 2, wanted));
            assert!(before(&[(2, ACK)], false, 2, wanted));
            let free = wanted == ROOM;
            assert_eq!(before(&[(0, REPLY)], false, 0, wanted), !free);
            assert_eq!(before(&[(2, ACK)], false, 0, wanted), !free);
        }
    }

    #[test]
    fn those_that_nobody_waits_for_stay() {
        let mut backlog = backlog(&[(0, ACK), (0, ROOM), (0, REPLY)]);
        let tags: Vec<_> = backlog
            .take_waiting()
            .into_iter()
            .map(|blocked| blocked.submission.message.tag.0)
            .collect();
        assert_eq!(tags, [1, 2, 3]);
        assert!(backlog.is_empty());
    }
}
