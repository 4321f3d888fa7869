//! Writing a trace, record by record.

use std::io::{self, Write};

use super::{FORMAT, Header, MAGIC, Record, checksum};
use crate::tap::Level;

/// Writes a trace, record by record, and each record whole or not at all if `output` does.
pub struct Writer<W> {
    output: W,
    level: Level,
    number: u64,
    clock: i64,
    written: u64,
    /// The latest record, behind room for its length.
    record: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a trace.
    pub fn new(mut output: W, header: &Header) -> io::Result<Self> {
        let mut start = [0; MAGIC.len() + 2];
        start[..MAGIC.len()].copy_from_slice(&MAGIC);
        start[MAGIC.len()..].copy_from_slice(&FORMAT.to_le_bytes());
        output.write_all(&start)?;
        let mut body = header.encode(LENGTH_MAX);
        let whole = frame(0, &mut body);
        output.write_all(whole)?;
        Ok(Self {
            output,
            level: header.level(),
            number: header.beginning.first.saturating_sub(1),
            clock: header.beginning.clock,
            written: (start.len() + whole.len()) as u64,
            record: Vec::new(),
        })
    }

    /// Writes a record, unless the trace would become longer than `limit` bytes by it: `false`.
    pub fn write_within(&mut self, limit: u64, record: &Record<'_>) -> io::Result<bool> {
        let mut clock = self.clock;
        self.record.clear();
        self.record.resize(LENGTH_MAX, 0);
        record.encode(self.level, &mut clock, &mut self.record);
        let whole = frame(self.number + 1, &mut self.record);
        let written = self.written + whole.len() as u64;
        if written > limit {
            return Ok(false);
        }
        self.output.write_all(whole)?;
        self.number += 1;
        self.clock = clock;
        self.written = written;
        Ok(true)
    }

    /// Writes a record.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.write_within(u64::MAX, record).map(drop)
    }

    /// Writes a record that is encoded already. What comes after it is not to be a record with a time.
    pub(in crate::trace) fn write_body(&mut self, body: &[u8]) -> io::Result<()> {
        self.record.clear();
        self.record.resize(LENGTH_MAX, 0);
        self.record.extend_from_slice(body);
        let whole = frame(self.number + 1, &mut self.record);
        self.written += whole.len() as u64;
        self.output.write_all(whole)?;
        self.number += 1;
        Ok(())
    }

    /// Passes on what `output` may hold back.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// What it wrote to.
    pub fn into_inner(self) -> W {
        self.output
    }

    /// How many bytes have been written.
    pub fn written(&self) -> u64 {
        self.written
    }
}

/// The longest that a length can be, in bytes.
const LENGTH_MAX: usize = 10;

/// Makes a body, which has room for its length before it, a record as it stands in a trace: length,
/// body, checksum. So a body is never copied for it.
pub(super) fn frame(number: u64, record: &mut Vec<u8>) -> &[u8] {
    let body = record.get(LENGTH_MAX..).unwrap_or_default();
    let sum = checksum(number, body);
    let length = body.len() as u64;
    let start = LENGTH_MAX - (length.max(1).ilog2() as usize / 7 + 1);
    for (place, byte) in record[start..LENGTH_MAX].iter_mut().enumerate() {
        let more = start + place + 1 < LENGTH_MAX;
        *byte = (length >> (7 * place)) as u8 & 0x7f | u8::from(more) << 7;
    }
    record.extend_from_slice(&sum.to_le_bytes());
    &record[start..]
}
