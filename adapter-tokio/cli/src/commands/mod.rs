//! The commands, one file each.

mod cert;
mod clients;
mod demo;
mod impair;
mod listen;
mod replay;
mod request;
mod send;
mod serve;
mod trace;

use clap::Subcommand;

use crate::failure::Failure;
use crate::recording::Watched;

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Arguments),
    Serve(Box<serve::Arguments>),
    Request(Box<request::Arguments>),
    Send(Box<send::Arguments>),
    Listen(Box<listen::Arguments>),
    Clients(Box<clients::Arguments>),
    Cert(cert::Arguments),
    Impair(Box<impair::Arguments>),
    Replay(replay::Arguments),
    Trace(trace::Arguments),
}

impl Command {
    /// The recording that it was asked for, if it was.
    pub(crate) fn recording(&self) -> Option<Watched> {
        let options = match self {
            Self::Serve(arguments) => &arguments.recording,
            Self::Request(arguments) => &arguments.connection.recording,
            Self::Send(arguments) => &arguments.connection.recording,
            Self::Listen(arguments) => &arguments.connection.recording,
            Self::Clients(arguments) => &arguments.connection.recording,
            Self::Demo(_) | Self::Cert(_) | Self::Impair(_) | Self::Replay(_) | Self::Trace(_) => {
                return None;
            }
        };
        Some(options.watched())
    }
}

/// Does what was asked for.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Serve(arguments) => serve::run(*arguments).await,
        Command::Request(arguments) => request::run(*arguments).await,
        Command::Send(arguments) => send::run(*arguments).await,
        Command::Listen(arguments) => listen::run(*arguments).await,
        Command::Clients(arguments) => clients::run(*arguments).await,
        Command::Cert(arguments) => cert::run(arguments),
        Command::Impair(arguments) => impair::run(*arguments).await,
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Trace(arguments) => trace::run(arguments).await,
    }
}
