//! What goes wrong, and when: all of it from one seed.

use std::fmt;
use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// The longest gaps between two faults of a process and of a path, in milliseconds. Processes fail
/// more rarely: what is killed resumes nothing.
const PROCESS_GAP: u64 = 14_000;
const PATH_GAP: u64 = 4_000;

/// Something that is done to a process or a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL.
    Kill(Who),
    /// Again, after it was killed.
    Start(Who),
    /// SIGSTOP.
    Stop(Who),
    /// SIGCONT.
    Continue(Who),
    /// An order to the path of that number.
    Order(usize, &'static str),
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Server,
    Client(usize),
}

/// When which of them is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) act: Act,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.3} s {:?}", self.at.as_secs_f64(), self.act)
    }
}

/// The steps of a run, in order. Each process and each path has its own faults, one at a time;
/// those of different ones overlap as it comes. Every fault has ended with the last step.
pub(crate) fn plan(seed: u64, length: Duration, clients: usize, paths: usize) -> Vec<Step> {
    let processes = [Who::Server]
        .into_iter()
        .chain((0..clients).map(Who::Client));
    let mut steps = Vec::new();
    for (stream, who) in processes.enumerate() {
        // However short the run, the server is killed in it.
        let mut must_kill = who == Who::Server;
        let mut chance = Chance::new(seed, stream as u64);
        faults(&mut chance, length, PROCESS_GAP, &mut steps, |chance| {
            if std::mem::take(&mut must_kill) || chance.below(4) == 0 {
                let dead = chance.millis(0, 1_000);
                (vec![Act::Kill(who)], dead, Some(Act::Start(who)))
            } else {
                let stopped = chance.millis(50, 3_000);
                (vec![Act::Stop(who)], stopped, Some(Act::Continue(who)))
            }
        });
    }
    for path in 0..paths {
        let stream = 1_000 + path as u64;
        faults(
            &mut Chance::new(seed, stream),
            length,
            PATH_GAP,
            &mut steps,
            |chance| {
                let heal = Some(Act::Order(path, "heal"));
                let orders: &[&'static str] = match chance.below(6) {
                    0 => &["cut"],
                    1 => &["cut up"],
                    2 => &["cut down"],
                    3 => &["loss 20% 3", "reorder 20%", "duplicate 10%", "jitter 10ms"],
                    4 => &["delay 30ms", "corrupt 5%"],
                    _ => return (vec![Act::Order(path, "rebind")], Duration::ZERO, None),
                };
                let acts = orders.iter().map(|order| Act::Order(path, order));
                (acts.collect(), chance.millis(100, 4_000), heal)
            },
        );
    }
    steps.sort_by_key(|step| step.at);
    steps
}

/// One actor's faults, with gaps of so many milliseconds at most between them: what begins each, how
/// long it lasts, and what ends it.
fn faults(
    chance: &mut Chance,
    length: Duration,
    gap: u64,
    steps: &mut Vec<Step>,
    mut next: impl FnMut(&mut Chance) -> (Vec<Act>, Duration, Option<Act>),
) {
    let mut at = chance.millis(0, 4_000);
    loop {
        let (begin, lasts, end) = next(chance);
        if at + lasts > length {
            return;
        }
        steps.extend(begin.into_iter().map(|act| Step { at, act }));
        at += lasts;
        steps.extend(end.map(|act| Step { at, act }));
        at += chance.millis(200, gap);
    }
}

/// Random numbers from a seed; each actor has a stream of its own.
struct Chance(ChaCha8Rng);

impl Chance {
    fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_every_fault_ends() {
        let minute = Duration::from_secs(60);
        let steps = plan(7, minute, 3, 2);
        assert_eq!(steps, plan(7, minute, 3, 2));
        assert_ne!(steps, plan(8, minute, 3, 2));
        assert!(steps.is_sorted_by_key(|step| step.at) && steps.len() > 30);
        for (begin, end) in [
            (Act::Kill(Who::Server), Act::Start(Who::Server)),
            (Act::Stop(Who::Client(0)), Act::Continue(Who::Client(0))),
        ] {
            let count = |act| steps.iter().filter(|step| step.act == act).count();
            assert!(count(begin) > 0 && count(begin) == count(end), "{begin:?}");
        }
        assert!(steps.iter().all(|step| step.at <= minute));
    }
}
