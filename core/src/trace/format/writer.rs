//! Writing a trace, record by record.

use std::io::{self, Write};

use super::codec::Encoder;
use super::{FORMAT, Header, MAGIC, Record, checksum};

/// Writes a trace, record by record, and each record whole or not at all if `output` does.
pub struct Writer<W> {
    output: W,
    number: u64,
    clock: i64,
    written: u64,
    body: Vec<u8>,
    whole: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a trace.
    pub fn new(mut output: W, header: &Header) -> io::Result<Self> {
        let body = header.encode();
        let mut whole = zeroize::Zeroizing::new(Vec::with_capacity(body.len() + 32));
        whole.extend_from_slice(&MAGIC);
        whole.extend_from_slice(&FORMAT.to_le_bytes());
        frame(0, &body, &mut whole);
        output.write_all(&whole)?;
        Ok(Self {
            output,
            number: 0,
            clock: 0,
            written: whole.len() as u64,
            body: Vec::new(),
            whole: Vec::new(),
        })
    }

    /// Writes a record, unless the trace would become longer than `limit` bytes by it: `false`.
    pub fn write_within(&mut self, limit: u64, record: &Record<'_>) -> io::Result<bool> {
        self.body.clear();
        self.whole.clear();
        let mut clock = self.clock;
        record.encode(&mut clock, &mut self.body);
        frame(self.number + 1, &self.body, &mut self.whole);
        let written = self.written + self.whole.len() as u64;
        if written > limit {
            return Ok(false);
        }
        self.output.write_all(&self.whole)?;
        self.number += 1;
        self.clock = clock;
        self.written = written;
        Ok(true)
    }

    /// Writes a record.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.write_within(u64::MAX, record).map(drop)
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

/// A record as it stands in a trace: length, body, checksum.
fn frame(number: u64, body: &[u8], out: &mut Vec<u8>) {
    Encoder(out).bytes(body);
    out.extend_from_slice(&checksum(number, body).to_le_bytes());
}
