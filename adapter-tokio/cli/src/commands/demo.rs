//! `trunkline demo`: the main job at work, with nothing set up.

use std::time::Duration;

use clap::Args;

use super::impair::any_seed;
use crate::demo::{self, MESSAGES_MAX, Plan, Sink, Teller};
use crate::failure::Failure;
use crate::impair::{Impairments, Share};
use crate::signals::StopSignals;
use crate::{output, parse, printer};

const EXAMPLES: &str = "\
A server and its clients talk over UDP on this machine, through a proxy that cuts the path for some
seconds. It needs no files, no root and no network. Every message carries a number, and both ends
keep books: the exit status is 1 if anything was lost, doubled or out of order, or not resumed.
'--log info' shows what the library logs; 'trunkline impair --help' has more ways to harm a path.

EXAMPLES
  See it work
    trunkline demo
  On a bad path, cut for longer
    trunkline demo --loss 5% --delay 20ms --reorder 2% --cut 8s
  For a script: one JSON object on standard output
    trunkline demo --json | jq '.sent, .acked, .lost, .resumed'";

/// See it work: requests, acked messages, broadcasts, and a cut that nothing is lost in.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// How long the path is cut
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration, default_value = "4s")]
    cut: Duration,
    /// How many clients take part; all but the last one are in a group
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=50))]
    clients: u8,
    /// How many messages each way, and how many requests, each client has before the cut
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: u64,
    /// Lose that share of the packets: 2%
    #[arg(long, value_name = "PERCENT", value_parser = parse::share, help_heading = "The path")]
    loss: Option<Share>,
    /// Delay each packet, one way: 20ms
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, help_heading = "The path")]
    delay: Option<Duration>,
    /// Vary the delay by up to that much either way: 5ms
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, help_heading = "The path")]
    jitter: Option<Duration>,
    /// Let that share of the packets be overtaken: 2%
    #[arg(long, value_name = "PERCENT", value_parser = parse::share, help_heading = "The path")]
    reorder: Option<Share>,
    /// Deliver that share of the packets twice: 2%
    #[arg(long, value_name = "PERCENT", value_parser = parse::share, help_heading = "The path")]
    duplicate: Option<Share>,
    /// Repeat the decisions of an earlier run's path [default: a new seed, which is shown]
    #[arg(long, value_name = "NUMBER", help_heading = "The path")]
    seed: Option<u64>,
    /// Print one JSON object in the end; what happens is told on standard error
    #[arg(long)]
    json: bool,
}

/// Plays the demonstration until its end, or until the user has seen enough.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let plan = plan(&arguments)?;
    let sink = if arguments.json {
        Sink::Error
    } else {
        Sink::Output
    };
    let mut stop = StopSignals::listen();
    let (story, teller) = Teller::start(sink);
    // Whoever stops reading may still want to know how it ends, by the exit status.
    let played = tokio::select! {
        played = demo::play(&plan, &story) => played,
        () = stop.next() => {
            story.end("demo", "stopped before its end");
            Err(Failure::interrupted())
        }
    };
    // What was told stands before what is concluded.
    let told = printer::written(teller.finish(), &mut stop).await;
    let report = played?;
    let verdict = report
        .failure()
        .map_or(Ok(()), |problem| Err(Failure::failed(problem)));
    let text = if arguments.json {
        output::as_json(&report)?
    } else {
        report.to_string()
    };
    let printed = match told {
        Ok(()) => printer::result(text, &mut stop).await,
        Err(failure) => Err(failure),
    };
    Failure::concluded(printed, verdict)
}

fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    let plan = Plan {
        clients: usize::from(arguments.clients),
        messages: arguments.messages,
        cut: arguments.cut,
        path: Impairments {
            delay: arguments.delay.unwrap_or_default(),
            jitter: arguments.jitter.unwrap_or_default(),
            loss: arguments.loss.unwrap_or_default(),
            reorder: arguments.reorder.unwrap_or_default(),
            duplicate: arguments.duplicate.unwrap_or_default(),
            ..Impairments::default()
        },
        seed: arguments.seed.unwrap_or_else(any_seed),
    };
    plan.check().map_err(Failure::usage)?;
    Ok(plan)
}
