//! Commands that a shell runs for the program. None of them outlives it, nor does what they have started: on Unix, as long
//! as that stays in their group of processes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;
use tokio::runtime::Handle;

/// So much of the first line that a command wrote to standard error is of interest.
const SAID: u64 = 1_024;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The first line that it wrote to standard error.
    pub(crate) said: String,
}

/// Runs a command on a thread that may block, until it has ended; or until nobody wants it any more (`None`): then it is
/// killed. What it has left in the background is killed in either case.
pub(crate) fn run(command: &str, unwanted: impl Future<Output = ()>) -> io::Result<Option<Ended>> {
    Handle::current().block_on(async {
        let mut said = tempfile::tempfile()?;
        let mut sh = Command::new("sh");
        sh.arg("-c")
            .arg(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone()?);
        // A terminal's Ctrl-C reaches this program alone.
        #[cfg(unix)]
        let group = group::Group::start()?;
        #[cfg(unix)]
        sh.process_group(group.id());
        let mut child = sh.spawn()?;
        let status = tokio::select! {
            status = child.wait() => Some(status?),
            () = unwanted => None,
        };
        #[cfg(unix)]
        drop(group);
        let Some(status) = status else {
            // On other systems what it has started goes on.
            child.kill().await?;
            return Ok(None);
        };
        let said = first_line(&mut said)?;
        Ok(Some(Ended { status, said }))
    })
}

fn first_line(said: &mut File) -> io::Result<String> {
    said.rewind()?;
    let mut line = Vec::new();
    BufReader::new(said.take(SAID)).read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(unix)]
mod group {
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;

    /// The leader waits for the end of a pipe that this program holds open: however the program ends, by a signal that
    /// nobody catches as well, the group ends with it.
    const LEADER: &str = "trap '' HUP INT QUIT TERM TSTP TTIN TTOU; read -r never; kill -KILL 0";

    /// A group of processes. It is killed when this is dropped, or cannot be, for the program has ended.
    #[derive(Debug)]
    pub(super) struct Group {
        /// Whatever it does, nobody else has its id, which is the group's, until it is waited for.
        leader: Child,
        id: Pid,
    }

    impl Group {
        pub(super) fn start() -> io::Result<Self> {
            let leader = Command::new("sh")
                .args(["-c", LEADER])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()?;
            let id = i32::try_from(leader.id()).map_err(io::Error::other)?;
            Ok(Self {
                leader,
                id: Pid::from_raw(id),
            })
        }

        pub(super) fn id(&self) -> i32 {
            self.id.as_raw()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            // The leader is there at least.
            let _ = killpg(self.id, Signal::SIGKILL);
            let _ = self.leader.wait();
        }
    }
}
