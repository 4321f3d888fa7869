//! Golden traces: what a node is told and says, above QUIC, in each behaviour of PROTOCOL.md. They are
//! in `tests/traces`, replayed here, and made anew from simulation by
//!
//! ```text
//! cargo test -p trunkline-testkit --test golden -- --ignored write
//! ```
//!
//! to be looked at (`trunkline trace show FILE`) and committed where a change of behaviour is meant.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

mod bugs;
mod scene;
mod scenes;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use trunkline_core::tap::{Call, LinkNote};
use trunkline_core::trace::{Reader, Record};
use trunkline_testkit::assert_replays;

use scenes::SCENES;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")
}

fn file(scene: &str, side: &str) -> PathBuf {
    folder().join(format!("{scene}-{side}.tlt"))
}

/// What a node was told and what it said, a line each. When QUIC's packets came and went is not in
/// it, for that may change without anybody noticing.
fn essence(trace: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(trace).unwrap();
    let mut lines = Vec::new();
    while let Some((_, record)) = reader.next_record().unwrap() {
        match &record {
            Record::Call {
                call: Call::Timeout,
                ..
            } => {}
            Record::Call { call, .. } => lines.push(call.to_string()),
            Record::Event(Some(mark)) => lines.push(mark.name.to_owned()),
            Record::Answers { notes, .. } => {
                let said = notes.iter().filter(|(_, note)| {
                    matches!(
                        note,
                        LinkNote::Began { .. }
                            | LinkNote::Up
                            | LinkNote::Down(_)
                            | LinkNote::Fault(..)
                            | LinkNote::Control(_)
                            | LinkNote::Lane { .. }
                            | LinkNote::Broken { .. }
                            | LinkNote::Closed(..)
                    )
                });
                lines.extend(said.map(|(link, note)| format!("{link:?} {note}")));
            }
            _ => {}
        }
    }
    lines
}

#[test]
fn every_golden_trace_replays_identical() {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tlt") {
            let size = path.metadata().unwrap().len();
            assert!(size < 16 << 10, "{} has {size} bytes", path.display());
            assert_replays(&path);
            found.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    for (scene, _) in SCENES {
        let name = format!("{scene}-server");
        assert!(found.contains(&name), "{name}.tlt is missing");
    }
}

#[test]
fn golden_traces_are_what_simulation_makes_now() {
    for (scene, play) in SCENES {
        for (side, trace) in play() {
            let path = file(scene, side);
            let Ok(golden) = fs::read(&path) else {
                panic!("{} is missing: make it anew", path.display())
            };
            let (golden, made) = (essence(&golden), essence(&trace));
            let same = golden.iter().zip(&made).take_while(|(a, b)| a == b).count();
            assert!(
                golden == made,
                "{}: line {same} was {:?} and is {:?}: if that is meant, make it anew",
                path.display(),
                golden.get(same),
                made.get(same)
            );
        }
    }
}

#[test]
#[ignore = "writes the files that the others check"]
fn write() {
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    for (scene, play) in SCENES {
        for (side, trace) in play() {
            fs::write(file(scene, side), trace).unwrap();
        }
    }
}
