//! What is to be done to a path.

use std::fmt;
use std::time::Duration;

/// A part of a whole, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share(f64);

impl Share {
    /// The share that is `fraction` of the whole, at most all of it.
    pub(crate) fn new(fraction: f64) -> Self {
        Self(fraction.clamp(0.0, 1.0))
    }

    pub(crate) fn as_fraction(self) -> f64 {
        self.0
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is written as 0.1 % is not exactly that in binary; nobody wants to read about it.
        write!(f, "{}%", (self.0 * 1e11).round() / 1e9)
    }
}

/// Bits a second, more than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(u64);

impl Rate {
    pub(crate) fn new(bits_per_second: u64) -> Option<Self> {
        (bits_per_second > 0).then_some(Self(bits_per_second))
    }

    /// How long so many bytes take, rounded up.
    pub(crate) fn duration_of(self, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 8 * 1_000_000_000).div_ceil(u128::from(self.0));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes leave in that time, rounded up.
    pub(crate) fn bytes_in(self, duration: Duration) -> usize {
        let bits = (duration.as_nanos() * u128::from(self.0)).div_ceil(1_000_000_000);
        usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits >= 1_000_000_000 => write!(f, "{}gbit", bits as f64 / 1e9),
            bits if bits >= 1_000_000 => write!(f, "{}mbit", bits as f64 / 1e6),
            bits if bits >= 1_000 => write!(f, "{}kbit", bits as f64 / 1e3),
            bits => write!(f, "{bits}bit"),
        }
    }
}

/// A cut that comes again and again: the first one when a period is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blackout {
    length: Duration,
    period: Duration,
}

impl Blackout {
    /// A cut of `length` each time a `period` is over; the cut must be shorter.
    pub(crate) fn new(length: Duration, period: Duration) -> Option<Self> {
        (!length.is_zero() && length < period).then_some(Self { length, period })
    }

    /// Whether the path is cut, that long after its beginning.
    pub(crate) fn covers(self, elapsed: Duration) -> bool {
        elapsed >= self.period
            && elapsed.as_nanos() % self.period.as_nanos() < self.length.as_nanos()
    }
}

/// One cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// When, after the path's beginning.
    pub(crate) after: Duration,
    /// For how long; `None`: for good.
    pub(crate) length: Option<Duration>,
}

impl Cut {
    pub(crate) fn covers(self, elapsed: Duration) -> bool {
        elapsed
            .checked_sub(self.after)
            .is_some_and(|since| self.length.is_none_or(|length| since < length))
    }
}

/// Which way packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

/// Which ways are impaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Directions {
    #[default]
    Both,
    Up,
    Down,
}

impl Directions {
    pub(crate) fn include(self, direction: Direction) -> bool {
        match self {
            Self::Both => true,
            Self::Up => direction == Direction::Up,
            Self::Down => direction == Direction::Down,
        }
    }
}

/// Everything that is done to a path's packets. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Impairments {
    /// How long a packet is under way, one way.
    pub(crate) delay: Duration,
    /// By how much that varies either way, evenly spread. Packets stay in order all the same.
    pub(crate) jitter: Duration,
    /// Which share of the packets is lost.
    pub(crate) loss: Share,
    /// The mean number of packets lost in a row; `None`: each packet's loss is its own.
    pub(crate) burst: Option<f64>,
    /// Which share of the packets is overtaken by those behind.
    pub(crate) reorder: Share,
    /// Which share of the packets arrives twice.
    pub(crate) duplicate: Share,
    /// Which share of the packets has one bit flipped.
    pub(crate) corrupt: Share,
    /// How many bits of payload a second leave; more wait in the queue.
    pub(crate) rate: Option<Rate>,
    /// How many bytes may wait for the rate; more are dropped. `None`: what leaves in 50 ms, and
    /// 64 kB at least.
    pub(crate) queue: Option<usize>,
    /// Cuts that come again and again.
    pub(crate) blackout: Option<Blackout>,
    /// One cut.
    pub(crate) cut: Option<Cut>,
    /// Which ways all this is done to.
    pub(crate) directions: Directions,
}

impl Impairments {
    /// Whether all this is possible together; otherwise a sentence that says what is not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(burst) = self.burst else {
            return Ok(());
        };
        let highest = burst / (burst + 1.0);
        if self.loss.as_fraction() <= highest + 1e-9 {
            return Ok(());
        }
        // The shortest bursts that do: a good packet between every two. What is exactly a whole number
        // of packets must not become one more by the rounding of floats.
        let longer = self.loss.as_fraction() / (1.0 - self.loss.as_fraction());
        Err(if longer.is_finite() {
            format!(
                "--loss {} cannot come in bursts of {burst} packets: take --burst {} or more, or less loss",
                self.loss,
                ((longer * 1e6).round() / 1e6).ceil()
            )
        } else {
            "--loss 100% loses everything, so that there are no bursts: leave --burst out"
                .to_owned()
        })
    }

    /// Whether a cut or a blackout is on, that long after the path's beginning.
    pub(super) fn is_cut(&self, elapsed: Duration) -> bool {
        self.blackout
            .is_some_and(|blackout| blackout.covers(elapsed))
            || self.cut.is_some_and(|cut| cut.covers(elapsed))
    }

    /// How many bytes may wait for the rate.
    pub(super) fn queue_bytes(&self) -> usize {
        let by_rate = |rate: Rate| rate.bytes_in(Duration::from_millis(50)).max(64_000);
        self.queue.or(self.rate.map(by_rate)).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Impairments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.delay.is_zero() {
            parts.push(format!("delay {:?}", self.delay));
        }
        if !self.jitter.is_zero() {
            parts.push(format!("jitter {:?}", self.jitter));
        }
        let shares = [
            ("loss", self.loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
        ];
        for (name, share) in shares.into_iter().filter(|(_, share)| !share.is_zero()) {
            parts.push(format!("{name} {share}"));
            if let Some(burst) = self.burst.filter(|_| name == "loss") {
                parts.push(format!("bursts of {burst}"));
            }
        }
        if let Some(rate) = self.rate {
            parts.push(format!("rate {rate}"));
            parts.push(format!("queue {} bytes", self.queue_bytes()));
        }
        if let Some(blackout) = self.blackout {
            parts.push(format!(
                "cut {:?} every {:?}",
                blackout.length, blackout.period
            ));
        }
        if let Some(cut) = self.cut {
            let length = cut
                .length
                .map_or_else(|| "for good".to_owned(), |length| format!("for {length:?}"));
            parts.push(format!("cut after {:?} {length}", cut.after));
        }
        if parts.is_empty() {
            return f.write_str("nothing done to packets");
        }
        f.write_str(&parts.join(", "))?;
        match self.directions {
            Directions::Both => Ok(()),
            Directions::Up => f.write_str(", client to server only"),
            Directions::Down => f.write_str(", server to client only"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_blackout_begins_when_its_first_period_is_over_and_comes_again() {
        let blackout = Blackout::new(seconds(5), seconds(20)).expect("possible");
        let cut: Vec<u64> = (0..70)
            .filter(|&second| blackout.covers(seconds(second)))
            .collect();
        assert_eq!(
            cut,
            [20, 21, 22, 23, 24, 40, 41, 42, 43, 44, 60, 61, 62, 63, 64]
        );
    }

    #[test]
    fn a_cut_ends_after_its_length_or_never() {
        let cut = Cut {
            after: seconds(10),
            length: Some(seconds(20)),
        };
        assert!(!cut.covers(seconds(9)) && cut.covers(seconds(10)) && cut.covers(seconds(29)));
        assert!(!cut.covers(seconds(30)));
        assert!(
            Cut {
                after: seconds(10),
                length: None
            }
            .covers(seconds(1_000_000))
        );
    }

    #[test]
    fn bursts_that_cannot_give_that_much_loss_are_refused_with_ones_that_can() {
        let mut asked = Impairments {
            loss: Share::new(0.9),
            burst: Some(3.0),
            ..Impairments::default()
        };
        let said = asked.check().expect_err("impossible");
        assert!(
            said.contains("--loss 90%") && said.contains("--burst 9"),
            "{said}"
        );
        asked.burst = Some(9.0);
        assert_eq!(asked.check(), Ok(()));
        asked.loss = Share::new(1.0);
        assert!(
            asked
                .check()
                .expect_err("impossible")
                .contains("leave --burst out")
        );
    }

    #[test]
    fn rates_and_bytes_agree() {
        let rate = Rate::new(10_000_000).expect("not zero");
        assert_eq!(rate.duration_of(1_250), Duration::from_millis(1));
        assert_eq!(rate.bytes_in(Duration::from_millis(1)), 1_250);
        let with_rate = Impairments {
            rate: Some(rate),
            ..Impairments::default()
        };
        assert_eq!(with_rate.queue_bytes(), 64_000);
        let fast = Impairments {
            rate: Rate::new(1_000_000_000),
            ..Impairments::default()
        };
        assert_eq!(fast.queue_bytes(), 6_250_000);
    }

    #[test]
    fn the_description_says_what_was_asked_for() {
        let asked = Impairments {
            delay: Duration::from_millis(50),
            loss: Share::new(0.02),
            burst: Some(3.0),
            corrupt: Share::new(0.001),
            rate: Rate::new(1_500_000),
            directions: Directions::Up,
            ..Impairments::default()
        };
        assert_eq!(
            asked.to_string(),
            "delay 50ms, loss 2%, bursts of 3, corrupt 0.1%, rate 1.5mbit, queue 64000 bytes, client to server only"
        );
        let shaken = Impairments {
            jitter: Duration::from_millis(3),
            ..Impairments::default()
        };
        assert_eq!(shaken.to_string(), "jitter 3ms");
        assert_eq!(
            Impairments::default().to_string(),
            "nothing done to packets"
        );
    }
}
