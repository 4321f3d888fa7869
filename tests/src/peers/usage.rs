//! CPU time and memory of processes: this one's and the server's.

use std::fs;
use std::ops::{Add, Sub};
use std::process;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::meter::Window;

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// User and system, to the nanosecond.
    pub total: f64,
    /// The system's part of it, in steps of 10 ms.
    pub system: f64,
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            system: self.system + other.system,
        }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            total: self.total - other.total,
            system: self.system - other.system,
        }
    }
}

/// What the processes had used at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// When.
    pub at: Instant,
    client: Cpu,
    server: Cpu,
}

impl Snapshot {
    /// What this process and those of the server have used until now.
    pub fn take(server: &[i32]) -> Result<Self> {
        let client = cpu(own_id()?)?;
        let server = server
            .iter()
            .try_fold(Cpu::default(), |sum, pid| cpu(*pid).map(|used| sum + used))?;
        Ok(Self {
            at: Instant::now(),
            client,
            server,
        })
    }

    /// The window between this moment and a later one; nothing is counted in it yet.
    pub fn until(&self, later: &Self) -> Window {
        Window {
            time: later.at - self.at,
            client: later.client - self.client,
            server: later.server - self.server,
            ..Window::default()
        }
    }
}

/// What a process has used.
fn cpu(pid: i32) -> Result<Cpu> {
    let missing = || format!("the CPU time of process {pid} cannot be read: is it running?");
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).with_context(missing)?;
    let total = clock_gettime(clock).with_context(missing)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(missing)?;
    let ticks = system_ticks(&stat).with_context(missing)?;
    Ok(Cpu {
        total: total.tv_sec() as f64 + total.tv_nsec() as f64 / 1e9,
        // Linux shows 100 ticks a second to every program, whatever it counts in.
        system: ticks as f64 / 100.0,
    })
}

/// The 15th field of `/proc/PID/stat` (proc_pid_stat(5)). The second is the program's name, in
/// parentheses, and may hold blanks and parentheses itself.
fn system_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(12)?.parse().ok()
}

/// Resident memory of these processes together, in KiB.
pub fn resident_kib(pids: &[i32]) -> Result<u64> {
    let one = |pid: &i32| -> Result<u64> {
        let missing = || format!("the memory of process {pid} cannot be read: is it running?");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(missing)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.with_context(missing)?.parse()?)
    };
    pids.iter().map(one).sum()
}

/// This process's own id.
pub(super) fn own_id() -> Result<i32> {
    Ok(i32::try_from(process::id())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 1234 567 0 0 20 0 1 0 9";
        assert_eq!(system_ticks(stat), Some(567));
        assert_eq!(system_ticks("7 (cut"), None);
    }

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let own = own_id().unwrap();
        assert!(cpu(own).unwrap().total > 0.0);
        assert!(resident_kib(&[own]).unwrap() > 100);
        assert!(resident_kib(&[i32::MAX]).is_err());
    }
}
