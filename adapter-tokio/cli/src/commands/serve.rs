//! `trunkline serve`: a server to try clients on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use trunkline_tokio::{Admit, ClientId, Config, Drained, PersistentKeys, Server};

use crate::cert_files::{self, development_roots, development_server};
use crate::failure::{Failure, cannot_start};
use crate::recording::RecordingOptions;
use crate::serve::{Entry, Journal, Manner, State, Summary, Telling, keys, service};
use crate::signals::StopSignals;
use crate::{output, parse, printer};

const EXAMPLES: &str = "\
Requests are answered with their own text, notes are accepted, clients join and leave groups, and one
client's text is broadcast to a group or to all. 'trunkline request', 'send' and 'listen' do all that; the
messages stand in trunkline_cli.proto, for other programs. All state is in memory: a restarted server
knows no session any more, which its clients notice at once if it listens at the same fixed port with the
same key, or has the same file of --keys. Ctrl-C or SIGTERM finishes what is under way; a second one ends
it at once.

EXIT STATUS
  0  it was ended by Ctrl-C or SIGTERM; or nobody reads what it prints any more
  1  it could not listen, or has ended by itself, or a recording is not whole
  2  the command line or a file cannot be used
  130  interrupted twice: not all that was under way is finished

EXAMPLES
  A first try, with certificates for this machine
    trunkline cert --out certs
    trunkline serve --dev certs --admission open
  Only clients with a certificate, each bound to the client id that it names
    trunkline serve --listen 0.0.0.0:4433 --cert server.pem --key server.key --admission mutual-tls --client-ca ca.pem
  A slow service, a client that may list the others, everything as JSON, one object a line
    trunkline serve --dev certs --admission open --delay 200ms --admin anna --json";

/// Serve: answer requests, accept messages, broadcast; and tell what happens as it happens.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("identity").required(true).multiple(true))]
pub(crate) struct Arguments {
    /// Where clients find the server; port 0 takes a free one
    #[arg(long, value_name = "ADDR", value_parser = parse::address, default_value = "127.0.0.1:4433")]
    listen: SocketAddr,
    /// The server's certificate chain, a PEM file
    #[arg(
        long,
        value_name = "FILE",
        group = "identity",
        requires = "key",
        conflicts_with = "dev"
    )]
    cert: Option<PathBuf>,
    /// The certificate's private key, a PEM file
    #[arg(long, value_name = "FILE", requires = "cert", conflicts_with = "dev")]
    key: Option<PathBuf>,
    /// Take certificate, key and authority from a directory that 'trunkline cert' has filled
    #[arg(long, value_name = "DIR", group = "identity")]
    dev: Option<PathBuf>,
    /// Keep in that file what clients notice a restart by; it is made, with random bytes, if there is
    /// none, and no other server may have it [default: what follows from key, address and machine]
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Who is let in. open: everybody, under the client id that they claim; mutual-tls: whoever has
    /// a certificate that names their client id
    #[arg(long, value_enum)]
    admission: Admission,
    /// With mutual-tls: the authority that signs clients' certificates, a PEM file
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Let that client ask for the list of clients ('trunkline clients'), which holds everybody's
    /// id and address; may be given more than once [default: nobody may]. With open admission a
    /// client id is a claim
    #[arg(long = "admin", value_name = "ID")]
    admins: Vec<ClientId>,
    /// Spread clients over so many threads, each with a socket of its own at the same address
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,
    /// Answer each request after that time, as a slow service would
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, default_value = "0")]
    delay: Duration,
    /// Count a client as dead that is silent for three times that long; clients are told
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration, default_value = "15s")]
    heartbeat: Duration,
    /// Keep the session of a client without a connection for that long
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration, default_value = "120s")]
    retention: Duration,
    /// Give what is under way at the end that much time
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration, default_value = "10s")]
    drain: Duration,
    /// Tell of connections only, not of messages
    #[arg(long)]
    quiet: bool,
    /// Accept a message only once its line is written, so that a server that was killed has told of
    /// all that it acked
    #[arg(long, conflicts_with = "quiet")]
    write_first: bool,
    /// Print what happens as JSON, one object a line; the last one is the summary
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) recording: RecordingOptions,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Admission {
    Open,
    MutualTls,
}

/// How long a server that nobody reads waits for its clients to hear of its end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Nobody reads what it tells any more: it ends, and its clients hear of that.
async fn unread(server: &Server, written: Result<(), Failure>) -> Result<(), Failure> {
    let _ = tokio::time::timeout(FAREWELL, server.close()).await;
    written
}

/// Serves until the user has seen enough.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut stop = StopSignals::listen();
    let (journal, mut writer) = Journal::start(Manner {
        json: arguments.json,
        quiet: arguments.quiet,
        write_first: arguments.write_first,
    });
    let state = State::new(journal.clone(), arguments.delay, arguments.admins.clone());
    let server = start(&arguments, &state).await?;
    let address = server.local_addr();
    let admission = match arguments.admission {
        Admission::Open => "open: whoever comes is let in, under the client id that it claims",
        Admission::MutualTls => "mutual TLS: a client's certificate must name its client id",
    };
    output::note(&format!("listening on {address}; admission is {admission}"));
    if arguments.json {
        journal.tell(Entry::Listening { address });
    }

    let telling = tokio::spawn({
        let state = state.clone();
        async move { state.tell_of_moves().await }
    });
    tokio::select! {
        () = stop.next() => {}
        written = writer.ended() => return unread(&server, written).await,
        () = server.closed() => return Err(Failure::failed("the server has ended by itself")),
    }
    let drained = tokio::select! {
        drained = leave(&server, &journal, arguments.drain) => drained,
        written = writer.ended() => return unread(&server, written).await,
        () = stop.next() => None,
    };
    let metrics = server.metrics().await.map_err(Failure::failed)?;
    let ending = async {
        if drained.is_some() {
            server.close().await;
        }
        telling.abort();
        // What it is about to tell comes before the end.
        let _ = telling.await;
        state.tell_moves_left_out();
        let summary = Summary::new(&state.counts, &metrics, drained, journal.since_start());
        journal.end(writer).await.map(|()| summary)
    };
    let summary = printer::written(ending, &mut stop).await?;
    let text = if arguments.json {
        output::as_json(&summary)?
    } else {
        format!("\n{}", summary.table())
    };
    printer::result(text, &mut stop).await?;
    match drained {
        Some(_) => Ok(()),
        None => Err(Failure::interrupted()),
    }
}

async fn start(arguments: &Arguments, state: &Arc<State>) -> Result<Server, Failure> {
    let (certificate, key) = match (&arguments.cert, &arguments.key, &arguments.dev) {
        (Some(certificate), Some(key), _) => (certificate.clone(), key.clone()),
        (_, _, Some(directory)) => development_server(directory)?,
        _ => return Err(Failure::usage("give --cert and --key, or --dev")),
    };
    let mut config = Config::default();
    config.heartbeat.interval = arguments.heartbeat;
    config.timeouts.retention = arguments.retention;
    let mut builder = Server::bind(arguments.listen)
        .identity(cert_files::identity(&certificate, &key)?)
        .admission(admission(arguments)?)
        .config(config)
        .shards(arguments.shards.into())
        .service(service(state.clone()))
        .hooks(Telling(state.clone()));
    let kept = match &arguments.keys {
        Some(file) => Some(PersistentKeys::load_or_create(file).map_err(Failure::usage)?),
        None => keys(&key, arguments.listen)?,
    };
    if let Some(keys) = kept {
        builder = builder.persistent_keys(keys);
    }
    if let Some(recording) = arguments.recording.recording() {
        builder = builder.record(recording);
    }
    builder.await.map_err(cannot_start)
}

fn admission(arguments: &Arguments) -> Result<Admit, Failure> {
    let roots = match (arguments.admission, &arguments.client_ca, &arguments.dev) {
        (Admission::Open, None, _) => return Ok(Admit::open()),
        (Admission::Open, Some(_), _) => {
            return Err(Failure::usage(
                "--client-ca is for --admission mutual-tls: with open admission no certificate is looked at",
            ));
        }
        (Admission::MutualTls, Some(file), _) => cert_files::roots(file)?,
        (Admission::MutualTls, None, Some(directory)) => development_roots(directory)?,
        (Admission::MutualTls, None, None) => {
            return Err(Failure::usage(
                "--admission mutual-tls needs --client-ca: the PEM file of the authority that signs clients' certificates",
            ));
        }
    };
    Ok(Admit::mutual_tls(roots))
}

/// Goes away in order; `None`: the server had ended already.
async fn leave(server: &Server, journal: &Journal, deadline: Duration) -> Option<Drained> {
    journal.tell(Entry::Draining {
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
    });
    server.drain(deadline).await.ok()
}
