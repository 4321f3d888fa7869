//! `trunkline replay`: a recorded node, run again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use trunkline_core::trace::{Build, Comparison, Ending, Replay, Report, what_if};

use crate::failure::Failure;
use crate::output;
use crate::parse;
use crate::table::{Table, grouped};
use crate::traces::{moment, open, unusable};

const EXAMPLES: &str = "\
A server or client records itself with .record(\"file.tlt\"), what goes above QUIC, or with
.record(Recording::wire(\"file.tlt\")), every datagram. Replaying needs no network, no time and no
private key. Exit status: 0 identical, 1 different, 2 the file cannot be used, or ends within a record:
a killed process leaves such a file, but so does damage to a record's length, and what follows was not
looked at. With --cut-short, that is no failure.

EXAMPLES
  Whether everything comes out as it did
    trunkline replay server.tlt
  What happened up to a record, as a timeline
    trunkline replay server.tlt --until 1200 --events
  For a script
    trunkline replay server.tlt --json
  What less patience with a silent peer would have changed (of a link-level recording)
    trunkline replay client.tlt --what-if heartbeat.misses=1 --what-if redial.first=5s
  Its peers say and do what they did, when they did it. What they would have followed, such as
  heartbeat.interval, which the server tells its clients, shows this side's part alone.";

/// Run a recorded node again, and say whether everything comes out the same, bit for bit.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Stop after that record
    #[arg(long, value_name = "NUMBER", value_parser = parse::count)]
    until: Option<u64>,
    /// Show every event and when it came, in seconds since the node's start
    #[arg(long, conflicts_with = "json")]
    events: bool,
    /// Take a file that ends within a record for one of a process that was killed
    #[arg(long)]
    cut_short: bool,
    /// Print the outcome as one JSON object
    #[arg(long)]
    json: bool,
    /// Run it under another configuration instead, and show what changes: the path of a setting and
    /// its value, as often as wanted
    #[arg(long, value_name = "SETTING=VALUE", value_parser = setting)]
    #[arg(conflicts_with_all = ["json", "until"])]
    what_if: Vec<(String, String)>,
}

/// `heartbeat.interval=5s`: durations as people write them.
fn setting(text: &str) -> Result<(String, String), String> {
    let example = "a setting and its value such as heartbeat.misses=1";
    let (field, value) = text
        .split_once('=')
        .filter(|(field, value)| !field.is_empty() && !value.is_empty())
        .ok_or_else(|| format!("give {example}"))?;
    let value = match parse::duration(value) {
        // A plain 0 is a number, too.
        Ok(duration) if value != "0" => format!("{}ns", duration.as_nanos()),
        _ => value.to_owned(),
    };
    Ok((field.to_owned(), value))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    identical: bool,
    /// Whether all that is in the file was looked at.
    complete: bool,
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
    if !arguments.what_if.is_empty() {
        return compare(path, arguments);
    }
    let refused = |error| unusable(path, &error);
    let mut shown = Ok(());
    let mut replay = Replay::new(open(path)?).map_err(refused)?;
    if let Some(record) = arguments.until {
        replay = replay.until(record);
    }
    if arguments.events {
        shown = other_build(&replay.header().build);
        replay = replay.on_event(|since, event| {
            if shown.is_ok() {
                shown = output::result(&format!("{} {event}", moment(since)));
            }
        });
    }
    let report = replay.run(Instant::now()).map_err(refused)?;
    let shown = shown.and_then(|()| {
        if arguments.json {
            output::json(&outcome(&report, &Build::own()))
        } else if arguments.events {
            output::result(&report.verdict().to_string())
        } else {
            output::result(&report.to_string())
        }
    });
    match shown {
        // What the trace is worth does not depend on who reads it to the end.
        Ok(()) | Err(Failure::OutputClosed) => {}
        Err(failure) => return Err(failure),
    }
    match report.ending {
        _ if !report.is_identical() => Err(Failure::Silent(1)),
        Some(Ending::CutShort(_)) if !arguments.cut_short => Err(Failure::Silent(2)),
        _ => Ok(()),
    }
}

/// Says how this build differs from the recorded one, before anything else is said.
fn other_build(recorded: &Build) -> Result<(), Failure> {
    match Build::own().differences_in_words(recorded) {
        words if words.is_empty() => Ok(()),
        words => output::result(words.trim_end()),
    }
}

fn outcome<'a>(report: &'a Report, own: &'a Build) -> Outcome<'a> {
    let difference = report.difference.as_ref();
    let build = own.differences(&report.recorded_by);
    Outcome {
        identical: report.is_identical(),
        complete: matches!(report.ending, Some(Ending::Said(_) | Ending::Open)),
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

/// Shows what another configuration would have changed.
fn compare(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let refused = |error| Failure::usage(format!("{}: {error}", path.display()));
    let found = what_if(open(path)?, &arguments.what_if, Instant::now()).map_err(refused)?;
    let printed = other_build(&found.recorded_by).and_then(|()| {
        if arguments.events {
            for (at, event) in &found.other.events {
                output::result(&format!("{} {event}", moment(*at)))?;
            }
        }
        output::result(&compared(&found))
    });
    let verdict = match found.ending {
        Ending::CutShort(_) if !arguments.cut_short => Err(Failure::Silent(2)),
        _ => Ok(()),
    };
    Failure::concluded(printed, verdict)
}

/// What no run of it can know, said with every one.
const HELD_FIXED: &str = "held fixed:  peers say and do what they did, when they did it: of a \
    setting that they follow, such as heartbeat.interval, this side's part alone shows";

fn compared(found: &Comparison) -> String {
    let Comparison {
        recorded, other, ..
    } = found;
    let mut text = format!("as recorded: {recorded}\nwhat if:     {other}\n{HELD_FIXED}\n");
    if let Ending::CutShort(_) = found.ending {
        let _ = writeln!(text, "{}", found.ending);
    }
    text.push('\n');
    let mut table = Table::new(["event", "as recorded", "what if"]);
    let (before, after) = (recorded.counts(), other.counts());
    let mut names: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let count = |counts: &std::collections::BTreeMap<&str, u64>| {
            grouped(counts.get(name).copied().unwrap_or(0))
        };
        table.row([name.to_owned(), count(&before), count(&after)]);
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "{table}");
    let Some(first) = found.first_difference() else {
        text += "\n\nno event differs";
        return text;
    };
    let shown = |timeline: &trunkline_core::trace::Timeline| match timeline.events.get(first) {
        Some((at, event)) => {
            let event = event.to_string();
            let cut = event.floor_char_boundary(SHOWN);
            let more = if cut < event.len() { " …" } else { "" };
            format!("{} {}{more}", moment(*at), &event[..cut])
        }
        None => "nothing more".to_owned(),
    };
    let _ = write!(
        text,
        "\n\nevent {} is the first that differs\n  as recorded {}\n  what if     {}",
        first + 1,
        shown(recorded),
        shown(other)
    );
    text
}

/// How much of an event is shown, in bytes.
const SHOWN: usize = 300;
