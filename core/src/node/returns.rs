//! When the clients that a server sends away come back: one after the other, not all at once.

use std::time::{Duration, Instant};

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::backoff::HINT_MAX;
use crate::id::SessionKey;
use crate::link::milliseconds::milliseconds;

use super::Node;

/// A server takes 2,000 to 4,000 new connections a second. It asks back half of the least, for clients that have
/// nowhere to go meanwhile dial again.
const BETWEEN: Duration = Duration::from_millis(1);

/// Clients spread over so much by themselves ([`crate::Redial`] by default), and so many milliseconds, so many clients
/// come back without being asked to.
const UNASKED: Duration = Duration::from_millis(500);

/// No client hears when to come back longer than this before it is cut off.
const BEFORE_MAX: Duration = Duration::from_secs(2);

/// How long before a session is cut off its client hears when to come back; `patience`: how long closing takes at most.
/// It is time enough for a packet that is lost to be sent again, for after the end nothing is. It is not more, for a client
/// that has heard it, and whose link breaks then, does not come back to what is under way. Of 5 s a quarter is little more
/// than what such a client waits anyway ([`crate::Redial::first`]). Round trips would tell better what is needed, but
/// stand in no link trace.
pub(super) fn before_the_end(patience: Duration) -> Duration {
    (patience / 4).min(BEFORE_MAX)
}

/// Gives every client that is sent away a moment of its own to come back. Whether they leave by a drain, by closes one by
/// one, or as newcomers makes no difference to where they go, so they share one row.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// The first moment that nobody has been given.
    free: Option<Instant>,
}

impl Returns {
    /// What the next client is told; `wished`: what it would be told if it were the only one. It is never less.
    fn next(
        &mut self,
        now: Instant,
        between: Duration,
        wished: Option<Duration>,
    ) -> Option<Duration> {
        let free = self.free.map_or(now, |free| free.max(now));
        let after = free.saturating_duration_since(now);
        // Clients wait no longer than that, so that a row that is longer begins anew.
        let after = if after < HINT_MAX {
            after
        } else {
            Duration::ZERO
        };
        self.free = Some(now + after + between);
        if after < UNASKED {
            return wished;
        }
        // Behind the first delay of those who were told nothing.
        Some(
            wished
                .unwrap_or_default()
                .max(UNASKED)
                .saturating_add(after),
        )
    }
}

impl Node {
    /// What a client that is sent away now is told about coming back: at least `wished`, and nothing else where few go.
    /// Clients of all shards come back to the same place.
    pub(super) fn return_after(
        &mut self,
        now: Instant,
        wished: Option<Duration>,
    ) -> Option<Duration> {
        let shards = u32::from(self.config.shard.of);
        self.returns.next(now, BETWEEN * shards, wished)
    }

    /// Tells the client of a session that may be cut off soon when to come back, if its link is up. Close, where it can
    /// still be said, says so itself.
    pub(super) fn ask_back(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let closing = session.closing.as_ref().filter(|closing| {
            let is_due = closing.ends_soon && closing.asks_back();
            is_due && !closing.said
        });
        let Some((closing, link)) = closing.zip(session.link) else {
            return;
        };
        if !self.links.get(link).is_some_and(|entry| entry.link.is_up()) {
            return;
        }
        let left = closing.by.saturating_duration_since(now);
        let drain = wire::Drain {
            deadline_ms: milliseconds(left),
            retry_after_ms: closing.retry_after.map_or(0, milliseconds),
            alternative: String::new(),
        };
        self.send_control(link, Frame::Drain(drain));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Backoff;
    use crate::config::Redial;
    use crate::seed::Seed;

    const SECOND: Duration = Duration::from_secs(1);

    fn told(clients: u32, between: Duration, wished: Option<Duration>) -> Vec<Option<Duration>> {
        let (mut returns, now) = (Returns::default(), Instant::now());
        let next = |_| returns.next(now, between, wished);
        (0..clients).map(next).collect()
    }

    /// How many of so many clients dial within 100 ms at most, and when the last one does.
    fn comes_back(told: &[Option<Duration>]) -> (usize, Duration) {
        let mut random = Seed::new([9; 32]).rng("clients", 0);
        let mut delays: Vec<_> = told
            .iter()
            .map(|hint| {
                let mut backoff = Backoff::new(Redial::default());
                hint.iter().for_each(|hint| backoff.hint(*hint));
                backoff.next_delay(random.fraction()).unwrap()
            })
            .collect();
        delays.sort_unstable();
        let within =
            |from: &Duration| delays.partition_point(|delay| *delay <= *from + SECOND / 10);
        let most = delays.iter().enumerate().map(|(n, from)| within(from) - n);
        (most.max().unwrap(), *delays.last().unwrap())
    }

    #[test]
    fn of_ten_thousand_no_tenth_of_a_second_has_more_than_two_in_a_hundred() {
        for wished in [None, Some(SECOND / 10), Some(SECOND), Some(30 * SECOND)] {
            let (most, last) = comes_back(&told(10_000, BETWEEN, wished));
            assert!(most <= 200, "{wished:?}: {most}");
            assert!(
                last < 16 * SECOND + wished.unwrap_or_default() * 3 / 2,
                "{last:?}"
            );
        }
        let (most, _) = comes_back(&vec![None; 10_000]);
        assert!(
            most > 1_900,
            "{most}: told nothing, they would come at once"
        );
    }

    #[test]
    fn shards_share_the_rate() {
        let shard = told(2_500, BETWEEN * 4, None);
        let all: Vec<_> = (0..4).flat_map(|_| shard.clone()).collect();
        let (most, _) = comes_back(&all);
        assert!(most <= 200, "{most}");
    }

    #[test]
    fn few_are_told_what_they_were_to_be_told() {
        let endless = Some(Duration::MAX);
        assert_eq!(told(9_999, BETWEEN, endless), vec![endless; 9_999]);
        for wished in [None, Some(SECOND)] {
            assert_eq!(told(500, BETWEEN, wished), vec![wished; 500]);
        }
        let least = |told: Vec<Option<Duration>>| told.into_iter().flatten().min();
        assert_eq!(least(told(9_999, BETWEEN, None)), Some(SECOND));
        assert_eq!(
            least(told(9_999, BETWEEN, Some(3 * SECOND))),
            Some(3 * SECOND)
        );
    }

    #[test]
    fn who_is_sent_away_later_comes_behind_them_until_they_are_back() {
        let (mut returns, now) = (Returns::default(), Instant::now());
        for _ in 0..3_000 {
            returns.next(now, BETWEEN, None);
        }
        let mut next = |now| returns.next(now, BETWEEN, None);
        assert_eq!(next(now), Some(SECOND * 7 / 2));
        assert_eq!(next(now + SECOND), Some(SECOND * 5 / 2 + BETWEEN));
        assert_eq!(next(now + 4 * SECOND), None);
    }

    #[test]
    fn who_is_cut_off_hears_it_in_time_and_no_sooner() {
        assert_eq!(before_the_end(5 * SECOND), SECOND * 5 / 4);
        assert_eq!(before_the_end(60 * SECOND), 2 * SECOND);
    }

    #[test]
    fn no_row_is_longer_than_clients_wait() {
        let told = told(4, SECOND * 400, None);
        let behind = SECOND * 400 + UNASKED;
        // The third would come after 800 s.
        assert_eq!(told, [None, Some(behind), None, Some(behind)]);
    }
}
