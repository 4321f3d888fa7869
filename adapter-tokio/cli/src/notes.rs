//! Notes, and the log: a thread of their own writes them to standard error, as one writes results to standard output.
//! Whoever reads them may be slow, or stuck, and the program works on all the same.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::runtime;
use tokio::sync::mpsc;

use crate::backlog::{Backlog, Next, Reader, backlog};
use crate::signals::StopSignals;

/// So many wait for the thread; those that find no room are counted as missing.
const WAITING: usize = 16_384;
/// So many are written at a time.
const BATCH: usize = 64;
/// And in pieces of so many bytes, so that somebody who reads slowly is seen to read.
const PIECE: usize = 4 << 10;
/// How long the program's end waits for somebody to read on.
const PATIENCE: Duration = Duration::from_secs(1);
/// And how long in all.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(5);

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
        None => put(&mut io::stderr(), &note.lines, || {}),
    }
}

/// Waits until all is written, for as long as somebody reads: 5 s at most, 1 s if the program is to end at once, and not
/// after a signal to stop.
pub(crate) fn finish(at_once: bool) {
    // Not under the lock: the runtime below may have lines for the log, which come here.
    let taken = NOTES.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(notes) = taken else {
        return;
    };
    let in_all = if at_once { PATIENCE } else { PATIENCE_IN_ALL };
    // The program's own runtime has ended, and may have told of that. Signals stay caught after it.
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            runtime.block_on(async {
                let mut stop = StopSignals::listen();
                notes.finish(PATIENCE, in_all, stop.next()).await
            });
        }
        // There has been no other one, then, and a signal ends the program by itself.
        Err(_) => notes.finish_without_runtime(),
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
    waiting: Backlog<Note>,
    /// Something was written; the thread holds the other end for as long as it lives.
    progress: mpsc::Receiver<()>,
}

impl Notes {
    fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (waiting, reader) = backlog(WAITING);
        let (progressed, progress) = mpsc::channel(1);
        thread::Builder::new()
            .name("notes".into())
            .spawn(move || write(reader, to, &progressed))?;
        Ok(Self { waiting, progress })
    }

    fn tell(&self, note: Note) {
        self.waiting.tell(note);
    }

    /// Whether all could be written: nothing was for so long, or not all of it in all that time, or before the signal.
    async fn finish(
        mut self,
        patience: Duration,
        in_all: Duration,
        stopped: impl Future<Output = ()>,
    ) -> bool {
        drop(self.waiting);
        let writing = async {
            loop {
                match tokio::time::timeout(patience, self.progress.recv()).await {
                    Ok(Some(())) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
        };
        tokio::select! {
            biased;
            () = stopped => false,
            written = tokio::time::timeout(in_all, writing) => written.unwrap_or(false),
        }
    }

    fn finish_without_runtime(mut self) {
        drop(self.waiting);
        while self.progress.blocking_recv().is_some() {}
    }
}

fn write(mut waiting: Reader<Note>, mut to: impl Write, progressed: &mpsc::Sender<()>) {
    let mut batch = Vec::new();
    while waiting.read(BATCH, &mut batch) {
        let mut above = None;
        let mut lines = String::new();
        for next in batch.drain(..) {
            match next {
                Next::Told(note) => {
                    lines += &note.lines;
                    above = above.or(note.above);
                }
                Next::Missing(missed) => {
                    lines += &format!("trunkline: {missed} lines are missing here\n");
                }
            }
        }
        let mut put = || {
            put(&mut to, &lines, || {
                // One that nobody has looked at yet says the same.
                let _ = progressed.try_send(());
            });
        };
        match above {
            Some(progress) => progress.suspend(put),
            None => put(),
        }
    }
}

/// Writes whole lines at a time, unless one is longer than a piece. That nobody reads is no reason to stop.
fn put(to: &mut impl Write, lines: &str, mut written: impl FnMut()) {
    let mut left = lines.as_bytes();
    while !left.is_empty() {
        let most = &left[..left.len().min(PIECE)];
        let end = most.iter().rposition(|&byte| byte == b'\n');
        let (piece, rest) = left.split_at(end.map_or(most.len(), |end| end + 1));
        let _ = to.write_all(piece);
        written();
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc::{Receiver, Sender, channel};

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

    #[tokio::test]
    async fn notes_that_nobody_reads_hold_nobody_up_and_are_counted() {
        let (notes, texts, let_on) = stuck();
        notes.tell(note("first"));
        assert_eq!(texts.recv().as_deref(), Ok("first\n"));
        for number in 0..WAITING + 5 {
            notes.tell(note(&number.to_string()));
        }
        drop(let_on);
        assert!(notes.finish(Duration::MAX, Duration::MAX, pending()).await);
        let written: String = texts.iter().collect();
        let mut lines = written.lines();
        assert_eq!(lines.next(), Some("0"));
        // Where they would have stood.
        let missing = lines.next_back();
        assert_eq!(missing, Some("trunkline: 5 lines are missing here"));
        let last = (WAITING - 1).to_string();
        assert_eq!(lines.next_back(), Some(&*last));
    }

    #[tokio::test]
    async fn the_end_waits_for_those_alone_who_read() {
        let (notes, texts, let_on) = stuck();
        notes.tell(note("read"));
        texts.recv().expect("a note");
        notes.tell(note("unread"));
        let_on.send(()).expect("it waits");
        texts.recv().expect("another one");
        let patience = Duration::from_millis(20);
        assert!(!notes.finish(patience, Duration::MAX, pending()).await);
    }

    #[tokio::test]
    async fn the_end_waits_no_longer_than_it_may_whoever_reads() {
        for (in_all, signalled) in [(Duration::ZERO, false), (Duration::MAX, true)] {
            let (notes, texts, _let_on) = stuck();
            notes.tell(note("unread"));
            texts.recv().expect("a note");
            let signal = async {
                if !signalled {
                    pending().await
                }
            };
            assert!(!notes.finish(Duration::MAX, in_all, signal).await);
        }
    }

    #[test]
    fn much_is_written_piece_by_piece_and_each_is_told() {
        #[derive(Default)]
        struct Pieces(Vec<String>);

        impl Write for Pieces {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(String::from_utf8_lossy(bytes).into_owned());
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let line = "x".repeat(1_000) + "\n";
        let long = "y".repeat(PIECE + 1) + "\n";
        let lines = line.repeat(9) + &long;
        let (mut to, mut told) = (Pieces::default(), 0);
        put(&mut to, &lines, || told += 1);
        assert_eq!(to.0.concat(), lines);
        let four = line.repeat(4);
        let expected = [&four, &four, &line, &long[..PIECE], "y\n"];
        assert_eq!(to.0, expected);
        assert_eq!(told, expected.len());
    }
}
