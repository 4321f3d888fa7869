//! Real processes, real sockets and real signals: a server and several clients over bad paths, all
//! of which are killed, stopped, cut and moved at random for a while. Then the faults end, everything
//! settles, and the books are compared.
//!
//! `TRUNKLINE_FAULT_SECONDS=60` makes it last for a minute, `TRUNKLINE_SEED=7` repeats the faults of
//! an earlier run at the same moments. What falls between them is the machine's affair: the same seed
//! need not fail again.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::panic)]

mod books;
mod plan;
#[path = "../support/program.rs"]
mod program;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use stage::{PATHS, Stage, TRADES};

/// How long there are faults unless it is said.
const SECONDS: u64 = 10;
const MINUTE: Duration = Duration::from_secs(60);

fn variable(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    let number = given.parse();
    Some(
        number.unwrap_or_else(|_| {
            panic!("{name}={given} is not a whole number: give one, such as 60")
        }),
    )
}

#[test]
fn nothing_is_lost_doubled_or_disordered_while_everything_breaks() {
    let length = Duration::from_secs(variable("TRUNKLINE_FAULT_SECONDS").unwrap_or(SECONDS));
    let seed = variable("TRUNKLINE_SEED").unwrap_or_else(|| RandomState::new().hash_one(()) >> 32);
    println!(
        "TRUNKLINE_SEED={seed} TRUNKLINE_FAULT_SECONDS={}",
        length.as_secs()
    );
    let mut stage = Stage::new();
    let start = Instant::now();
    for step in plan::plan(seed, length, TRADES.len(), PATHS) {
        // What lies between two faults is traffic, and a fault's length is what it is about.
        thread::sleep((start + step.at).saturating_duration_since(Instant::now()));
        println!("{step}");
        stage.carry_out(step.act);
    }
    let healed = Instant::now();
    stage.settle();
    println!(
        "all get through {:.1?} after the last fault",
        Instant::now() - healed
    );
    let books = stage.close();
    println!("links and sessions ended: {:?}", books.ends());
    let totals = match books.check() {
        Ok(totals) => totals,
        Err(wrong) => panic!(
            "TRUNKLINE_SEED={seed}: {} things are wrong:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(50)].join("\n")
        ),
    };
    println!("{totals}");
    assert!(totals.answered > 0 && totals.heard > 0, "{totals}");
    // In a minute a path is cut for long enough.
    assert!(totals.resumed > 0 || length < MINUTE, "{totals}");

    // These books are not just right because nothing is looked at.
    let acked = books.accounts.iter().flat_map(|account| {
        let answered = account
            .lines
            .iter()
            .filter(|line| line["outcome"] == "acked");
        answered.filter_map(|line| Some((account.client.clone(), line["number"].as_u64()?)))
    });
    let (client, number) = acked.last().expect("something was acked");
    let mut forged = books.clone();
    for journal in &mut forged.journals {
        journal.retain(|entry| books::message(entry) != Some((&client, number)));
    }
    let wrong = forged.check().expect_err("an entry is missing");
    assert_eq!(
        wrong,
        [format!(
            "{client}: {number} was answered, and no server handled it"
        )]
    );
}
