//! `trunkline replay`: a recorded node, run again.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use trunkline_core::trace::{Build, Replay, Report};

use crate::failure::Failure;
use crate::output;
use crate::traces::{moment, open, unusable};

const EXAMPLES: &str = "\
A server or client records itself with .record(\"file.tlt\"). Replaying needs no network, no time and no
private key. Exit status: 0 identical, 1 different, 2 the file cannot be used.

EXAMPLES
  Whether everything comes out as it did
    trunkline replay server.tlt
  What happened up to a record, as a timeline
    trunkline replay server.tlt --until 1200 --events
  For a script
    trunkline replay server.tlt --json";

/// Run a recorded node again, and say whether everything comes out the same, bit for bit.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Stop after that record
    #[arg(long, value_name = "NUMBER")]
    until: Option<u64>,
    /// Show every event and when it came, in seconds since the node's start
    #[arg(long, conflicts_with = "json")]
    events: bool,
    /// Print the outcome as one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    identical: bool,
    records: u64,
    seconds: f64,
    ending: Option<String>,
    difference: Option<Difference<'a>>,
    build: Vec<BuildDifference<'a>>,
}

#[derive(Serialize)]
struct Difference<'a> {
    record: u64,
    expected: &'a str,
    came: &'a str,
    after: Option<After<'a>>,
}

#[derive(Serialize)]
struct After<'a> {
    record: u64,
    call: &'a str,
}

#[derive(Serialize)]
struct BuildDifference<'a> {
    what: &'a str,
    here: &'a str,
    recorded: &'a str,
}

/// Replays the file.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = &arguments.file;
    let refused = |error| unusable(path, &error);
    let mut shown = Ok(());
    let mut replay = Replay::new(open(path)?).map_err(refused)?;
    if let Some(record) = arguments.until {
        replay = replay.until(record);
    }
    if arguments.events {
        replay = replay.on_event(|since, event| {
            if shown.is_ok() {
                shown = output::result(&format!("{} {event:?}", moment(since)));
            }
        });
    }
    let report = replay.run(Instant::now()).map_err(refused)?;
    shown?;
    if arguments.json {
        let own = Build::own();
        output::json(&outcome(&report, &own))?;
    } else {
        output::result(&report.to_string())?;
    }
    if report.is_identical() {
        Ok(())
    } else {
        Err(Failure::Silent(1))
    }
}

fn outcome<'a>(report: &'a Report, own: &'a Build) -> Outcome<'a> {
    let difference = report.difference.as_ref();
    let build = own.differences(&report.recorded_by);
    Outcome {
        identical: report.is_identical(),
        records: report.records,
        seconds: report.time.as_secs_f64(),
        ending: report.ending.map(|ending| ending.to_string()),
        difference: difference.map(|difference| Difference {
            record: difference.record,
            expected: &difference.expected,
            came: &difference.came,
            after: difference.after.as_ref().map(|(record, call)| After {
                record: *record,
                call,
            }),
        }),
        build: build
            .into_iter()
            .map(|(what, here, recorded)| BuildDifference {
                what,
                here,
                recorded,
            })
            .collect(),
    }
}
