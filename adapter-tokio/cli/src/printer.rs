//! Results that are written by a thread of their own: whoever reads standard output may be slow, or stuck, and the
//! program hears Ctrl-C all the same.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;

use crate::failure::Failure;
use crate::output;
use crate::signals::StopSignals;

/// So many results wait for the thread; each may be as long as a text.
const WAITING: usize = 64;
/// How long a command that is to end at once waits for somebody to read what it has told.
const AT_ONCE: Duration = Duration::from_secs(1);
/// After so long, a user who has asked for an end is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes results to standard output, one after another.
#[derive(Debug)]
pub(crate) struct Printer {
    /// What the thread has no room for.
    behind: VecDeque<String>,
    lines: mpsc::Sender<String>,
    thread: JoinHandle<Result<(), Failure>>,
    /// Why nothing can be written any more.
    broken: Option<Failure>,
}

impl Printer {
    /// Nothing is written yet.
    pub(crate) fn start() -> Self {
        let (lines, waiting) = mpsc::channel(WAITING);
        Self {
            behind: VecDeque::new(),
            lines,
            thread: tokio::task::spawn_blocking(move || write(waiting)),
            broken: None,
        }
    }

    /// Takes a result, a line or several, without waiting. Whoever prints much looks whether it is
    /// [behind](Self::is_behind) first.
    pub(crate) fn print(&mut self, text: String) {
        if !self.behind.is_empty() {
            self.behind.push_back(text);
            return;
        }
        if let Err(TrySendError::Full(text)) = self.lines.try_send(text) {
            self.behind.push_back(text);
        }
    }

    /// Whether results wait that the thread has no room for.
    pub(crate) fn is_behind(&self) -> bool {
        !self.behind.is_empty() && self.broken.is_none()
    }

    /// Whether nothing can be written any more, because nobody reads or for another reason.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Waits until it is less behind, or is broken; for ever, if it is neither. Cancel-safe.
    pub(crate) async fn progress(&mut self) {
        if self.broken.is_some() {
            return pending().await;
        }
        tokio::select! {
            biased;
            ended = &mut self.thread => self.broken = Some(why(ended)),
            Ok(room) = self.lines.reserve(), if !self.behind.is_empty() => {
                if let Some(text) = self.behind.pop_front() {
                    room.send(text);
                }
            }
        }
    }

    /// Waits until all is written, or the user does not want to wait for it.
    pub(crate) async fn finish(self, stop: &mut StopSignals) -> Result<(), Failure> {
        let asked = stop.asked();
        let explained = async {
            if asked {
                tokio::time::sleep(PATIENCE).await;
                output::note("nobody reads what it has printed; once more ends it without");
            }
            pending().await
        };
        let writing = async {
            tokio::select! {
                written = self.rest() => written,
                never = explained => never,
            }
        };
        written(writing, stop).await
    }

    async fn rest(mut self) -> Result<(), Failure> {
        while self.is_behind() {
            self.progress().await;
        }
        if let Some(failure) = self.broken {
            return Err(failure);
        }
        drop(self.lines);
        self.thread
            .await
            .unwrap_or_else(|error| Err(panicked(error)))
    }
}

/// Writes one last result, unless the user does not want to wait until somebody reads it.
pub(crate) async fn result(text: String, stop: &mut StopSignals) -> Result<(), Failure> {
    let mut printer = Printer::start();
    printer.print(text);
    printer.finish(stop).await
}

/// Waits until what was told is written, or the user does not want to wait for that: who has asked for an end at once
/// waits a second at most, and who asks for an end now, no longer.
pub(crate) async fn written<T>(
    writing: impl Future<Output = Result<T, Failure>>,
    stop: &mut StopSignals,
) -> Result<T, Failure> {
    let patience = if stop.at_once() {
        AT_ONCE
    } else {
        Duration::MAX
    };
    let given_up = async {
        tokio::select! {
            () = stop.next() => {}
            () = tokio::time::sleep(patience) => {}
        }
    };
    tokio::select! {
        written = writing => written,
        () = given_up => Err(Failure::interrupted()),
    }
}

fn why(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> Failure {
    match ended {
        // It goes on as long as there is somebody to print for.
        Ok(Ok(())) => Failure::OutputClosed,
        Ok(Err(failure)) => failure,
        Err(error) => panicked(error),
    }
}

fn panicked(error: tokio::task::JoinError) -> Failure {
    Failure::failed(format!("standard output cannot be written: {error}"))
}

/// Writes what waits, all of it at a time, until there is nobody to tell more.
fn write(mut waiting: mpsc::Receiver<String>) -> Result<(), Failure> {
    let mut batch = Vec::with_capacity(WAITING);
    while waiting.blocking_recv_many(&mut batch, WAITING) > 0 {
        output::result(&batch.join("\n"))?;
        batch.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn polled(progress: impl Future<Output = ()>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        pin!(progress).as_mut().poll(&mut cx).is_ready()
    }

    #[tokio::test]
    async fn what_nobody_reads_waits_in_order() {
        let (lines, mut waiting) = mpsc::channel(2);
        let mut printer = Printer {
            behind: VecDeque::new(),
            lines,
            thread: tokio::spawn(pending()),
            broken: None,
        };
        for text in ["a", "b", "c", "d"] {
            printer.print(text.to_owned());
        }
        assert!(printer.is_behind());
        assert!(!polled(printer.progress()));
        for (text, behind) in [("a", true), ("b", false), ("c", false), ("d", false)] {
            assert_eq!(waiting.recv().await.as_deref(), Some(text));
            if printer.is_behind() {
                assert!(polled(printer.progress()));
            }
            assert_eq!(printer.is_behind(), behind, "{text}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told_once() {
        let (lines, _) = mpsc::channel(1);
        let mut printer = Printer {
            behind: VecDeque::new(),
            lines,
            thread: tokio::spawn(async { Err(Failure::OutputClosed) }),
            broken: None,
        };
        printer.print("a".to_owned());
        printer.progress().await;
        assert!(printer.is_broken() && !printer.is_behind());
        printer.print("b".to_owned());
        assert!(!printer.is_behind());
        assert!(!polled(printer.progress()));
        let mut stop = StopSignals::listen();
        let ended = printer.finish(&mut stop).await;
        assert!(matches!(ended, Err(Failure::OutputClosed)), "{ended:?}");
    }
}
