//! What the reader makes of a trace.

use std::collections::BTreeMap;

use trunkline_core::tap::{Body, LinkNote};
use trunkline_core::trace::{Ending, Header, Reader, Record, TraceError, Writer};

/// What is read of a trace, and how it ends.
pub(super) struct Read {
    pub(super) header: Option<Header>,
    pub(super) records: u64,
    /// The latest of its times, in nanoseconds since the node's origin.
    pub(super) time: i64,
    /// Bytes of bodies that were not kept.
    pub(super) made_up: u64,
    /// Of the longest of these that stood in a lane's frame.
    pub(super) largest_made_up: u64,
    /// How many streams of peers notes open, as far as links may have them.
    pub(super) streams: u64,
    pub(super) end: Result<Ending, TraceError>,
    /// All records up to there, written again.
    again: Vec<u8>,
}

impl Read {
    /// # Panics
    /// If the reader loses count or goes on behind the end, or if a record is shown in more than one
    /// line of plain text.
    pub(super) fn of(trace: &[u8]) -> Self {
        let mut read = Self {
            header: None,
            records: 0,
            time: 0,
            made_up: 0,
            largest_made_up: 0,
            streams: 0,
            end: Ok(Ending::Open),
            again: Vec::new(),
        };
        read.end = read.take(trace);
        read
    }

    fn take(&mut self, trace: &[u8]) -> Result<Ending, TraceError> {
        let mut reader = Reader::new(trace)?;
        let header = self.header.insert(reader.header().clone());
        let first = header.beginning.first;
        let mut writer = Writer::new(&mut self.again, header)?;
        while let Some((number, record)) = reader.next_record()? {
            assert_eq!(number, first + self.records);
            self.records += 1;
            let shown = record.to_string();
            assert!(
                !shown.is_empty() && !shown.contains(char::is_control),
                "record {number} is shown as {shown:?}"
            );
            assert!(!record.kind().is_empty());
            self.time = record.at().map_or(self.time, |at| at.max(self.time));
            self.made_up += made_up(&record);
            self.largest_made_up = self.largest_made_up.max(largest_made_up(&record));
            self.streams += streams(&record);
            writer.write(&record)?;
        }
        let behind = reader.next_record();
        assert!(matches!(behind, Ok(None)), "a trace goes on behind its end");
        let ending = reader.ending();
        Ok(ending.expect("a trace was read, and how it ends is not known"))
    }

    /// What was written again is read as the same.
    pub(super) fn check_written(&self, trace: &[u8]) {
        if self.header.is_none() {
            return;
        }
        let again = Self::of(&self.again);
        assert_eq!(again.again, self.again, "it is written otherwise again");
        assert_eq!(again.records, self.records);
        let expected = match &self.end {
            Ok(Ending::Said(end)) => Ending::Said(*end),
            // Only whole records are written.
            _ => Ending::Open,
        };
        assert_eq!(again.end.ok(), Some(expected));
        let (one, other) = (Reader::new(trace), Reader::new(&self.again[..]));
        let (mut one, mut other) = (one.expect("a trace"), other.expect("a trace"));
        assert_eq!(
            format!("{:?}", one.header()),
            format!("{:?}", other.header())
        );
        for _ in 0..self.records {
            let (one, other) = (one.next_record(), other.next_record());
            let (one, other) = (one.expect("it was read"), other.expect("it was read"));
            assert_eq!(one, other, "a record is another one when it is written");
        }
    }

    /// A trace that ends too early is read as far as it goes.
    pub(super) fn check_cut(&self, cut: &[u8]) {
        let before = Self::of(cut);
        assert!(
            self.again.starts_with(&before.again),
            "a cut changed what is before it"
        );
    }
}

/// More than these a link has not.
const STREAMS_MAX: u64 = 1_024;

/// How many streams of peers a record opens: of each link no more than it may have.
fn streams(record: &Record<'_>) -> u64 {
    let Record::Answers { notes, .. } = record else {
        return 0;
    };
    let mut links = BTreeMap::<_, u64>::new();
    for (link, note) in notes {
        if let LinkNote::Streams(count) = note {
            *links.entry(*link).or_default() += u64::from(*count);
        }
    }
    links.values().map(|count| STREAMS_MAX.min(*count)).sum()
}

/// How many bytes of a record's bodies were not kept.
fn made_up(record: &Record<'_>) -> u64 {
    let of = |body: Body<'_>| match body {
        Body::Whole(_) => 0,
        Body::Marked { length, .. } => length as u64,
    };
    match record {
        Record::Call { call, .. } => of(call.payload()) + of(call.credentials()),
        record => in_frames(record).sum(),
    }
}

/// How long the longest of them was that stood in a lane's frame.
fn largest_made_up(record: &Record<'_>) -> u64 {
    in_frames(record).max().unwrap_or(0)
}

/// How long bodies were that are not in their frames.
fn in_frames(record: &Record<'_>) -> impl Iterator<Item = u64> {
    let notes = match record {
        Record::Answers { notes, .. } => &notes[..],
        _ => &[],
    };
    notes.iter().filter_map(|(_, note)| match note {
        LinkNote::Lane {
            marked: Some(marked),
            ..
        } => Some(marked.length as u64),
        _ => None,
    })
}
