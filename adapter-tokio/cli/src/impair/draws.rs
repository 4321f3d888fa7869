//! A packet's share of the random numbers.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use super::settings::{Direction, Share};

/// One direction's random numbers. Each packet takes the same number of them, used or not, so that
/// what becomes of a packet depends on the seed and on its place in the order, not on its time, its
/// size, or which impairments are on.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64, direction: Direction) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match direction {
            Direction::Up => 0,
            Direction::Down => 1,
        });
        Self(rng)
    }

    /// The next packet's numbers.
    pub(super) fn next_packet(&mut self) -> Draws {
        let mut draw = || Draw(self.0.next_u64());
        Draws {
            loss: draw(),
            jitter: draw(),
            reorder: draw(),
            hold: draw(),
            duplicate: draw(),
            lag: draw(),
            corrupt: draw(),
            position: draw(),
        }
    }
}

/// One packet's numbers, by what they decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    pub(super) loss: Draw,
    pub(super) jitter: Draw,
    pub(super) reorder: Draw,
    pub(super) hold: Draw,
    pub(super) duplicate: Draw,
    pub(super) lag: Draw,
    pub(super) corrupt: Draw,
    pub(super) position: Draw,
}

/// A number that is any 64 bits with equal chance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw(pub(super) u64);

impl Draw {
    /// True for that share of all draws.
    pub(super) fn falls_in(self, share: Share) -> bool {
        // 2^64 as a float. The product of a share below one stays below it.
        const ALL: f64 = 18_446_744_073_709_551_616.0;
        share.as_fraction() >= 1.0 || self.0 < (share.as_fraction() * ALL) as u64
    }

    /// One of `0..bound`, each as likely as any other to within `bound / 2^64`; zero if there is none.
    pub(super) fn below(self, bound: u64) -> u64 {
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_hit_that_often_and_its_ends_are_exact() {
        let mut dice = Dice::new(1, Direction::Up);
        let draws: Vec<Draw> = (0..100_000).map(|_| dice.next_packet().loss).collect();
        let hits = |share| {
            draws
                .iter()
                .filter(|draw| draw.falls_in(Share::new(share)))
                .count()
        };
        assert_eq!(hits(0.0), 0);
        assert_eq!(hits(1.0), 100_000);
        assert!((24_400..25_600).contains(&hits(0.25)), "{}", hits(0.25));
        assert!(!Draw(0).falls_in(Share::new(0.0)) && Draw(u64::MAX).falls_in(Share::new(1.0)));
    }

    #[test]
    fn bounded_draws_reach_both_ends_and_no_further() {
        assert_eq!(Draw(0).below(6), 0);
        assert_eq!(Draw(u64::MAX).below(6), 5);
        assert_eq!(Draw(u64::MAX).below(0), 0);
    }

    #[test]
    fn the_two_directions_draw_apart() {
        let mut up = Dice::new(7, Direction::Up);
        let mut down = Dice::new(7, Direction::Down);
        assert_ne!(up.next_packet().loss.0, down.next_packet().loss.0);
    }
}
