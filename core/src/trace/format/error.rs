//! Why a trace cannot be used.

use std::io;

use crate::error::ConfigError;

/// Why a trace cannot be read or replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It is something else.
    #[error("this is no trace: it does not begin like one")]
    NotATrace,
    /// Its format is another.
    #[error(
        "the trace has format version {found}: this version reads {}",
        super::FORMAT
    )]
    Version {
        /// The version that it has.
        found: u16,
    },
    /// Bytes were changed, lost or added.
    #[error(
        "record {record} (at byte {offset}) is damaged, or one behind it in the same block: a checksum does not match"
    )]
    Damaged {
        /// The first record of what is damaged: the header is 0. A datagram is alone; others share a
        /// checksum with what the same turn brought.
        record: u64,
        /// Where in the file that begins.
        offset: u64,
    },
    /// The record is whole, but this version cannot make sense of it.
    #[error(
        "record {record} (at byte {offset}) cannot be read: it is of no kind that this version knows"
    )]
    Unknown {
        /// Which record.
        record: u64,
        /// Where in the file it begins.
        offset: u64,
    },
    /// The header ends before its end: nothing can be replayed.
    #[error("the trace ends within its header: nothing was recorded")]
    NoHeader,
    /// The header has what this version cannot use.
    #[error("the trace's header cannot be used: {}: {}", entry.escape_debug(), why.escape_debug())]
    Header {
        /// Which entry.
        entry: String,
        /// Why.
        why: String,
    },
    /// It holds the end of a node's life, and what that follows from is gone.
    #[error(
        "the trace begins with record {first}, for only the last seconds were kept: it can be looked into (trunkline trace show), and not be replayed, which takes everything from the node's beginning"
    )]
    NotFromTheStart {
        /// The number of its first record.
        first: u64,
    },
    /// The node does not start with what is in the header.
    #[error("the recorded node does not start: {0}")]
    Start(#[from] ConfigError),
    /// Reading failed.
    #[error("the trace cannot be read: {0}")]
    Io(#[from] io::Error),
}
