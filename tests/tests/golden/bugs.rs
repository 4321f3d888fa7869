//! Bugs that are planted: golden traces differ where a node has one.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use trunkline_core::trace::{Reader, Report, replay, shrink_while};
use trunkline_core::{Bug, plant};

use crate::folder;

/// The bug whose trace is cut down, and the golden trace that tells of it.
const SHRUNK: (Bug, &str) = (Bug::ForgetCancel, "cancel-client");

/// What a node keeps to itself stands in no trace, nor does what QUIC does in one of links; and no node
/// of these traces broadcasts to several sessions.
const UNSEEN: [Bug; 6] = [
    Bug::LeakMemory,
    Bug::WakeAtOnce,
    Bug::SkipQuicTimeout,
    Bug::StayQuiet,
    Bug::CopyHandshakes,
    Bug::IterateAtRandom,
];

/// Beside the golden traces.
fn shrunk() -> PathBuf {
    folder().join("bugs/forget-cancel.tlt")
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
    assert_eq!(unseen, UNSEEN, "no golden trace tells of them");
}

#[test]
fn a_few_records_fail_with_the_bug_and_pass_without() {
    let (bug, _) = SHRUNK;
    let trace = fs::read(shrunk()).unwrap();
    let report = replayed(&trace, None);
    assert!(report.is_identical(), "{report}");
    assert!(report.records < 60, "{report}");
    let report = replayed(&trace, Some(bug));
    let difference = report.difference.unwrap();
    assert!(
        difference.expected.contains("wrote to control"),
        "{difference}"
    );
}

/// Cuts a golden trace down to what still tells of the bug.
pub(crate) fn write() {
    let (bug, name) = SHRUNK;
    let trace = fs::read(folder().join(format!("{name}.tlt"))).unwrap();
    let shrunk_trace = shrink_while(&trace[..], |trace| {
        Reader::new(trace).is_ok()
            && replayed(trace, None).is_identical()
            && !replayed(trace, Some(bug)).is_identical()
    })
    .unwrap();
    fs::create_dir_all(shrunk().parent().unwrap()).unwrap();
    fs::write(shrunk(), shrunk_trace.trace).unwrap();
}
