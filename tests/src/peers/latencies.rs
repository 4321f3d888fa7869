//! Latency samples and their percentiles.

use std::time::Duration;

/// Latency samples, all of them kept: 4 bytes each, exact percentiles, and the least work while
/// measuring. A sample above 4.29 s counts as 4.29 s.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds a sample.
    pub fn push(&mut self, latency: Duration) {
        self.0
            .push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Adds all samples of another one.
    pub fn merge(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How many samples there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The samples at these percentiles, in microseconds, by nearest rank; zeros if there is none.
    pub fn percentiles<const N: usize>(&mut self, percentiles: [f64; N]) -> [f64; N] {
        self.0.sort_unstable();
        percentiles.map(|percentile| {
            let rank = (percentile / 100.0 * self.0.len() as f64).ceil() as usize;
            let sample = self.0.get(rank.saturating_sub(1)).or(self.0.last());
            sample.map_or(0.0, |ns| f64::from(*ns) / 1_000.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let mut latencies = Latencies::default();
        (1..=200)
            .rev()
            .for_each(|us| latencies.push(Duration::from_micros(us)));
        assert_eq!(
            latencies.percentiles([0.0, 50.0, 99.0, 100.0]),
            [1.0, 100.0, 198.0, 200.0]
        );
        assert_eq!(Latencies::default().percentiles([50.0]), [0.0]);
    }

    #[test]
    fn a_sample_too_large_counts_as_the_largest() {
        let mut latencies = Latencies::default();
        latencies.push(Duration::from_secs(10));
        assert_eq!(
            latencies.percentiles([100.0]),
            [f64::from(u32::MAX) / 1_000.0]
        );
    }
}
