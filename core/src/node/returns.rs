//! When the clients that a server sends away come back: one after the other, not all at once.

use std::time::{Duration, Instant};

use crate::backoff::HINT_MAX;

use super::Node;

/// A server takes 2,000 to 4,000 new connections a second. It asks back half of the least, for clients that have
/// nowhere to go meanwhile dial again.
const BETWEEN: Duration = Duration::from_millis(1);

/// Clients spread over so much by themselves ([`crate::Redial`] by default), and so many milliseconds, so many clients
/// come back without being asked to.
const UNASKED: Duration = Duration::from_millis(500);

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
    fn no_row_is_longer_than_clients_wait() {
        let told = told(4, SECOND * 400, None);
        let behind = SECOND * 400 + UNASKED;
        // The third would come after 800 s.
        assert_eq!(told, [None, Some(behind), None, Some(behind)]);
    }
}
