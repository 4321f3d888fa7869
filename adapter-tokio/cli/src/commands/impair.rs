//! `trunkline impair`: a bad network, for a service to be tried on.

use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::failure::{Failure, cannot_listen};
use crate::impair::{
    Blackout, Cut, Directions, Handle, Impairments, Order, ProxySettings, Rate, Share,
};
use crate::signals::StopSignals;
use crate::{output, parse, printer};

const EXAMPLES: &str = "\
Without options packets pass unharmed. Percentages are of packets; rates and sizes count UDP payload.
Units: us ms s m h; %; kbit mbit gbit a second; b kb mb (1,000s) kib mib (1,024s).
Ctrl-C ends it with a summary; the same --seed and order of packets meet the same fate again.
With --stdin it takes orders, one a line: cut, cut up, cut down, delay TIME, jitter TIME, loss SHARE [BURST],
reorder SHARE, duplicate SHARE, corrupt SHARE, rebind (each client gets a new port towards the server), and
heal, which undoes what was ordered. It goes on when standard input ends.

EXAMPLES
  A bad mobile network: the server listens on 4433, clients connect to 4500
    trunkline impair --listen 127.0.0.1:4500 --to 127.0.0.1:4433 --delay 50ms --jitter 10ms --loss 2% --burst 3
  A slow line with a small buffer, for a minute
    trunkline impair --listen 127.0.0.1:4500 --to 127.0.0.1:4433 --rate 10mbit --queue 64kb --for 60s
  A tunnel every 20 s, 5 s long, and a NAT that forgets
    trunkline impair --listen 127.0.0.1:4500 --to 127.0.0.1:4433 --blackout 5s@20s --rebind-every 5s
  One cut of 20 s, on the way back only, the same each time, counted for a script
    trunkline impair --listen 127.0.0.1:4500 --to 127.0.0.1:4433 --cut-after 10s --cut-for 20s \\
        --direction down --seed 7 --for 60s --json
  What a script decides, as it goes: orders on standard input, each told as done on standard error
    (sleep 5; echo cut down; sleep 3; echo heal; echo loss 20% 3; sleep 5; echo rebind) | \\
        trunkline impair --listen 127.0.0.1:4500 --to 127.0.0.1:4433 --stdin --for 60s";

/// Put a bad network between clients and a server: a UDP proxy that delays, loses and cuts.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Where clients find the proxy; port 0 takes a free one
    #[arg(long, value_name = "ADDR", value_parser = parse::address)]
    listen: SocketAddr,
    /// The server that they are to reach
    #[arg(long, value_name = "ADDR", value_parser = parse::address)]
    to: SocketAddr,
    /// Delay each packet, one way: 50ms
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, help_heading = "Impairments")]
    delay: Option<Duration>,
    /// Vary the delay by up to that much either way, in order: 10ms
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, help_heading = "Impairments")]
    jitter: Option<Duration>,
    /// Lose that share of the packets: 2%
    #[arg(long, value_name = "PERCENT", value_parser = parse::share, help_heading = "Impairments")]
    loss: Option<Share>,
    /// Lose so many packets in a row on average (Gilbert-Elliott): 3
    #[arg(long, value_name = "PACKETS", value_parser = parse::burst, requires = "loss", help_heading = "Impairments")]
    burst: Option<f64>,
    /// Let that share of the packets be overtaken, held back by 1 to 20 ms: 1%
    #[arg(long, value_name = "PERCENT", value_parser = parse::share, help_heading = "Impairments")]
    reorder: Option<Share>,
    /// Deliver that share of the packets twice: 1%
    #[arg(long, value_name = "PERCENT", value_parser = parse::share, help_heading = "Impairments")]
    duplicate: Option<Share>,
    /// Flip one bit in that share of the packets: 0.1%
    #[arg(long, value_name = "PERCENT", value_parser = parse::share, help_heading = "Impairments")]
    corrupt: Option<Share>,
    /// Let no more than that through each way, all clients together: 10mbit
    #[arg(long, value_name = "RATE", value_parser = parse::rate, help_heading = "Impairments")]
    rate: Option<Rate>,
    /// Let so much wait for the rate, drop the rest [default: 50 ms of the rate, at least 64kb]
    #[arg(long, value_name = "SIZE", value_parser = parse::size, requires = "rate", help_heading = "Impairments")]
    queue: Option<usize>,
    /// Cut the path again and again: 5s@20s cuts it for 5 s each time 20 s have passed
    #[arg(long, value_name = "LENGTH@PERIOD", value_parser = parse::blackout, help_heading = "Impairments")]
    blackout: Option<Blackout>,
    /// Cut the path once, after that time: 10s
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, help_heading = "Impairments")]
    cut_after: Option<Duration>,
    /// How long that cut lasts [default: for good]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = parse::positive_duration,
        requires = "cut_after",
        help_heading = "Impairments"
    )]
    cut_for: Option<Duration>,
    /// Which way packets are impaired; up is from client to server
    #[arg(long, value_enum, default_value_t, help_heading = "Impairments")]
    direction: Directions,
    /// Give each client a new port towards the server, again and again, as a NAT may: 5s
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration, help_heading = "Impairments")]
    rebind_every: Option<Duration>,
    /// Take orders from standard input, one a line: cut, heal, loss 20%, rebind
    #[arg(long)]
    stdin: bool,
    /// Repeat the decisions of an earlier run [default: a new seed, which is shown]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Stop after that time [default: at Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse::positive_duration)]
    run_for: Option<Duration>,
    /// Serve no more clients at a time than this
    #[arg(long, value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    max_clients: u16,
    /// Forget a client that has been silent for that long
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration, default_value = "2m")]
    idle: Duration,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the proxy until its time is up or the user has seen enough.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let settings = settings(&arguments)?;
    let description = settings.impairments.to_string();
    let seed = settings.seed;
    // Before anybody is told that there is something to stop.
    let mut stop = StopSignals::listen();
    let proxy = Handle::start(settings).map_err(|error| cannot_listen(arguments.listen, &error))?;
    output::note(&format!(
        "listening on {}, to {}, seed {seed}: {description}",
        proxy.address(),
        arguments.to
    ));

    let finished = async {
        match arguments.run_for {
            Some(limit) => tokio::time::sleep(limit).await,
            None => pending().await,
        }
    };
    let shown = tokio::select! {
        () = finished => Ok(()),
        () = stop.next() => Ok(()),
        error = show_progress(&proxy) => Err(error),
        error = take_orders(&proxy), if arguments.stdin => Err(error),
    };
    let summary = match shown {
        Ok(()) => proxy.stop().await,
        Err(error) => Err(error),
    };
    let summary = summary.map_err(Failure::failed)?;
    let text = if arguments.json {
        output::as_json(&summary)?
    } else {
        summary.to_string()
    };
    printer::result(text, &mut stop).await
}

fn settings(arguments: &Arguments) -> Result<ProxySettings, Failure> {
    if arguments.to.port() == 0 || arguments.to.ip().is_unspecified() {
        return Err(Failure::usage(format!(
            "--to {} is nobody's address: give the server's, such as 127.0.0.1:4433",
            arguments.to
        )));
    }
    if arguments.to == arguments.listen {
        return Err(Failure::usage(format!(
            "--to and --listen are both {}: the proxy needs an address of its own, such as 127.0.0.1:4500",
            arguments.to
        )));
    }
    let impairments = Impairments {
        delay: arguments.delay.unwrap_or_default(),
        jitter: arguments.jitter.unwrap_or_default(),
        loss: arguments.loss.unwrap_or_default(),
        burst: arguments.burst,
        reorder: arguments.reorder.unwrap_or_default(),
        duplicate: arguments.duplicate.unwrap_or_default(),
        corrupt: arguments.corrupt.unwrap_or_default(),
        rate: arguments.rate,
        queue: arguments.queue,
        blackout: arguments.blackout,
        cut: arguments.cut_after.map(|after| Cut {
            after,
            length: arguments.cut_for,
        }),
        directions: arguments.direction,
    };
    impairments.check().map_err(Failure::usage)?;
    Ok(ProxySettings {
        listen: arguments.listen,
        to: arguments.to,
        impairments,
        seed: arguments.seed.unwrap_or_else(any_seed),
        rebind_every: arguments.rebind_every,
        clients: usize::from(arguments.max_clients),
        idle: arguments.idle,
    })
}

/// A seed that nobody has to know: short enough to be typed, and exact as a number in JSON.
pub(super) fn any_seed() -> u64 {
    RandomState::new().hash_one(()) >> 32
}

/// Shows every second what has been done, on a terminal; elsewhere nothing. Ends when the proxy
/// does.
async fn show_progress(proxy: &Handle) -> std::io::Error {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {wide_msg}") {
        bar.set_style(style);
    }
    let _cleared = ClearedAtEnd(&bar);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        match proxy.report().await {
            Ok(summary) => bar.set_message(summary.line()),
            Err(error) => return error,
        }
        bar.tick();
    }
}

/// Carries out what standard input says, line by line, and tells of each. Ends when the proxy does.
async fn take_orders(proxy: &Handle) -> std::io::Error {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) => match Order::parse(&line) {
                Ok(order) => match proxy.obey(order).await {
                    Ok(_) => output::note(&order.to_string()),
                    Err(error) => return error,
                },
                Err(wrong) => output::note(&output::printable(&wrong)),
            },
            Ok(None) => return pending().await,
            Err(error) => {
                output::note(&format!("standard input cannot be read: {error}"));
                return pending().await;
            }
        }
    }
}

/// Takes the progress line away when the summary is due.
struct ClearedAtEnd<'a>(&'a ProgressBar);

impl Drop for ClearedAtEnd<'_> {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
