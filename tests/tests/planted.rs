//! The simulator can fail: each bug that is planted in the core is found, and soon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use trunkline_core::{Bug, plant};
use trunkline_testkit::fuzz::two_nodes;
use trunkline_testkit::swarm::try_seed;
use trunkline_testkit::{Certificates, count_by};

/// In so many seeds every bug has to be found.
const SEEDS: u64 = 1_000;

#[test]
fn every_planted_bug_is_found_within_a_thousand_seeds() {
    count_by(|f| allocation_counter::measure(f).bytes_current);
    let certificates = Certificates::new().unwrap();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let hunts: Vec<_> = (0..threads)
            .map(|thread| {
                let bugs = Bug::ALL.into_iter().skip(thread).step_by(threads);
                let certificates = &certificates;
                scope.spawn(move || {
                    bugs.map(|bug| (bug, hunt(bug, certificates)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let found: Vec<_> = hunts.into_iter().flat_map(|h| h.join().unwrap()).collect();
        for (bug, found) in &found {
            match found {
                Some((seed, what)) => println!("{bug:?} at seed {seed}: {what}"),
                None => println!("{bug:?} was not found"),
            }
        }
        assert_eq!(found.len(), Bug::ALL.len());
        assert!(found.iter().all(|(_, found)| found.is_some()));
    });
}

/// The first seed that finds a bug, and in what words.
fn hunt(bug: Bug, certificates: &Certificates) -> Option<(u64, String)> {
    plant(Some(bug));
    let find = |seed| {
        let failure = try_seed(seed, certificates).err()?;
        Some((seed, failure.what.chars().take(200).collect()))
    };
    let found = (0..SEEDS).find_map(find);
    plant(None);
    // It is the bug that was found.
    if let Some((seed, _)) = &found
        && let Err(failure) = try_seed(*seed, certificates)
    {
        panic!("{failure}");
    }
    found
}

/// Without a bug the same seeds find nothing, so that it is the bugs that are found.
#[test]
fn nothing_is_found_where_nothing_is_planted() {
    count_by(|f| allocation_counter::measure(f).bytes_current);
    let certificates = Certificates::new().unwrap();
    plant(None);
    for seed in 0..40 {
        if let Err(failure) = try_seed(seed, &certificates) {
            panic!("{failure}");
        }
    }
}

/// The fuzzer of two nodes found one of them in 12,000 runs from an empty corpus: this is its input.
#[test]
fn what_the_fuzzer_found_fails_with_the_bug_alone() {
    let input = include_bytes!("../../fuzz/corpus/two_nodes/planted-drop-ack");
    let run = || std::panic::catch_unwind(|| two_nodes(input));
    plant(Some(Bug::DropAck));
    let with = run();
    plant(None);
    let without = run();
    let said = with.unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("invariant 7, "), "{said}");
    assert!(without.unwrap().contains("an ack"));
}
