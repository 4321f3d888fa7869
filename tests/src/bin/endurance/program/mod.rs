//! The program, where it runs.

mod arguments;
mod churn;
mod clients;
mod flood;
mod idle;
mod lossy;
mod messages;
mod reconnects;
mod restart;
mod server;
mod server_process;
mod spoofed;
mod stopped;
mod verdict;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use trunkline_testkit::peers::allow_many_files;

use arguments::{Arguments, Figure};

pub(crate) fn main() -> ExitCode {
    allow_many_files();
    match run(Arguments::parse().figure) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("endurance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(figure: Figure) -> Result<ExitCode> {
    let verdict = match figure {
        Figure::S1(options) => lossy::run(&options)?,
        Figure::S2(options) => reconnects::run(&options)?,
        Figure::S3(options) => restart::run(&options)?,
        Figure::S4(options) => spoofed::run(&options)?,
        Figure::S6(options) => stopped::run(&options)?,
        Figure::S7(options) => churn::run(&options)?,
        Figure::S9(options) => idle::run(&options)?,
        Figure::Serve(options) => {
            server::serve(&options)?;
            return Ok(ExitCode::SUCCESS);
        }
        Figure::Flood(options) => {
            flood::flood(&options)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    Ok(verdict.print())
}
