//! Broadcasts that follow upon each other: they share packets if they are sent together.

use std::time::{Duration, Instant};

/// So many bytes for each session are worth sending, whoever else is on the way: some packets.
const ENOUGH: usize = 8 << 10;

/// A queue of best-effort messages that holds so many times what is gathered has room for it, whatever else it
/// holds for a peer that is not slow.
const SHARE: usize = 8;

/// So many messages at most.
const MESSAGES: u32 = 32;

/// The driver steps aside for so long, for what has arrived waits meanwhile, and what else is to be sent. With
/// very many sessions a broadcast takes long by itself.
const PATIENCE: Duration = Duration::from_millis(5);

/// For so long a broadcast waits for those before it to be sent. It takes longer where something else is always
/// to be sent.
const WAIT: Duration = Duration::from_millis(250);

/// Who broadcasts waits for each message to be queued, and would have it sent alone: a packet for each session
/// and message. So the driver steps aside before it sends, as long as another broadcast comes meanwhile. Once it
/// is enough, all of it is sent before the next one is queued, which holds up whoever broadcasts faster than
/// that.
#[derive(Debug)]
pub(super) struct Gathering {
    /// So much is gathered at most, in bytes for each session.
    most: usize,
    /// What was queued since all was sent.
    bytes: usize,
    messages: u32,
    /// When the first of it came.
    since: Option<Instant>,
    /// Whether one has come since the driver has last stepped aside.
    came: bool,
    /// Whether all is to be sent before another one.
    over: bool,
}

impl Gathering {
    /// For queues of so many bytes ([`crate::Limits::best_effort_bytes`]).
    pub(super) fn new(queue: usize) -> Self {
        Self {
            most: ENOUGH.min(queue / SHARE),
            bytes: 0,
            messages: 0,
            since: None,
            came: false,
            over: false,
        }
    }

    /// Whether a broadcast with such a body is to be queued now.
    pub(super) fn takes(&self, now: Instant, body: usize) -> bool {
        self.has_room(body) || self.since.is_some_and(|since| now >= since + WAIT)
    }

    /// A broadcast with such a body was queued for somebody.
    pub(super) fn add(&mut self, now: Instant, body: usize) {
        self.came = true;
        self.bytes = self.bytes.saturating_add(body);
        self.messages = self.messages.saturating_add(1);
        self.since.get_or_insert(now);
    }

    /// What was queued is to be sent before another one, which might replace it.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// Whether the driver should step aside for another one, before it sends what it has.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        let patient = self.since.is_some_and(|since| now < since + PATIENCE);
        std::mem::take(&mut self.came) && patient && self.has_room(0)
    }

    /// All was sent.
    pub(super) fn sent(&mut self) {
        let most = self.most;
        *self = Self {
            most,
            ..Self::new(0)
        };
    }

    fn has_room(&self, body: usize) -> bool {
        let bytes = self.bytes.saturating_add(body);
        self.messages == 0 || !self.over && self.messages < MESSAGES && bytes <= self.most
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
            gathering.add(now, body);
            gathering.goes_on(now);
        }
        let count = gathering.messages;
        gathering.sent();
        count
    }

    #[test]
    fn one_alone_is_waited_on_once() {
        let (mut gathering, now) = gathering();
        assert!(!gathering.goes_on(now));
        gathering.add(now, 100);
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
        gathering.add(now, 1);
        assert!(gathering.goes_on(now));
        gathering.add(now + PATIENCE, 1);
        assert!(!gathering.goes_on(now + PATIENCE));
        gathering.sent();
        gathering.add(now + PATIENCE, 1);
        assert!(gathering.goes_on(now + PATIENCE));
    }

    #[test]
    fn what_comes_faster_than_it_leaves_waits_and_not_for_ever() {
        let (mut gathering, now) = gathering();
        gathering.add(now, ENOUGH);
        assert!(!gathering.takes(now, 1));
        assert!(gathering.takes(now + WAIT, 1));
        gathering.sent();
        assert!(gathering.takes(now, 1));
    }

    #[test]
    fn what_may_be_replaced_is_sent_at_once() {
        let (mut gathering, now) = gathering();
        gathering.add(now, 1);
        gathering.end();
        assert!(!gathering.goes_on(now));
        assert!(!gathering.takes(now, 1));
        gathering.sent();
        assert!(gathering.takes(now, 1));
    }
}
