//! The commands, one file each.

mod cert;
mod demo;
mod impair;

use clap::Subcommand;

use crate::failure::Failure;

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Arguments),
    Cert(cert::Arguments),
    Impair(Box<impair::Arguments>),
}

/// Does what was asked for.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Cert(arguments) => cert::run(arguments),
        Command::Impair(arguments) => impair::run(*arguments).await,
    }
}
