//! The simulator can fail: each bug that is planted in the core is found, and soon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use trunkline_core::{Bug, Event, Message, Node, Outcome, Tag, plant};
use trunkline_testkit::fuzz::two_nodes;
use trunkline_testkit::swarm::{Ran, try_seed};
use trunkline_testkit::{Certificates, World, count_by, echo};

/// In so many seeds every bug has to be found.
const SEEDS: u64 = 1_000;
/// One seed in so many runs twice, as in every batch of them.
const TWICE: u64 = 100;

/// What is found of bugs that break a law that no other bug breaks: these words.
const LAWS: [(Bug, &str); 8] = [
    (Bug::WakeAtOnce, "just after one: it spins"),
    (Bug::SkipQuicTimeout, "in a row brought nothing: it spins"),
    (Bug::ForgetRedialTimer, "has a session and no timer"),
    (Bug::StayQuiet, "had output and did not say so"),
    (Bug::CopyHandshakes, "amplifies"),
    (Bug::IterateAtRandom, "two runs differ"),
    (Bug::FlapLinks, "has flapped"),
    (Bug::ForgetRefusal, "refusals were told"),
];

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
        for (bug, words) in LAWS {
            let (_, found) = found.iter().find(|(found, _)| *found == bug).unwrap();
            let (_, what) = found.as_ref().unwrap();
            assert!(what.contains(words), "{bug:?}: {what}");
        }
    });
}

/// The first seed that finds a bug, and in what words.
fn hunt(bug: Bug, certificates: &Certificates) -> Option<(u64, String)> {
    plant(Some(bug));
    let find = |seed| {
        let what = match try_seed(seed, certificates) {
            Ok(ran) if seed.is_multiple_of(TWICE) => differs(seed, &ran, certificates)?,
            Ok(_) => return None,
            Err(failure) => failure.what,
        };
        Some((seed, what.chars().take(200).collect()))
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

/// In what words a seed's second run is another one. (Batches run it in a second process, where this
/// thread's bug is not planted; a map's order differs from map to map already.)
fn differs(seed: u64, ran: &Ran, certificates: &Certificates) -> Option<String> {
    let again = try_seed(seed, certificates).ok()?;
    let [one, other] = [ran, &again].map(|ran| ran.fingerprint);
    (one != other).then(|| format!("two runs differ: {one:016x} and {other:016x}"))
}

/// An application that asks again whenever its time is out is let wait each time.
#[test]
fn a_node_that_times_out_at_once_is_found_before_time_advances() {
    let run = || {
        let (mut world, server, client) = World::pair(1);
        let session = world.connect(client, server, "alice");
        world.run(Duration::from_secs(1), echo);
        let again = move |node: &mut Node, now: Instant, event: &Event| {
            if let Event::Settled { outcome, .. } = event
                && *outcome == Outcome::TimedOut
            {
                let message = Message::new(Tag::of("test.Said"), "again");
                let timeout = Some(Duration::from_millis(1));
                node.send_acked(now, session, message, timeout).unwrap();
            }
        };
        world.attach(client, again);
        world.path.cut = true;
        let now = world.now();
        let message = Message::new(Tag::of("test.Said"), "once");
        let timeout = Some(Duration::from_millis(1));
        let node = world.node(client);
        node.send_acked(now, session, message, timeout).unwrap();
        world.run(Duration::from_secs(1), echo);
        world.count(client, |event| matches!(event, Event::Settled { .. }))
    };
    plant(Some(Bug::TimeOutAtOnce));
    let with = catch_unwind(run);
    plant(None);
    let said = with.unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert_eq!(said, "65 steps without time advancing");
    assert_eq!(catch_unwind(run).unwrap(), 1_000);
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
    let run = || catch_unwind(|| two_nodes(input));
    plant(Some(Bug::DropAck));
    let with = run();
    plant(None);
    let without = run();
    let said = with.unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("invariant 7, "), "{said}");
    assert!(without.unwrap().contains("an ack"));
}
