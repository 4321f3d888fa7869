//! What the network does to datagrams.

use std::time::Duration;

use crate::Random;

/// The impairments of every path of a simulated network.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// One way.
    pub delay: Duration,
    /// Up to so much more, drawn for each datagram: more than the gap between two reorders them.
    pub jitter: Duration,
    /// Share of datagrams that get lost, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that come twice, 0 to 1.
    pub duplicate: f64,
    /// Nothing gets through.
    pub cut: bool,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            cut: false,
        }
    }
}

impl Path {
    /// After which delays the copies of one datagram arrive; none if it is lost.
    pub(crate) fn copies(&self, random: &mut Random) -> Vec<Duration> {
        if self.cut || random.fraction() < self.loss {
            return Vec::new();
        }
        let count = 1 + usize::from(random.fraction() < self.duplicate);
        (0..count)
            .map(|_| self.delay + self.jitter.mul_f64(random.fraction()))
            .collect()
    }
}
