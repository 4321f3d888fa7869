//! The server as a process of its own: this program again.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{self, Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

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

/// From which ports the system takes those that it gives to programs that ask for any.
const GIVEN_OUT: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Below are ports that take a privilege.
const LOWEST: u16 = 1_024;

/// An address that a server which ends gets again: its port is free, and given to no program that asks for any. Where
/// there is no such port, it is any.
pub(crate) fn address_to_come_back_to() -> SocketAddr {
    let given_out = fs::read_to_string(GIVEN_OUT).unwrap_or_default();
    let ports = ports_outside(&given_out).unwrap_or_default();
    // Each run has its own first choice.
    let own = process::id() as usize % ports.len().max(1);
    let in_turn = ports.iter().cycle().skip(own).take(ports.len());
    let mut addresses = in_turn.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)));
    let free = addresses.find(|address| UdpSocket::bind(address).is_ok());
    free.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into())
}

/// Ports outside a range, as the system writes it: its first and its last one. `None`: it is none.
fn ports_outside(range: &str) -> Option<Vec<u16>> {
    let mut ends = range.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(
        (LOWEST..=u16::MAX)
            .filter(|port| !(first..=last).contains(port))
            .collect(),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_outside_the_range_are_those_before_and_behind_it() {
        let ports = ports_outside("1026\t65533\n").unwrap();
        assert_eq!(ports, [1_024, 1_025, 65_534, 65_535]);
        assert_eq!(ports_outside("1 65535"), Some(vec![]));
        assert_eq!(ports_outside("32768"), None);
    }

    #[test]
    fn an_address_to_come_back_to_is_free_and_nobody_gets_it_by_chance() {
        let address = address_to_come_back_to();
        UdpSocket::bind(address).unwrap();
        let given_out = fs::read_to_string(GIVEN_OUT).unwrap_or_default();
        let ports = ports_outside(&given_out).unwrap_or_default();
        assert!(ports.is_empty() && address.port() == 0 || ports.contains(&address.port()));
    }
}
