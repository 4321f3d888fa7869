//! Trace files, read and replayed: see [`traces`].

use std::time::{Duration, Instant};

use trunkline_core::trace::{Ending, Reader, TraceError, replay};
use twox_hash::XxHash64;

use crate::world::echo;

use super::input::Input;
use super::two_nodes::{null_world, without_discovery};
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
];

/// Any bytes as a trace, with or without their checksums put right, so that what is in the records
/// is reached.
///
/// The reader says what is wrong, or reads; cut anywhere, a trace is read to its last whole record;
/// a replay ends, with a report that has as many records as the reader, or with the same error.
///
/// The input: a byte that says whether checksums are put right, two bytes for where it is cut, and
/// the trace.
pub fn traces(data: &[u8]) -> Reached {
    use_null_crypto();
    let mut input = Input::new(data);
    let (flags, cut) = (input.byte(), usize::from(input.short()));
    let mut trace = input.rest().to_vec();
    if flags & 1 == 0 {
        repair(&mut trace);
    }
    let mut reached = Reached::new();
    let (records, end) = read(&trace);
    reached.insert(match &end {
        Ok(Ending::Open) => "a trace that is open",
        Ok(Ending::CutShort(_)) => "a trace that was cut short",
        Ok(Ending::Said(_)) => "a trace that says its end",
        Err(error) => fault(error),
    });
    check_cut(&trace, cut, &records);
    match replay(&trace[..], Instant::now()) {
        Ok(report) => {
            assert!(!report.to_string().is_empty());
            let number = usize::try_from(report.records).unwrap_or(usize::MAX);
            assert!(number <= records.len());
            if report.is_identical() {
                reached.insert("an identical replay");
                // Signatures are no records of a replay's own.
                assert_eq!(report.ending, end.ok(), "not all was replayed");
            } else {
                reached.insert("a difference");
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            reached.insert("a replay that ended in an error");
        }
    }
    reached
}

/// Both sides' traces of short conversations, whole and damaged.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for number in 0..6_u8 {
        let mut world = null_world(number.into());
        without_discovery(world.config());
        world.record();
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "alice");
        world.run(Duration::from_millis(20), echo);
        for place in 0..number {
            world.request(client, session, &[place; 10]);
            world.run(Duration::from_millis(4), echo);
        }
        if number % 2 == 1 {
            world.path.cut = true;
            world.send_acked(client, session, b"lost at first");
            world.run(Duration::from_millis(700), echo);
            world.path.cut = false;
            world.run(Duration::from_secs(3), echo);
        }
        if number % 3 == 2 {
            world.kill(server);
            world.kill(client);
        }
        for node in [server, client] {
            for trace in world.traces(node) {
                let seed = |flags: u8, cut: u16, trace: &[u8]| {
                    let mut out = vec![flags];
                    out.extend(cut.to_be_bytes());
                    out.extend(trace);
                    out
                };
                seeds.push(seed(0, 1_000, &trace));
                seeds.push(seed(1, u16::MAX, &trace));
                seeds.push(seed(1, 5, &trace[..trace.len() * 2 / 3]));
                let end = trace.len();
                for at in [3, 9, 12, 40, end - 60, end - 5, end - 6, end - 7] {
                    let mut damaged = trace.clone();
                    damaged[at] ^= 4;
                    seeds.push(seed(0, 90, &damaged));
                    seeds.push(seed(1, 90, &damaged));
                }
                seeds.push(seed(1, 9, &trace[..20]));
            }
        }
    }
    seeds
}

/// A node, and the words of each record; nothing for what a trace only says.
pub(super) fn memory(length: usize) -> u64 {
    (512 << 10) + 100 * length as u64
}

/// What a trace begins with: the name and the version of its format.
const START: usize = 10;
const SUM: usize = 4;

/// Puts the checksum of every record right, as far as their lengths lead.
fn repair(trace: &mut [u8]) {
    let mut at = START;
    for number in 0.. {
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
        let Some((body, rest)) = trace
            .get_mut(at..)
            .and_then(|t| t.split_at_mut_checked(length))
        else {
            return;
        };
        let Some(sum) = rest.first_chunk_mut::<SUM>() else {
            return;
        };
        *sum = (XxHash64::oneshot(number, body) as u32).to_le_bytes();
        at += length + SUM;
    }
}

/// What is read of a trace: the number and the words of each record, and how it ends.
fn read(trace: &[u8]) -> (Vec<(u64, String)>, Result<Ending, TraceError>) {
    let mut records = Vec::new();
    let mut reader = match Reader::new(trace) {
        Ok(reader) => reader,
        Err(error) => return (records, Err(error)),
    };
    loop {
        match reader.next_record() {
            Ok(Some((number, record))) => {
                assert_eq!(number, records.len() as u64 + 1);
                records.push((number, format!("{record:?}")));
            }
            Ok(None) => break,
            Err(error) => return (records, Err(error)),
        }
    }
    let again = reader.next_record();
    assert!(matches!(again, Ok(None)), "a trace goes on behind its end");
    let ending = reader.ending();
    assert!(
        ending.is_some(),
        "a trace was read, and how it ends is not known"
    );
    (records, Ok(ending.unwrap_or(Ending::Open)))
}

/// A trace that ends too early is read as far as it goes.
fn check_cut(trace: &[u8], cut: usize, records: &[(u64, String)]) {
    let cut = &trace[..cut.min(trace.len())];
    let (before, end) = read(cut);
    assert!(
        records.starts_with(&before),
        "a cut changed what is before it"
    );
    if cut.len() < trace.len() && end.is_ok() {
        assert!(!before.is_empty() || cut.len() > START);
    }
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
