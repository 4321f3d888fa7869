//! What happens, told as it happens.

use std::fmt::Display;
use std::sync::mpsc;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output;

/// Where the story goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// To standard output: the story is the result.
    Output,
    /// To standard error: the result is something else.
    Error,
}

/// Takes what is to be told, from anywhere: a line each, with the time since the beginning. Cheap
/// to clone, and it never waits, for hooks must not.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    start: Instant,
    lines: mpsc::Sender<Told>,
}

impl Story {
    /// Tells what somebody does, or what happens to them.
    pub(crate) fn say(&self, who: &str, what: impl Display) {
        self.tell(Told::Line(self.line(who, what)));
    }

    /// Tells the last there is: whoever tells something later is not heard.
    pub(crate) fn end(&self, who: &str, what: impl Display) {
        self.tell(Told::End(Some(self.line(who, what))));
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&self, title: impl Display) {
        self.tell(Told::Line(format!("\n{title}")));
    }

    fn line(&self, who: &str, what: impl Display) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        format!("{seconds:7.2}s  {who:<8}  {what}")
    }

    fn tell(&self, told: Told) {
        // Where nobody reads, there is nothing to tell.
        let _ = self.lines.send(told);
    }
}

/// What the teller is told.
#[derive(Debug)]
enum Told {
    Line(String),
    /// The story is over, with this line, if there is one.
    End(Option<String>),
}

/// Writes the story down, on a thread of its own: a terminal that is held up must hold up nobody
/// else.
#[derive(Debug)]
pub(crate) struct Teller {
    lines: mpsc::Sender<Told>,
    writer: JoinHandle<Result<(), Failure>>,
}

impl Teller {
    /// Begins a story.
    pub(crate) fn start(sink: Sink) -> (Story, Self) {
        let (lines, told) = mpsc::channel();
        let writer = tokio::task::spawn_blocking(move || {
            let write = |line: String| match sink {
                Sink::Output => output::result(&line),
                Sink::Error => {
                    output::aside(&line);
                    Ok(())
                }
            };
            // Whoever still holds an end of it is not heard once it is over.
            loop {
                match told.recv() {
                    Ok(Told::Line(line)) => write(line)?,
                    Ok(Told::End(Some(line))) => return write(line),
                    Ok(Told::End(None)) | Err(_) => return Ok(()),
                }
            }
        });
        let story = Story {
            start: Instant::now(),
            lines: lines.clone(),
        };
        (story, Self { lines, writer })
    }

    /// Waits until all that was told so far is written.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        // If the writer has ended, it says why.
        let _ = self.lines.send(Told::End(None));
        self.writer.await.unwrap_or(Err(Failure::OutputClosed))
    }
}
