//! Recordings in files.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::build_error::StartError;
use super::spool::Writing;
use crate::trace::{self, Recorder, Saver};
use crate::{Config, Node, Origin, Roles};

/// Where a server or a client is recorded to, and how much at most: see
/// [`super::ServerBuilder::record`]. A path alone is one as well, of what goes above QUIC ([`Recording::link`]).
#[derive(Clone, Debug)]
pub struct Recording {
    path: PathBuf,
    limit: u64,
    what: What,
    ring: Option<(Duration, Saver)>,
    watch: RecordingWatch,
}

/// Tells whether a recording could be written: a disk that is full, or too slow, ends it, and what is recorded runs on.
/// Give it to [`Recording::watched_by`], and ask it once the server or client has ended. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RecordingWatch(Arc<Mutex<Option<String>>>);

impl RecordingWatch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Why a file of the recording ended early, of the first that did; `None`: none has so far. That it has reached its
    /// [limit](Recording::limit) is no failure.
    pub fn failure(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(super) fn failed(&self, error: &io::Error) {
        self.lock().get_or_insert_with(|| error.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
/// How long the end of a recording may wait for the end of its files.
const FAREWELL: Duration = Duration::from_secs(1);

impl Recording {
    /// A recording of every datagram to a new file, which only its owner can read. A file that is
    /// there already is not overwritten. **Who has it can decrypt everything that it recorded.**
    pub fn wire(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            limit: LIMIT,
            what: What::Wire,
            ring: None,
            watch: RecordingWatch::default(),
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
            ..Self::wire(path)
        }
    }

    /// Keeps bodies and credentials, too, in a recording above QUIC. One of every datagram has them in any case.
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
    /// its extension, and so on, past those that are there already.
    ///
    /// What is written down is copied first, by the thread that drives the server or client, which
    /// does nothing else meanwhile: what is kept takes its memory twice until it is written, and a
    /// smaller limit makes the pause shorter. For the disk it waits only when the recording ends.
    ///
    /// Such a file is for `trunkline trace show`. It cannot be replayed, for that takes everything
    /// from the beginning, unless the server or client has run for no longer than that. A process
    /// that is killed leaves nothing of it, nor one that ends without its server or client having been closed or
    /// dropped, as on smol's global executor.
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

    /// Tells this one if the recording cannot be written.
    pub fn watched_by(self, watch: &RecordingWatch) -> Self {
        Self {
            watch: watch.clone(),
            ..self
        }
    }

    /// The recording of one of several shards: `server.tlt` is `server.0.tlt` for the first.
    pub(crate) fn of_shard(&self, number: u16) -> Self {
        Self {
            path: with_number(&self.path, number.into()),
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
            watch,
        } = self;
        let failed = |error| StartError::Recording {
            path: path.clone(),
            error,
        };
        let (recorder, fresh) = match ring {
            None => {
                let file = create(&path).map_err(failed)?;
                let fresh = Fresh::file(path.clone());
                let writing = Writing::new(FAREWELL).watched_by(&watch);
                let spool = writing.spool(file, WAITING_MAX).map_err(failed)?;
                let output = spool.with(writing);
                let recorder = match what {
                    What::Wire => Recorder::wire(output),
                    What::Link { .. } => Recorder::link(output),
                };
                (recorder, fresh)
            }
            Some((kept, saver)) => {
                // It is written much later: then it would be too late to say so.
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                if let Some(folder) = folder {
                    folder.metadata().map_err(failed)?;
                }
                let path = path.clone();
                let writing = Writing::new(FAREWELL).watched_by(&watch);
                let fresh = Fresh::default();
                let begun = fresh.begun.clone();
                let mut numbers = 0..;
                let output = move |_| loop {
                    if !begun.load(Ordering::Relaxed) {
                        break Err(io::Error::other("what was to be recorded did not start"));
                    }
                    match create(&numbered(&path, numbers.next().unwrap_or(u64::MAX))) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        // All of it comes at once.
                        file => {
                            let spool = file.and_then(|file| writing.spool(file, usize::MAX));
                            break spool.inspect_err(|error| watch.failed(error));
                        }
                    }
                };
                (Recorder::last(kept, &saver, output), fresh)
            }
        };
        let recorder = recorder.limit(limit);
        let recorder = match what {
            What::Link { bodies: true } => recorder.bodies(),
            What::Link { bodies: false } | What::Wire => recorder,
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
        Self::link(path)
    }
}

impl From<&Path> for Recording {
    fn from(path: &Path) -> Self {
        Self::link(path)
    }
}

impl From<&str> for Recording {
    fn from(path: &str) -> Self {
        Self::link(path)
    }
}

impl From<String> for Recording {
    fn from(path: String) -> Self {
        Self::link(path)
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
        None => Ok((Node::new(config, roles, origin)?, Fresh::default())),
    }
}

/// What sees to it that no file of a recording is left if nothing comes of what it was made for.
#[derive(Default)]
pub(crate) struct Fresh {
    /// This one is removed again.
    file: Option<PathBuf>,
    /// Others are made only once this is true.
    begun: Arc<AtomicBool>,
}

impl Fresh {
    fn file(path: PathBuf) -> Self {
        Self {
            file: Some(path),
            begun: Arc::default(),
        }
    }

    pub(crate) fn keep(mut self) {
        self.file = None;
        self.begun.store(true, Ordering::Relaxed);
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            // Whoever sees the error that led here has enough to read.
            let _ = fs::remove_file(path);
        }
    }
}

/// A path with a number before its extension, but for the first.
fn numbered(path: &Path, number: u64) -> PathBuf {
    match number {
        0 => path.to_owned(),
        more => with_number(path, more),
    }
}

/// `server.tlt` is `server.1.tlt`, and `server` is `server.1`.
fn with_number(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// A new file that only its owner can read.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("trunkline-{}-{name}", std::process::id()))
    }

    #[test]
    fn each_shard_has_a_file_of_its_own() {
        let name = |path: &str| Recording::wire(path).of_shard(3).path;
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
    fn what_is_written_again_has_a_number_before_its_extension() {
        let path = |number| numbered(Path::new("/var/server.tlt"), number);
        assert_eq!(path(0), Path::new("/var/server.tlt"));
        assert_eq!(path(1), Path::new("/var/server.1.tlt"));
        assert_eq!(path(12), Path::new("/var/server.12.tlt"));
        assert_eq!(
            numbered(Path::new("/traces.d/server"), 1),
            Path::new("/traces.d/server.1")
        );
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
        drop(Fresh::file(path.clone()));
        assert!(!path.exists());
    }
}
