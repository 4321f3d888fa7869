//! A trace cut down to what still shows something.

use std::io::Read;
use std::time::Instant;

use super::ddmin::ddmin;
use super::format::{End, Ending, Header, Reader, Record, TraceError, Writer};
use super::report::Difference;
use super::{Replay, Report};
use crate::tap::Level;

/// A trace that was cut down.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shrunk {
    /// The file's bytes.
    pub trace: Vec<u8>,
    /// How many records it had.
    pub before: u64,
    /// How many it has.
    pub after: u64,
    /// How the trace ends that it was made from. What stands behind the last whole record of one that is
    /// cut short was not looked at.
    pub ending: Ending,
}

/// Why a trace was not cut down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShrinkError {
    /// It is a wire trace: each packet depends on all before it.
    #[error(
        "a wire trace cannot be cut down, for each packet depends on those before it: record at link level (Recording::link)"
    )]
    Wire,
    /// There is nothing to look for in it.
    #[error("the trace replays identical: there is no difference to cut it down to")]
    Identical,
    /// There is nothing to look for in what can be read of it: it is cut short.
    #[error(
        "the trace replays identical up to where it is cut short: there is no difference to cut it down to"
    )]
    CutShort,
    /// What was to be looked for is not in it.
    #[error("the whole trace does not show what is looked for")]
    NotShown,
    /// It cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Cuts a link-level trace down to the records that still make its replay differ in the same way:
/// numbers and digests aside, the same was expected, and the same came.
pub fn shrink(input: impl Read, now: Instant) -> Result<Shrunk, ShrinkError> {
    let parts = Parts::read(input)?;
    let whole = parts.write(None)?;
    let report = replay(&whole, now)?;
    let Some(difference) = &report.difference else {
        return Err(match parts.ending {
            Ending::CutShort(_) => ShrinkError::CutShort,
            Ending::Said(_) | Ending::Open => ShrinkError::Identical,
        });
    };
    let wanted = way(difference);
    // What is behind the difference is not replayed, and of no use.
    let parts = parts.until(difference.record);
    parts.shrink(|trace| {
        let report = replay(trace, now);
        report.is_ok_and(|report| report.difference.as_ref().map(way) == Some(wanted.clone()))
    })
}

/// Cuts a link-level trace down to the records for which `shows` is still true.
pub fn shrink_while(
    input: impl Read,
    mut shows: impl FnMut(&[u8]) -> bool,
) -> Result<Shrunk, ShrinkError> {
    let parts = Parts::read(input)?;
    if !shows(&parts.write(None)?) {
        return Err(ShrinkError::NotShown);
    }
    parts.shrink(shows)
}

fn replay(trace: &[u8], now: Instant) -> Result<Report, TraceError> {
    Replay::new(trace)?.run(now)
}

/// In which way something differs: the words, without the numbers.
fn way(difference: &Difference) -> (String, String) {
    let words = |text: &str| {
        let mut out = String::new();
        for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if bare.contains(|c: char| c.is_ascii_digit()) {
                out.push('#');
                out.push_str(&word[bare.len()..]);
            } else {
                out.push_str(word);
            }
        }
        out
    };
    (words(&difference.expected), words(&difference.came))
}

/// A trace in pieces that stay together: a call or a poll with the answers that belong to it.
struct Parts {
    header: Header,
    total: u64,
    ending: Ending,
    pieces: Vec<Piece>,
}

struct Piece {
    /// The number of its last record.
    last: u64,
    /// Bodies, and the clock before each.
    records: Vec<(i64, Vec<u8>)>,
}

impl Parts {
    fn read(input: impl Read) -> Result<Self, ShrinkError> {
        let mut reader = Reader::from_the_start(input)?;
        if reader.header().level() == Level::Wire {
            return Err(ShrinkError::Wire);
        }
        let header = reader.header().clone();
        let mut pieces = Vec::<Piece>::new();
        let mut total = 0;
        let (mut clock, mut joins) = (0, false);
        while let Some((number, record)) = reader.next_record()? {
            total = number;
            if matches!(record, Record::End(_)) {
                continue;
            }
            let before = clock;
            let mut body = Vec::new();
            record.encode(Level::Link, &mut clock, &mut body);
            let is_answers = matches!(record, Record::Answers { polled: false, .. });
            match pieces.last_mut() {
                Some(piece) if joins || is_answers => {
                    piece.last = number;
                    piece.records.push((before, body));
                }
                _ => pieces.push(Piece {
                    last: number,
                    records: vec![(before, body)],
                }),
            }
            joins = matches!(record, Record::Answers { polled: true, .. });
        }
        Ok(Self {
            header,
            total,
            ending: reader.ending().unwrap_or(Ending::Open),
            pieces,
        })
    }

    /// Without what is behind that record but for the next piece: a call with which a trace ends may
    /// have had answers.
    fn until(mut self, record: u64) -> Self {
        let end = self.pieces.iter().position(|piece| piece.last >= record);
        self.pieces.truncate(end.map_or(usize::MAX, |end| end + 2));
        self
    }

    fn shrink(self, mut shows: impl FnMut(&[u8]) -> bool) -> Result<Shrunk, ShrinkError> {
        let kept = ddmin(self.pieces.len(), |kept| {
            self.write(Some(kept)).is_ok_and(|trace| shows(&trace))
        });
        let records = kept.iter().filter_map(|place| self.pieces.get(*place));
        let after = records.map(|piece| piece.records.len() as u64).sum::<u64>() + 1;
        Ok(Shrunk {
            trace: self.write(Some(&kept))?,
            before: self.total,
            after,
            ending: self.ending,
        })
    }

    /// The trace of some pieces, or of all.
    fn write(&self, kept: Option<&[usize]>) -> Result<Vec<u8>, TraceError> {
        let mut writer = Writer::new(Vec::new(), &self.header)?;
        let mut write = |piece: &Piece| {
            for (clock, body) in &piece.records {
                // What was encoded is decoded again.
                if let Some(record) = Record::decode(body, Level::Link, &mut { *clock }) {
                    writer.write(&record)?;
                }
            }
            Ok::<(), TraceError>(())
        };
        match kept {
            None => self.pieces.iter().try_for_each(&mut write)?,
            Some(kept) => {
                let mut pieces = kept.iter().filter_map(|place| self.pieces.get(*place));
                pieces.try_for_each(&mut write)?;
            }
        }
        writer.write(&Record::End(End::Stopped))?;
        Ok(writer.into_inner())
    }
}
