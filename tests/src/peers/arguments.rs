//! The command line of a benchmark peer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// A benchmark peer: serves all workloads, or puts one of them to a server and measures it.
///
/// Both roles take certificates from the folder that PEERS_CERT_DIR names: cert.pem and key.pem
/// for the server, ca.pem for the client.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) role: Role,
}

#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// Serves every workload; ends with its standard input, on SIGTERM, or after --max-secs.
    Server(ServerArguments),
    /// Puts a workload to a server, and prints what it measured as one JSON object.
    Client(ClientArguments),
}

/// What a server is told.
#[derive(Clone, Debug, Args)]
pub struct ServerArguments {
    /// The UDP address to listen at; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// End after so many seconds.
    #[arg(long, value_name = "S", default_value = "600", value_parser = seconds)]
    pub max_secs: Duration,
}

/// What a client does all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Acked one-way messages, always --concurrency of them in flight.
    Pipeline,
    /// The same with large messages.
    Bulk,
    /// Requests, always --concurrency of them in flight.
    Rpc,
    /// Requests beside --bulk-window large acked messages on the same connection.
    Mixed,
    /// The server sends --count events to each of --conns subscribers.
    Broadcast,
    /// Sets up --conns connections, --concurrency at a time, and lets them rest.
    Connect,
}

/// The client's flags, as given.
#[derive(Debug, Args)]
pub(super) struct ClientArguments {
    /// The server's address.
    #[arg(long, value_name = "IP:PORT")]
    connect: SocketAddr,
    workload: Workload,
    /// Payload of a message [default: 128; bulk: 1000000].
    #[arg(long, value_name = "BYTES")]
    payload: Option<usize>,
    /// Stop after N measured messages, 0: no cap [default: 0]; broadcast: events to send [default:
    /// 200].
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Messages in flight on each connection [default: 1; pipeline: 1024; bulk: 8]; connect:
    /// connections that are set up at a time [default: 64].
    #[arg(long, value_name = "C")]
    concurrency: Option<usize>,
    /// Connections [default: 1; broadcast: 1000; connect: 2000].
    #[arg(long, value_name = "N")]
    conns: Option<usize>,
    /// Measured seconds [default: 5]; broadcast: time-out [default: 120].
    #[arg(long, value_name = "S", value_parser = seconds)]
    duration: Option<Duration>,
    /// Seconds of load before they are measured.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// connect: seconds of rest once the connections are up.
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    hold: Duration,
    /// broadcast: events a second; pipeline, rpc: messages a second in all, evenly from all
    /// connections, in place of --concurrency; 0: as fast as possible.
    #[arg(long, value_name = "HZ", default_value = "0", value_parser = rate)]
    rate: Rate,
    /// broadcast, connect, and with --rate: UDP sockets that the connections are spread over.
    #[arg(long, value_name = "E", default_value_t = 16)]
    endpoints: usize,
    /// mixed: payload of a bulk message.
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000)]
    bulk_payload: usize,
    /// mixed: bulk messages in flight.
    #[arg(long, value_name = "W", default_value_t = 4)]
    bulk_window: usize,
    /// Processes of the server, for its CPU and memory.
    #[arg(long, value_name = "P,P", value_delimiter = ',')]
    server_pids: Vec<i32>,
}

/// Events a second; `None`: as fast as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub Option<f64>);

/// What a client does, every default filled in. Its fields are the flags.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the flags' help says it")]
pub struct Plan {
    pub connect: SocketAddr,
    pub workload: Workload,
    pub payload: usize,
    pub count: u64,
    pub concurrency: usize,
    pub conns: usize,
    pub duration: Duration,
    pub warmup: Duration,
    pub hold: Duration,
    pub rate: Rate,
    pub endpoints: usize,
    pub bulk_payload: usize,
    pub bulk_window: usize,
    pub server_pids: Vec<i32>,
}

impl ClientArguments {
    pub(super) fn plan(self) -> Result<Plan> {
        let (payload, concurrency, conns, count, seconds) = match self.workload {
            Workload::Pipeline => (128, 1_024, 1, 0, 5),
            Workload::Bulk => (1_000_000, 8, 1, 0, 5),
            Workload::Rpc | Workload::Mixed => (128, 1, 1, 0, 5),
            Workload::Broadcast => (128, 1, 1_000, 200, 120),
            Workload::Connect => (128, 64, 2_000, 0, 120),
        };
        let plan = Plan {
            connect: self.connect,
            workload: self.workload,
            payload: self.payload.unwrap_or(payload),
            count: self.count.unwrap_or(count),
            concurrency: self.concurrency.unwrap_or(concurrency),
            conns: self.conns.unwrap_or(conns),
            duration: self.duration.unwrap_or(Duration::from_secs(seconds)),
            warmup: self.warmup,
            hold: self.hold,
            rate: self.rate,
            endpoints: self.endpoints,
            bulk_payload: self.bulk_payload,
            bulk_window: self.bulk_window,
            server_pids: self.server_pids,
        };
        for (flag, given) in [
            ("--concurrency", plan.concurrency),
            ("--conns", plan.conns),
            ("--endpoints", plan.endpoints),
        ] {
            ensure!(given > 0, "{flag} is 0: 1 or more is needed");
        }
        ensure!(
            plan.workload != Workload::Broadcast || plan.count > 0,
            "--count is 0: a broadcast needs 1 event or more"
        );
        Ok(plan)
    }
}

fn seconds(given: &str) -> Result<Duration, String> {
    let seconds: f64 = given.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn rate(given: &str) -> Result<Rate, String> {
    let rate: f64 = given
        .parse()
        .map_err(|_| "not a number of events a second")?;
    match rate {
        0.0 => Ok(Rate(None)),
        _ if rate.is_finite() && rate > 0.0 => Ok(Rate(Some(rate))),
        _ => Err("0 or more is needed".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn plan(flags: &str) -> Result<Plan> {
        let words = "peer client --connect 127.0.0.1:4433".split(' ');
        match Arguments::try_parse_from(words.chain(flags.split(' ')))?.role {
            Role::Client(arguments) => arguments.plan(),
            Role::Server(_) => unreachable!("a client was asked for"),
        }
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_depend_on_the_workload() {
        let bulk = plan("bulk").unwrap();
        assert_eq!(
            (bulk.payload, bulk.concurrency, bulk.conns),
            (1_000_000, 8, 1)
        );
        let broadcast = plan("broadcast --rate 10").unwrap();
        assert_eq!((broadcast.count, broadcast.conns), (200, 1_000));
        assert_eq!(broadcast.rate, Rate(Some(10.0)));
        assert_eq!(plan("pipeline --payload 16").unwrap().payload, 16);
        assert_eq!(plan("rpc --server-pids 1,2").unwrap().server_pids, [1, 2]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (flags, named) in [
            ("rpc --conns 0", "--conns"),
            ("rpc --duration=-1", "--duration"),
            ("broadcast --count 0", "--count"),
            ("broadcast --rate NaN", "--rate"),
            ("juggle", "juggle"),
        ] {
            let refusal = plan(flags).unwrap_err().to_string();
            assert!(refusal.contains(named), "{flags}: {refusal}");
        }
    }
}
