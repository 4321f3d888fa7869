//! What can be done with traces of link level alone: taking bodies out of them, cutting them down, and
//! running them under another configuration.

use std::time::{Duration, Instant};

use prost::Message as _;
use trunkline_core::Config;
use trunkline_core::tap::{Body, Call, LinkNote};
use trunkline_core::trace::{
    Difference, Ending, Reader, Record, Recorded, RedactError, Report, ShrinkError, Shrunk,
    TraceError, WhatIfError, redact, replay, shrink, shrink_while, what_if,
};
use trunkline_proto::control::Frame;
use trunkline_proto::{Control, Envelope};

use super::super::Reached;
use super::read::Read;

/// A trace that reads to its end is redacted: what comes has no bodies and no credentials, is otherwise
/// the same, replays as the whole one does, and stays as it is, hashes aside, when it is redacted
/// again. If `flags` say so, it is cut down, and run under another configuration as well.
///
/// Of a wire trace and of one that does not read, all three say what is wrong.
pub(super) fn check(trace: &[u8], read: &Read, flags: u8, reached: &mut Reached) {
    let kept = match read.header.as_ref().map(|header| &header.recorded) {
        Some(Recorded::Link { bodies, .. }) if read.end.is_ok() => *bodies,
        _ => return refused(trace),
    };
    reached.insert(match kept {
        true => "a link trace with bodies",
        false => "a link trace without bodies",
    });
    let whole = replay(trace, Instant::now());
    if let Ok(report) = &whole {
        reached.insert(match report.is_identical() {
            true => "an identical replay above QUIC",
            false => "a difference above QUIC",
        });
    }
    check_redacted(trace, read, &whole, reached);
    if flags & 2 != 0 && read.records <= RECORDS_MAX {
        check_shrunk(trace, &whole, reached);
        check_shrunk_while(trace, read, reached);
    }
    if flags & 4 != 0 {
        check_what_if(trace, read, &whole, flags >> 3, reached);
    }
}

/// Cutting a trace down takes about as many replays as the square of its records.
const RECORDS_MAX: u64 = 40;

fn refused(trace: &[u8]) {
    let error = redact(trace, Vec::new(), KEYS[0]).expect_err("it cannot be redacted");
    assert!(!error.to_string().is_empty());
    if matches!(error, RedactError::Wire) {
        let error = shrink(trace, Instant::now()).expect_err("it cannot be cut down");
        assert!(!error.to_string().is_empty());
        let error = what_if(trace, &[], Instant::now()).expect_err("it fits itself alone");
        assert!(!error.to_string().is_empty());
    }
}

const KEYS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// A trace that tells of more bodies than are made up here is redacted all the same, one body at a
/// time.
pub(super) fn check_redacts(trace: &[u8], read: &Read) {
    if let Some(Recorded::Link { .. }) = read.header.as_ref().map(|header| &header.recorded)
        && read.end.is_ok()
    {
        let records = redact(trace, std::io::sink(), KEYS[0])
            .expect("it was read")
            .records;
        assert_eq!(records, read.records);
    }
}

fn check_redacted(
    trace: &[u8],
    read: &Read,
    whole: &Result<Report, TraceError>,
    reached: &mut Reached,
) {
    let mut once = Vec::new();
    let records = redact(trace, &mut once, KEYS[0])
        .expect("it was read")
        .records;
    assert_eq!(records, read.records);
    let mut same_control = true;
    let (mut from, mut to) = (reader(trace), reader(&once));
    while let Some(before) = next(&mut from) {
        let after = next(&mut to).expect("as many records");
        check_bare(&after);
        assert_eq!((before.kind(), before.at()), (after.kind(), after.at()));
        if before != after {
            reached.extend(taken_out(&before, &after));
        }
        same_control &= control_lengths(&before).eq(control_lengths(&after));
    }
    assert_eq!(next(&mut to), None);

    let mut twice = Vec::new();
    redact(&once[..], &mut twice, KEYS[1]).expect("it was redacted");
    let (mut one, mut other) = (reader(&once), reader(&twice));
    while let Some(record) = next(&mut one) {
        let again = next(&mut other).expect("as many records");
        assert_eq!(without_hashes(&record), without_hashes(&again));
    }

    // A Hello with fields that nobody knows gets shorter by them, and may then be no longer too long.
    if same_control {
        let bare = replay(&once[..], Instant::now());
        let outcome = |report: &Result<Report, TraceError>| match report {
            Ok(report) => Ok((report.records, report.difference.as_ref().map(|d| d.record))),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(outcome(&bare), outcome(whole), "it replays otherwise");
    }
}

fn reader(trace: &[u8]) -> Reader<&[u8]> {
    Reader::new(trace).expect("a trace")
}

fn next<'a>(reader: &'a mut Reader<&[u8]>) -> Option<Record<'a>> {
    let next = reader.next_record().expect("a record");
    next.map(|(_, record)| record)
}

/// Neither a body nor credentials stand in the record.
fn check_bare(record: &Record<'_>) {
    let bare = |body: Body<'_>| match body {
        Body::Whole(bytes) => bytes.is_empty(),
        Body::Marked { .. } => true,
    };
    let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    match record {
        Record::Call { call, .. } => {
            assert!(bare(call.payload()), "{call:?} has a body");
            assert!(bare(call.credentials()), "{call:?} has credentials");
        }
        Record::Answers { notes, .. } => {
            for (_, note) in notes {
                match note {
                    LinkNote::Control(frame) => {
                        let hello = Control::decode(frame.clone());
                        if let Ok(Some(Frame::Hello(hello))) = hello.map(|control| control.frame) {
                            assert!(zeros(&hello.credentials), "{hello:?} has credentials");
                        }
                    }
                    LinkNote::Lane {
                        opening: false,
                        frame,
                        marked,
                        ..
                    } => {
                        let frame = match marked {
                            None => frame.clone(),
                            Some(marked) => marked.made_up(frame),
                        };
                        if let Ok(envelope) = Envelope::decode(frame) {
                            assert!(zeros(&envelope.body), "{envelope:?} has a body");
                        }
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// What of a record is gone.
fn taken_out(before: &Record<'_>, after: &Record<'_>) -> Option<&'static str> {
    match (before, after) {
        (Record::Call { call, .. }, _) => Some(match call {
            Call::Connect { .. } | Call::SetCredentials { .. } => "credentials taken out",
            _ => "a body taken out",
        }),
        (Record::Answers { notes, .. }, Record::Answers { notes: others, .. }) => {
            let mut all = notes.iter().zip(others);
            let (changed, _) = all.find(|(one, other)| one != other)?;
            match changed.1 {
                LinkNote::Control(_) => Some("credentials taken out"),
                _ => Some("a body taken out"),
            }
        }
        _ => None,
    }
}

fn control_lengths(record: &Record<'_>) -> impl Iterator<Item = usize> {
    let notes = match record {
        Record::Answers { notes, .. } => &notes[..],
        _ => &[],
    };
    let length = |note: &LinkNote| match note {
        LinkNote::Control(frame) => Some(frame.len()),
        _ => None,
    };
    notes.iter().filter_map(move |(_, note)| length(note))
}

/// A record in words, without the hashes of bodies.
fn without_hashes(record: &Record<'_>) -> String {
    let words = format!("{record:?}");
    ["(body ", " bytes, "].iter().fold(words, |words, before| {
        let mut parts = words.split(before);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str(before);
            out.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
        }
        out
    })
}

/// A trace that was cut down shows the same difference.
fn check_shrunk(trace: &[u8], whole: &Result<Report, TraceError>, reached: &mut Reached) {
    match shrink(trace, Instant::now()) {
        Ok(shrunk) => {
            reached.insert("a trace cut down");
            check_shorter(trace, &shrunk);
            let before = whole.as_ref().ok().and_then(|r| r.difference.as_ref());
            let after = replay(&shrunk.trace[..], Instant::now()).expect("it is a trace");
            let after = after.difference.expect("it still differs");
            assert_eq!(before.map(kind), Some(kind(&after)));
            let again = shrink(&shrunk.trace[..], Instant::now()).expect("it still differs");
            assert!(again.after <= shrunk.after);
        }
        Err(ShrinkError::Identical | ShrinkError::CutShort) => {
            reached.insert("nothing to cut a trace down to");
            assert!(whole.as_ref().is_ok_and(Report::is_identical));
        }
        Err(error) => {
            assert!(whole.is_err(), "{error}, and the replay ended");
            assert!(!error.to_string().is_empty());
        }
    }
}

/// What was expected in a difference, without what is behind the first word.
fn kind(difference: &Difference) -> (Option<&str>, Option<&str>) {
    let Difference { expected, came, .. } = difference;
    (expected.split(' ').next(), came.split(' ').next())
}

/// It is cut down to what has a record of the kind in the middle.
fn check_shrunk_while(trace: &[u8], read: &Read, reached: &mut Reached) {
    let mut from = reader(trace);
    for _ in 0..read.records / 2 {
        next(&mut from);
    }
    let Some(wanted) = next(&mut from).map(|record| record.kind()) else {
        return;
    };
    let has = |trace: &[u8]| {
        let mut from = reader(trace);
        std::iter::from_fn(|| next(&mut from).map(|record| record.kind()))
            .any(|kind| kind == wanted)
    };
    match shrink_while(trace, has) {
        Ok(shrunk) => {
            reached.insert("a trace cut down to a record");
            check_shorter(trace, &shrunk);
            assert!(has(&shrunk.trace), "no {wanted} is left");
        }
        Err(error) => {
            let no_beginning = matches!(
                error,
                ShrinkError::Trace(TraceError::NotFromTheStart { .. })
            );
            assert!(no_beginning, "{error}");
        }
    }
}

fn check_shorter(trace: &[u8], shrunk: &Shrunk) {
    let read = Read::of(&shrunk.trace);
    assert!(matches!(read.end, Ok(Ending::Said(_))));
    assert_eq!(read.records, shrunk.after);
    let before = Read::of(trace);
    // It says its end, also where the whole one does not.
    assert!(shrunk.after <= before.records + 1);
}

/// Longer than that no node runs here a second time, and with no quicker timers: it would take as long
/// as it likes.
const TIME_MAX: Duration = Duration::from_secs(120);
const TIMER_MIN: Duration = Duration::from_millis(100);

/// Settings and values, some of which there are not.
const CHANGES: &[(&str, &str)] = &[
    ("heartbeat.interval", "2000000000ns"),
    ("heartbeat.misses", "1"),
    ("redial.first", "250000000ns"),
    ("limits.promises", "1"),
    ("limits.event_messages", "1"),
    ("limits.sessions", "1"),
    ("timeouts.promise", "1000000ns"),
    ("timeouts.retention", "0ns"),
    ("promises_full", "evict-oldest"),
    ("report_sent", "true"),
    ("heartbeat.misses", "0"),
    ("heartbeat.misses", "few"),
    ("heartbeat.patience", "5"),
];

/// The node does the same with the configuration that it had, whatever it is compared with.
fn check_what_if(
    trace: &[u8],
    read: &Read,
    whole: &Result<Report, TraceError>,
    change: u8,
    reached: &mut Reached,
) {
    let config = read.header.as_ref().map(|header| &header.config);
    let time = Duration::from_nanos(read.time.unsigned_abs());
    if time > TIME_MAX || config.is_none_or(is_quick) {
        return;
    }
    let now = Instant::now();
    let same = match what_if(trace, &[], now) {
        Ok(same) => same,
        Err(error) => {
            assert!(whole.is_err(), "{error}, and it could be replayed");
            return;
        }
    };
    assert_eq!(same.first_difference(), None, "nothing was changed");
    let (field, value) = CHANGES[usize::from(change) % CHANGES.len()];
    match what_if(trace, &[(field.to_owned(), value.to_owned())], now) {
        Ok(changed) => {
            reached.insert(match changed.first_difference() {
                Some(_) => "another configuration",
                None => "a configuration that makes no difference",
            });
            assert!(!changed.other.to_string().is_empty());
            let mut both = same;
            both.other = changed.recorded;
            assert_eq!(both.first_difference(), None, "it was not changed");
        }
        Err(error) => {
            reached.insert("a configuration that cannot be");
            let named = matches!(error, WhatIfError::Setting { .. } | WhatIfError::Config(_));
            assert!(named && error.to_string().contains(field), "{error}");
        }
    }
}

fn is_quick(config: &Config) -> bool {
    let timers = [config.redial.first, config.timeouts.admission];
    timers.iter().any(|timer| *timer < TIMER_MIN)
}
