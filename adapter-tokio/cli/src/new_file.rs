//! A new file that takes a while to make. It has its name once it is whole: what fails, or is interrupted, leaves nothing
//! in the way of the next try.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::printer;
use crate::signals::StopSignals;

/// How long whoever makes it may take to notice that nobody wants it any more.
const FAREWELL: Duration = Duration::from_secs(1);

/// A file that is being made, by its owner and for its owner alone. What is not whole lies in a folder beside it, for
/// there is room, under a name that no other has.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    folder: PathBuf,
    unwanted: watch::Receiver<bool>,
}

/// Has a file made on a thread of its own, and prints what that returns. Fails before any work is done if there cannot be
/// such a file.
pub(crate) async fn make(
    path: PathBuf,
    work: impl FnOnce(&NewFile) -> Result<String, Failure> + Send + 'static,
) -> Result<(), Failure> {
    let mut stop = StopSignals::listen();
    let folder = folder(&path).map_err(|error| cannot_write(&path, &error))?;
    let (no_more, unwanted) = watch::channel(false);
    let new = NewFile {
        path,
        folder: folder.path().to_owned(),
        unwanted,
    };
    let mut work = tokio::task::spawn_blocking(move || work(&new));
    let worked = tokio::select! {
        worked = &mut work => worked,
        () = stop.next() => {
            no_more.send_replace(true);
            match tokio::time::timeout(FAREWELL, work).await {
                // It was whole before anybody could stop that.
                Ok(worked @ Ok(Ok(_))) => worked,
                // As much of it as there is, whether it has noticed or not.
                _ => {
                    drop(folder);
                    return Err(Failure::interrupted());
                }
            }
        }
    };
    drop(folder);
    let said = worked
        .unwrap_or_else(|error| Err(Failure::failed(format!("this cannot be made: {error}"))))?;
    printer::result(said, &mut stop).await
}

fn folder(path: &Path) -> io::Result<TempDir> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let beside = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".new.");
    tempfile::Builder::new().prefix(&name).tempdir_in(beside)
}

impl NewFile {
    /// What it will be called.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Another one, to try something with; it is removed when it is dropped. Fails if none is wanted any more.
    pub(crate) fn trial(&self, bytes: &[u8]) -> Result<NamedTempFile, Failure> {
        self.check()?;
        self.written(bytes)
            .map_err(|error| cannot_write(&self.path, &error))
    }

    /// Waits until it is not wanted any more.
    pub(crate) async fn unwanted(&self) {
        // Whoever wanted it is gone: that is the same.
        let _ = self.unwanted.clone().wait_for(|unwanted| *unwanted).await;
    }

    /// Whether it is wanted still.
    fn check(&self) -> Result<(), Failure> {
        if *self.unwanted.borrow() {
            return Err(Failure::interrupted());
        }
        Ok(())
    }

    /// This is it. Fails if none is wanted any more.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.check()?;
        let written = self.written(bytes).and_then(|file| {
            let kept = file.persist_noclobber(&self.path);
            kept.map(drop).map_err(|error| error.error)
        });
        written.map_err(|error| cannot_write(&self.path, &error))
    }

    fn written(&self, bytes: &[u8]) -> io::Result<NamedTempFile> {
        let mut file = tempfile::Builder::new()
            .suffix(".tlt")
            .tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        Ok(file)
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::AlreadyExists => "it exists already: take another name, or remove it".into(),
        // What the error itself says is about a name that nobody has heard of.
        io::ErrorKind::NotFound => "its folder is not there, and has to be made first".into(),
        _ => error.to_string(),
    };
    Failure::usage(format!("cannot write {}: {why}", path.display()))
}
