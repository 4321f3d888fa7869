//! Records without bodies and credentials: their lengths stay, and hashes by which equal bodies are
//! known.

use std::io::{Read, Write};

use super::format::{Ending, Header, Reader, Recorded, TraceError, Writer};
use super::record::BUFFER;
use crate::tap::BodyKey;

/// What a redacted trace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redacted {
    /// How many records.
    pub records: u64,
    /// How the trace ends that it was made from. What stands behind the last whole record of one that is
    /// cut short is not in it.
    pub ending: Ending,
}

/// Copies a trace without what bodies and credentials hold. It replays as the whole one does, unless a peer wrote fields
/// that nobody here knows: they go too, and its frames get shorter. `key` is 32 bytes that nobody can guess, from the
/// operating system, and that are kept nowhere: by it, equal bodies get equal hashes, of which nothing else can be learned.
/// Hashes that stand in the trace already get others, too, so that it cannot be compared with them.
///
/// **Tokens of sessions stay in it**, and what the node draws them from, for a replay needs them: hand
/// it on once the node has ended and its sessions' retention is over.
///
/// A wire trace is refused: its seed decrypts every datagram in it.
pub fn redact(
    input: impl Read,
    output: impl Write,
    key: [u8; 32],
) -> Result<Redacted, RedactError> {
    let mut reader = Reader::new(input)?;
    let Recorded::Link { draws, roles, .. } = &reader.header().recorded else {
        return Err(RedactError::Wire);
    };
    let recorded = Recorded::Link {
        draws: draws.clone(),
        roles: *roles,
        bodies: false,
    };
    let header = Header {
        recorded,
        ..reader.header().clone()
    };
    let writer = Writer::new(output, &header).map_err(RedactError::Write)?;
    let mut writer = writer.redacting(BodyKey::new(key)).holding(BUFFER);
    let first = header.beginning.first;
    let mut records = 0;
    while let Some((number, record)) = reader.next_record()? {
        records = number.saturating_sub(first).saturating_add(1);
        writer.write(&record).map_err(RedactError::Write)?;
    }
    writer.flush().map_err(RedactError::Write)?;
    Ok(Redacted {
        records,
        // It has been read to its end.
        ending: reader.ending().unwrap_or(Ending::Open),
    })
}

/// Why a trace was not redacted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedactError {
    /// It is a wire trace.
    #[error(
        "a wire trace cannot be redacted, for its seed decrypts every datagram in it: record at link level (Recording::link) what is to be handed on"
    )]
    Wire,
    /// It cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// What is left of it cannot be written.
    #[error("the redacted trace cannot be written: {0}")]
    Write(std::io::Error),
}
