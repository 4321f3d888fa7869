//! How a client command reaches its server: the options that all of them share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use trunkline_tokio::{Client, ClientBuilder, ClientId, Config};

use crate::cert_files::{development_identity, development_roots, identity, roots};
use crate::failure::{Failure, cannot_set};
use crate::parse;
use crate::recording::RecordingOptions;

/// Where the server is, whom to trust, and who this client is.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("trusted").required(true).multiple(true))]
pub(crate) struct ConnectionOptions {
    /// The server, such as localhost:4433
    #[arg(value_name = "HOST:PORT", value_parser = parse::host_and_port)]
    pub(crate) server: String,
    /// Trust servers whose certificate an authority of this PEM file has signed
    #[arg(
        long,
        value_name = "FILE",
        group = "trusted",
        help_heading = "Connection"
    )]
    ca: Option<PathBuf>,
    /// Take ca.pem, and this client's own certificate if there is one, from a directory that
    /// 'trunkline cert' has filled
    #[arg(
        long,
        value_name = "DIR",
        group = "trusted",
        help_heading = "Connection"
    )]
    dev: Option<PathBuf>,
    /// Who this client says it is [default: cli- and the process id]
    #[arg(long, value_name = "ID", help_heading = "Connection")]
    client_id: Option<ClientId>,
    /// Show this certificate to servers that want one (mutual TLS)
    #[arg(
        long,
        value_name = "FILE",
        requires = "key",
        help_heading = "Connection"
    )]
    cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert",
        help_heading = "Connection"
    )]
    key: Option<PathBuf>,
    /// The name that the server's certificate must bear [default: HOST]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    server_name: Option<String>,
    /// Give up when there is no connection after that time [default: 15s; listen: never]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = parse::positive_duration,
        help_heading = "Connection"
    )]
    pub(crate) connect_timeout: Option<Duration>,
    /// Send a sign of life that often; a server that is silent for three of them is dead
    /// [default: 15s, or less if the server asks for it]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = parse::positive_duration,
        help_heading = "Connection"
    )]
    heartbeat: Option<Duration>,
    /// Wait no longer than that between two dials [default: 60s]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = parse::positive_duration,
        help_heading = "Connection"
    )]
    redial_cap: Option<Duration>,
    #[command(flatten)]
    pub(crate) recording: RecordingOptions,
}

impl ConnectionOptions {
    /// Who this client is.
    pub(crate) fn client_id(&self) -> String {
        match &self.client_id {
            Some(id) => id.to_string(),
            None => format!("cli-{}", std::process::id()),
        }
    }

    /// A client that is set up so.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, Failure> {
        let id = self.client_id();
        let mut config = Config::default();
        if let Some(interval) = self.heartbeat {
            config.heartbeat.interval = interval;
        }
        if let Some(cap) = self.redial_cap {
            config.redial.cap = cap;
            config.redial.first = config.redial.first.min(cap);
        }
        config.validate().map_err(|error| cannot_set(&error))?;
        let mut builder = dial(&self.server)
            .client_id(&id)
            .agent(concat!("trunkline-cli/", env!("CARGO_PKG_VERSION")))
            .config(config);
        let roots = match (&self.ca, &self.dev) {
            (Some(file), _) => roots(file)?,
            (None, Some(directory)) => development_roots(directory)?,
            (None, None) => return Err(Failure::usage("give --ca or --dev")),
        };
        builder = builder.roots(roots);
        if let Some(recording) = self.recording.recording() {
            builder = builder.record(recording);
        }
        if let Some(name) = &self.server_name {
            builder = builder.server_name(name.as_str());
        }
        Ok(match (&self.cert, &self.key, &self.dev) {
            (Some(certificate), Some(key), _) => builder.identity(identity(certificate, key)?),
            (_, _, Some(directory)) => match development_identity(directory, &id)? {
                Some(identity) => builder.identity(identity),
                None => builder,
            },
            _ => builder,
        })
    }
}

/// A client of that server. Many systems have an IPv6 address first for `localhost`, where a server in development
/// does not commonly listen, and each dial of it there takes a moment longer.
fn dial(server: &str) -> ClientBuilder {
    match server.strip_prefix("localhost:") {
        Some(port) => Client::connect(format!("127.0.0.1:{port}")).server_name("localhost"),
        None => Client::connect(server),
    }
}
