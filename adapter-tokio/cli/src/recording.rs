//! Options that record a server or a client.

use std::path::PathBuf;

use clap::Args;
use trunkline_tokio::{Recording, RecordingWatch};

use crate::failure::Failure;

/// Where it is recorded to, if it is.
#[derive(Debug, Args)]
pub(crate) struct RecordingOptions {
    /// Record what comes and goes above QUIC into a new file, for 'trunkline replay' and 'trunkline trace'.
    /// No bodies stand in it, but tokens of sessions do: keep it to yourself until those are over. It ends at
    /// 1 GiB. The shards of a server have a file each, file.0.tlt and so on. A file that is there is not
    /// overwritten: the program does not start. A full disk ends it early, and the exit status is 1
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "record_wire",
        help_heading = "Recording"
    )]
    record: Option<PathBuf>,
    /// Record every datagram into a new file, as --record does. Who has it can decrypt all of them
    #[arg(long, value_name = "FILE", help_heading = "Recording")]
    record_wire: Option<PathBuf>,
    #[arg(skip)]
    watch: RecordingWatch,
}

impl RecordingOptions {
    /// What they ask for.
    pub(crate) fn recording(&self) -> Option<Recording> {
        let wire = self.record_wire.as_ref().map(Recording::wire);
        let recording = self.record.as_ref().map(Recording::link).or(wire);
        recording.map(|recording| recording.watched_by(&self.watch))
    }

    /// What is to be asked about the recording once it has ended.
    pub(crate) fn watched(&self) -> Watched {
        let path = self.record.as_ref().or(self.record_wire.as_ref());
        Watched {
            path: path.cloned().unwrap_or_default(),
            watch: self.watch.clone(),
        }
    }
}

/// A recording that was asked for.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    watch: RecordingWatch,
}

impl Watched {
    /// Fails if it has ended early.
    pub(crate) fn outcome(&self) -> Result<(), Failure> {
        match self.watch.failure() {
            None => Ok(()),
            Some(why) => Err(Failure::failed(format!(
                "the recording {} is not whole: {why}",
                self.path.display()
            ))),
        }
    }
}
