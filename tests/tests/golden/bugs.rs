//! Bugs that are planted: golden traces differ where a node has one. So do a few records of what the
//! simulator finds of each. They are in `tests/traces/bugs`, each beside the run that it was cut down
//! from, and made again, from the first seeds that find the bugs and can be cut down so far, by
//!
//! ```text
//! cargo test -p trunkline-testkit --test golden -- --ignored hunt --nocapture
//! ```

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use trunkline_core::trace::{Report, Shrunk, replay, shrink_while};
use trunkline_core::{Bug, plant};
use trunkline_testkit::swarm::{Failure, run_recorded, try_seed};
use trunkline_testkit::{Certificates, Recording};

use crate::folder;

/// What a node keeps to itself stands in no trace above QUIC, nor does what QUIC does, nor the order
/// in which sessions are told, nor whom a server did not let in.
const UNTRACED: [Bug; 7] = [
    Bug::LeakMemory,
    Bug::WakeAtOnce,
    Bug::SkipQuicTimeout,
    Bug::StayQuiet,
    Bug::CopyHandshakes,
    Bug::IterateAtRandom,
    Bug::ForgetRefusal,
];

fn is_traced(bug: &Bug) -> bool {
    !UNTRACED.contains(bug)
}

/// What is kept of the find of a bug: `tlt`, the trace, and `txt`, the run.
fn file(bug: Bug, kind: &str) -> PathBuf {
    let mut name = String::new();
    for letter in format!("{bug:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    folder().join(format!("bugs/{name}.{kind}"))
}

fn replayed(trace: &[u8], bug: Option<Bug>) -> Report {
    plant(bug);
    let report = replay(trace, Instant::now());
    plant(None);
    report.unwrap()
}

fn golden() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder()).unwrap().map(Result::unwrap);
    let traces = entries.filter(|entry| entry.path().is_file());
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    let mut all: Vec<_> = traces.map(read).collect();
    all.sort();
    all
}

#[test]
fn golden_traces_tell_of_bugs() {
    let golden = golden();
    let mut unseen = Vec::new();
    for bug in Bug::ALL {
        let differing = golden.iter().filter(|(_, trace)| {
            let report = replayed(trace, Some(bug));
            !report.is_identical()
        });
        let names: Vec<&str> = differing.map(|(name, _)| name.as_str()).collect();
        println!("{bug:?}: {}", names.join(", "));
        if names.is_empty() {
            unseen.push(bug);
        }
    }
    assert_eq!(unseen, UNTRACED, "no golden trace tells of them");
}

/// Nobody reads through more.
const RECORDS_MAX: u64 = 60;

#[test]
fn what_the_simulator_found_differs_with_the_bug_alone() {
    for bug in Bug::ALL.into_iter().filter(is_traced) {
        let trace = fs::read(file(bug, "tlt")).unwrap();
        let report = replayed(&trace, None);
        assert!(report.is_identical(), "{bug:?}: {report}");
        assert!(report.records <= RECORDS_MAX, "{bug:?}: {report}");
        let difference = replayed(&trace, Some(bug)).difference;
        let difference = difference.unwrap_or_else(|| panic!("nothing tells of {bug:?}"));
        println!("{bug:?}, {} records: {difference}", report.records);
    }
}

/// In so many seeds every bug is found (`planted.rs`).
const SEEDS: u64 = 1_000;
/// Runs that cutting a plan down may take.
const RUNS: usize = 300;

#[test]
#[ignore = "writes the files that the others check"]
fn hunt() {
    let certificates = Certificates::new().unwrap();
    fs::create_dir_all(folder().join("bugs")).unwrap();
    for bug in Bug::ALL.into_iter().filter(is_traced) {
        let mut shrunk = finds(bug, &certificates)
            .filter_map(|found| Some((shortest(bug, &found, &certificates)?, found)));
        let few = shrunk.find(|(shrunk, _)| shrunk.after <= RECORDS_MAX);
        let (shrunk, found) = few.unwrap_or_else(|| panic!("{bug:?} is not found"));
        let Failure { plan, what, .. } = &*found;
        let run = format!("{bug:?}, found by seed {}: {what}\n{plan}", plan.seed);
        println!("{run}{} records of {}\n", shrunk.after, shrunk.before);
        fs::write(file(bug, "txt"), run).unwrap();
        fs::write(file(bug, "tlt"), shrunk.trace).unwrap();
    }
}

/// The runs of the simulator that find the bug, each with as little in it as it takes.
fn finds(bug: Bug, certificates: &Certificates) -> impl Iterator<Item = Box<Failure>> {
    (0..SEEDS).filter_map(move |seed| {
        plant(Some(bug));
        let found = try_seed(seed, certificates).err();
        let smallest = found.map(|failure| failure.shrink(certificates, RUNS));
        plant(None);
        smallest
    })
}

/// The run is recorded as it has to be: without the bug. Of what its nodes recorded, what is left
/// when it is cut down to what comes otherwise with the bug, and that of the node with the least. `None`:
/// nothing that a node recorded comes otherwise.
fn shortest(bug: Bug, found: &Failure, certificates: &Certificates) -> Option<Shrunk> {
    let ran = run_recorded(&found.plan, certificates, Some(Recording::Link));
    let nodes = ran.recorded.unwrap().traces.into_iter();
    let traces = nodes.flat_map(|(_, processes)| processes);
    let shrunk = traces.filter_map(|trace| {
        let tells = |trace: &[u8]| {
            !replayed(trace, Some(bug)).is_identical() && replayed(trace, None).is_identical()
        };
        shrink_while(&trace[..], tells).ok()
    });
    shrunk.min_by_key(|shrunk| shrunk.after)
}
