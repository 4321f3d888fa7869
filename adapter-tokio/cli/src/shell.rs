//! Commands that a shell runs for the program, and that do not outlive it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};
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
/// killed, and all that it has started with it.
pub(crate) fn run(command: &str, unwanted: impl Future<Output = ()>) -> io::Result<Option<Ended>> {
    Handle::current().block_on(async {
        let mut said = tempfile::tempfile()?;
        let mut sh = Command::new("sh");
        sh.arg("-c")
            .arg(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone()?);
        // What it starts is in its group, too, unless it leaves that. A terminal's Ctrl-C reaches this program alone.
        #[cfg(unix)]
        sh.process_group(0);
        let mut child = sh.spawn()?;
        tokio::select! {
            status = child.wait() => Ok(Some(Ended {
                status: status?,
                said: first_line(&mut said)?,
            })),
            () = unwanted => kill(&mut child).await.map(|()| None),
        }
    })
}

/// Returns when it has ended.
async fn kill(child: &mut Child) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()) {
        use nix::sys::signal::{Signal, killpg};
        // They may all have ended just now.
        let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
    }
    // On other systems what it has started goes on.
    child.kill().await
}

fn first_line(said: &mut File) -> io::Result<String> {
    said.rewind()?;
    let mut line = Vec::new();
    BufReader::new(said.take(SAID)).read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
