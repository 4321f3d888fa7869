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
