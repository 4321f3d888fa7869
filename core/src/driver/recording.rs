//! Recordings in files: the driver hands over bytes, and a thread of its own, the only one that is
//! started here, waits for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::build_error::StartError;
use crate::trace::{self, Recorder, Saver};
use crate::{Config, Node, Origin, Roles};

/// Where a server or a client is recorded to, and how much at most: see
/// [`super::ServerBuilder::record`]. A path alone is one as well.
#[derive(Clone, Debug)]
pub struct Recording {
    path: PathBuf,
    limit: u64,
    what: What,
    ring: Option<(Duration, Saver)>,
}

/// How much is recorded.
#[derive(Clone, Copy, Debug)]
enum What {
    Wire,
    Link { bodies: bool },
}

/// What a recording may have unless told otherwise.
const LIMIT: u64 = 1 << 30;

/// What is kept in memory of the last seconds, in bytes.
const RING_LIMIT: u64 = 64 << 20;

/// Bytes that may wait for the disk; with more the recording ends.
const WAITING_MAX: usize = 8 << 20;
/// With so many, or after so long, they are written.
const BATCH: usize = 64 << 10;
const LINGER: Duration = Duration::from_millis(100);

/// How long the end of a node may wait for the end of its file.
const FAREWELL: Duration = Duration::from_secs(1);

impl Recording {
    /// A recording of every datagram to a new file, which only its owner can read. A file that is
    /// there already is not overwritten. **Who has it can decrypt everything that it recorded.**
    pub fn to(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            limit: LIMIT,
            what: What::Wire,
            ring: None,
        }
    }

    /// A recording of what comes and goes above QUIC, to a new file of the same kind. Nothing can be
    /// decrypted by it, and of bodies and credentials only the lengths stand in it, and of bodies
    /// hashes. **Tokens of sessions stand in it**, also what those of later sessions are drawn from:
    /// hand it on once the server or client has ended and its sessions' retention is over. What else
    /// it holds is in [`Recorder::link`].
    pub fn link(path: impl Into<PathBuf>) -> Self {
        Self {
            what: What::Link { bodies: false },
            ..Self::to(path)
        }
    }

    /// Keeps bodies and credentials, too, in a recording above QUIC.
    pub fn bodies(self) -> Self {
        match self.what {
            What::Wire => self,
            What::Link { .. } => Self {
                what: What::Link { bodies: true },
                ..self
            },
        }
    }

    /// Keeps only what happened above QUIC in the last so many seconds, in memory: 64 MiB of it at
    /// most, unless [`limit`](Self::limit) says otherwise behind this. It is written down when `saver`
    /// asks for it, and when the recording ends: to the file, the next time to one with `.1` before
    /// its extension, and so on.
    ///
    /// Such a file is for `trunkline trace show`. It cannot be replayed, for that takes everything
    /// from the beginning, unless the server or client has run for no longer than that. A process
    /// that is killed leaves nothing of it.
    pub fn last(self, kept: Duration, saver: &Saver) -> Self {
        let bodies = matches!(self.what, What::Link { bodies: true });
        Self {
            what: What::Link { bodies },
            ring: Some((kept, saver.clone())),
            limit: RING_LIMIT,
            ..self
        }
    }

    /// The recording ends before its file has more bytes than that (1 GiB); what is recorded runs
    /// on.
    pub fn limit(self, bytes: u64) -> Self {
        Self {
            limit: bytes,
            ..self
        }
    }

    /// The recording of one of several shards: `server.tlt` is `server.0.tlt` for the first.
    pub(crate) fn of_shard(&self, number: u16) -> Self {
        let mut name = self.path.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".{number}"));
        if let Some(extension) = self.path.extension() {
            name.push(".");
            name.push(extension);
        }
        Self {
            path: self.path.with_file_name(name),
            ..self.clone()
        }
    }

    /// Makes a recorded node. Its file goes again unless it is kept.
    pub(crate) fn start(
        self,
        config: Config,
        roles: Roles,
        origin: Origin,
    ) -> Result<(Node, Fresh), StartError> {
        let Self {
            path,
            limit,
            what,
            ring,
        } = self;
        let failed = |error| StartError::Recording {
            path: path.clone(),
            error,
        };
        let (recorder, fresh) = match ring {
            None => {
                let file = create(&path).map_err(failed)?;
                let fresh = Fresh(Some(path.clone()));
                let spool = Spool::to(file, WAITING_MAX).map_err(failed)?;
                (Recorder::to(spool), fresh)
            }
            Some((kept, saver)) => {
                if path.exists() {
                    return Err(failed(io::ErrorKind::AlreadyExists.into()));
                }
                let path = path.clone();
                // All of it comes at once.
                let output = move |number| Spool::to(create(&numbered(&path, number))?, usize::MAX);
                (Recorder::last(kept, &saver, output), Fresh(None))
            }
        };
        let recorder = recorder.limit(limit);
        let recorder = match what {
            What::Wire => recorder,
            What::Link { bodies: false } => recorder.link(),
            What::Link { bodies: true } => recorder.link().bodies(),
        };
        match recorder.start(config, roles, origin) {
            Ok(node) => Ok((node, fresh)),
            Err(trace::StartError::Config(error)) => Err(error.into()),
            Err(trace::StartError::Io(error)) => Err(failed(error)),
        }
    }
}

impl From<PathBuf> for Recording {
    fn from(path: PathBuf) -> Self {
        Self::to(path)
    }
}

impl From<&Path> for Recording {
    fn from(path: &Path) -> Self {
        Self::to(path)
    }
}

impl From<&str> for Recording {
    fn from(path: &str) -> Self {
        Self::to(path)
    }
}

impl From<String> for Recording {
    fn from(path: String) -> Self {
        Self::to(path)
    }
}

/// Makes a node, recorded or not.
pub(crate) fn start(
    recording: Option<Recording>,
    config: Config,
    roles: Roles,
    origin: Origin,
) -> Result<(Node, Fresh), StartError> {
    match recording {
        Some(recording) => recording.start(config, roles, origin),
        None => Ok((Node::new(config, roles, origin)?, Fresh(None))),
    }
}

/// A file that is removed again if nothing comes of what it was made for.
pub(crate) struct Fresh(Option<PathBuf>);

impl Fresh {
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Whoever sees the error that led here has enough to read.
            let _ = fs::remove_file(path);
        }
    }
}

/// A path with a number before its extension, but for the first.
fn numbered(path: &Path, number: u64) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("{number}.{extension}"))
}

/// A new file that only its owner can read.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// What waits for the disk: it takes bytes at once or not at all.
struct Spool {
    shared: Arc<Shared>,
    /// Bytes that may wait.
    room: usize,
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
    /// Starts the thread that writes to `file`.
    fn to(file: File, room: usize) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = shared.clone();
        thread::Builder::new()
            .name("trunkline-trace".into())
            .spawn(move || writer.run(file))?;
        Ok(Self { shared, room })
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
            return Err(io::Error::other(format!(
                "the disk is too slow: {before} bytes wait for it"
            )));
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
    /// Waits for the rest to be written, for a while.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, FAREWELL, |state| !state.done);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.done {
            tracing::warn!("the end of the recording is still being written");
        }
        if let Some(error) = &state.failed {
            tracing::warn!(%error, "the end of the recording cannot be written");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, until nothing more comes.
    fn run(&self, mut file: File) {
        let mut batch = Vec::new();
        loop {
            let more = self.take(&mut batch);
            let written = file.write_all(&batch);
            batch.clear();
            if written.is_err() || !more {
                let mut state = self.lock();
                state.failed = written.err();
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
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("trunkline-{}-{name}", std::process::id()))
    }

    #[test]
    fn each_shard_has_a_file_of_its_own() {
        let name = |path: &str| Recording::to(path).of_shard(3).path;
        assert_eq!(
            name("traces/server.tlt"),
            PathBuf::from("traces/server.3.tlt")
        );
        assert_eq!(
            name("/traces.d/server"),
            PathBuf::from("/traces.d/server.3")
        );
        assert_eq!(name("a.b.tlt"), PathBuf::from("a.b.3.tlt"));
    }

    #[test]
    fn a_spool_writes_everything_before_it_is_gone() {
        let path = path("spool");
        let mut spool = Spool::to(create(&path).unwrap(), WAITING_MAX).unwrap();
        for byte in 0..200_u8 {
            spool.write_all(&[byte; 1_000]).unwrap();
        }
        drop(spool);
        let written = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(written.len(), 200_000);
        assert!(written.is_sorted());
    }

    #[test]
    fn what_waits_is_bounded_and_taken_whole_or_not_at_all() {
        // Nobody writes: the thread is not started.
        let mut spool = Spool {
            shared: Arc::default(),
            room: WAITING_MAX,
        };
        spool.write_all(&vec![1; WAITING_MAX - 10]).unwrap();
        let error = spool.write_all(&[2; 11]).unwrap_err();
        assert!(error.to_string().contains("too slow"), "{error}");
        spool.write_all(&[3; 10]).unwrap();
        assert_eq!(spool.shared.lock().waiting.len(), WAITING_MAX);
        spool.shared.lock().done = true;
    }

    #[test]
    fn a_file_that_cannot_be_written_ends_it() {
        let path = path("closed");
        fs::write(&path, b"").unwrap();
        // Opened for reading only, so that every write fails.
        let mut spool = Spool::to(File::open(&path).unwrap(), WAITING_MAX).unwrap();
        spool.write_all(b"lost").unwrap();
        let state = spool
            .shared
            .changed
            .wait_while(spool.shared.lock(), |state| !state.done);
        drop(state.unwrap());
        assert!(spool.write_all(b"refused").is_err());
        assert!(spool.write_all(b"refused").is_err());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_written_again_has_a_number_before_its_extension() {
        let path = |number| numbered(Path::new("/var/server.tlt"), number);
        assert_eq!(path(0), Path::new("/var/server.tlt"));
        assert_eq!(path(1), Path::new("/var/server.1.tlt"));
        assert_eq!(path(12), Path::new("/var/server.12.tlt"));
    }

    #[test]
    fn a_file_is_its_owners_and_is_not_overwritten() {
        let path = path("owner");
        let file = create(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        drop(file);
        let error = create(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        drop(Fresh(Some(path.clone())));
        assert!(!path.exists());
    }
}
