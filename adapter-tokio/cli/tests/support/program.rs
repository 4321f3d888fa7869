//! The program while it runs: its lines as they come, signals, and an end in any case.

#![allow(dead_code, reason = "each test file uses a part")]

#[path = "../../../tests/common/ports.rs"]
mod ports;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::trunkline;

/// Far longer than anything takes: a test that waits this long has failed. Shorter than a heartbeat
/// timeout, 45 s, so that nothing passes that has waited for one.
const PATIENCE: Duration = Duration::from_secs(25);

/// A running program; it is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<Line>,
    seen: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    is_result: bool,
    text: String,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) results: String,
    /// Standard error.
    pub(crate) notes: String,
}

impl Program {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, Stdio::null())
    }

    pub(crate) fn start_with(arguments: &[&str], stdin: impl Into<Stdio>) -> Self {
        let mut command = trunkline(arguments);
        command.stdin(stdin);
        Self::of(command)
    }

    /// Another program, in the same manner.
    pub(crate) fn of(command: Command) -> Self {
        Self::spawned(command, true, true)
    }

    /// One whose standard output nobody reads.
    pub(crate) fn unread(command: Command) -> Self {
        Self::spawned(command, false, true)
    }

    /// One whose standard error nobody reads; at its end there is what the pipe has taken.
    pub(crate) fn unheard(command: Command) -> Self {
        Self::spawned(command, true, false)
    }

    fn spawned(mut command: Command, reads_output: bool, reads_notes: bool) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let (sender, lines) = channel();
        if reads_output {
            read(child.stdout.take().expect("piped"), true, sender.clone());
        }
        if reads_notes {
            read(child.stderr.take().expect("piped"), false, sender);
        }
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for a line, of either stream, that has all these parts and was not waited for yet.
    #[track_caller]
    pub(crate) fn line(&mut self, parts: &[&str]) -> String {
        self.line_where(PATIENCE, &format!("{parts:?}"), |line| {
            parts.iter().all(|part| line.contains(part))
        })
    }

    /// Waits for so long for a line, of either stream, that is the one and was not waited for yet.
    #[track_caller]
    pub(crate) fn line_where(
        &mut self,
        patience: Duration,
        wanted: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if is_it(&line.text) {
                        return line.text;
                    }
                }
                Err(_) => panic!("no line with {wanted}; {}", self.told()),
            }
        }
    }

    /// All lines that have come so far; they count as waited for.
    pub(crate) fn told_so_far(&mut self) -> impl Iterator<Item = &str> {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().map(|line| line.text.as_str())
    }

    /// The address that it says it listens on.
    #[track_caller]
    pub(crate) fn address(&mut self) -> String {
        let line = self.line(&["listening on "]);
        let rest = line.split("listening on ").nth(1).expect("an address");
        let address = rest.split([',', ';']).next().expect("an address");
        address.to_owned()
    }

    /// Sends a signal: `INT`, `KILL`, `STOP` …
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(sent.success(), "{signal} was not sent");
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        self.end_within(PATIENCE)
    }

    /// Waits for its end for so long.
    #[track_caller]
    pub(crate) fn end_within(mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                // Both streams are at their end.
                Err(_) if Instant::now() < deadline => break,
                Err(_) => panic!("it does not end; {}", self.told()),
            }
        }
        let status = self.child.wait().expect("ended");
        let mut notes = self.text(false);
        if let Some(mut unread) = self.child.stderr.take() {
            unread.read_to_string(&mut notes).expect("text");
        }
        Ended {
            status,
            results: self.text(true),
            notes,
        }
    }

    fn text(&self, is_result: bool) -> String {
        let lines = self.seen.iter().filter(|line| line.is_result == is_result);
        lines.map(|line| line.text.clone() + "\n").collect()
    }

    fn told(&self) -> String {
        format!(
            "standard output:\n{}standard error:\n{}",
            self.text(true),
            self.text(false)
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The one JSON object that it printed, of a program that succeeded.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        assert!(self.status.success(), "{self:?}");
        serde_json::from_str(&self.results).expect("one object and nothing else")
    }
}

fn read(stream: impl Read + Send + 'static, is_result: bool, sender: Sender<Line>) {
    thread::spawn(move || {
        for text in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(Line { is_result, text }).is_err() {
                return;
            }
        }
    });
}

/// Certificates for this machine, and for these clients.
pub(crate) struct Certificates(tempfile::TempDir);

impl Certificates {
    pub(crate) fn new(clients: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut arguments = vec!["cert", "--out", directory.path().to_str().expect("a path")];
        for client in clients {
            arguments.extend(["--client", client]);
        }
        let made = crate::support::run(&arguments);
        assert!(made.status.success(), "{made:?}");
        Self(directory)
    }

    pub(crate) fn directory(&self) -> &str {
        self.0.path().to_str().expect("a path")
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0
            .path()
            .join(name)
            .to_str()
            .expect("a path")
            .to_owned()
    }

    /// A server with open admission, and its address.
    pub(crate) fn server(&self, options: &[&str]) -> (Program, String) {
        self.server_at("127.0.0.1:0", options)
    }

    pub(crate) fn server_at(&self, address: &str, options: &[&str]) -> (Program, String) {
        let directory = self.directory();
        let arguments = [
            &[
                "serve",
                "--listen",
                address,
                "--dev",
                directory,
                "--admission",
                "open",
            ],
            options,
        ];
        let mut program = Program::start(&arguments.concat());
        let address = program.address();
        (program, address)
    }

    /// A client command with these certificates.
    pub(crate) fn client(&self, command: &str, server: &str, options: &[&str]) -> Program {
        let arguments = [&[command, server, "--dev", self.directory()], options];
        Program::start(&arguments.concat())
    }
}

/// An address that is free, and stays so.
pub(crate) fn free_address() -> String {
    ports::free_address().to_string()
}
