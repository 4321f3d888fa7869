//! Which packets are lost, one by one or in bursts.

use super::draws::Draw;
use super::settings::Share;

/// A two-state chain (Gilbert, *Capacity of a burst-noise channel*, 1960; Elliott, 1963) in its
/// simplest form: everything passes in the good state, nothing in the bad one. The mean stay in
/// the bad state is the mean burst, and the share of packets that find it bad is the loss.
#[derive(Debug)]
pub(super) struct Loss {
    /// From good to bad, at each packet.
    worsen: Share,
    /// From bad to good, at each packet.
    recover: Share,
    bad: bool,
}

impl Loss {
    /// Loses that share of the packets; `burst` is how many in a row on average, and must allow it
    /// ([`super::Impairments::check`]). Without it each packet's loss is independent of the others'.
    pub(super) fn new(loss: Share, burst: Option<f64>) -> Self {
        let share = loss.as_fraction();
        match burst {
            Some(burst) if share < 1.0 => Self {
                worsen: Share::new(share / (burst * (1.0 - share))),
                recover: Share::new(1.0 / burst),
                bad: false,
            },
            // Either state turns bad with the same chance: no memory.
            _ => Self {
                worsen: loss,
                recover: Share::new(1.0 - share),
                bad: false,
            },
        }
    }

    /// Whether the next packet is lost.
    pub(super) fn next(&mut self, draw: Draw) -> bool {
        self.bad = if self.bad {
            !draw.falls_in(self.recover)
        } else {
            draw.falls_in(self.worsen)
        };
        self.bad
    }
}

#[cfg(test)]
mod tests {
    use super::super::draws::Dice;
    use super::super::settings::Direction;
    use super::*;

    /// The share lost and the mean burst of 200,000 packets.
    fn measured(loss: f64, burst: Option<f64>) -> (f64, f64) {
        let mut chain = Loss::new(Share::new(loss), burst);
        let mut dice = Dice::new(11, Direction::Up);
        let lost: Vec<bool> = (0..200_000)
            .map(|_| chain.next(dice.next_packet().loss))
            .collect();
        let count = lost.iter().filter(|&&lost| lost).count() as f64;
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
        (count / lost.len() as f64, count / bursts.max(1.0))
    }

    #[test]
    fn independent_loss_has_its_share_and_short_bursts() {
        let (share, burst) = measured(0.02, None);
        assert!((share - 0.02).abs() < 0.002, "{share}");
        assert!((burst - 1.0 / 0.98).abs() < 0.02, "{burst}");
    }

    #[test]
    fn bursts_have_their_mean_length_and_the_same_share() {
        for (loss, length) in [
            (0.02, 3.0),
            (0.3, 3.0),
            (0.1, 20.0),
            (0.4, 1.0),
            (0.75, 3.0),
        ] {
            let (share, burst) = measured(loss, Some(length));
            assert!(
                (share / loss - 1.0).abs() < 0.08,
                "{share} instead of {loss}"
            );
            assert!(
                (burst / length - 1.0).abs() < 0.08,
                "{burst} instead of {length}"
            );
        }
    }

    #[test]
    fn nothing_and_everything_are_exact() {
        assert_eq!(measured(0.0, None).0, 0.0);
        assert_eq!(measured(0.0, Some(5.0)).0, 0.0);
        assert_eq!(measured(1.0, None).0, 1.0);
    }
}
