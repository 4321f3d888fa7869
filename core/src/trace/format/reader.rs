//! Reading a trace, record by record, to its last whole one.

use std::io::{self, Read};

use super::again::Outline;
use super::codec::Decoder;
use super::{End, FORMAT, Header, MAGIC, Record, TraceError, checksum, length_check};
use crate::id::LinkKey;
use crate::tap::{Level, LinkNote, Signature};

/// Reads a trace, record by record, to its last whole one.
///
/// It reads single bytes: hand it something that is buffered.
pub struct Reader<R> {
    input: R,
    header: Header,
    place: Place,
    /// Of the next record.
    number: u64,
    clock: i64,
    block: Block,
    body: Vec<u8>,
    /// What was read before its turn.
    ahead: Option<Result<Option<Body>, TraceError>>,
    ending: Option<Ending>,
}

/// How a trace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a record that says so.
    Said(End),
    /// With a whole record, but nothing says that it is the last: the process ended without warning,
    /// or still runs.
    Open,
    /// Within a record: the process ended without warning. So many bytes follow the last whole one.
    CutShort(u64),
}

/// The block whose records are read.
#[derive(Default)]
struct Block {
    /// Where in the trace it begins.
    offset: u64,
    bytes: Vec<u8>,
    /// How many of them have been read.
    read: usize,
    /// The outline of its latest command.
    before: Option<Outline>,
}

impl Block {
    /// The next record as if it stood alone; `None`: there is no other.
    fn next(&mut self, level: Level) -> Option<Vec<u8>> {
        let rest = self
            .bytes
            .get(self.read..)
            .filter(|rest| !rest.is_empty())?;
        let mut from = Decoder(rest);
        let Some(record) = Record::decode_from(&mut from, self.before, level, &mut 0) else {
            // Whoever looks at it cannot make sense of it either.
            self.read = self.bytes.len();
            return Some(rest.to_vec());
        };
        let length = rest.len() - from.0.len();
        self.read += length;
        let again = Record::is_again(rest);
        if let Some((outline, _)) = Outline::of(&record) {
            self.before = Some(outline);
        }
        if again {
            let mut whole = Vec::new();
            record.encode(level, &mut 0, &mut whole);
            return Some(whole);
        }
        rest.get(..length).map(<[u8]>::to_vec)
    }
}

/// A record that was read, and not yet looked at.
struct Body {
    number: u64,
    offset: u64,
    bytes: Vec<u8>,
}

/// A record, after the signatures that belong to it.
pub(in crate::trace) struct Signed<'a> {
    pub(in crate::trace) number: u64,
    pub(in crate::trace) record: Record<'a>,
    /// The trace ends behind it or behind its signatures: there may have been more of them.
    pub(in crate::trace) cut_off: bool,
}

/// A record with the answers that belong to it.
pub(in crate::trace) struct Answered<'a> {
    pub(in crate::trace) number: u64,
    pub(in crate::trace) record: Record<'a>,
    pub(in crate::trace) answers: Answers,
    /// The number of the later one of both.
    pub(in crate::trace) last: u64,
    /// It is a call without answers, and the trace ends behind it: there may have been some.
    pub(in crate::trace) cut_off: bool,
}

/// What connections answered, and which record says so, if one does.
#[derive(Default)]
pub(in crate::trace) struct Answers {
    pub(in crate::trace) number: Option<u64>,
    pub(in crate::trace) notes: Vec<(LinkKey, LinkNote)>,
}

impl Answers {
    /// Reads those of the poll that follows.
    fn polled(body: &Body) -> Option<Self> {
        Self::read(body, true)
    }

    /// Reads those of the call before.
    fn of_call(body: &Body) -> Option<Self> {
        Self::read(body, false)
    }

    fn read(body: &Body, of_poll: bool) -> Option<Self> {
        match Record::answers(&body.bytes)? {
            (polled, notes) if polled == of_poll => Some(Self {
                number: Some(body.number),
                notes,
            }),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Place {
    /// Of the next block.
    block: u64,
    /// Bytes read.
    offset: u64,
}

/// How much room is made for a block before any of it was read, at most: more than a header takes.
const RESERVED: u64 = 64 << 10;

/// Whether nothing more was recorded.
fn ends(ahead: &Result<Option<Body>, TraceError>) -> bool {
    match ahead {
        Ok(Some(next)) => Record::is_end(&next.bytes),
        Ok(None) => true,
        Err(_) => false,
    }
}

enum Framed {
    Whole,
    Nothing,
    CutShort,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn new(mut input: R) -> Result<Self, TraceError> {
        let mut start = [0; MAGIC.len() + 2];
        let mut place = Place::default();
        let complete = fill(&mut input, &mut start, &mut place)?;
        let (magic, version) = start.split_at(MAGIC.len());
        if !complete || magic != MAGIC {
            return Err(TraceError::NotATrace);
        }
        let found = version
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u16::from(*byte));
        if found != FORMAT {
            return Err(TraceError::Version { found });
        }
        let mut body = Vec::new();
        match framed(&mut input, &mut place, 0, &mut body)? {
            Framed::Whole => {}
            Framed::Nothing | Framed::CutShort => return Err(TraceError::NoHeader),
        }
        let body = zeroize::Zeroizing::new(body);
        let header = Header::decode(&body)?;
        Ok(Self {
            input,
            number: header.beginning.first,
            clock: header.beginning.clock,
            header,
            place,
            block: Block::default(),
            body: Vec::new(),
            ahead: None,
            ending: None,
        })
    }

    /// The same of a trace that begins with its node, as a replay needs it.
    pub(in crate::trace) fn from_the_start(input: R) -> Result<Self, TraceError> {
        let reader = Self::new(input)?;
        match reader.header.beginning.first {
            1 => Ok(reader),
            first => Err(TraceError::NotFromTheStart { first }),
        }
    }

    /// What the recorded node was made of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next record and its number, from 1; `None` at the trace's end, of which
    /// [`ending`](Self::ending) then tells.
    pub fn next_record(&mut self) -> Result<Option<(u64, Record<'_>)>, TraceError> {
        match self.next_body()? {
            Some(body) => self.look_at(body).map(Some),
            None => Ok(None),
        }
    }

    /// The next record that is no signature, after the signatures that follow it, which it needs.
    pub(in crate::trace) fn next_with_signatures(
        &mut self,
        mut signed: impl FnMut(Signature),
    ) -> Result<Option<Signed<'_>>, TraceError> {
        loop {
            let Some(body) = self.next_body()? else {
                return Ok(None);
            };
            if let Some(signature) = Record::signature(&body.bytes) {
                signed(signature);
                continue;
            }
            // What is wrong further on is said when its turn comes.
            let ahead = loop {
                let ahead = self.next_body();
                if let Ok(Some(next)) = &ahead
                    && let Some(signature) = Record::signature(&next.bytes)
                {
                    signed(signature);
                    continue;
                }
                break ahead;
            };
            let ends = ends(&ahead);
            self.ahead = Some(ahead);
            let (number, record) = self.look_at(body)?;
            return Ok(Some(Signed {
                number,
                // A poll's stand before it.
                cut_off: ends && matches!(record, Record::Call { .. }),
                record,
            }));
        }
    }

    /// The next record that is no answers', with the answers that belong to it.
    pub(in crate::trace) fn next_with_answers(
        &mut self,
    ) -> Result<Option<Answered<'_>>, TraceError> {
        let mut answers = Answers::default();
        let mut unanswered = false;
        let Some(mut body) = self.next_body()? else {
            return Ok(None);
        };
        if let Some(before) = Answers::polled(&body) {
            // Without the poll that they belong to, they are of no use.
            match self.next_body()? {
                Some(next) => body = next,
                None => return Ok(None),
            }
            if !Record::is_end(&body.bytes) {
                answers = before;
            }
        } else {
            // What is wrong further on is said when its turn comes.
            let ahead = self.next_body();
            let behind = match &ahead {
                Ok(Some(next)) => Answers::of_call(next),
                _ => None,
            };
            match behind {
                Some(behind) => answers = behind,
                None => {
                    unanswered = ends(&ahead);
                    self.ahead = Some(ahead);
                }
            }
        }
        let last = body.number.max(answers.number.unwrap_or(0));
        let (number, record) = self.look_at(body)?;
        // A poll's answers stand before it.
        let is_call = matches!(record, Record::Call { .. } | Record::Arrival { .. });
        let cut_off = unanswered && is_call;
        Ok(Some(Answered {
            number,
            record,
            answers,
            last,
            cut_off,
        }))
    }

    /// How the trace ends; `None` before that was read.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    fn look_at(&mut self, body: Body) -> Result<(u64, Record<'_>), TraceError> {
        let Body {
            number,
            offset,
            bytes,
        } = body;
        self.body = bytes;
        let level = self.header.level();
        let record =
            Record::decode(&self.body, level, &mut self.clock).ok_or(TraceError::Unknown {
                record: number,
                offset,
            })?;
        if let Record::End(end) = record {
            self.ending = Some(Ending::Said(end));
        }
        Ok((number, record))
    }

    fn next_body(&mut self) -> Result<Option<Body>, TraceError> {
        let ahead = self.ahead.take();
        // What was read ahead is of no meaning behind a record that says that it is the last.
        if let Some(Ending::Said(_)) = self.ending {
            return Ok(None);
        }
        if let Some(ahead) = ahead {
            return ahead;
        }
        let level = self.header.level();
        while self.ending.is_none() {
            if let Some(bytes) = self.block.next(level) {
                let number = self.number;
                self.number += 1;
                return Ok(Some(Body {
                    number,
                    offset: self.block.offset,
                    bytes,
                }));
            }
            let offset = self.place.offset;
            let mut bytes = std::mem::take(&mut self.block.bytes);
            bytes.clear();
            match framed(&mut self.input, &mut self.place, self.number, &mut bytes)? {
                Framed::Whole => {
                    self.block = Block {
                        offset,
                        bytes,
                        ..Block::default()
                    }
                }
                Framed::Nothing => self.ending = Some(Ending::Open),
                Framed::CutShort => {
                    self.ending = Some(Ending::CutShort(self.place.offset - offset));
                }
            }
        }
        Ok(None)
    }
}

/// Reads one block as it stands in a trace; `record` is the number of its first record.
fn framed(
    input: &mut impl Read,
    place: &mut Place,
    record: u64,
    body: &mut Vec<u8>,
) -> Result<Framed, TraceError> {
    let damaged = TraceError::Damaged {
        record,
        offset: place.offset,
    };
    let mut length = 0_u64;
    for shift in (0..).step_by(7) {
        let mut byte = [0];
        if !fill(input, &mut byte, place)? {
            return Ok(if shift == 0 {
                Framed::Nothing
            } else {
                Framed::CutShort
            });
        }
        if shift > 56 {
            return Err(damaged);
        }
        length |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            break;
        }
    }
    let mut check = [0];
    if !fill(input, &mut check, place)? {
        return Ok(Framed::CutShort);
    }
    if check[0] != length_check(place.block, length) {
        return Err(damaged);
    }
    // At once, for what is read in growing steps leaves copies of its beginning, and a header holds secrets.
    body.reserve(usize::try_from(length.min(RESERVED)).unwrap_or_default());
    // What the length says is believed as far as there are bytes.
    place.offset += input.take(length).read_to_end(body)? as u64;
    let mut sum = [0; 4];
    if (body.len() as u64) < length || !fill(input, &mut sum, place)? {
        return Ok(Framed::CutShort);
    }
    if u32::from_le_bytes(sum) != checksum(place.block, body) {
        return Err(damaged);
    }
    place.block += 1;
    Ok(Framed::Whole)
}

/// Fills the buffer; `false`: the input ends before that.
fn fill(input: &mut impl Read, buffer: &mut [u8], place: &mut Place) -> io::Result<bool> {
    let mut rest = buffer;
    while !rest.is_empty() {
        match input.read(rest) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                place.offset += count as u64;
                rest = rest.get_mut(count..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
