//! Notes, and the log: a thread of their own writes them to standard error, as one writes results to standard output.
//! Whoever reads them may be slow, or stuck, and the program works on all the same.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::printer;

/// So many wait for the thread; those that find no room are counted as missing.
const WAITING: usize = 16_384;
/// How long the program's end waits for somebody to read on.
const PATIENCE: Duration = Duration::from_secs(1);

/// Those of this process.
static NOTES: Mutex<Option<Notes>> = Mutex::new(None);

/// A line, or several, each with its end.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) lines: String,
    /// The progress that stands under it on a terminal.
    pub(crate) above: Option<ProgressBar>,
}

/// Has it written, without waiting.
pub(crate) fn tell(note: Note) {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    if notes.is_none() {
        *notes = Notes::start(io::stderr()).ok();
    }
    match &*notes {
        Some(notes) => notes.tell(note),
        // There are no threads to be had.
        None => put(&mut io::stderr(), &note.lines),
    }
}

/// Waits until all is written, for as long as somebody reads.
pub(crate) fn finish() {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(notes) = notes.take() {
        notes.finish(PATIENCE);
    }
}

/// Where the log is written to: among the notes.
#[derive(Debug)]
pub(crate) struct Log;

impl Write for Log {
    /// Takes a whole line, as `tracing` writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        tell(Note {
            lines: String::from_utf8_lossy(line).into_owned(),
            above: None,
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is on its way to the thread that writes it.
#[derive(Debug)]
struct Notes {
    waiting: mpsc::Sender<Note>,
    missing: Arc<AtomicU64>,
    /// Something was written; the thread holds the other end for as long as it lives.
    progress: Receiver<()>,
}

impl Notes {
    fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (waiting, received) = mpsc::channel(WAITING);
        let (progressed, progress) = sync_channel(1);
        let missing = Arc::<AtomicU64>::default();
        let missed = missing.clone();
        thread::Builder::new()
            .name("notes".into())
            .spawn(move || write(received, &missed, to, &progressed))?;
        Ok(Self {
            waiting,
            missing,
            progress,
        })
    }

    fn tell(&self, note: Note) {
        if self.waiting.try_send(note).is_err() {
            self.missing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether all could be written: nothing was for so long.
    fn finish(self, patience: Duration) -> bool {
        drop(self.waiting);
        loop {
            match self.progress.recv_timeout(patience) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

fn write(
    waiting: mpsc::Receiver<Note>,
    missing: &AtomicU64,
    mut to: impl Write,
    progressed: &SyncSender<()>,
) {
    // It does not fail: that nobody reads is no reason to stop.
    let Ok(()) = printer::write(waiting, |batch| {
        let above = batch.iter().find_map(|note| note.above.clone());
        let mut lines: String = batch.drain(..).map(|note| note.lines).collect();
        let missed = missing.swap(0, Ordering::Relaxed);
        if missed > 0 {
            lines += &format!("trunkline: {missed} lines are missing here\n");
        }
        match above {
            Some(progress) => progress.suspend(|| put(&mut to, &lines)),
            None => put(&mut to, &lines),
        }
        // One that nobody has looked at yet says the same.
        let _ = progressed.try_send(());
        Ok::<_, Infallible>(())
    });
}

fn put(to: &mut impl Write, lines: &str) {
    let _ = to.write_all(lines.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Says when it is written to, and waits to be let on.
    struct Stuck {
        reached: Sender<String>,
        go_on: Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.reached.send(text).expect("somebody looks");
            // Whoever is gone has let it on for good.
            let _ = self.go_on.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (Notes, Receiver<String>, Sender<()>) {
        let (reached, texts) = channel();
        let (let_on, go_on) = channel();
        let notes = Notes::start(Stuck { reached, go_on }).expect("a thread");
        (notes, texts, let_on)
    }

    fn note(text: &str) -> Note {
        Note {
            lines: format!("{text}\n"),
            above: None,
        }
    }

    #[test]
    fn notes_that_nobody_reads_hold_nobody_up_and_are_counted() {
        let (notes, texts, let_on) = stuck();
        notes.tell(note("first"));
        assert_eq!(texts.recv().as_deref(), Ok("first\n"));
        for number in 0..WAITING + 5 {
            notes.tell(note(&number.to_string()));
        }
        drop(let_on);
        assert!(notes.finish(Duration::MAX));
        let written: String = texts.iter().collect();
        let mut lines = written.lines();
        assert_eq!(lines.next(), Some("0"));
        assert!(written.contains("trunkline: 5 lines are missing here\n"));
        let last = (WAITING - 1).to_string();
        assert_eq!(lines.next_back(), Some(&*last));
    }

    #[test]
    fn the_end_waits_for_those_alone_who_read() {
        let (notes, texts, let_on) = stuck();
        notes.tell(note("read"));
        texts.recv().expect("a note");
        notes.tell(note("unread"));
        let_on.send(()).expect("it waits");
        texts.recv().expect("another one");
        assert!(!notes.finish(Duration::from_millis(20)));
    }
}
