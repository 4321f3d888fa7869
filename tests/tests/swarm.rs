//! Random runs: every seed that has found something, and fresh ones of each commit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::path::Path;
use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use trunkline_core::Limits;
use trunkline_testkit::swarm::{
    Action, Batch, Failure, Faults, Plan, Pressure, Step, commit, first_of, try_plan, try_seed,
    try_twice,
};
use trunkline_testkit::{Certificates, count_by};

/// How many fresh seeds there are, unless the environment says another number.
const SEEDS: u64 = 2_000;
/// Runs one seed in a hundred in another process.
const SOAK: &str = env!("CARGO_BIN_EXE_soak");
const SECOND: Duration = Duration::from_secs(1);
/// Runs that cutting a failure down may take.
const SHRINK: usize = 300;

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let given = std::env::var(name).ok()?;
    match given.parse() {
        Ok(given) => Some(given),
        Err(_) => panic!("{name} is {given:?}: give a number"),
    }
}

/// The throwaway certificates; and nodes' memory is counted.
fn certificates() -> Certificates {
    count_by(|f| allocation_counter::measure(f).bytes_current);
    Certificates::new().unwrap()
}

/// Ends the test with all that is known of a failure.
fn tell(failure: Failure, certificates: &Certificates) -> ! {
    let steps = failure.plan.steps.len();
    println!("{failure}");
    let smallest = Box::new(failure).shrink(certificates, SHRINK);
    let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("swarm");
    let traces = smallest.write_traces(certificates, &into).unwrap();
    panic!(
        "{smallest}cut down from {steps} steps to {}; traces are in {}:\n{}",
        smallest.plan.steps.len(),
        traces.display(),
        smallest.plan
    );
}

#[test]
fn every_seed_that_has_found_something_is_well() {
    let certificates = certificates();
    let past = include_str!("past_seeds.txt");
    let lines = past.lines().filter(|line| !line.starts_with('#'));
    let mut seeds = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        let (seed, _) = line.split_once(' ').unwrap();
        if let Err(failure) = try_seed(seed.parse().unwrap(), &certificates) {
            println!("{line}");
            tell(*failure, &certificates);
        }
        seeds += 1;
    }
    assert!(seeds > 0, "the list is empty");
}

/// All of them, however long a slow or busy machine takes for that: two idle cores need well under a
/// minute. `TRUNKLINE_SEED_SECONDS` ends the test sooner, with as many as fit into that time.
#[test]
fn fresh_seeds_of_this_commit_are_well() {
    let certificates = certificates();
    let batch = Batch {
        first: from_environment("TRUNKLINE_FIRST_SEED").unwrap_or_else(|| first_of(&commit())),
        seeds: from_environment("TRUNKLINE_SEEDS").unwrap_or(SEEDS),
        threads: available_parallelism().map_or(1, usize::from),
        budget: from_environment("TRUNKLINE_SEED_SECONDS").map(Duration::from_secs),
        failures: 1,
        other: SOAK.into(),
    };
    let summary = batch.run(&certificates, |_| {});
    println!(
        "{} of {} seeds, from {}",
        summary.seeds, batch.seeds, batch.first
    );
    if let Some(failure) = summary.failures.into_iter().next() {
        tell(failure, &certificates);
    }
    assert!(summary.seeds > 0, "not one seed: nothing is shown");
    assert!(batch.budget.is_some() || summary.seeds == batch.seeds);
}

/// A thousand clients come at once, and again when their server has lost its keys in a crash, or has
/// kept them. Among the fresh seeds of a commit there are two more.
#[test]
fn a_storm_of_a_thousand_clients_is_well() {
    let certificates = certificates();
    for (first, lost) in [(0, false), (1, true)] {
        let crash = |step: &Step| match step.action {
            Action::Kill { node, keys_lost } => (node, keys_lost) == (0, lost),
            _ => false,
        };
        let mut storms = (first..).map(|n| Plan::new(1_000 * n + 999));
        let plan = storms.find(|plan| plan.steps.iter().any(crash)).unwrap();
        assert_eq!(plan.clients, 1_000);
        match try_plan(&plan, &certificates) {
            Ok(ran) => println!("seed {}: {:?}, {:?}", plan.seed, ran.traffic, ran.pressure),
            Err(failure) => tell(*failure, &certificates),
        }
    }
}

/// However long faults were to last, they are over when a run's end is looked at.
#[test]
fn what_would_outlast_a_run_is_healed_at_its_end() {
    let certificates = certificates();
    let mut plan = Plan::new(0);
    (plan.servers, plan.clients, plan.asks) = (1, 1, false);
    (plan.server, plan.client) = Default::default();
    let lasts = 3_600 * SECOND;
    let (node, takes) = (1, Some(0));
    let faults = [
        vec![(0, 1), (1, 0)]
            .into_iter()
            .map(|(from, to)| Action::Clog { from, to, lasts })
            .collect(),
        vec![Action::Cut {
            from: 0,
            to: 1,
            both: true,
            cut: true,
        }],
        vec![Action::Pause { node }],
        vec![Action::SendBuffer { node, takes }],
    ];
    for faults in faults {
        let connect = Action::Connect {
            client: 1,
            server: 0,
        };
        let actions = [vec![connect], faults].concat();
        let seconds = (0..).map(|second| second * SECOND);
        let steps = seconds.zip(actions).map(|(at, action)| Step { at, action });
        plan.steps = steps.collect();
        if let Err(failure) = try_plan(&plan, &certificates) {
            tell(*failure, &certificates);
        }
    }
}

#[test]
fn another_process_runs_a_seed_in_the_same_way_and_no_other_seed() {
    let certificates = certificates();
    let soak = Path::new(SOAK);
    let ran = try_twice(4, &certificates, soak).unwrap();
    let other = try_seed(5, &certificates).unwrap();
    assert_ne!(ran.fingerprint, other.fingerprint);
    // A program that says something else is one that differs.
    let this = std::env::current_exe().unwrap();
    let failed = try_twice(4, &certificates, &this).unwrap_err();
    assert!(failed.what.starts_with("two runs differ"), "{failed}");
}

#[test]
fn all_that_is_bounded_is_full_in_some_of_a_thousand_runs() {
    let certificates = certificates();
    let mut pressure = Pressure::default();
    for seed in 0..1_000 {
        match try_seed(seed, &certificates) {
            Ok(ran) => pressure.add(&ran.pressure),
            Err(failure) => tell(*failure, &certificates),
        }
        if pressure.missing().is_empty() {
            println!("after {seed} seeds: {pressure:?}");
            return;
        }
    }
    panic!("never full: {:?}; {pressure:?}", pressure.missing());
}

/// Where everything has room but for one table, no other is ever taken for full.
#[test]
fn a_full_table_is_taken_for_no_other() {
    let certificates = certificates();
    let tight: [(_, fn(&mut Limits)); 17] = [
        ("limits.frame_bytes", |limits| limits.frame_bytes = 4_096),
        ("limits.promises", |limits| limits.promises = 1),
        ("limits.promises_total", |limits| limits.promises_total = 1),
        ("limits.outbox_messages", |limits| {
            limits.outbox_messages = 1;
        }),
        ("limits.outbox_bytes", |limits| limits.outbox_bytes = 4_096),
        ("limits.outbox_bytes_total", |limits| {
            limits.outbox_bytes_total = 4_096;
        }),
        ("limits.deliveries", |limits| limits.deliveries = 1),
        ("limits.delivery_bytes", |limits| {
            limits.delivery_bytes = 1_024
        }),
        ("limits.event_messages", |limits| limits.event_messages = 1),
        ("limits.event_bytes", |limits| limits.event_bytes = 1_024),
        ("limits.lanes", |limits| limits.lanes = 2),
        ("limits.best_effort_bytes", |limits| {
            limits.best_effort_bytes = 1_024;
        }),
        ("limits.sessions", |limits| limits.sessions = 1),
        ("limits.half_open_unvalidated", |limits| {
            limits.half_open_unvalidated = 1;
        }),
        ("limits.sessions_per_client", |limits| {
            limits.sessions_per_client = 1;
        }),
        ("limits.groups", |limits| limits.groups = 1),
        ("limits.groups_per_session", |limits| {
            limits.groups_per_session = 1;
        }),
    ];
    for (kind, tighten) in tight {
        let mut was_full = false;
        for seed in 0..200 {
            let mut plan = Plan::new(seed);
            for config in [&mut plan.server, &mut plan.client] {
                config.limits = Limits::default();
                tighten(&mut config.limits);
            }
            // What a server keeps is no bound on what a client has.
            plan.client.limits.sessions = Limits::default().sessions;
            let ran = match try_plan(&plan, &certificates) {
                Ok(ran) => ran,
                Err(failure) => tell(*failure, &certificates),
            };
            for full in ran.pressure.full().filter(|full| full.contains('.')) {
                let field = full.split(',').next();
                assert_eq!(field, Some(kind), "seed {seed} was to fill that alone");
                was_full = true;
            }
            if was_full && seed >= 10 {
                break;
            }
        }
        assert!(was_full, "{kind} was never full");
    }
}

/// What the network does to datagrams in drawn runs, each kind of it; and what happens to processes,
/// where it meets something that it can harm.
#[test]
fn every_fault_bites_in_some_of_three_hundred_runs() {
    let certificates = certificates();
    let mut bitten = [("", 0); 11];
    let mut faults = Faults::default();
    for seed in 0..300 {
        let traffic = match try_seed(seed, &certificates) {
            Ok(ran) => {
                faults.add(&ran.faults);
                ran.traffic
            }
            Err(failure) => tell(*failure, &certificates),
        };
        let kinds = [
            ("lost", traffic.lost),
            ("cut", traffic.cut),
            ("a queue full", traffic.queue_full),
            ("too large", traffic.too_large),
            ("reordered", traffic.reordered),
            ("doubled", traffic.duplicated),
            ("damaged", traffic.corrupted),
            ("nobody there", traffic.unreachable),
            ("a socket full", traffic.socket_full),
            ("held", traffic.held),
            ("a send buffer full", traffic.withheld),
        ];
        for (sum, (kind, count)) in bitten.iter_mut().zip(kinds) {
            *sum = (kind, sum.1 + count);
        }
    }
    println!("{bitten:?}; {faults:?}");
    assert!(bitten.iter().all(|(_, count)| *count > 0), "{bitten:?}");
    let missing = faults.missing();
    assert!(missing.is_empty(), "never: {missing:?}; {faults:?}");
}
