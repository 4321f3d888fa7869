//! How many come at once.

use std::time::{Duration, Instant};

/// The most of these instants that lie within so much time of each other.
pub fn most_within(window: Duration, mut at: Vec<Instant>) -> usize {
    at.sort_unstable();
    let mut from = 0;
    let mut most = 0;
    for (to, end) in at.iter().enumerate() {
        while *end - at[from] > window {
            from += 1;
        }
        most = most.max(to + 1 - from);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_window_counts_wherever_it_begins() {
        let origin = Instant::now();
        let at = [250, 10, 110, 90].map(|millis| origin + Duration::from_millis(millis));
        let most = |millis| most_within(Duration::from_millis(millis), at.to_vec());
        assert_eq!([0, 99, 100, 240].map(most), [1, 2, 3, 4]);
        assert_eq!(most_within(Duration::MAX, Vec::new()), 0);
    }
}
