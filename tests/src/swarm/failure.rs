//! Runs that fail: caught, told in a few lines, cut down to what they need, and traced.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{Certificates, Recording};

use super::plan::Plan;
use super::run::{Ran, run, run_recorded};

/// A run in which something was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub plan: Plan,
    /// What was wrong first: in the oracle's words, or where a node or the world panicked.
    pub what: String,
    /// Failures with the same sign are taken for the same.
    pub sign: String,
}

/// One run in so many is run twice, and has to be the same.
pub(super) const TWICE: u64 = 100;

/// Runs the plan of a seed.
pub fn try_seed(seed: u64, certificates: &Certificates) -> Result<Ran, Box<Failure>> {
    try_plan(&Plan::new(seed), certificates)
}

/// Runs the plan of a seed, and has another process run it too: `program`, which prints a run's
/// fingerprint when it is asked for `--fingerprint SEED`. Both have to be the same, datagram by
/// datagram.
pub fn try_twice(
    seed: u64,
    certificates: &Certificates,
    program: &Path,
) -> Result<Ran, Box<Failure>> {
    let plan = Plan::new(seed);
    let ran = try_plan(&plan, certificates)?;
    let here = format!("{:016x}", ran.fingerprint);
    let mut other = Command::new(program);
    let what = match other.arg("--fingerprint").arg(seed.to_string()).output() {
        Err(error) => format!("{} cannot be run: {error}", program.display()),
        Ok(output) => match String::from_utf8_lossy(&output.stdout).trim() {
            there if there == here => return Ok(ran),
            there => format!("two runs differ: {here} here and {there:?} in another process"),
        },
    };
    let sign = "two runs differ".to_owned();
    Err(Box::new(Failure { plan, what, sign }))
}

/// Runs a plan.
pub fn try_plan(plan: &Plan, certificates: &Certificates) -> Result<Ran, Box<Failure>> {
    let ran = run(plan, certificates);
    let failure = |what: String, sign: String| {
        let plan = plan.clone();
        Box::new(Failure { plan, what, sign })
    };
    if let Some(said) = &ran.panicked {
        // Where it panicked; the numbers in what it says differ.
        let place = said.split_once(": ").map_or(&**said, |(place, _)| place);
        return Err(failure(said.clone(), place.to_owned()));
    }
    match ran.violations.first() {
        None => Ok(ran),
        Some(violation) => {
            let words = violation.what.split_whitespace();
            let words: Vec<_> = words
                .filter(|w| w.chars().all(char::is_alphabetic))
                .collect();
            let sign = format!("{} {}", violation.invariant, words.join(" "));
            Err(failure(violation.to_string(), sign))
        }
    }
}

impl Failure {
    /// Runs it once more for each level of traces with every node recorded, and writes them into a
    /// folder of the seed's. Returns the folder. Those of link level show the frames, and can be cut
    /// down and run under another configuration. Those of wire level hold their nodes' seeds and so
    /// all of their secrets; here they are a test's.
    pub fn write_traces(&self, certificates: &Certificates, into: &Path) -> io::Result<PathBuf> {
        let folder = into.join(format!("seed-{}", self.plan.seed));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("plan.txt"), format!("{self}\n{}", self.plan))?;
        let levels = [
            ("wire", Recording::Wire),
            ("link", Recording::LinkWithBodies),
        ];
        for (level, recording) in levels {
            let ran = run_recorded(&self.plan, certificates, Some(recording));
            let Some(recorded) = ran.recorded else {
                continue;
            };
            // The same at both.
            fs::write(folder.join("events.txt"), recorded.events)?;
            for (node, processes) in recorded.traces {
                for (process, trace) in processes.into_iter().enumerate() {
                    let name = format!("node-{node}-{process}-{level}.tlt");
                    fs::write(folder.join(name), trace)?;
                }
            }
        }
        Ok(folder)
    }

    /// A command that shows the failure again.
    pub fn repro(&self) -> String {
        format!(
            "cargo run --release -p trunkline-testkit --bin soak -- --seed {}",
            self.plan.seed
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, what, .. } = self;
        writeln!(f, "seed {}, commit {}: {what}", plan.seed, commit())?;
        write!(f, "{}", plan.settings())?;
        writeln!(f, "  {}", self.repro())
    }
}

/// The commit that was checked out when the program first asked, with `-dirty` where files differed
/// from it, or what is known instead.
pub fn commit() -> String {
    static COMMIT: OnceLock<String> = OnceLock::new();
    COMMIT.get_or_init(read_commit).clone()
}

fn read_commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let describe = [
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty",
    ];
    let mut git = Command::new("git");
    let output = git.args(["-C", folder]).args(describe).output().ok();
    let output = output.filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or_else(
        || format!("version {}", env!("CARGO_PKG_VERSION")),
        |text| text.trim().to_owned(),
    )
}
