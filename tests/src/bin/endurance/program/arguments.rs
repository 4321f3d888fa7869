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
    /// Forged first packets by the thousand, beside clients that live and clients that come: these
    /// get in, those stay, and memory is bounded.
    S4(Spoofed),
    /// Clients that stop reading a broadcast: the policy for slow consumers is applied to them soon,
    /// and the others notice nothing.
    S6(Stopped),
    /// Connections that come and go: no slot leaks, memory stays where it is.
    S7(Churn),
    /// Idle connections: what they cost in CPU time.
    S9(Idle),
    /// The server, as the others start it.
    #[command(hide = true)]
    Serve(Serve),
    /// Forged first packets, as S4 starts them, until the standard input ends.
    #[command(hide = true)]
    Flood(Flood),
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

    /// The same with another number of sockets.
    pub(crate) fn with_sockets(self, sockets: u16) -> Self {
        Self { sockets, ..self }
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
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cuts: u32,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 64)]
    pub(crate) window: u64,
    /// Time between two heartbeats: a link is dead after three without a word. Many connections
    /// need longer ones.
    #[arg(long, default_value = "0.1", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) heartbeat: Duration,
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
pub(crate) struct Spoofed {
    /// How many clients live on meanwhile.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How long the flood lasts. A client that hears nothing is timed out after 45 seconds.
    #[arg(long, default_value = "2", value_parser = minutes)]
    pub(crate) minutes: Duration,
    /// Forged first packets a second.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// How many addresses they come from.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) sources: u16,
    /// Which protocol they ask for. With another one than this, each is found wanting as soon as it
    /// is looked into, and leaves nothing behind.
    #[arg(long, default_value = "trunkline/1")]
    pub(crate) protocol: String,
    /// Which connection ids they bear.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Clients that come each second, are let in and leave.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connects: u32,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Stopped {
    /// How many connections there are.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) connections: u32,
    /// How many of them stop reading: their sockets are left alone, as if their process stood still.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stopped: u32,
    /// What the server does with who is too slow [default: one after the other].
    #[arg(long, value_enum)]
    pub(crate) policy: Option<Policy>,
    /// How often they stop, for each policy.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How long all read in a round, and then how long some do not.
    #[arg(long, default_value = "5", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) time: Duration,
    #[command(flatten)]
    pub(crate) broadcasts: Broadcasts,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What a server broadcasts to all its sessions, all the time.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Broadcasts {
    /// Broadcasts a second.
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Bytes of each.
    #[arg(long, default_value_t = 8_192, value_parser = clap::value_parser!(u32).range(8..1_000_000))]
    pub(crate) payload: u32,
    /// How many bytes of them wait for a session at most.
    #[arg(long, default_value_t = 32_768)]
    pub(crate) queue: u32,
}

/// [`trunkline_core::SlowConsumer`], as it stands on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    DropNewest,
    DropOldest,
    KeepLatest,
    Disconnect,
}

impl Policy {
    /// As it stands on the command line, and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DropNewest => "drop-newest",
            Self::DropOldest => "drop-oldest",
            Self::KeepLatest => "keep-latest",
            Self::Disconnect => "disconnect",
        }
    }
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
    /// It broadcasts all the time, and does this with who is too slow.
    #[arg(long, value_enum)]
    pub(crate) policy: Option<Policy>,
    #[command(flatten)]
    pub(crate) broadcasts: Broadcasts,
}

#[derive(Debug, Args)]
pub(crate) struct Flood {
    #[arg(long)]
    pub(crate) to: SocketAddr,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) sources: u16,
    #[arg(long)]
    pub(crate) protocol: String,
    #[arg(long)]
    pub(crate) seed: u64,
}

fn minutes(text: &str) -> Result<Duration, String> {
    positive(text, 60.0).ok_or_else(|| "give minutes, such as 10 or 0.5".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    positive(text, 1.0).ok_or_else(|| "give seconds, such as 1 or 0.5".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    let possible = number.filter(|rate| (0.001..=1_000_000.0).contains(rate));
    possible.ok_or_else(|| "give a rate in Hz, such as 10 or 0.5".to_owned())
}

fn positive(text: &str, unit: f64) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    let time = Duration::try_from_secs_f64(number * unit).ok()?;
    (!time.is_zero() && time < Duration::from_secs(86_400)).then_some(time)
}
