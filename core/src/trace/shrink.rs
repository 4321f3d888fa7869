//! A trace cut down to what still shows something.

use std::io::Read;
use std::time::Instant;

use super::Replay;
use super::ddmin::ddmin;
use super::format::{End, Ending, Header, Reader, Record, TraceError, Writer};
use super::replay::EVENT;
use super::report::Difference;
use crate::node::Event;
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

/// Cuts a link-level trace down to the records that still make its replay differ as it did: at the same record
/// first, and by the same thing. So it replays identical where the whole trace does; but where nothing came in place of
/// something, what led to that may be missing as well. A program that has both builds knows better:
/// [`shrink_while`] one differs and the other does not.
pub fn shrink(input: impl Read, now: Instant) -> Result<Shrunk, ShrinkError> {
    let parts = Parts::read(input)?;
    let all: Vec<usize> = (0..parts.pieces.len()).collect();
    let whole = parts.write(&all)?;
    let Some((record, wanted)) = first_difference(&whole, now)? else {
        return Err(match parts.ending {
            Ending::CutShort(_) => ShrinkError::CutShort,
            Ending::Said(_) | Ending::Open => ShrinkError::Identical,
        });
    };
    let place = parts.place(&all, record);
    // What is behind the difference is not replayed, and of no use.
    let parts = parts.until(record);
    // An event that nobody asks for where it came comes later, as if it came twice.
    let alike = parts.with_event(wanted.event);
    parts.shrink(|kept, trace| {
        let keeps = |place: &usize| kept.binary_search(place).is_ok();
        // Without what came before it, another record may differ, or this one by another thing.
        alike.iter().all(keeps)
            && first_difference(trace, now).is_ok_and(|difference| {
                difference.is_some_and(|(record, difference)| {
                    parts.place(kept, record) == place && difference == wanted
                })
            })
    })
}

/// Cuts a link-level trace down to the records for which `shows` is still true.
pub fn shrink_while(
    input: impl Read,
    mut shows: impl FnMut(&[u8]) -> bool,
) -> Result<Shrunk, ShrinkError> {
    let parts = Parts::read(input)?;
    let all: Vec<usize> = (0..parts.pieces.len()).collect();
    if !shows(&parts.write(&all)?) {
        return Err(ShrinkError::NotShown);
    }
    parts.shrink(|_, trace| shows(trace))
}

/// What was expected, what came, and the digest of the latest event, which may be what came.
#[derive(PartialEq)]
struct Differing {
    expected: String,
    came: String,
    event: Option<u64>,
}

/// The first record that differs, and how.
fn first_difference(trace: &[u8], now: Instant) -> Result<Option<(u64, Differing)>, TraceError> {
    let mut event = None;
    let replay = Replay::new(trace)?.on_event(|_, happened| {
        // Those that stand in no trace are told of behind what came.
        if !matches!(happened, Event::Refused { .. } | Event::Moved { .. }) {
            event = Some(happened.head_digest());
        }
    });
    let difference = replay.run(now)?.difference;
    Ok(difference.map(|difference| {
        let Difference {
            record,
            expected,
            came,
            ..
        } = difference;
        // Words tell of a message how long it is.
        let event = event.filter(|_| came.starts_with(EVENT));
        (
            record,
            Differing {
                expected,
                came,
                event,
            },
        )
    }))
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
    /// The digest of the event that was given out, if one was.
    event: Option<u64>,
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
            let event = match &record {
                Record::Event(mark) => mark.map(|mark| mark.digest),
                _ => None,
            };
            let is_answers = matches!(record, Record::Answers { polled: false, .. });
            match pieces.last_mut() {
                Some(piece) if joins || is_answers => {
                    piece.last = number;
                    piece.records.push((before, body));
                    piece.event = piece.event.or(event);
                }
                _ => pieces.push(Piece {
                    event,
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

    /// Where a record of the trace of these pieces stands in the whole one: its piece, and its place in it.
    fn place(&self, kept: &[usize], record: u64) -> Option<(usize, u64)> {
        let mut before = 0;
        kept.iter().find_map(|place| {
            let first = before + 1;
            before += self.pieces.get(*place)?.records.len() as u64;
            (first..=before)
                .contains(&record)
                .then(|| (*place, record - first))
        })
    }

    /// The pieces in which such an event was given out.
    fn with_event(&self, digest: Option<u64>) -> Vec<usize> {
        let given = |piece: &Piece| piece.event.is_some() && piece.event == digest;
        let places = self.pieces.iter().enumerate();
        let places = places.filter(|(_, piece)| given(piece));
        places.map(|(place, _)| place).collect()
    }

    /// Of what it is asked for, `shows` is told the pieces and the trace.
    fn shrink(
        &self,
        mut shows: impl FnMut(&[usize], &[u8]) -> bool,
    ) -> Result<Shrunk, ShrinkError> {
        let kept = ddmin(self.pieces.len(), |kept| {
            self.write(kept).is_ok_and(|trace| shows(kept, &trace))
        });
        let records = kept.iter().filter_map(|place| self.pieces.get(*place));
        let after = records.map(|piece| piece.records.len() as u64).sum::<u64>() + 1;
        Ok(Shrunk {
            trace: self.write(&kept)?,
            before: self.total,
            after,
            ending: self.ending,
        })
    }

    /// The trace of some pieces.
    fn write(&self, kept: &[usize]) -> Result<Vec<u8>, TraceError> {
        let mut writer = Writer::new(Vec::new(), &self.header)?;
        for piece in kept.iter().filter_map(|place| self.pieces.get(*place)) {
            for (clock, body) in &piece.records {
                // What was encoded is decoded again.
                if let Some(record) = Record::decode(body, Level::Link, &mut { *clock }) {
                    writer.write(&record)?;
                }
            }
        }
        writer.write(&Record::End(End::Stopped))?;
        Ok(writer.into_inner())
    }
}
