//! Trace files, read, replayed and made others of: see [`traces`].

mod above_quic;
mod read;
mod seeds;

use std::time::Instant;

use trunkline_core::trace::{Ending, TraceError, replay};
use twox_hash::XxHash3_64;

use self::read::Read;
pub(super) use self::seeds::seeds;
use super::input::Input;
use super::{Reached, use_null_crypto};

pub(super) const FLOOR: &[&str] = &[
    "no trace",
    "another version",
    "no header",
    "a header that cannot be used",
    "a damaged record",
    "an unknown record",
    "a trace that was cut short",
    "a trace that is open",
    "a trace that says its end",
    "an identical replay",
    "a difference",
    "a replay that ended in an error",
    "the last seconds of a node",
    "a link trace with bodies",
    "a link trace without bodies",
    "a body taken out",
    "credentials taken out",
    "an identical replay above QUIC",
    "a difference above QUIC",
    "a trace cut down",
    "nothing to cut a trace down to",
    "a trace cut down to a record",
    "another configuration",
    "a configuration that makes no difference",
    "a configuration that cannot be",
    "bodies that would have to be made up",
];

/// Any bytes as a trace, with or without their checksums put right, so that what is in the records
/// is reached.
///
/// The reader says what is wrong, or reads; each record is shown in one line; written again, it is the
/// same. Cut anywhere, a trace is read to its last whole record; a replay ends, with a report that has
/// as many records as the reader, or with the same error. What can be done with a trace of link level
/// alone, such as redacting it, is checked as well.
///
/// The input: a byte whose lowest bit says whether checksums are put right and whose others say what
/// else is asked of the trace, two bytes for where it is cut, and the trace.
pub fn traces(data: &[u8]) -> Reached {
    use_null_crypto();
    let mut input = Input::new(data);
    let (flags, cut) = (input.byte(), usize::from(input.short()));
    let trace = given(flags, input.rest());
    let mut reached = Reached::new();
    let read = Read::of(&trace);
    reached.insert(match &read.end {
        Ok(Ending::Open) => "a trace that is open",
        Ok(Ending::CutShort(_)) => "a trace that was cut short",
        Ok(Ending::Said(_)) => "a trace that says its end",
        Err(error) => fault(error),
    });
    read.check_written(&trace);
    read.check_cut(&trace[..cut.min(trace.len())]);
    if read.made_up > MADE_UP_MAX {
        reached.insert("bodies that would have to be made up");
        above_quic::check_redacts(&trace, &read);
        return reached;
    }
    match replay(&trace[..], Instant::now()) {
        Ok(report) => {
            assert!(!report.to_string().is_empty());
            assert!(report.records <= read.records);
            if report.is_identical() {
                reached.insert("an identical replay");
                // Signatures are no records of a replay's own.
                assert_eq!(
                    report.ending,
                    read.end.as_ref().ok().copied(),
                    "not all was replayed"
                );
            } else {
                reached.insert("a difference");
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            reached.insert(match error {
                TraceError::NotFromTheStart { .. } => "the last seconds of a node",
                _ => "a replay that ended in an error",
            });
        }
    }
    above_quic::check(&trace, &read, flags, &mut reached);
    reached
}

/// A node, its links' streams, and what each record says; nothing for what a trace only announces. Bodies that are not kept
/// take memory where a node is given them; elsewhere at most one at a time, of a frame that does not say
/// where the trace does how long it was.
pub(super) fn memory(data: &[u8]) -> u64 {
    let mut input = Input::new(data);
    let flags = input.byte();
    input.short();
    let read = Read::of(&given(flags, input.rest()));
    let made_up = match read.made_up {
        replayed @ ..=MADE_UP_MAX => 8 * replayed,
        _ => read.largest_made_up,
    };
    (256 << 10) + 100 * data.len() as u64 + made_up + 400 * read.streams
}

/// Traces that have bodies of more bytes than these made up are read, shown and redacted, and that is
/// all.
const MADE_UP_MAX: u64 = 64 << 10;

/// The trace of an input with these flags.
fn given(flags: u8, trace: &[u8]) -> Vec<u8> {
    let mut trace = trace.to_vec();
    if flags & 1 == 0 {
        repair(&mut trace);
    }
    trace
}

/// What a trace begins with: the name and the version of its format.
const START: usize = 10;
const SUM: usize = 4;

/// Puts the checksums of every block right, as far as their lengths lead.
fn repair(trace: &mut [u8]) {
    let mut at = START;
    for number in 0_u64.. {
        let mut length = 0;
        for shift in (0..).step_by(7) {
            let Some(byte) = trace.get(at).filter(|_| shift < 35) else {
                return;
            };
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                break;
            }
        }
        let Some(check) = trace.get_mut(at) else {
            return;
        };
        *check = check_of(length, number);
        at += 1;
        let Some((body, rest)) = trace
            .get_mut(at..)
            .and_then(|t| t.split_at_mut_checked(length))
        else {
            return;
        };
        let Some(sum) = rest.first_chunk_mut::<SUM>() else {
            return;
        };
        *sum = sum_of(number, body);
        at += length + SUM;
    }
}

/// The byte behind a block's length.
fn check_of(length: usize, number: u64) -> u8 {
    let mixed = length as u64 ^ number.rotate_left(32);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// The checksum of the block of that number.
fn sum_of(number: u64, body: &[u8]) -> [u8; SUM] {
    (XxHash3_64::oneshot_with_seed(number, body) as u32).to_le_bytes()
}

fn fault(error: &TraceError) -> &'static str {
    assert!(!error.to_string().is_empty());
    match error {
        TraceError::NotATrace => "no trace",
        TraceError::Version { .. } => "another version",
        TraceError::NoHeader => "no header",
        TraceError::Damaged { .. } => "a damaged record",
        TraceError::Unknown { .. } => "an unknown record",
        _ => "a header that cannot be used",
    }
}
