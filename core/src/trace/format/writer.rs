//! Writing a trace, record by record.

use std::io::{self, Write};

use super::again::Outline;
use super::codec::Encoder;
use super::{FORMAT, Header, MAGIC, Record, checksum, length_check};
use crate::tap::{BodyKey, Call, Level};

/// Writes a trace, record by record, and each record whole or not at all if `output` does.
pub struct Writer<W> {
    output: W,
    level: Level,
    /// Of the latest record and of the latest block.
    number: u64,
    block: u64,
    clock: i64,
    /// Bytes of whole blocks.
    written: u64,
    /// What `output` was not given yet: whole blocks, and the one that is open.
    held: Vec<u8>,
    /// With so many bytes it is given to it; 0: each record at once, in a block of its own.
    hold: usize,
    /// Where the open block's first record stands in `held`.
    open: Option<usize>,
    /// What the latest command of the open block was, but for its body.
    outline: Option<Outline>,
    /// By which bodies are hashed that are not to be kept.
    key: Option<BodyKey>,
}

impl<W: Write> Writer<W> {
    /// Begins a trace.
    pub fn new(mut output: W, header: &Header) -> io::Result<Self> {
        let mut start = [0; MAGIC.len() + 2];
        start[..MAGIC.len()].copy_from_slice(&MAGIC);
        start[MAGIC.len()..].copy_from_slice(&FORMAT.to_le_bytes());
        output.write_all(&start)?;
        let body = header.encode();
        let mut whole = zeroize::Zeroizing::new(Vec::with_capacity(body.len() + OVERHEAD_MAX));
        whole.extend_from_slice(&[0; ROOM]);
        whole.extend_from_slice(&body);
        frame(0, &mut whole, ROOM);
        output.write_all(&whole)?;
        Ok(Self {
            output,
            level: header.level(),
            number: header.beginning.first.saturating_sub(1),
            block: 0,
            clock: header.beginning.clock,
            written: (start.len() + whole.len()) as u64,
            held: Vec::new(),
            hold: 0,
            open: None,
            outline: None,
            key: None,
        })
    }

    /// Holds records back until there are so many bytes of them, or until they are flushed.
    pub(in crate::trace) fn holding(self, bytes: usize) -> Self {
        Self {
            hold: bytes,
            ..self
        }
    }

    /// Writes hashes by this key in place of bodies, and of credentials nothing.
    pub(in crate::trace) fn redacting(self, key: BodyKey) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// Writes a record, unless the trace would become longer than `limit` bytes by it: `false`.
    pub fn write_within(&mut self, limit: u64, record: &Record<'_>) -> io::Result<bool> {
        // What others sent is named alone where it is damaged.
        let alone = matches!(
            record,
            Record::Call {
                call: Call::Datagram { .. },
                ..
            }
        );
        if alone {
            self.close();
        }
        let start = self.begin();
        let clock = self.clock;
        let outlined = Outline::of(record);
        let mut out = Encoder::new(&mut self.held).redacting(self.key.as_ref());
        match (self.outline, outlined) {
            (Some(before), Some((outline, body)))
                if before.next() == outline && record.at() == Some(clock) =>
            {
                Record::encode_again(body, self.level, &mut out);
            }
            _ => record.encode_by(self.level, &mut self.clock, &mut out),
        }
        // What is far from the limit need not be counted to the byte.
        let most = self.written + (self.open_length() + OVERHEAD_MAX) as u64;
        if most > limit && self.written() > limit {
            self.held.truncate(start);
            self.clock = clock;
            return Ok(false);
        }
        if let Some((outline, _)) = outlined {
            self.outline = Some(outline);
        }
        self.count(alone)?;
        Ok(true)
    }

    /// Writes a record.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.write_within(u64::MAX, record).map(drop)
    }

    /// Writes a record that is encoded already. What comes after it is not to be a record with a time.
    pub(in crate::trace) fn write_body(&mut self, body: &[u8]) -> io::Result<()> {
        self.begin();
        self.held.extend_from_slice(body);
        self.outline = None;
        self.count(false)
    }

    /// Begins a block, if none is open; returns where the next record begins.
    fn begin(&mut self) -> usize {
        if self.open.is_none() {
            self.held.extend_from_slice(&[0; ROOM]);
            self.open = Some(self.held.len());
            self.outline = None;
        }
        self.held.len()
    }

    /// Counts the record that was appended; `last`: of its block.
    fn count(&mut self, last: bool) -> io::Result<()> {
        self.number += 1;
        if last || self.hold == 0 || self.open_length() >= BLOCK {
            self.close();
        }
        if self.held.len() >= self.hold {
            self.pass_on()?;
        }
        Ok(())
    }

    fn open_length(&self) -> usize {
        self.open.map_or(0, |open| self.held.len() - open)
    }

    /// Makes the open block a whole one.
    fn close(&mut self) {
        let Some(open) = self.open else { return };
        self.written = self.written();
        self.open = None;
        // The limit left no room for its first record.
        if self.held.len() == open {
            self.held.truncate(open - ROOM);
            return;
        }
        self.block += 1;
        frame(self.block, &mut self.held, open);
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.close();
        let passed = self.output.write_all(&self.held);
        self.held.clear();
        passed
    }

    /// Whether there is something that `output` was not given yet.
    pub(in crate::trace) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Passes on what is held back, here or by `output`.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            self.pass_on()?;
        }
        self.output.flush()
    }

    /// What it wrote to.
    pub fn into_inner(self) -> W {
        self.output
    }

    /// How many bytes have been written.
    pub fn written(&self) -> u64 {
        let open = match self.open_length() {
            0 => 0,
            length => length_of_length(length) + 1 + length + SUM,
        };
        self.written + open as u64
    }
}

/// With so many bytes a block is closed.
const BLOCK: usize = 1 << 10;

/// What is kept free before a block's records: a length of one byte, and its check.
pub(super) const ROOM: usize = 2;

/// The bytes of a checksum.
const SUM: usize = 4;

/// The most that a block takes besides its records, in bytes: its length and its checksum.
const OVERHEAD_MAX: usize = 10 + 1 + SUM;

/// How many bytes a length takes.
fn length_of_length(length: usize) -> usize {
    length.max(1).ilog2() as usize / 7 + 1
}

/// Makes what stands at `start` and behind it a block as it stands in a trace: its length goes where
/// room was kept before it, and its checksum is appended.
pub(super) fn frame(number: u64, out: &mut Vec<u8>, start: usize) {
    let body = out.get(start..).unwrap_or_default();
    let (length, sum) = (body.len(), checksum(number, body));
    let check = length_check(number, length as u64);
    let room = start - ROOM..start;
    if length < 0x80 {
        if let Some(room) = out.get_mut(room) {
            room.copy_from_slice(&[length as u8, check]);
        }
    } else {
        let last = length_of_length(length) - 1;
        let byte =
            |place: usize| (length >> (7 * place)) as u8 & 0x7f | u8::from(place < last) << 7;
        out.splice(room, (0..=last).map(byte).chain([check]));
    }
    out.extend_from_slice(&sum.to_le_bytes());
}
