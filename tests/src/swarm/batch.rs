//! Many seeds on many threads.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Certificates;
use crate::digest::Digest;

use super::failure::{Failure, TWICE, try_seed, try_twice};
use super::run::Ran;

/// A batch of seeds.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The first one; the others follow it.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// How many threads run them.
    pub threads: usize,
    /// No seed is begun after so much time; `None`: all of them are.
    pub budget: Option<Duration>,
    /// No seed is begun after so many failures.
    pub failures: usize,
    /// Every hundredth seed is run by this program as well: see [`try_twice`].
    pub other: PathBuf,
}

/// What came of a batch.
#[derive(Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// What was wrong, as it came.
    pub failures: Vec<Failure>,
}

impl Batch {
    /// Runs the seeds; `each` is told of every one that is done, on whatever thread it was.
    pub fn run(
        &self,
        certificates: &Certificates,
        each: impl Fn(Option<&Failure>) + Sync,
    ) -> Summary {
        let start = Instant::now();
        let next = AtomicU64::new(0);
        let enough = AtomicBool::new(false);
        let summary = Mutex::new(Summary::default());
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let late = |budget| Instant::now() - start >= budget;
                        let stop = enough.load(Ordering::Relaxed) || self.budget.is_some_and(late);
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if stop || seed >= self.seeds {
                            break;
                        }
                        let ran = self.try_one(self.first.wrapping_add(seed), certificates);
                        let failure = ran.err();
                        each(failure.as_deref());
                        let mut summary = summary
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner);
                        summary.seeds += 1;
                        summary.failures.extend(failure.map(|failure| *failure));
                        enough.fetch_or(
                            summary.failures.len() >= self.failures.max(1),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        summary
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Batch {
    fn try_one(&self, seed: u64, certificates: &Certificates) -> Result<Ran, Box<Failure>> {
        if seed.is_multiple_of(TWICE) {
            try_twice(seed, certificates, &self.other)
        } else {
            try_seed(seed, certificates)
        }
    }
}

/// Where the fresh seeds of a commit begin.
pub fn first_of(commit: &str) -> u64 {
    let mut digest = Digest::default();
    digest.add(commit.as_bytes());
    // Seeds are typed by people now and then.
    digest.value() % 1_000_000_000_000
}
