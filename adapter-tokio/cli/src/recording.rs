//! Options that record a server or a client.

use std::path::PathBuf;

use clap::Args;
use trunkline_tokio::Recording;

/// Where it is recorded to, if it is.
#[derive(Debug, Args)]
pub(crate) struct RecordingOptions {
    /// Record what comes and goes above QUIC into a new file, for 'trunkline replay' and 'trunkline trace'.
    /// No bodies stand in it, but tokens of sessions do: keep it to yourself until those are over. It ends at
    /// 1 GiB. Shards have a file each, file.0.tlt and so on. A file that is there is not overwritten: the
    /// program does not start
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
}

impl RecordingOptions {
    /// What they ask for.
    pub(crate) fn recording(&self) -> Option<Recording> {
        let wire = self.record_wire.as_ref().map(Recording::wire);
        self.record.as_ref().map(Recording::link).or(wire)
    }
}
