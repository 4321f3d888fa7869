//! A path that loses datagrams, between a node and its socket.

use std::time::Instant;

use crate::direction::{Direction, Fate};
use crate::{Path, Random};

/// What becomes of the datagrams of one socket, both ways.
pub(super) struct BadPath {
    pub(super) path: Path,
    incoming: Direction,
    outgoing: Direction,
    pub(super) lost: u64,
}

impl BadPath {
    pub(super) fn new(path: Path, seed: u64, now: Instant) -> Self {
        let mut random = Random::new(seed);
        let mut direction = || Direction::new(Random::new(random.next_u64()), now);
        Self {
            path,
            incoming: direction(),
            outgoing: direction(),
            lost: 0,
        }
    }

    pub(super) fn loses_incoming(&mut self, now: Instant, length: usize) -> bool {
        let fate = self.incoming.decide(&self.path, now, length);
        self.count(fate)
    }

    pub(super) fn loses_outgoing(&mut self, now: Instant, length: usize) -> bool {
        let fate = self.outgoing.decide(&self.path, now, length);
        self.count(fate)
    }

    /// Datagrams that have come to it, both ways.
    pub(super) fn met(&self) -> u64 {
        self.incoming.sent + self.outgoing.sent
    }

    fn count(&mut self, fate: Fate) -> bool {
        let lost = matches!(fate, Fate::Dropped(_));
        self.lost += u64::from(lost);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_lose_their_share_apart_from_each_other_and_the_same_again() {
        let path = Path {
            loss: 0.02,
            burst: Some(3.0),
            ..Path::default()
        };
        let now = Instant::now();
        let fates = |seed| {
            let mut path = BadPath::new(path, seed, now);
            let both: Vec<_> = (0..50_000)
                .map(|_| (path.loses_incoming(now, 100), path.loses_outgoing(now, 100)))
                .collect();
            assert_eq!(path.met(), 100_000);
            (both, path.lost)
        };
        let (both, lost) = fates(1);
        assert!((1_700..2_300).contains(&lost), "{lost}");
        assert!(both.iter().any(|(incoming, outgoing)| incoming != outgoing));
        assert_eq!(fates(1).0, both);
        assert_ne!(fates(2).0, both);
    }
}
