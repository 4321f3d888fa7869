//! `trunkline trace`: what is in a trace.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use clap::{Args, Subcommand};
use serde::Serialize;
use trunkline_core::tap::LinkNote;
use trunkline_core::trace::{self, Reader, Record, Recorded};

use crate::failure::Failure;
use crate::output;
use crate::table::{Table, grouped};
use crate::traces::{moment, open, unusable};

const EXAMPLES: &str = "\
Bodies and secrets are not shown. Whoever has a wire trace has them all the same; of a link-level one,
only if bodies were kept, but for tokens of sessions: those are in it always, and in a redacted copy.
Hand either on once the node has ended and its sessions' retention is over.

EXAMPLES
  What was recorded, and of which build
    trunkline trace stats server.tlt
  Records 100 to 150, one a line: number, seconds since the node's start, what it was
    trunkline trace show server.tlt --from 100 --to 150
  Take bodies and credentials out of a link-level trace that has them
    trunkline trace redact server.tlt to-hand-on.tlt
  Cut a link-level trace down to what still makes its replay differ in the same way
    trunkline trace shrink server.tlt small.tlt
  Cut it down to what a command still finds in it (exit status 0; {} is the file)
    trunkline trace shrink server.tlt small.tlt --while 'trunkline trace show {} | grep -q reject'";

/// Look into a trace: its records one by one, or counted; or make another one of it.
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
    /// Copy a link-level trace without what bodies and credentials hold (tokens of sessions stay)
    Redact(Redact),
    /// Copy a link-level trace without the records that are not needed
    Shrink(Shrink),
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

#[derive(Debug, Args)]
struct Redact {
    /// The trace
    #[arg(value_name = "IN")]
    file: PathBuf,
    /// The new file
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Shrink {
    /// The trace
    #[arg(value_name = "IN")]
    file: PathBuf,
    /// The new file
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Keep what this command, run by sh, still ends with status 0 for; {} is the file. Without it:
    /// what makes the replay differ in the same way
    #[arg(long = "while", value_name = "COMMAND")]
    command: Option<String>,
}

/// What `stats --json` prints.
#[derive(Serialize)]
struct Counts {
    version: String,
    rustc: String,
    target: String,
    lock: String,
    role: &'static str,
    level: &'static str,
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
        What::Redact(arguments) => redact(arguments),
        What::Shrink(arguments) => shrink(arguments),
    }
}

fn redact(arguments: &Redact) -> Result<(), Failure> {
    let Redact { file, out } = arguments;
    let mut bytes = Vec::new();
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key)
        .map_err(|_| Failure::failed("the operating system gave no random numbers"))?;
    let records = trace::redact(open(file)?, &mut bytes, key)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    write_new(out, &bytes)?;
    output::result(&format!(
        "{}: {} records without bodies and credentials",
        out.display(),
        grouped(records)
    ))
}

fn shrink(arguments: &Shrink) -> Result<(), Failure> {
    let Shrink { file, out, command } = arguments;
    let refused = |error| Failure::usage(format!("{}: {error}", file.display()));
    let shrunk = match command {
        None => trace::shrink(open(file)?, Instant::now()).map_err(refused)?,
        Some(command) => {
            // Beside the new file, for there is room and it is private.
            let trial = out.with_extension("trial.tlt");
            let mut failed = None;
            let shrunk = trace::shrink_while(open(file)?, |bytes| {
                failed.is_none()
                    && shown(command, &trial, bytes).unwrap_or_else(|error| {
                        failed = Some(error);
                        false
                    })
            });
            if let Some(failure) = failed {
                return Err(failure);
            }
            shrunk.map_err(refused)?
        }
    };
    write_new(out, &shrunk.trace)?;
    output::result(&format!(
        "{}: {} records of {}",
        out.display(),
        grouped(shrunk.after),
        grouped(shrunk.before)
    ))
}

/// Whether the command ends well for such a file, which is written to `trial` and removed again.
fn shown(command: &str, trial: &Path, trace: &[u8]) -> Result<bool, Failure> {
    write_new(trial, trace)?;
    let quoted = format!("'{}'", trial.display().to_string().replace('\'', r"'\''"));
    let status = Command::new("sh")
        .arg("-c")
        .arg(command.replace("{}", &quoted))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Whoever sees the error of the next one has enough to read.
    let _ = fs::remove_file(trial);
    status
        .map(|status| status.success())
        .map_err(|error| Failure::usage(format!("cannot run the command: {error}")))
}

/// Writes a new file that only its owner can read.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, bytes));
    written.map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
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
        "{}, {} level, of trunkline-core {}, {}, {}, Cargo.lock {}\n{} records over {:.3} s\n\n",
        counts.role,
        counts.level,
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
        if let Record::Answers { notes, .. } = &record {
            for (_, note) in notes {
                let kind = kinds.entry(note.name()).or_default();
                kind.records += 1;
                kind.bytes += match note {
                    LinkNote::Control(frame) | LinkNote::Lane { frame, .. } => frame.len() as u64,
                    _ => 0,
                };
            }
        }
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
        level: match &header.recorded {
            Recorded::Wire { .. } => "wire",
            Recorded::Link { bodies: true, .. } => "link, with bodies",
            Recorded::Link { bodies: false, .. } => "link",
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
