//! Records without bodies and credentials: their lengths stay, and hashes by which equal bodies are
//! known.

use std::io::{Read, Write};
use std::ops::Range;

use super::format::{Header, Reader, Record, Recorded, TraceError, Writer};
use crate::link::heads;
use crate::tap::{Body, BodyKey, LinkNote, Marked};

/// Copies a trace without what bodies and credentials hold, and says how many records it has. It
/// replays as the whole one does. `key` is 32 bytes that nobody can guess, from the operating system, and
/// that are kept nowhere: by it, equal bodies get equal hashes, of which nothing else can be learned.
/// Hashes that stand in the trace already get others, too, so that it cannot be compared with them.
///
/// **Tokens of sessions stay in it**, and what the node draws them from, for a replay needs them: hand
/// it on once the node has ended and its sessions' retention is over.
///
/// A wire trace is refused: its seed decrypts every datagram in it.
pub fn redact(input: impl Read, output: impl Write, key: [u8; 32]) -> Result<u64, RedactError> {
    let key = BodyKey::new(key);
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
    let mut writer = Writer::new(output, &header).map_err(RedactError::Write)?;
    let first = header.beginning.first;
    let mut records = 0;
    while let Some((number, record)) = reader.next_record()? {
        records = number.saturating_sub(first).saturating_add(1);
        let record = record.redacted(&key);
        writer.write(&record).map_err(RedactError::Write)?;
    }
    writer.flush().map_err(RedactError::Write)?;
    Ok(records)
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

impl Record<'_> {
    /// The same without what bodies and credentials hold. `key` is of one trace, and kept nowhere:
    /// a hash says which bodies of that trace are equal, and is no way to try what they may be.
    pub(super) fn redacted(self, key: &BodyKey) -> Self {
        match self {
            Self::Call { at, call } => Self::Call {
                at,
                call: call.marked(key),
            },
            Self::Answers { polled, mut notes } => {
                for (_, note) in &mut notes {
                    redact_note(note, key);
                }
                Self::Answers { polled, notes }
            }
            other => other,
        }
    }
}

fn redact_note(note: &mut LinkNote, key: &BodyKey) {
    match note {
        LinkNote::Control(frame) => *frame = heads::without_credentials(frame),
        LinkNote::Lane {
            opening: false,
            frame,
            marked,
            ..
        } => match (heads::body_range(frame), &mut *marked) {
            // A hash stands for it already, if it is where the trace says that it is.
            (range, Some(known)) if range.as_ref().is_none_or(|range| is_place(known, range)) => {
                known.hash = key.hash(&known.hash.to_le_bytes());
            }
            (Some(range), _) => {
                let body = frame.get(range.clone()).unwrap_or_default();
                if let Body::Marked { length, hash } = Body::Whole(body).marked(key) {
                    *marked = Some(Marked {
                        start: range.start,
                        length,
                        hash,
                    });
                }
            }
            (None, _) => {}
        },
        _ => {}
    }
}

fn is_place(marked: &Marked, body: &Range<usize>) -> bool {
    (marked.start, marked.length) == (body.start, body.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_body_is_taken_out_wherever_a_trace_says_that_it_was() {
        let header = trunkline_proto::EnvelopeHeader::default();
        let mut framed = bytes::BytesMut::new();
        header.encode_frame_header(6, &mut framed);
        framed.extend_from_slice(b"secret");
        let frame = framed.freeze().slice(1..);
        let body = heads::body_range(&frame).unwrap();
        for start in [0, body.start, body.end] {
            let marked = Some(Marked {
                start,
                length: body.end - body.start,
                hash: 5,
            });
            let mut note = LinkNote::Lane {
                slot: 0,
                opening: false,
                frame: Bytes::clone(&frame),
                marked,
            };
            let key = BodyKey::new([7; 32]);
            redact_note(&mut note, &key);
            let expected = match start == body.start {
                true => key.hash(&5_u64.to_le_bytes()),
                false => key.hash(b"secret"),
            };
            let marked = Some(Marked {
                start: body.start,
                length: 6,
                hash: expected,
            });
            assert!(
                matches!(note, LinkNote::Lane { marked: now, .. } if now == marked),
                "{note:?}"
            );
        }
    }
}
