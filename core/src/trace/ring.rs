//! The last seconds of a recording that never ends, kept in memory until somebody wants them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::format::{Beginning, End, Header, Record, Writer};
use super::record::BUFFER;
use crate::logged::logged;
use crate::tap::{BodyKey, Level};

/// Asks a recording that keeps only its last seconds to write them down, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Saver(Arc<AtomicU64>);

impl Saver {
    /// Asks for it. It is done with the next thing that happens to the node.
    pub fn save(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn asked(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens what a ring is written to, the first time, the second, and so on.
pub(super) type Outputs<W> = Box<dyn FnMut(u64) -> io::Result<W> + Send>;

/// The last records of a node.
pub(super) struct Ring<W> {
    header: Header,
    /// By which bodies are hashed that are not to be kept.
    key: Option<BodyKey>,
    outputs: Outputs<W>,
    saver: Saver,
    /// How often it was asked for, of what was done.
    answered: u64,
    saved: u64,
    last: i64,
    limit: u64,
    kept: VecDeque<Kept>,
    bytes: u64,
    number: u64,
    clock: i64,
}

struct Kept {
    /// The clock before it.
    clock: i64,
    body: Vec<u8>,
}

/// What a record takes besides its body.
const OVERHEAD: u64 = 64;

impl<W: Write> Ring<W> {
    pub(super) fn new(
        header: Header,
        key: Option<BodyKey>,
        last: Duration,
        limit: u64,
        saver: Saver,
        outputs: Outputs<W>,
    ) -> Self {
        Self {
            header,
            key,
            outputs,
            answered: saver.asked(),
            saver,
            saved: 0,
            last: i64::try_from(last.as_nanos()).unwrap_or(i64::MAX),
            limit,
            kept: VecDeque::new(),
            bytes: 0,
            number: 0,
            clock: 0,
        }
    }

    /// Keeps a record, lets go of those that are too old or too many, and writes all of them if they
    /// were asked for.
    pub(super) fn push(&mut self, record: &Record<'_>) {
        let clock = self.clock;
        let mut body = Vec::new();
        record.encode_redacted(self.key.as_ref(), Level::Link, &mut self.clock, &mut body);
        body.shrink_to_fit();
        self.bytes += body.len() as u64 + OVERHEAD;
        self.kept.push_back(Kept { clock, body });
        self.number += 1;
        // Only whole ones go, and the latest stays: an old one is one whose successor began before.
        let oldest = self.clock.saturating_sub(self.last);
        while self.kept.len() > 1
            && (self.bytes > self.limit || self.kept.get(1).is_some_and(|k| k.clock < oldest))
        {
            if let Some(gone) = self.kept.pop_front() {
                self.bytes -= gone.body.len() as u64 + OVERHEAD;
            }
        }
        let asked = self.saver.asked();
        if asked != self.answered {
            self.answered = asked;
            self.save(None);
        }
    }

    /// Writes down what is kept; a failure is a warning in the log.
    pub(super) fn save(&mut self, end: Option<End>) {
        let number = self.saved;
        self.saved += 1;
        if let Err(error) = self.write(number, end) {
            logged(|| tracing::warn!(%error, "the recording cannot be written"));
        }
    }

    fn write(&mut self, number: u64, end: Option<End>) -> io::Result<()> {
        let first = self.number - self.kept.len() as u64 + 1;
        let clock = self.kept.front().map_or(0, |kept| kept.clock);
        let header = Header {
            beginning: Beginning { first, clock },
            ..self.header.clone()
        };
        let mut writer = Writer::new((self.outputs)(number)?, &header)?.holding(BUFFER);
        for kept in &self.kept {
            writer.write_body(&kept.body)?;
        }
        if let Some(end) = end {
            writer.write(&Record::End(end))?;
        }
        writer.flush()
    }
}
