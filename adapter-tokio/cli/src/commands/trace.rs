//! `trunkline trace`: what is in a trace.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use trunkline_core::trace::{Reader, Record};

use crate::failure::Failure;
use crate::output;
use crate::table::{Table, grouped};
use crate::traces::{moment, open, unusable};

const EXAMPLES: &str = "\
Bodies and secrets are not shown; whoever has the file has them all the same.

EXAMPLES
  What was recorded, and of which build
    trunkline trace stats server.tlt
  Records 100 to 150, one a line: number, seconds since the node's start, what it was
    trunkline trace show server.tlt --from 100 --to 150";

/// Look into a trace: its records one by one, or counted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show records, one a line
    Show(Show),
    /// Count the records of each kind
    Stats(Stats),
}

#[derive(Debug, Args)]
struct Show {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The first record to show
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    from: u64,
    /// The last record to show
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
}

#[derive(Debug, Args)]
struct Stats {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the counts as one JSON object
    #[arg(long)]
    json: bool,
}

/// What `stats --json` prints.
#[derive(Serialize)]
struct Counts {
    version: String,
    rustc: String,
    target: String,
    lock: String,
    role: &'static str,
    records: u64,
    seconds: f64,
    kinds: BTreeMap<&'static str, Kind>,
    ending: Option<String>,
}

/// The records of a kind, and the bytes that they speak of: of datagrams or of messages.
#[derive(Default, Serialize)]
struct Kind {
    records: u64,
    bytes: u64,
}

/// Looks into the file.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.what {
        What::Show(arguments) => show(arguments),
        What::Stats(arguments) => stats(arguments),
    }
}

fn show(arguments: &Show) -> Result<(), Failure> {
    let Show { file, from, to } = arguments;
    let refused = |error| unusable(file, &error);
    let mut reader = Reader::new(open(file)?).map_err(refused)?;
    let mut at = 0;
    while let Some((number, record)) = reader.next_record().map_err(refused)? {
        at = record.at().unwrap_or(at);
        if to.is_some_and(|to| number > to) {
            return Ok(());
        }
        if number >= *from {
            output::result(&format!("{number} {} {record}", clock(at)))?;
        }
    }
    match reader.ending() {
        Some(ending) => output::result(&ending.to_string()),
        None => Ok(()),
    }
}

fn stats(arguments: &Stats) -> Result<(), Failure> {
    let counts = count(&arguments.file)?;
    if arguments.json {
        return output::json(&counts);
    }
    let mut text = format!(
        "{} of trunkline-core {}, {}, {}, Cargo.lock {}\n{} records over {:.3} s\n\n",
        counts.role,
        counts.version.escape_debug(),
        counts.rustc.escape_debug(),
        counts.target.escape_debug(),
        counts.lock.escape_debug(),
        grouped(counts.records),
        counts.seconds,
    );
    let mut table = Table::new(["", "records", "bytes"]);
    for (name, kind) in &counts.kinds {
        table.row([
            (*name).to_owned(),
            grouped(kind.records),
            grouped(kind.bytes),
        ]);
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "{table}");
    if let Some(ending) = &counts.ending {
        let _ = write!(text, "\n\n{ending}");
    }
    output::result(&text)
}

fn count(file: &Path) -> Result<Counts, Failure> {
    let refused = |error| unusable(file, &error);
    let mut reader = Reader::new(open(file)?).map_err(refused)?;
    let mut kinds = BTreeMap::<&'static str, Kind>::new();
    let (mut records, mut last) = (0, 0);
    while let Some((number, record)) = reader.next_record().map_err(refused)? {
        records = number;
        last = record.at().map_or(last, |at| at.max(last));
        let kind = kinds.entry(record.kind()).or_default();
        kind.records += 1;
        kind.bytes += bytes(&record);
    }
    let header = reader.header();
    let (build, role) = (&header.build, header.role());
    Ok(Counts {
        version: build.version.clone(),
        rustc: build.rustc.clone(),
        target: build.target.clone(),
        lock: build.lock.clone(),
        role: match (role.admission, role.client) {
            (Some(_), true) => "a server and client",
            (Some(_), false) => "a server",
            (None, true) => "a client",
            (None, false) => "a node without a role",
        },
        records,
        seconds: since(last).as_secs_f64(),
        kinds,
        ending: reader.ending().map(|ending| ending.to_string()),
    })
}

fn bytes(record: &Record<'_>) -> u64 {
    match record {
        Record::Call { call, .. } => call.payload().len() as u64,
        Record::Transmit {
            mark: Some(mark), ..
        } => mark.size,
        _ => 0,
    }
}

fn clock(at: i64) -> String {
    if at < 0 {
        format!("-{}", moment(Duration::from_nanos(at.unsigned_abs())))
    } else {
        moment(since(at))
    }
}

fn since(at: i64) -> Duration {
    Duration::from_nanos(u64::try_from(at).unwrap_or(0))
}
