//! The server as a process of its own: this program again.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::arguments::{Broadcasts, Engine, Policy};

/// A running server; it is killed when this is dropped.
pub(crate) struct ServerProcess {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) pid: i32,
}

/// What a server is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) engine: Engine,
    /// Where; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// What its keys follow from.
    pub(crate) keys: u8,
    pub(crate) heartbeat: Duration,
    /// What it broadcasts, and what it does with who is too slow for that.
    pub(crate) broadcasts: Option<(Broadcasts, Policy)>,
}

impl Start {
    /// At a free port, with the default heartbeat.
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            keys: 1,
            heartbeat: Duration::from_secs(15),
            broadcasts: None,
        }
    }
}

impl ServerProcess {
    /// Starts one; it listens when this returns.
    pub(crate) fn start(start: Start) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["serve", "--engine", start.engine.name()])
            .args(["--listen", &start.listen.to_string()])
            .args(["--keys", &start.keys.to_string()])
            .args(["--heartbeat", &start.heartbeat.as_millis().to_string()]);
        if let Some((broadcasts, policy)) = start.broadcasts {
            command
                .args(["--policy", policy.name()])
                .args(["--rate", &broadcasts.rate.to_string()])
                .args(["--payload", &broadcasts.payload.to_string()])
                .args(["--queue", &broadcasts.queue.to_string()]);
        }
        let mut process = command
            // It ends with this process, whatever becomes of that: then its input is at its end.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server process does not start")?;
        let pid = i32::try_from(process.id())?;
        let mut line = String::new();
        if let Some(out) = process.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let word = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("addr="));
        let Some(address) = word.and_then(|address| address.parse().ok()) else {
            let _ = process.kill();
            let _ = process.wait();
            bail!("the server did not say where it listens, but {line:?}");
        };
        Ok(Self {
            process,
            address,
            pid,
        })
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
