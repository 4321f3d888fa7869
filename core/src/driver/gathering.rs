//! Broadcasts that follow upon each other: they share packets if they are sent together.

use std::time::{Duration, Instant};

/// So many bytes for each session are worth sending, whoever else is on the way: some packets.
const ENOUGH: usize = 8 << 10;

/// So many messages, too.
const MESSAGES: u32 = 32;

/// The driver steps aside for so long, for what has arrived waits meanwhile, and what else is to be sent. With
/// very many sessions a broadcast takes long by itself.
const PATIENCE: Duration = Duration::from_millis(5);

/// A queue of best-effort messages that holds so many times what waits for its session's turn has room for it,
/// whatever else it holds for a peer that is not slow.
const SHARE: usize = 8;

/// For so long a broadcast waits for those before it to be sent. It takes longer where something else is always
/// to be sent.
const WAIT: Duration = Duration::from_millis(250);

/// Who broadcasts waits for each message to be queued, and would have it sent alone: a packet for each session
/// and message. So the driver steps aside before it sends, as long as another broadcast comes meanwhile.
///
/// With many sessions, what was gathered is sent in several turns, and more of it is gathered before each. Once a
/// good part of what a session's queue has room for may wait there, every session has its turn before the next one
/// is queued, which holds up whoever broadcasts faster than that.
#[derive(Debug)]
pub(super) struct Gathering {
    /// So much waits for a session's turn at most, in bytes.
    most: usize,
    handful: Handful,
    waiting: Waiting,
}

/// What was queued since something was last sent.
#[derive(Debug, Default)]
struct Handful {
    bytes: usize,
    messages: u32,
    /// When the first of it came.
    since: Option<Instant>,
    /// Whether one has come since the driver has last stepped aside.
    came: bool,
}

/// What was queued since every session has last had its turn to send.
#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    /// How many sessions have yet to have their turn, at most: each has one before any has its second.
    turns: usize,
    /// When the first of it came.
    since: Option<Instant>,
    /// Whether all is to be sent before another one.
    over: bool,
}

impl Gathering {
    /// For queues of so many bytes ([`crate::Limits::best_effort_bytes`]).
    pub(super) fn new(queue: usize) -> Self {
        Self {
            most: queue / SHARE,
            handful: Handful::default(),
            waiting: Waiting::default(),
        }
    }

    /// Whether a broadcast that takes so many bytes of each queue is to be queued now.
    pub(super) fn takes(&self, now: Instant, message: usize) -> bool {
        self.has_room(message) || self.has_waited(now)
    }

    /// A broadcast that takes so many bytes of each queue was queued for so many sessions.
    pub(super) fn add(&mut self, now: Instant, message: usize, sessions: usize) {
        if self.has_waited(now) {
            self.sent();
        }
        let Self {
            handful, waiting, ..
        } = self;
        handful.came = true;
        handful.bytes = handful.bytes.saturating_add(message);
        handful.messages = handful.messages.saturating_add(1);
        handful.since.get_or_insert(now);
        waiting.bytes = waiting.bytes.saturating_add(message);
        waiting.turns = waiting.turns.max(sessions);
        waiting.since.get_or_insert(now);
    }

    /// What was queued is to be sent before another one, which might replace it.
    pub(super) fn end(&mut self) {
        self.waiting.over = true;
    }

    /// Whether the driver should step aside for another one, before it sends what it has.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        let Handful { since, came, .. } = &mut self.handful;
        let patient = since.is_some_and(|since| now < since + PATIENCE);
        std::mem::take(came) && patient && self.has_room(0)
    }

    /// So many sessions have had their turn.
    pub(super) fn sent_to(&mut self, sessions: usize) {
        self.handful = Handful::default();
        self.waiting.turns = self.waiting.turns.saturating_sub(sessions);
        if self.waiting.turns == 0 {
            self.waiting = Waiting::default();
        }
    }

    /// All was sent.
    pub(super) fn sent(&mut self) {
        self.sent_to(usize::MAX);
    }

    fn has_room(&self, message: usize) -> bool {
        let Self {
            most,
            handful,
            waiting,
        } = self;
        let fits = |bytes: usize, most: usize| bytes == 0 || bytes.saturating_add(message) <= most;
        handful.messages < MESSAGES
            && fits(handful.bytes, ENOUGH.min(*most))
            && fits(waiting.bytes, *most)
            && !waiting.over
    }

    fn has_waited(&self, now: Instant) -> bool {
        let since = self.waiting.since;
        since.is_some_and(|since| now >= since + WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathering() -> (Gathering, Instant) {
        (Gathering::new(1 << 20), Instant::now())
    }

    /// How many of such bodies are queued before all is sent.
    fn gathered(gathering: &mut Gathering, now: Instant, body: usize) -> u32 {
        while gathering.takes(now, body) {
            gathering.add(now, body, 1);
            gathering.goes_on(now);
        }
        let count = gathering.handful.messages;
        gathering.sent();
        count
    }

    #[test]
    fn one_alone_is_waited_on_once() {
        let (mut gathering, now) = gathering();
        assert!(!gathering.goes_on(now));
        gathering.add(now, 100, 1);
        assert!(gathering.goes_on(now));
        assert!(!gathering.goes_on(now));
    }

    #[test]
    fn those_that_follow_are_gathered_until_it_is_enough() {
        let (mut gathering, now) = gathering();
        for _ in 0..3 {
            assert_eq!(gathered(&mut gathering, now, 1), MESSAGES);
            assert_eq!(gathered(&mut gathering, now, 1_000), ENOUGH as u32 / 1_000);
            assert_eq!(gathered(&mut gathering, now, ENOUGH - 1), 1);
            assert_eq!(gathered(&mut gathering, now, 10 * ENOUGH), 1);
        }
    }

    #[test]
    fn a_short_queue_is_not_filled() {
        let now = Instant::now();
        assert_eq!(gathered(&mut Gathering::new(1_024), now, 100), 1);
        assert_eq!(gathered(&mut Gathering::new(8_000), now, 100), 10);
    }

    #[test]
    fn others_wait_for_a_moment_and_no_longer() {
        let (mut gathering, now) = gathering();
        gathering.add(now, 1, 1);
        assert!(gathering.goes_on(now));
        gathering.add(now + PATIENCE, 1, 1);
        assert!(!gathering.goes_on(now + PATIENCE));
        gathering.sent();
        gathering.add(now + PATIENCE, 1, 1);
        assert!(gathering.goes_on(now + PATIENCE));
    }

    #[test]
    fn what_comes_faster_than_it_leaves_waits_and_not_for_ever() {
        let (mut gathering, now) = gathering();
        gathering.add(now, ENOUGH, 1);
        assert!(!gathering.takes(now, 1));
        assert!(gathering.takes(now + WAIT, 1));
        gathering.sent();
        assert!(gathering.takes(now, 1));
    }

    #[test]
    fn with_many_sessions_it_goes_on_until_as_much_waits_as_a_queue_has_room_for() {
        let (mut gathering, now) = gathering();
        let most = gathering.most;
        let handful = |gathering: &mut Gathering| {
            let mut bytes = 0;
            while gathering.takes(now, 1_000) {
                gathering.add(now, 1_000, 1_000);
                bytes += 1_000;
            }
            bytes
        };
        let mut waits = 0;
        while waits + ENOUGH <= most {
            let bytes = handful(&mut gathering);
            assert_eq!(bytes, 8_000);
            waits += bytes;
            gathering.sent_to(256);
        }
        waits += handful(&mut gathering);
        assert!((most - 1_000..=most).contains(&waits), "{waits}");
        // Whoever was last in line has had its turn by then.
        for turns in [256, 256, 256, 232] {
            assert!(!gathering.takes(now, 1_000));
            gathering.sent_to(turns);
        }
        assert_eq!(handful(&mut gathering), 8_000);
    }

    #[test]
    fn who_has_waited_for_long_enough_begins_anew() {
        let (mut gathering, now) = gathering();
        gathering.add(now, ENOUGH, 10);
        let later = now + WAIT;
        gathering.add(later, 1, 10);
        assert!(gathering.goes_on(later));
        assert!(gathering.takes(later, 1));
    }

    #[test]
    fn what_may_be_replaced_is_sent_at_once() {
        let (mut gathering, now) = gathering();
        gathering.add(now, 1, 1);
        gathering.end();
        assert!(!gathering.goes_on(now));
        assert!(!gathering.takes(now, 1));
        gathering.sent();
        assert!(gathering.takes(now, 1));
    }
}
