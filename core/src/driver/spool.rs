//! What waits for the disk: the driver hands over bytes, and a thread of its own, the only one that is
//! started here, writes them.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::recording::RecordingWatch;
use crate::logged::logged;

/// With so many, or after so long, they are written.
const BATCH: usize = 128 << 10;
const LINGER: Duration = Duration::from_millis(100);

const UNWRITTEN: &str = "the end of the recording cannot be written";

/// What waits for the disk: it takes bytes at once or not at all.
pub(super) struct Spool {
    shared: Arc<Shared>,
    /// Bytes that may wait.
    room: usize,
    watch: RecordingWatch,
    /// What is waited for when this is gone.
    writing: Option<Writing>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Nothing more comes.
    closed: bool,
    /// Nothing more is written; and why, if it failed.
    done: bool,
    failed: Option<io::Error>,
}

impl Spool {
    /// Its end is the recording's, and waits for this.
    pub(super) fn with(mut self, writing: Writing) -> Self {
        self.writing = Some(writing);
        self
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if state.done {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let before = state.waiting.len();
        if bytes.len() > self.room.saturating_sub(before) {
            let error =
                io::Error::other(format!("the disk is too slow: {before} bytes wait for it"));
            self.watch.failed(&error);
            return Err(error);
        }
        state.waiting.extend_from_slice(bytes);
        // The thread sleeps until there is something, and then until there is a batch.
        if before == 0 || (before < BATCH && state.waiting.len() >= BATCH) {
            self.shared.changed.notify_all();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Spool {
    /// Nothing more comes. It does not wait: this may be the thread of a node that runs on.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        if let Some(error) = state.failed.take() {
            logged(|| tracing::warn!(%error, "{UNWRITTEN}"));
        }
    }
}

/// Files of a recording that are still being written. Its end waits for all of them, for a while.
pub(super) struct Writing {
    files: Arc<Files>,
    patience: Duration,
    watch: RecordingWatch,
}

#[derive(Default)]
struct Files {
    unwritten: Mutex<usize>,
    changed: Condvar,
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            files: Arc::default(),
            patience,
            watch: RecordingWatch::default(),
        }
    }

    /// Tells this one if something cannot be written.
    pub(super) fn watched_by(mut self, watch: &RecordingWatch) -> Self {
        self.watch = watch.clone();
        self
    }

    /// What waits to be written to another file, of which it takes so many bytes; and starts the
    /// thread that writes them.
    pub(super) fn spool(&self, file: File, room: usize) -> io::Result<Spool> {
        let shared = Arc::<Shared>::default();
        let (writer, files) = (shared.clone(), self.files.clone());
        let watch = self.watch.clone();
        *files.lock() += 1;
        let started = thread::Builder::new()
            .name("trunkline-trace".into())
            .spawn(move || {
                writer.run(file, &watch);
                *files.lock() -= 1;
                files.changed.notify_all();
            });
        if let Err(error) = started {
            *self.files.lock() -= 1;
            return Err(error);
        }
        Ok(Spool {
            shared,
            room,
            watch: self.watch.clone(),
            writing: None,
        })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let unwritten = |files: &mut usize| *files > 0;
        let waited =
            self.files
                .changed
                .wait_timeout_while(self.files.lock(), self.patience, unwritten);
        let (unwritten, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *unwritten > 0 {
            let late = "the end of the recording is still being written";
            self.watch.failed(&io::Error::other(late));
            logged(|| tracing::warn!("{late}"));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, until nothing more comes.
    fn run(&self, mut file: File, watch: &RecordingWatch) {
        let mut batch = Vec::new();
        loop {
            let more = self.take(&mut batch);
            let written = file.write_all(&batch);
            batch.clear();
            if let Err(error) = &written {
                watch.failed(error);
            }
            if written.is_err() || !more {
                let mut state = self.lock();
                match written {
                    // Nobody asks any more.
                    Err(error) if state.closed => {
                        logged(|| tracing::warn!(%error, "{UNWRITTEN}"));
                    }
                    other => state.failed = other.err(),
                }
                state.done = true;
                self.changed.notify_all();
                return;
            }
        }
    }

    /// Waits for a batch; `false`: it is the last.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let state = self.changed.wait_while(self.lock(), idle);
        let small = |state: &mut State| state.waiting.len() < BATCH && !state.closed;
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, LINGER, small);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, batch);
        !state.closed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const ROOM: usize = 8 << 20;

    /// Longer than any test may take.
    const PATIENCE: Duration = Duration::from_secs(3_600);

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("trunkline-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_spool_writes_everything_before_it_is_gone() {
        let path = path("spool");
        let writing = Writing::new(PATIENCE);
        let spool = writing
            .spool(File::create_new(&path).unwrap(), ROOM)
            .unwrap();
        let mut spool = spool.with(writing);
        for byte in 0..200_u8 {
            spool.write_all(&[byte; 1_000]).unwrap();
        }
        drop(spool);
        let written = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(written.len(), 200_000);
        assert!(written.is_sorted());
    }

    #[cfg(unix)]
    #[test]
    fn a_slow_disk_holds_up_the_end_of_a_recording_and_no_saving_before_it() {
        use std::io::Read;

        // A pipe takes some of it, and nobody reads.
        let (mut disk, file) = io::pipe().unwrap();
        let writing = Writing::new(PATIENCE);
        let file = File::from(std::os::fd::OwnedFd::from(file));
        let mut spool = writing.spool(file, usize::MAX).unwrap();
        spool.write_all(&vec![7; 4 << 20]).unwrap();
        // What would wait here would wait for an hour.
        drop(spool);
        assert_eq!(*writing.files.lock(), 1);

        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            disk.read_to_end(&mut read).map(|_| read.len())
        });
        let files = writing.files.clone();
        drop(writing);
        assert_eq!(*files.lock(), 0);
        assert_eq!(reader.join().unwrap().unwrap(), 4 << 20);
    }

    #[test]
    fn the_end_of_a_recording_waits_for_all_its_files() {
        let paths = [1, 2, 3].map(|number| path(&format!("saves-{number}")));
        let writing = Writing::new(PATIENCE);
        for path in &paths {
            let file = File::create_new(path).unwrap();
            let mut spool = writing.spool(file, usize::MAX).unwrap();
            spool.write_all(b"saved").unwrap();
        }
        drop(writing);
        for path in paths {
            assert_eq!(fs::read(&path).unwrap(), b"saved");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_waits_is_bounded_and_taken_whole_or_not_at_all() {
        // Nobody writes: the thread is not started.
        let mut spool = Spool {
            shared: Arc::default(),
            room: ROOM,
            watch: RecordingWatch::new(),
            writing: None,
        };
        assert_eq!(spool.watch.failure(), None);
        spool.write_all(&vec![1; ROOM - 10]).unwrap();
        let error = spool.write_all(&[2; 11]).unwrap_err();
        assert!(error.to_string().contains("too slow"), "{error}");
        assert_eq!(spool.watch.failure(), Some(error.to_string()));
        spool.write_all(&[3; 10]).unwrap();
        assert_eq!(spool.shared.lock().waiting.len(), ROOM);
        spool.shared.lock().done = true;
    }

    #[test]
    fn a_file_that_cannot_be_written_ends_it() {
        let path = path("closed");
        fs::write(&path, b"").unwrap();
        let watch = RecordingWatch::new();
        let writing = Writing::new(PATIENCE).watched_by(&watch);
        // Opened for reading only, so that every write fails.
        let mut spool = writing.spool(File::open(&path).unwrap(), ROOM).unwrap();
        spool.write_all(b"lost").unwrap();
        let state = spool
            .shared
            .changed
            .wait_while(spool.shared.lock(), |state| !state.done);
        drop(state.unwrap());
        let failure = watch.failure();
        let error = spool.write_all(b"refused").unwrap_err();
        assert_eq!(failure, Some(error.to_string()));
        assert!(spool.write_all(b"refused").is_err());
        fs::remove_file(&path).unwrap();
    }
}
