//! What is asked of traces that nobody recorded.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::*;
use crate::id::{Key, LinkKey};
use crate::node::ScriptedRoles;
use crate::seed::DrawKey;
use crate::tap::{Body, Call, LinkNote, Marked};

const DRAWS: [u8; 32] = *b"from this all tokens are drawn..";

fn header(beginning: Beginning) -> Header {
    Header {
        build: Build::own(),
        config: crate::Config::default(),
        wall: SystemTime::UNIX_EPOCH,
        beginning,
        recorded: Recorded::Link {
            draws: Some(Draws(DrawKey::new(DRAWS))),
            roles: ScriptedRoles {
                admission: None,
                client: true,
            },
            bodies: false,
        },
    }
}

fn trace(beginning: Beginning, records: &[Record<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header(beginning)).unwrap();
    for record in records {
        writer.write(record).unwrap();
    }
    writer.into_inner()
}

fn answers(notes: Vec<LinkNote>) -> Record<'static> {
    let link = LinkKey(Key {
        slot: 0,
        generation: 0,
    });
    Record::Answers {
        polled: false,
        notes: notes.into_iter().map(|note| (link, note)).collect(),
    }
}

/// Answers to a poll that follows.
fn polled(notes: Vec<LinkNote>) -> Record<'static> {
    match answers(notes) {
        Record::Answers { notes, .. } => Record::Answers {
            polled: true,
            notes,
        },
        other => other,
    }
}

fn began() -> LinkNote {
    LinkNote::Began {
        address: SocketAddr::from(([10, 0, 0, 1], 4433)),
        dialled: false,
    }
}

fn holds_draws(trace: &[u8]) -> bool {
    trace.windows(DRAWS.len()).any(|window| window == DRAWS)
}

#[test]
fn a_trace_that_cannot_be_replayed_holds_no_key_and_says_how_many_records_it_has() {
    let later = Beginning {
        first: 1_000,
        clock: 5,
    };
    let records = [5, 6, 7].map(|at| Record::Arrival { at });
    for (beginning, kept) in [(Beginning::default(), true), (later, false)] {
        let trace = trace(beginning, &records);
        assert_eq!(holds_draws(&trace), kept);
        let mut redacted = Vec::new();
        assert_eq!(
            redact(&trace[..], &mut redacted, [1; 32]).unwrap().records,
            3
        );
        assert_eq!(holds_draws(&redacted), kept);
        assert_eq!(
            Reader::new(&redacted[..]).unwrap().header().beginning,
            beginning
        );
    }
}

#[test]
fn times_may_lie_further_apart_than_they_can_be_counted() {
    let trace = trace(
        Beginning::default(),
        &[
            Record::Arrival { at: i64::MIN },
            answers(vec![began()]),
            Record::Arrival { at: i64::MAX },
            answers(vec![LinkNote::Up]),
        ],
    );
    what_if(&trace[..], &[], Instant::now()).unwrap();
}

#[test]
fn more_bodies_than_memory_are_refused_in_words() {
    const LENGTH: usize = 1 << 19;
    let lane = LinkNote::Lane {
        slot: 0,
        opening: false,
        frame: Bytes::new(),
        marked: Some(Marked {
            start: 0,
            length: LENGTH,
            hash: 1,
        }),
    };
    let mut records = vec![Record::Arrival { at: 0 }, answers(vec![began()])];
    for at in 1..40 {
        records.push(Record::Arrival { at });
        records.push(answers(vec![lane.clone(); 16]));
    }
    let trace = trace(Beginning::default(), &records);
    assert!(trace.len() < 64 << 10, "{} bytes", trace.len());
    let error = what_if(&trace[..], &[], Instant::now()).unwrap_err();
    assert!(matches!(error, WhatIfError::Bodies), "{error}");
    assert!(error.to_string().contains("256 MiB"), "{error}");
}

#[test]
fn hashes_that_stood_in_a_trace_are_others_in_its_redacted_copy() {
    let lane = |hash| LinkNote::Lane {
        slot: 0,
        opening: false,
        frame: Bytes::new(),
        marked: Some(Marked {
            start: 0,
            length: 4,
            hash,
        }),
    };
    let hashes = |trace: &[u8]| {
        let mut reader = Reader::new(trace).unwrap();
        let mut hashes = Vec::new();
        while let Some((_, record)) = reader.next_record().unwrap() {
            if let Record::Answers { notes, .. } = record {
                hashes.extend(notes.iter().filter_map(|(_, note)| match note {
                    LinkNote::Lane { marked, .. } => marked.map(|marked| marked.hash),
                    _ => None,
                }));
            }
        }
        hashes
    };
    let records = [
        Record::Arrival { at: 0 },
        answers(vec![began(), lane(1), lane(2), lane(1)]),
    ];
    let trace = trace(Beginning::default(), &records);
    assert_eq!(hashes(&trace), [1, 2, 1]);
    let mut redacted = Vec::new();
    redact(&trace[..], &mut redacted, [1; 32]).unwrap();
    let [one, other, again] = hashes(&redacted)[..] else {
        panic!("another number of bodies");
    };
    assert!(one == again && one != other && one != 1 && other != 2);
}

/// Answers to a poll that was not recorded any more still say that the call before them had none, and
/// nobody but a recording keeps such answers from coming twice.
#[test]
fn what_differs_beside_answers_to_a_poll_that_is_not_there_is_cut_down_to() {
    let connect = Record::Call {
        at: 0,
        call: Call::Connect {
            address: SocketAddr::from(([10, 0, 0, 1], 4433)),
            server_name: "localhost",
            client: "anna",
            credentials: Body::Whole(b""),
            agent: "",
        },
    };
    let unanswered = [connect, polled(vec![LinkNote::Sent])];
    let twice = [polled(vec![LinkNote::Up]), polled(vec![LinkNote::Sent])];
    let early = || Record::Arrival { at: 0 };
    for [one, other] in [unanswered, twice] {
        let trace = trace(Beginning::default(), &[early(), one, other]);
        let now = Instant::now();
        let expected = replay(&trace[..], now).unwrap().difference.unwrap();
        let shrunk = shrink(&trace[..], now).unwrap();
        let shown = replay(&shrunk.trace[..], now).unwrap().difference.unwrap();
        assert_eq!(
            (shown.expected, shown.came),
            (expected.expected, expected.came)
        );
        assert_eq!(shrunk.after, 3, "both, and the end");
    }
}

/// What is written, for whoever has a clone of it.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn origin() -> crate::Origin {
    crate::Origin {
        now: Instant::now(),
        wall: SystemTime::UNIX_EPOCH,
        seed: crate::Seed::new([7; 32]),
        keys: None,
    }
}

/// Records a node that gets one input, in a thread that then does something; returns the last call and
/// how the trace ends.
fn recorded(recorder: Recorder<Written>, written: &Written, then: fn()) -> (String, Ending) {
    let (origin, roles) = (origin(), crate::Roles::default());
    let now = origin.now;
    let thread = std::thread::spawn(move || {
        let mut node = recorder
            .start(crate::Config::default(), roles, origin)
            .unwrap();
        node.handle_input(now, crate::Input::Timeout);
        then();
    });
    thread.join().ok();
    let written = written.0.lock().unwrap();
    let mut reader = Reader::new(&written[..]).unwrap();
    let mut last = String::new();
    while let Some((_, record)) = reader.next_record().unwrap() {
        if let Record::Call { call, .. } = record {
            last = call.to_string();
        }
    }
    (last, reader.ending().unwrap())
}

/// To let go of what it was written to may take its time, which a node that runs on does not have.
#[test]
fn a_recording_that_ends_early_keeps_what_it_was_written_to_until_its_node_ends() {
    let written = Written::default();
    let (origin, roles) = (origin(), crate::Roles::default());
    let now = origin.now;
    let recorder = Recorder::link(written.clone()).limit(2_000);
    let mut node = recorder
        .start(crate::Config::default(), roles, origin)
        .unwrap();
    for _ in 0..2_000 {
        node.handle_input(now, crate::Input::Timeout);
    }
    assert_eq!(Arc::strong_count(&written.0), 2);
    drop(node);
    assert_eq!(Arc::strong_count(&written.0), 1);
    let bytes = written.0.lock().unwrap().clone();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    while reader.next_record().unwrap().is_some() {}
    assert_eq!(reader.ending(), Some(Ending::Said(End::Full)));
}

#[test]
fn a_panic_leaves_the_call_that_led_to_it_and_nothing_says_that_it_was_stopped_in_order() {
    let to_a_file = |written: &Written| Recorder::link(written.clone());
    let last_seconds = |written: &Written| {
        let written = written.clone();
        Recorder::last(Duration::from_secs(5), &Saver::default(), move |_| {
            Ok(written.clone())
        })
    };
    for recorder in [&to_a_file as &dyn Fn(&Written) -> _, &last_seconds] {
        let written = Written::default();
        let (call, ending) = recorded(recorder(&written), &written, || {});
        assert_eq!((&call[..], ending), ("timeout", Ending::Said(End::Stopped)));
        let written = Written::default();
        let (call, ending) = recorded(recorder(&written), &written, || panic!("a bug"));
        assert_eq!((&call[..], ending), ("timeout", Ending::Open));
    }
}

/// What decrypts a recording stands in none that was not asked for by its name.
#[test]
fn recorders_hold_what_their_names_say() {
    let held = |recorder: fn(Written) -> Recorder<Written>| {
        let written = Written::default();
        recorded(recorder(written.clone()), &written, || {});
        let bytes = written.0.lock().unwrap().clone();
        let recorded = Reader::new(&bytes[..]).unwrap().header().recorded.clone();
        let seed = bytes.windows(32).any(|bytes| bytes == [7; 32]);
        match recorded {
            Recorded::Wire { .. } => ("wire", seed),
            Recorded::Link { bodies: false, .. } => ("link", seed),
            Recorded::Link { bodies: true, .. } => ("bodies", seed),
        }
    };
    assert_eq!(held(Recorder::link), ("link", false));
    assert_eq!(held(|out| Recorder::link(out).bodies()), ("bodies", false));
    assert_eq!(held(Recorder::wire), ("wire", true));
    assert_eq!(held(|out| Recorder::wire(out).bodies()), ("wire", true));
}
