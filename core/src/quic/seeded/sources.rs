//! Where a node's cryptography takes randomness, time and signatures from.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::signing::SignatureTap;
use super::wall::WallClock;
use crate::seed::{Seed, SeededRng};

/// Where a node's cryptography takes randomness, time and signatures from.
///
/// One node makes one, and clones it: clones share what they draw from, so that no two sessions ever
/// draw the same, even after certificates were changed. Two made of the same seed *would* draw
/// the same.
///
/// It keeps no seed: what it holds says nothing of the sessions that have drawn from it.
#[derive(Clone)]
pub(crate) struct Sources {
    wall: WallClock,
    tap: Option<Arc<dyn SignatureTap>>,
    random: Arc<Random>,
}

/// One of its own for each consumer: none shifts what another one draws.
struct Random {
    sessions: Mutex<SeededRng>,
    connection_ids: Mutex<SeededRng>,
    destinations: Mutex<SeededRng>,
}

impl Sources {
    /// The sources of a node with this seed.
    pub(crate) fn new(seed: &Seed, wall: WallClock, tap: Option<Arc<dyn SignatureTap>>) -> Self {
        let random = |label| Mutex::new(seed.rng(label, 0));
        Self {
            wall,
            tap,
            random: Arc::new(Random {
                sessions: random("tls session"),
                connection_ids: random("connection ids"),
                destinations: random("first destination"),
            }),
        }
    }

    /// The clock that tokens and certificates are judged by. The node sets it on each input.
    pub(crate) fn wall(&self) -> &WallClock {
        &self.wall
    }

    pub(super) fn tap(&self) -> Option<&Arc<dyn SignatureTap>> {
        self.tap.as_ref()
    }

    /// The generator of the next TLS session, client's or server's.
    pub(super) fn session(&self) -> SeededRng {
        fork(&self.random.sessions)
    }

    pub(super) fn generator(&self) -> SeededRng {
        fork(&self.random.connection_ids)
    }

    pub(super) fn destination(&self) -> [u8; 32] {
        let mut destination = [0; 32];
        fork(&self.random.destinations).fill(&mut destination);
        destination
    }
}

/// What `Endpoint::new` takes as its last argument.
pub(crate) fn endpoint_seed(seed: &Seed) -> [u8; 32] {
    *seed.derive("endpoint", 0)
}

// One thread owns a node, so nobody waits here.
fn fork(random: &Mutex<SeededRng>) -> SeededRng {
    let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
    random.fork()
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
