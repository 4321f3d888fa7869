//! Where a node's cryptography takes randomness, time and signatures from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::signing::SignatureTap;
use super::wall::WallClock;
use crate::seed::{Seed, SeededRng};

/// Where a node's cryptography takes randomness, time and signatures from.
///
/// One node makes one, and clones it: clones share their counters, so that no two sessions ever
/// draw the same, even after certificates were changed. Two made of the same seed *would* draw
/// the same.
#[derive(Clone)]
pub(crate) struct Sources {
    seed: Seed,
    wall: WallClock,
    tap: Option<Arc<dyn SignatureTap>>,
    used: Arc<Used>,
}

#[derive(Default)]
struct Used {
    sessions: AtomicU64,
    generators: AtomicU64,
    destinations: AtomicU64,
}

impl Sources {
    /// The sources of a node with this seed.
    pub(crate) fn new(seed: Seed, wall: WallClock, tap: Option<Arc<dyn SignatureTap>>) -> Self {
        Self {
            seed,
            wall,
            tap,
            used: Arc::default(),
        }
    }

    /// The clock that tokens and certificates are judged by. The node sets it on each input.
    pub(crate) fn wall(&self) -> &WallClock {
        &self.wall
    }

    /// What `Endpoint::new` takes as its last argument.
    pub(crate) fn endpoint_seed(&self) -> [u8; 32] {
        *self.seed.derive("endpoint", 0)
    }

    pub(super) fn tap(&self) -> Option<&Arc<dyn SignatureTap>> {
        self.tap.as_ref()
    }

    /// The generator of the next TLS session, client's or server's.
    pub(super) fn session(&self) -> SeededRng {
        self.seed.rng("tls session", next(&self.used.sessions))
    }

    pub(super) fn generator(&self) -> SeededRng {
        self.seed.rng("connection ids", next(&self.used.generators))
    }

    pub(super) fn destination(&self) -> [u8; 32] {
        *self
            .seed
            .derive("first destination", next(&self.used.destinations))
    }
}

// One thread owns a node, so nothing is ordered by this counter but its own values.
fn next(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("wall", &self.wall)
            .field("tap", &self.tap)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lab::sources;

    #[test]
    fn clones_never_draw_the_same() {
        let (one, other) = (sources(1), sources(1));
        let clone = one.clone();
        let first = one.session().next_u64();
        assert_eq!(first, other.session().next_u64());
        let second = clone.session().next_u64();
        assert_ne!(first, second);
        assert_eq!(second, other.session().next_u64());
        assert_ne!(one.destination(), clone.destination());
        assert_ne!(one.generator().next_u64(), clone.generator().next_u64());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?}", sources(1));
        assert!(!printed.contains("seed"), "{printed}");
    }
}
