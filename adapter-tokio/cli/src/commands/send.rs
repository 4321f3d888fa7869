//! `trunkline send`: one-way messages, to the server or through it to other clients.

use std::time::{Duration, Instant};

use clap::Args;
use trunkline_tokio::GroupName;

use crate::connection::{Connection, ConnectionOptions, PATIENCE, Record};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::screen::Screen;
use crate::signals::StopSignals;
use crate::table::grouped;
use crate::traffic::{Finished, Kind, Plan, Run, Summary, Texts, Told, Wanted, any_run};
use crate::{output, parse};

const EXAMPLES: &str = "\
Messages are reliable: each arrives once and in order, across broken connections, unless the session is
lost, which is reported. With --ack the command waits until the server has accepted each; without, until
the server holds them. To a group or to all they go through the server, which broadcasts them, best
effort: an ack then means that it did, not that anybody has it. While a server goes away in order, nothing
is sent until one is back, for as long as --timeout says; then it goes on as over a broken connection.

EXIT STATUS
  0  all was sent, and nothing came back; with --ack, all was accepted; or nobody reads what it prints any more
  1  something was rejected, timed out, lost or came back, or a promise was broken ('trunkline request
     --help' says how), or there was no connection, or the server has ended the session for good
  2  the command line or a file cannot be used
  130  interrupted before there was a connection, or before all was sent

EXAMPLES
  A message that the server has accepted when the command ends
    trunkline send localhost:4433 hello --dev certs --client-id anna --ack
  To everybody in the group lobby ('trunkline listen --group lobby' hears it)
    trunkline send localhost:4433 'good morning' --dev certs --to-group lobby
  A message a line, at most 50 a second
    tail -f app.log | trunkline send localhost:4433 --dev certs --stdin --rate 50/s --ack";

/// Send one-way messages, to the server or through it to a group or to all clients.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
    /// What to send, a message each; not needed with --stdin or --size
    #[arg(value_name = "TEXT", required_unless_present_any = ["size", "stdin"])]
    texts: Vec<String>,
    /// Send each line of standard input
    #[arg(long, conflicts_with_all = ["texts", "count", "size"])]
    stdin: bool,
    /// Wait until each message is accepted
    #[arg(long)]
    ack: bool,
    /// Have it broadcast to that group
    #[arg(long, value_name = "GROUP", conflicts_with = "to_all")]
    to_group: Option<GroupName>,
    /// Have it broadcast to all clients
    #[arg(long)]
    to_all: bool,
    /// Send each text so many times
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = parse::count)]
    count: u64,
    /// Send at most so many a second: 100/s
    #[arg(long, value_name = "RATE", value_parser = parse::pace)]
    rate: Option<Duration>,
    /// Fill the texts up to that size: 1kb
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    size: Option<usize>,
    /// With --ack: wait that long for each; without: at the end, until the server has all
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration, default_value = "30s")]
    timeout: Duration,
    /// With --ack: let so many wait at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    in_flight: u16,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    /// With --json: print as well what becomes of each message as it happens (sent, settled, the loss
    /// of a session), one object a line; the last one is the summary
    #[arg(long, requires = "json")]
    each: bool,
}

/// Sends everything, and waits until the server holds it.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let acked = arguments.ack;
    let kind = match (&arguments.to_group, arguments.to_all) {
        (Some(group), _) => Kind::Relay {
            group: group.to_string(),
            acked,
        },
        (None, true) => Kind::Relay {
            group: String::new(),
            acked,
        },
        (None, false) => Kind::Note { acked },
    };
    let wanted = kind.wanted();
    let (texts, total) = if arguments.stdin {
        (Texts::standard_input(), None)
    } else {
        let total = arguments
            .count
            .saturating_mul(arguments.texts.len().max(1) as u64);
        let texts = Texts::given(arguments.texts, Some(total), arguments.size)?;
        (texts, Some(total))
    };
    let plan = Plan {
        kind,
        texts: texts.paced(arguments.rate),
        in_flight: usize::from(arguments.in_flight),
        timeout: arguments.timeout,
        run: any_run(),
        print: false,
        each: arguments.each,
    };
    let mut stop = StopSignals::listen();
    let screen = Screen::beneath(arguments.each, total);
    let opened = Connection::open(
        &arguments.connection,
        Some(PATIENCE),
        &screen,
        &mut stop,
        |builder| builder,
    )
    .await;
    let mut connection = opened.inspect_err(|_| screen.clear())?;

    let start = Instant::now();
    let mut printer = Printer::start();
    let mut finished = Run::new(&mut connection, &screen, &mut printer, plan)
        .finish(&mut stop)
        .await;
    let closed = connection.close(&mut stop).await;
    finished.stopped_early |= stop.at_once() || !closed && wanted == Wanted::Nothing;
    let took = Instant::now() - start;
    screen.clear();
    let outcomes = &finished.outcomes;
    let record = &connection.record;
    let metrics = finished.metrics.as_ref();
    let summary = Summary::new(outcomes, wanted, record, metrics, took);
    printer.print(if arguments.each {
        output::as_json(&Told::Summary(&summary))?
    } else if arguments.json {
        output::as_json(&summary)?
    } else {
        summary.table().to_string()
    });
    let printed = printer.finish(&mut stop).await;
    Failure::concluded(printed, verdict(finished, record, &stop))
}

/// What came of the messages.
fn verdict(finished: Finished, record: &Record, stop: &StopSignals) -> Result<(), Failure> {
    let outcomes = &finished.outcomes;
    let mut failed = outcomes.broken_promises();
    // What the user has given up is no failure of the others.
    let given_up = if stop.at_once() {
        0
    } else {
        outcomes.cancelled
    };
    // Nor is what the user, or whoever reads, did not wait for.
    let unsent = match finished.problem {
        Some(_) => finished.unsent,
        None => 0,
    };
    for (count, what) in [
        (outcomes.rejected, "rejected"),
        (outcomes.timed_out, "not acked in time"),
        (outcomes.lost, "lost with their session"),
        (given_up, "given up"),
        (unsent, "not sent"),
    ] {
        if count > 0 {
            failed.push(format!("{} {what}", grouped(count)));
        }
    }
    if let Some(reason) = record.undelivered_for {
        let count = grouped(record.undelivered);
        failed.push(format!("{count} came back undelivered ({reason})"));
    }
    if let Some(problem) = finished.problem {
        return Err(problem.with(&failed));
    }
    match failed.is_empty() {
        true if finished.stopped_early => Err(Failure::interrupted()),
        true => Ok(()),
        false => Err(Failure::failed(failed.join(", "))),
    }
}
