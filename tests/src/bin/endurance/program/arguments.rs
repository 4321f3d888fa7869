//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures what many connections, losses, restarts and a long time do to a server: a server process
/// and this one, which holds all clients, over real sockets on this machine. Prints what it measured
/// as one JSON object, and on standard error whether that is what it is to be; the exit status says so
/// too.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) figure: Figure,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Figure {
    /// Many connections over a lossy path: no false timeouts, bounded memory that does not grow.
    S1(Lossy),
    /// Acked messages across forced reconnects: nothing lost, doubled or out of order.
    S2(Reconnects),
    /// The server is killed and comes back: how long until all clients are back, and whether they
    /// come in a crowd.
    S3(Restart),
    /// Connections that come and go: no slot leaks, memory stays where it is.
    S7(Churn),
    /// Idle connections: what they cost in CPU time.
    S9(Idle),
    /// The server, as the others start it.
    #[command(hide = true)]
    Serve(Serve),
}

/// What the server is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// The bare state machine in a loop of its own.
    Core,
    /// The tokio adapter, with a handler for each message.
    Tokio,
}

impl Engine {
    /// As it stands on the command line, and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Tokio => "tokio",
        }
    }
}

/// What all figures have in common.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Common {
    /// What the server is made of [default: core; s2: tokio].
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// How many sockets the clients share.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) sockets: u16,
    /// How many connections are set up at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) at_once: u32,
}

impl Common {
    /// What the server is made of, unless something else was asked for.
    pub(crate) fn engine_or(&self, usual: Engine) -> Engine {
        self.engine.unwrap_or(usual)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Lossy {
    /// How many connections there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How long the path is lossy.
    #[arg(long, default_value = "10", value_parser = minutes)]
    pub(crate) minutes: Duration,
    /// Which share of the datagrams gets lost, both ways, in bursts of 3.
    #[arg(long, default_value_t = 0.02)]
    pub(crate) loss: f64,
    /// Which of them.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Reconnects {
    /// How many connections there are.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Messages of all connections together.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) count: u64,
    /// How often the path is cut until every link is dead.
    #[arg(long, default_value_t = 100)]
    pub(crate) cuts: u32,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 64)]
    pub(crate) window: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// How many connections there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How long the server is away.
    #[arg(long, default_value = "1", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) away: Duration,
    /// The server comes back with other keys: clients notice by its silence only.
    #[arg(long)]
    pub(crate) lose_keys: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Churn {
    /// How many connections come and go.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub(crate) count: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// How many connections there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How long it is measured.
    #[arg(long, default_value = "1", value_parser = minutes)]
    pub(crate) minutes: Duration,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    #[arg(long, value_enum)]
    pub(crate) engine: Engine,
    /// What its keys follow from.
    #[arg(long)]
    pub(crate) keys: u8,
    /// Milliseconds between heartbeats.
    #[arg(long)]
    pub(crate) heartbeat: u64,
}

fn minutes(text: &str) -> Result<Duration, String> {
    positive(text, 60.0).ok_or_else(|| "give minutes, such as 10 or 0.5".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    positive(text, 1.0).ok_or_else(|| "give seconds, such as 1 or 0.5".to_owned())
}

fn positive(text: &str, unit: f64) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    let time = Duration::try_from_secs_f64(number * unit).ok()?;
    (!time.is_zero() && time < Duration::from_secs(86_400)).then_some(time)
}
