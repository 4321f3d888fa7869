//! `trunkline trace`: what is in a trace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use trunkline_core::tap::LinkNote;
use trunkline_core::trace::{self, Ending, Lines, Reader, Record, Recorded};

use crate::failure::Failure;
use crate::new_file::{self, NewFile};
use crate::table::{Table, grouped};
use crate::traces::{moment, open, unusable};
use crate::{output, parse, shell};

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
  Cut a link-level trace down to what still makes its replay differ as it does
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
    /// The last record to show [default: the last there is]
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
    /// what makes the replay differ as it does. The command has no terminal: one that reads /dev/tty is
    /// stopped for good. What it leaves in the background is killed
    #[arg(long = "while", value_name = "COMMAND", value_parser = parse::shell_command)]
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
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Show(arguments) => show(&arguments),
        What::Stats(arguments) => stats(&arguments),
        What::Redact(Redact { file, out }) => {
            new_file::make(out, move |new| redact(&file, new)).await
        }
        What::Shrink(Shrink { file, out, command }) => {
            new_file::make(out, move |new| shrink(&file, command.as_deref(), new)).await
        }
    }
}

/// Returns what there is to say.
fn redact(file: &Path, new: &NewFile) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key)
        .map_err(|_| Failure::failed("the operating system gave no random numbers"))?;
    let redacted = trace::redact(open(file)?, &mut bytes, key)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    new.write(&bytes)?;
    note_if_cut_short(file, redacted.ending, "not copied");
    Ok(format!(
        "{}: {} records without bodies and credentials",
        new.path().display(),
        grouped(redacted.records)
    ))
}

/// Returns what there is to say.
fn shrink(file: &Path, command: Option<&str>, new: &NewFile) -> Result<String, Failure> {
    let refused = |error| Failure::usage(format!("{}: {error}", file.display()));
    let shrunk = match command {
        None => trace::shrink(open(file)?, Instant::now()).map_err(refused)?,
        Some(command) => {
            let mut failed = None;
            let shrunk = trace::shrink_while(open(file)?, |bytes| {
                failed.is_none()
                    && shown(command, new, bytes).unwrap_or_else(|error| {
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
    new.write(&shrunk.trace)?;
    note_if_cut_short(file, shrunk.ending, "not looked at");
    Ok(format!(
        "{}: {} records of {}",
        new.path().display(),
        grouped(shrunk.after),
        grouped(shrunk.before)
    ))
}

/// Says so of a file that ends within a record.
fn note_if_cut_short(file: &Path, ending: Ending, what_became_of_the_rest: &str) {
    if let Ending::CutShort(_) = ending {
        output::note(&format!(
            "{} is cut short: what stands behind its last whole record is {what_became_of_the_rest}",
            file.display()
        ));
    }
}

/// By these statuses a shell says that a command cannot be run, or that there is none.
const NOT_RUN: [i32; 2] = [126, 127];

/// Whether the command ends well for such a file, which is removed again.
fn shown(command: &str, new: &NewFile, trace: &[u8]) -> Result<bool, Failure> {
    let trial = new.trial(trace)?;
    let path = trial.path().display().to_string();
    let quoted = format!("'{}'", path.replace('\'', r"'\''"));
    let ended = shell::run(&command.replace("{}", &quoted), new.unwanted())
        .map_err(|error| Failure::usage(format!("cannot run sh: {error}")))?
        .ok_or_else(Failure::interrupted)?;
    match ended.status.code() {
        Some(status) if NOT_RUN.contains(&status) => Err(Failure::usage(format!(
            "the command of --while cannot be run (exit status {status}): {}",
            ended.said.escape_debug()
        ))),
        _ => Ok(ended.status.success()),
    }
}

fn show(arguments: &Show) -> Result<(), Failure> {
    let Show { file, from, to } = arguments;
    if let Some(to) = to.filter(|to| to < from) {
        let message = format!("--to {to} is before --from {from}: there is nothing to show");
        return Err(Failure::usage(message));
    }
    let refused = |error| unusable(file, &error);
    let mut reader = Reader::new(open(file)?).map_err(refused)?;
    // The last seconds of a node begin somewhere in its life.
    let (mut at, mut last) = (reader.header().beginning.clock, 0);
    let mut lines = Lines::default();
    while let Some((number, record)) = reader.next_record().map_err(refused)? {
        at = record.at().unwrap_or(at);
        last = number;
        if to.is_some_and(|to| number > to) {
            return Ok(());
        }
        let line = lines.line(&record);
        if number >= *from {
            output::result(&format!("{number} {} {line}", clock(at)))?;
        }
    }
    if last < *from {
        let path = file.display();
        output::note(&format!(
            "{path} has no record {from}: the last one is {last}"
        ));
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
    // The last seconds of a node begin somewhere in its life.
    let begun = reader.header().beginning.clock;
    let (mut records, mut last) = (0_u64, begun);
    while let Some((_, record)) = reader.next_record().map_err(refused)? {
        records += 1;
        last = record.at().map_or(last, |at| at.max(last));
        let kind = kinds.entry(record.kind()).or_default();
        kind.records += 1;
        kind.bytes += bytes(&record);
        if let Record::Answers { notes, .. } = &record {
            for (_, note) in notes {
                let kind = kinds.entry(note.name()).or_default();
                kind.records += 1;
                kind.bytes += match note {
                    LinkNote::Control(frame) => frame.len() as u64,
                    LinkNote::Lane { frame, marked, .. } => {
                        (frame.len() + marked.map_or(0, |marked| marked.length)) as u64
                    }
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
        seconds: since(last.saturating_sub(begun)).as_secs_f64(),
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
