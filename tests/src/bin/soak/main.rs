//! Runs the swarm for as many seeds as it is given: `soak --seeds 200000`, or one of them with all
//! that is known of it: `soak --seed 17`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use trunkline_testkit::swarm::{Batch, Failure, Plan, commit, first_of, run, try_twice};
use trunkline_testkit::{Certificates, count_by};

/// Runs simulated worlds from seeds, with random faults, until something is wrong.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed; unless it is given, it follows from the commit.
    #[arg(long)]
    first: Option<u64>,
    /// Run this seed alone: print its plan, and if it fails, cut it down and write traces.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Print the fingerprint of this seed's run, and nothing else: how a soak starts itself, to see
    /// that two processes do the same.
    #[arg(long, hide = true, conflicts_with_all = ["seeds", "first", "seed"])]
    fingerprint: Option<u64>,
    /// How many threads; unless it is given, as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Stop after so many failures.
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// How many runs to spend on cutting a failure down.
    #[arg(long, default_value_t = 400)]
    shrink: usize,
    /// Where traces of failures go.
    #[arg(long, default_value = "target/soak")]
    traces: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    count_by(|f| allocation_counter::measure(f).bytes_current);
    let certificates = Certificates::new().map_err(|error| anyhow::anyhow!("{error}"))?;
    if let Some(seed) = arguments.fingerprint {
        let ran = run(&Plan::new(seed), &certificates);
        println!("{:016x}", ran.fingerprint);
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.seed {
        Some(seed) => one(&arguments, seed, &certificates),
        None => many(&arguments, &certificates),
    }
}

fn one(arguments: &Arguments, seed: u64, certificates: &Certificates) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(seed);
    println!("{plan}");
    // In another process too, for the seeds that differ there.
    let this = std::env::current_exe().context("this program cannot be started again")?;
    match try_twice(seed, certificates, &this) {
        Ok(ran) => {
            println!("seed {seed} is well: {:?}", ran.traffic);
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            tell(arguments, failure, certificates)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn many(arguments: &Arguments, certificates: &Certificates) -> anyhow::Result<ExitCode> {
    let cores = available_parallelism().map_or(1, usize::from);
    let commit = commit();
    let first = arguments.first.unwrap_or_else(|| first_of(&commit));
    let other = std::env::current_exe().context("this program cannot be started again")?;
    let batch = Batch {
        other,
        first,
        seeds: arguments.seeds,
        threads: arguments.threads.unwrap_or(cores),
        budget: None,
        failures: arguments.failures,
    };
    println!(
        "commit {commit}: {} seeds from {first} on {} threads",
        batch.seeds, batch.threads
    );
    let style = "{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}";
    let style = ProgressStyle::with_template(style).context("the progress bar's template")?;
    let bar = ProgressBar::new(batch.seeds).with_style(style);
    let summary = batch.run(certificates, |failure| {
        bar.inc(1);
        if let Some(failure) = failure {
            bar.suspend(|| print!("{failure}"));
        }
    });
    let took = bar.elapsed();
    bar.finish_and_clear();
    let failed = summary.failures.len();
    println!(
        "{} seeds in {took:.1?}, {:.1} a second: {failed} failed",
        summary.seeds,
        summary.seeds as f64 / took.as_secs_f64()
    );
    let mut signs = Vec::new();
    for failure in summary.failures {
        // Of those that look the same, one is enough to look at.
        if !signs.contains(&failure.sign) {
            signs.push(failure.sign.clone());
            tell(arguments, Box::new(failure), certificates)?;
        }
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tell(
    arguments: &Arguments,
    failure: Box<Failure>,
    certificates: &Certificates,
) -> anyhow::Result<()> {
    let steps = failure.plan.steps.len();
    println!("\n{failure}");
    let smallest = failure.shrink(certificates, arguments.shrink);
    let left = smallest.plan.steps.len();
    println!(
        "cut down from {steps} steps to {left}: {}\n{}",
        smallest.what, smallest.plan
    );
    let folder = smallest
        .write_traces(certificates, &arguments.traces)
        .with_context(|| format!("traces cannot be written to {}", arguments.traces.display()))?;
    println!("its nodes' traces are in {}", folder.display());
    Ok(())
}
