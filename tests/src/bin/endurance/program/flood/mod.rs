//! A flood of first packets from many addresses, whose answers nobody reads: as a process of its own,
//! this program again.
//!
//! The addresses are loopback's, 127.1.0.1 and so on, with a socket bound to each, which takes no
//! rights. To the server they are as good as forged ones: it has never seen any of them, and what it
//! sends there has no effect.

mod sources;

use std::env;
use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use trunkline_testkit::{INITIAL_BYTES, Initials};

use super::arguments::Flood;
use sources::Sources;

/// How long it sleeps when it has sent what is due.
const BREATH: Duration = Duration::from_millis(1);
/// How much it makes up for when it was kept from sending.
const MADE_UP_FOR: Duration = Duration::from_millis(100);

/// Sends until its standard input ends, then says what that came to.
pub(crate) fn flood(options: &Flood) -> Result<()> {
    let mut initials =
        Initials::new(&options.protocol, options.seed).map_err(|error| anyhow!("{error}"))?;
    let mut sources = Sources::bind(options.sources)?;
    let mut datagram = [0; INITIAL_BYTES];
    let interval = Duration::from_secs(1) / options.rate;
    let over = end_of_input();
    let begin = Instant::now();
    let (mut due, mut sent, mut not_taken) = (begin, 0_u64, 0_u64);
    while !over.load(Ordering::Relaxed) {
        let now = Instant::now();
        if due > now {
            thread::sleep(BREATH);
            continue;
        }
        due = due.max(now.checked_sub(MADE_UP_FOR).unwrap_or(now)) + interval;
        initials.write(&mut datagram)?;
        match sources.send(&datagram, options.to) {
            Ok(()) => sent += 1,
            // A full queue, or what an answer to an earlier one has left behind.
            Err(_) => not_taken += 1,
        }
    }
    let seconds = (Instant::now() - begin).as_secs_f64();
    let came_to = json!({ "sent": sent, "not_taken": not_taken, "seconds": seconds });
    println!("{came_to}");
    Ok(())
}

/// Becomes true when the standard input ends.
fn end_of_input() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    thread::spawn(move || {
        // Whatever ends it.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        told.store(true, Ordering::Relaxed);
    });
    over
}

/// A flood under way; it ends when this is dropped.
pub(crate) struct FloodProcess {
    process: Child,
    said: ChildStdout,
}

/// What a flood came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flooded {
    /// Datagrams that the system took.
    pub(crate) sent: u64,
    pub(crate) seconds: f64,
}

impl FloodProcess {
    pub(crate) fn start(flood: &Flood) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(["flood", "--to", &flood.to.to_string()])
            .args(["--rate", &flood.rate.to_string()])
            .args(["--sources", &flood.sources.to_string()])
            .args(["--protocol", &flood.protocol])
            .args(["--seed", &flood.seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the flood does not start")?;
        let said = process.stdout.take().context("the flood has no output")?;
        Ok(Self { process, said })
    }

    pub(crate) fn stop(mut self) -> Result<Flooded> {
        drop(self.process.stdin.take());
        let mut said = String::new();
        self.said.read_to_string(&mut said)?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the flood ended early: {status}");
        let came_to: Value = serde_json::from_str(&said).context("the flood said nothing")?;
        let number = |name: &str| came_to[name].as_f64().unwrap_or_default();
        Ok(Flooded {
            sent: number("sent") as u64,
            seconds: number("seconds"),
        })
    }
}

impl Drop for FloodProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
