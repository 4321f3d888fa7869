//! `trunkline`: what can be done with Trunkline from a shell.

mod backlog;
mod cert_files;
mod certs;
mod command_line;
mod commands;
mod connection;
mod demo;
mod failure;
mod impair;
mod log;
mod messages;
mod new_file;
mod notes;
mod output;
mod parse;
mod printer;
mod recording;
mod screen;
mod serve;
mod shell;
mod signals;
mod table;
mod traces;
mod traffic;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::command_line::CommandLine;
use crate::failure::Failure;

fn main() -> ExitCode {
    let done = match CommandLine::try_parse() {
        Ok(command_line) => run(command_line),
        Err(error) => command_line::explain(error),
    };
    let at_once = done.as_ref().is_err_and(Failure::is_interruption);
    let status = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    };
    notes::finish(at_once);
    status
}

fn run(command_line: CommandLine) -> Result<(), Failure> {
    log::start(&command_line.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime does not start: {error}")))?;
    let recording = command_line.command.recording();
    let done = runtime.block_on(commands::run(command_line.command));
    // What still runs ends, and so do recordings. A thread that still reads standard input must not keep the
    // program from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match recording {
        // Only now it has ended, too.
        Some(recording) => Failure::concluded(recording.outcome(), done),
        None => done,
    }
}
