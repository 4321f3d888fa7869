//! `trunkline request`: requests over a connection that may break.

use std::time::{Duration, Instant};

use clap::Args;

use crate::connection::{Connection, ConnectionOptions, PATIENCE};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::screen::Screen;
use crate::signals::StopSignals;
use crate::traffic::{Finished, Kind, Plan, Run, Summary, Texts, Told, Wanted, any_run};
use crate::{output, parse};

const EXAMPLES: &str = "\
It goes on whatever happens: a broken connection is dialled again and the session resumed, and what was
under way arrives, once and in order. When the server has lost the session (it was restarted, or the
client stayed away for too long), what was under way is reported as lost, and the rest goes over a new
session. Ctrl-C waits for the answers under way; a second one ends it at once.

Each request is counted once, as replied, rejected, timed out, lost (reported: the loss of its session was
told) or lost without a report: its promise never settled, or settled as lost though its session lived.
Handled twice: the server was handed a number of this run again. Out of order: it was handed a number
after a higher one of the same lane. The server says so with each reply and at the end; if it cannot,
JSON has null.

EXIT STATUS
  0  every promise was kept, and something was replied to (or nothing was sent)
  1  something was lost without a report, handled twice, out of order or answered with something else;
     or nothing was replied to, or there was no connection, or the server has ended the session for good
  2  the command line or a file cannot be used
  130  interrupted before there was a connection, or before the --count was reached

EXAMPLES
  One request, and its reply
    trunkline request localhost:4433 hello --dev certs --count 1 --print
  Ten a second until Ctrl-C: restart the server, stop it, cut its network, and watch
    trunkline request localhost:4433 hello --dev certs
  A hundred thousand of 1 kB, at most 1,000 under way, counted for a script
    trunkline request localhost:4433 --size 1kb --ca ca.pem --count 100000 --in-flight 1000 --json";

/// Send requests until the count is reached or Ctrl-C, and tell what becomes of them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
    /// What to send; not needed with --size
    #[arg(value_name = "TEXT", required_unless_present = "size")]
    text: Option<String>,
    /// Send so many [default: until Ctrl-C]
    #[arg(long, value_name = "NUMBER", value_parser = parse::count)]
    count: Option<u64>,
    /// Send so many a second: 100/s [default: 10/s without --count, else as fast as answers come]
    #[arg(long, value_name = "RATE", value_parser = parse::pace)]
    rate: Option<Duration>,
    /// Fill the text up to that size: 1kb
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    size: Option<usize>,
    /// Wait that long for each reply
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration, default_value = "30s")]
    timeout: Duration,
    /// Let so many wait for their replies at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    in_flight: u16,
    /// Print each reply
    #[arg(long, conflicts_with = "json")]
    print: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    /// With --json: print as well what becomes of each message as it happens (sent, settled, the loss
    /// of a session), one object a line; the last one is the summary
    #[arg(long, requires = "json")]
    each: bool,
}

/// Without a count it goes on until somebody stops it: a pace that nobody minds.
const UNHURRIED: Duration = Duration::from_millis(100);

/// Runs until all is sent and settled, or the user has seen enough.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { count, rate, .. } = arguments;
    let pace = rate.or_else(|| count.is_none().then_some(UNHURRIED));
    let texts = Texts::given(arguments.text.into_iter().collect(), count, arguments.size)?;
    let plan = Plan {
        kind: Kind::Request,
        texts: texts.paced(pace),
        in_flight: usize::from(arguments.in_flight),
        timeout: arguments.timeout,
        run: any_run(),
        print: arguments.print,
        each: arguments.each,
    };
    let mut stop = StopSignals::listen();
    let screen = Screen::beneath(arguments.each || arguments.print, count);
    let patience = Some(PATIENCE);
    let opened = Connection::open(
        &arguments.connection,
        patience,
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
    let took = Instant::now() - start;
    connection.close(&mut stop).await;
    finished.stopped_early |= stop.at_once();
    screen.clear();
    let outcomes = &finished.outcomes;
    let summary = Summary::new(
        outcomes,
        Wanted::Reply,
        &connection.record,
        finished.metrics.as_ref(),
        took,
    );
    printer.print(if arguments.each {
        output::as_json(&Told::Summary(&summary))?
    } else if arguments.json {
        output::as_json(&summary)?
    } else {
        summary.table().to_string()
    });
    let printed = printer.finish(&mut stop).await;
    Failure::concluded(printed, verdict(finished, count))
}

/// What came of the requests.
fn verdict(finished: Finished, count: Option<u64>) -> Result<(), Failure> {
    let outcomes = &finished.outcomes;
    let broken = outcomes.broken_promises();
    match finished.problem {
        Some(problem) => Err(problem),
        None if !broken.is_empty() => Err(Failure::failed(broken.join(", "))),
        // Without a count that is how it ends.
        None if finished.stopped_early && count.is_some() => Err(Failure::interrupted()),
        None if outcomes.answered == 0 && outcomes.sent > 0 => {
            Err(Failure::failed("nothing was replied to"))
        }
        None => Ok(()),
    }
}
