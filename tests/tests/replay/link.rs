//! What comes and goes above QUIC: the same again, without anything that could be decrypted.

use std::time::Instant;

use bytes::Bytes;
use prost::Message as _;
use trunkline_core::tap::{Body, Call, LinkNote};
use trunkline_core::trace::{
    End, Ending, Reader, Record, RedactError, Replay, ShrinkError, TraceError, WhatIfError, Writer,
    redact, replay, shrink, what_if,
};
use trunkline_core::{Event, Seed};
use trunkline_proto::LANE_BEST_EFFORT;
use trunkline_proto::generated::Envelope;
use trunkline_testkit::raw_peer::{RawSettings, frame, hello};
use trunkline_testkit::{Certificates, NodeIndex, Random, Recording, World, echo, silent};

use crate::conversation::{
    SECOND, changed_records, conversation, conversation_at, ecdsa, ended, ended_without, records,
    replayed, with_client_certificate,
};
use crate::disorder::disordered;

#[test]
fn all_sides_of_a_conversation_replay_identical() {
    for (seed, certificates, recording) in [
        (1, Certificates::new().unwrap(), Recording::Link),
        (2, ecdsa(), Recording::LinkWithBodies),
    ] {
        let traces = conversation_at(recording, seed, &certificates);
        for (side, trace) in traces.iter().enumerate() {
            let report = replayed(trace);
            assert!(report.is_identical(), "seed {seed}, side {side}: {report}");
            assert_eq!(report.ending, Some(Ending::Said(End::Stopped)));
            assert!(report.records > 1_000, "{report}");
            assert!(report.time > 180 * SECOND, "{report}");
        }
    }
}

/// The certificates are in the server's trace: it lets in whom they name.
#[test]
fn a_client_that_shows_a_certificate_replays_identical_on_both_sides() {
    let traces = with_client_certificate(Recording::Link);
    for (trace, shown) in traces.iter().zip([2, 0]) {
        let report = replayed(trace);
        assert!(report.is_identical(), "{report}");
        let mut certificates = 0;
        changed_records(trace, |_, record| {
            if let Record::Answers { notes, .. } = record {
                let shown = |(_, note): &&(_, _)| matches!(note, LinkNote::Certificates(_));
                certificates += notes.iter().filter(shown).count();
            }
        });
        assert_eq!(certificates, shown, "one for each link");
    }
}

#[test]
fn a_trace_that_is_written_again_is_the_same() {
    let certificates = Certificates::new().unwrap();
    for recording in [Recording::Link, Recording::LinkWithBodies] {
        let trace = conversation_at(recording, 3, &certificates).remove(0);
        // Each record has a block of its own now, which takes more bytes.
        let again = changed_records(&trace, |_, _| {});
        assert_eq!(records(&again), records(&trace));
        assert_eq!(changed_records(&again, |_, _| {}), again);
        assert!(trace.len() < again.len());
    }
}

#[test]
fn a_flipped_byte_of_a_frame_is_found() {
    let trace = conversation_at(Recording::Link, 4, &Certificates::new().unwrap()).remove(0);
    let mut frames = Vec::new();
    changed_records(&trace, |number, record| {
        if let Record::Answers { notes, .. } = record {
            for (_, note) in notes {
                if let LinkNote::Lane {
                    opening: false,
                    frame,
                    marked: Some(marked),
                    ..
                } = note
                {
                    frames.push((number, frame.slice(..marked.start)));
                }
            }
        }
    });
    let (number, head) = &frames[frames.len() / 2];

    // In the file: the record is named.
    let places = trace.windows(head.len()).position(|window| window == head);
    let mut damaged = trace.clone();
    damaged[places.unwrap() + 1] ^= 1;
    match replay(&damaged[..], Instant::now()) {
        Err(TraceError::Damaged { record, .. }) => assert!(record <= *number),
        other => panic!("{other:?}"),
    }

    // In what the node is given: the first record that differs is named.
    let mut flipped = false;
    let other = changed_records(&trace, |at, record| {
        if let Record::Answers { notes, .. } = record
            && at == *number
        {
            for (_, note) in notes {
                if let LinkNote::Lane {
                    opening: false,
                    frame,
                    marked: Some(_),
                    ..
                } = note
                    && !flipped
                {
                    // The kind of envelope, its tag or its promise.
                    let mut bytes = frame.to_vec();
                    bytes[1] ^= 1;
                    *frame = Bytes::from(bytes);
                    flipped = true;
                }
            }
        }
    });
    let report = replayed(&other);
    let difference = report.difference.clone().unwrap();
    assert!(difference.record >= *number, "{report}");
    assert!(difference.record <= number + 10, "{report}");
}

#[test]
fn other_draws_differ_where_they_are_first_shown() {
    let traces = conversation_at(Recording::Link, 5, &Certificates::new().unwrap());
    for (side, trace) in traces.iter().enumerate() {
        let report = Replay::new(&trace[..])
            .unwrap()
            .seed(Seed::new([9; 32]))
            .run(Instant::now())
            .unwrap();
        let difference = report.difference.clone().unwrap();
        // A client names its session; a server draws a token when one comes back.
        assert!(side == 0 || difference.record < 100, "{report}");
        assert!(
            difference.expected.contains("wrote to control") || side > 0,
            "{report}"
        );
    }
}

#[test]
fn a_trace_replays_to_its_last_whole_record_wherever_it_is_cut() {
    let trace = conversation_at(Recording::Link, 6, &ecdsa()).remove(0);
    let header = {
        let reader = Reader::new(&trace[..]).unwrap();
        Writer::new(Vec::new(), reader.header()).unwrap().written() as usize
    };
    for part in 0..=6 {
        // Also between a call and the answers to it, and within them.
        let cut = header + (trace.len() - header) * part / 6;
        for cut in [cut, cut.saturating_sub(3).max(header)] {
            let report = replayed(&trace[..cut]);
            assert!(report.is_identical(), "cut at {cut}: {report}");
        }
    }
}

/// As where a process ends, or a recording reaches its limit: behind a call whose answers were not
/// recorded any more, or behind answers to a poll that was not.
#[test]
fn a_trace_that_ends_behind_any_record_replays_identical() {
    const FIRST: u64 = 150;
    for trace in conversation_at(Recording::Link, 13, &Certificates::new().unwrap()) {
        for end in [None, Some(End::Full), Some(End::Stopped)] {
            for kept in 1..=FIRST {
                let short = ended(&trace, kept, end);
                let report = replayed(&short);
                assert!(
                    report.is_identical(),
                    "after record {kept}, {end:?}: {report}"
                );
                if kept % 50 == 0 {
                    let shrunk = shrink(&short[..], Instant::now());
                    assert!(matches!(shrunk, Err(ShrinkError::Identical)), "{shrunk:?}");
                }
            }
        }
    }
}

/// Answers to a poll stand before it: a poll without any had none, also where the trace ends behind it.
#[test]
fn a_poll_without_its_answers_is_different_wherever_it_stands() {
    let trace = conversation_at(Recording::Link, 17, &Certificates::new().unwrap()).remove(1);
    let mut polls = Vec::new();
    changed_records(&trace, |number, record| {
        // What nothing that was read led to, but a command.
        let wrote = |(_, note): &(_, _)| matches!(note, LinkNote::Wrote { .. });
        let said = |(_, note): &(_, _)| {
            matches!(note, LinkNote::Sent | LinkNote::Rests(_) | LinkNote::Late)
        };
        if let Record::Answers {
            polled: true,
            notes,
        } = record
            && notes.iter().any(wrote)
            && notes.iter().all(|note| wrote(note) || said(note))
        {
            polls.push(number + 1);
        }
    });
    assert!(polls.len() > 20);
    for poll in polls.into_iter().take(20) {
        for end in [None, Some(End::Full)] {
            let report = replayed(&ended_without(&trace, Some(poll - 1), poll, end));
            let difference = report.difference.clone().unwrap();
            assert_eq!(difference.record, poll - 1, "{report}");
        }
    }
}

/// What a node does not know of an envelope counts for when it says what it has received.
#[test]
fn what_a_node_does_not_know_of_envelopes_has_its_length_in_a_trace_without_bodies() {
    for recording in [Recording::Link, Recording::LinkWithBodies] {
        let mut world = World::new(18);
        world.record_at(recording);
        let server = world.server();
        let client = world.raw_client(server, &RawSettings::default());
        world.run(SECOND, silent);
        let link = world.raw(client).link();
        link.hello(&hello("sensor-7", 1));
        // What came there is reported by its bytes alone.
        let lane = link.open_lane(LANE_BEST_EFFORT.into(), 0);
        world.run(SECOND, silent);
        for _ in 0..40 {
            let message = Envelope {
                tag: Some(7),
                body: vec![1; 20_000].into(),
                ..Envelope::default()
            };
            // Field 30, with a length.
            let mut bytes = vec![0xf2, 1, 0xa0, 0x9c, 1];
            bytes.resize(bytes.len() + 20_000, b'u');
            message.encode(&mut bytes).unwrap();
            world.raw(client).link().send(lane, &frame(&bytes));
            world.run(SECOND / 100, silent);
        }
        world.run(SECOND, silent);
        assert_eq!(world.bodies(server).len(), 40);
        world.kill(server);
        let trace = world.traces(server).pop().unwrap();
        assert_eq!(holds(&trace, b"uuuu"), recording != Recording::Link);
        let report = replayed(&trace);
        assert!(report.is_identical(), "{recording:?}: {report}");
        let mut redacted = Vec::new();
        redact(&trace[..], &mut redacted, [7; 32]).unwrap();
        let report = replayed(&redacted);
        assert!(report.is_identical(), "{recording:?}, redacted: {report}");
    }
}

#[test]
fn what_is_behind_the_end_is_not_read() {
    let certificates = Certificates::new().unwrap();
    for recording in [Recording::Wire, Recording::Link] {
        let trace = conversation_at(recording, 15, &certificates).remove(0);
        let whole = replayed(&trace);
        for junk in [&[1, 0, 9, 9, 9, 9, 3][..], &[7, 7]] {
            let report = replayed(&[&trace[..], junk].concat());
            assert!(report.is_identical(), "{report}");
            assert_eq!(report.records, whole.records);
            assert_eq!(report.ending, Some(Ending::Said(End::Stopped)));
        }
    }
}

/// Everything that must not stand in a trace above QUIC.
const SECRET: &[u8] = b"the password is swordfish";

/// A conversation with a secret in everything that an application hands over.
fn with_secrets(recording: Recording) -> Vec<Vec<u8>> {
    let mut world = World::new(12);
    world.record_at(recording);
    let server = world.server();
    let client = world.client();
    let dial = trunkline_core::Dial {
        address: world.address(server),
        server_name: "localhost".into(),
        client: "anna".parse().unwrap(),
        credentials: Bytes::from_static(SECRET),
        agent: "test".into(),
    };
    let now = world.now();
    let session = world.node(client).connect(now, dial).unwrap();
    let promise = world.request(client, session, SECRET);
    let large = SECRET.repeat(4_000);
    let bulk = world.send_acked(client, session, &large);
    world.run(5 * SECOND, echo);
    for promise in [promise, bulk] {
        assert!(world.outcome(client, promise).is_some());
    }
    for index in [client, server] {
        world.kill(index);
    }
    let last = |index: NodeIndex| world.traces(index).pop().unwrap();
    vec![last(server), last(client)]
}

fn holds(trace: &[u8], what: &[u8]) -> bool {
    trace.windows(what.len()).any(|window| window == what)
}

#[test]
fn bodies_and_credentials_are_lengths_and_hashes_unless_they_are_asked_for() {
    for trace in with_secrets(Recording::Link) {
        assert!(!holds(&trace, &SECRET[..8]));
        assert!(trace.len() < 30_000, "{} bytes", trace.len());
        assert!(replayed(&trace).is_identical());
    }
    for trace in with_secrets(Recording::LinkWithBodies) {
        assert!(holds(&trace, SECRET));
        let report = replayed(&trace);
        assert!(report.is_identical(), "{report}");

        let mut redacted = Vec::new();
        let records = redact(&trace[..], &mut redacted, [77; 32]).unwrap().records;
        assert_eq!(records, report.records);
        assert!(!holds(&redacted, &SECRET[..8]));
        let report = replayed(&redacted);
        assert!(report.is_identical(), "{report}");
        assert_eq!(report.records, records);

        // Equal bodies are known by their hashes; another key shows nothing of that.
        let hashes = |key| {
            let mut out = Vec::new();
            redact(&trace[..], &mut out, [key; 32]).unwrap();
            let mut hashes = Vec::new();
            changed_records(&out, |_, record| {
                if let Record::Call { call, .. } = record
                    && !matches!(call, Call::Datagram { .. })
                    && let Body::Marked { hash, .. } = call.payload()
                {
                    hashes.push(hash);
                }
            });
            hashes
        };
        assert_eq!(hashes(1), hashes(1));
        assert_ne!(hashes(1), hashes(2));
    }
}

#[test]
fn a_wire_trace_is_told_what_to_do_instead() {
    let trace = conversation(7, &Certificates::new().unwrap()).remove(0);
    let says = "record at link level";
    let error = redact(&trace[..], &mut Vec::new(), [1; 32]).unwrap_err();
    assert!(matches!(error, RedactError::Wire) && error.to_string().contains(says));
    let error = shrink(&trace[..], Instant::now()).unwrap_err();
    assert!(matches!(error, ShrinkError::Wire) && error.to_string().contains(says));
    let error = what_if(&trace[..], &[], Instant::now()).unwrap_err();
    assert!(matches!(error, WhatIfError::Wire) && error.to_string().contains(says));
}

#[test]
fn another_configuration_changes_what_it_should() {
    let mut world = World::new(9);
    world.record_at(Recording::Link);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "anna");
    world.run(SECOND, echo);
    let promise = world.request(client, session, b"ask");
    world.run(SECOND, echo);
    // With the recorded interval of 15 s, the peer is found dead after 45 s; nothing lasts so long.
    world.path.cut = true;
    world.run(20 * SECOND, echo);
    world.path.cut = false;
    world.run(20 * SECOND, echo);
    assert!(world.outcome(client, promise).is_some());
    world.kill(client);
    let trace = world.traces(client).pop().unwrap();
    let change = |field: &str, value: &str| vec![(field.to_owned(), value.to_owned())];
    let now = Instant::now();

    let same = what_if(&trace[..], &[], now).unwrap();
    assert_eq!(same.first_difference(), None, "{same:?}");
    assert_eq!(same.recorded.events.len(), world.log(client).len());
    let start = world.now() - world.elapsed();
    for ((at, event), (when, recorded)) in same.recorded.events.iter().zip(world.log(client)) {
        assert_eq!(event.name(), recorded.name());
        // Packets take their time to what was recorded; nothing else does.
        let since = *when - start;
        assert!(at.abs_diff(since) < SECOND / 100, "{event:?}");
    }

    let shorter = what_if(
        &trace[..],
        &change("heartbeat.interval", "2000000000ns"),
        now,
    )
    .unwrap();
    let (recorded, other) = (shorter.recorded.counts(), shorter.other.counts());
    assert_eq!(recorded.get("HeartbeatTimeout"), None);
    assert!(other["HeartbeatTimeout"] >= 1, "{other:?}");
    let first = shorter.first_difference().unwrap();
    assert!(matches!(
        shorter.other.events[first].1,
        Event::HeartbeatTimeout { .. }
    ));
    assert!(shorter.other.unanswered > 0, "nobody answers its redials");

    let error = what_if(&trace[..], &change("heartbeat.patience", "5"), now).unwrap_err();
    assert!(error.to_string().contains("heartbeat.interval"), "{error}");
    let error = what_if(&trace[..], &change("heartbeat.misses", "many"), now).unwrap_err();
    assert!(
        error.to_string().contains("what was recorded is 3"),
        "{error}"
    );
    let error = what_if(&trace[..], &change("heartbeat.misses", "0"), now).unwrap_err();
    assert!(matches!(error, WhatIfError::Config(_)), "{error}");
}

/// A client that redials a thousand times a second, and says that it did so for years.
#[test]
fn a_run_that_would_not_end_is_refused() {
    let mut world = World::new(14);
    world.record_at(Recording::Link);
    let redial = &mut world.config().redial;
    (redial.first, redial.cap) = (SECOND / 1_000, SECOND / 1_000);
    world.config().timeouts.admission = SECOND / 1_000;
    let client = world.client();
    let nobody = world.server();
    world.kill(nobody);
    world.connect(client, nobody, "anna");
    world.run(SECOND, echo);
    let trace = changed_records(&world.traces(client)[0], |number, record| {
        if let Record::Asked { at, .. } = record
            && number > 100
        {
            *at = at.saturating_add(i64::MAX / 2);
        }
    });
    let error = what_if(&trace[..], &[], Instant::now()).unwrap_err();
    assert!(matches!(error, WhatIfError::Endless(_)), "{error}");
    assert!(error.to_string().contains("longer intervals"), "{error}");
}

/// Replays what no node has ever met: records of a real trace left out, doubled, moved in time.
#[test]
fn no_sequence_of_records_makes_a_replay_panic() {
    let traces = conversation_at(Recording::Link, 10, &Certificates::new().unwrap());
    let mut random = Random::new(11);
    let (mut differed, mut events) = (0, 0);
    for round in 0..40 {
        let source = &traces[round % traces.len()];
        let trace = disordered(
            source,
            2_000,
            &mut random,
            |record, moved, random| match record {
                Record::Call { at, .. } | Record::Asked { at, .. } | Record::Arrival { at } => {
                    *at = at.wrapping_add(moved);
                }
                Record::Answers { notes, .. } if random.next_u64().is_multiple_of(50) => {
                    let place = random.next_u64() as usize % notes.len().max(1);
                    if place < notes.len() {
                        notes.remove(place);
                    }
                }
                _ => {}
            },
        );
        let replay = Replay::new(&trace[..]).unwrap().to_the_end();
        let report = replay.on_event(|_, _| events += 1).run(Instant::now());
        let report = report.unwrap();
        differed += usize::from(!report.is_identical());
        assert!(report.records > 500, "{report}");
        if round % 8 == 0 {
            what_if(&trace[..], &[], Instant::now()).unwrap();
        }
    }
    assert!(differed > 30 && events > 300, "{differed}, {events}");
}

/// Answers outside of connections take turns with links, which are asked first at times and have nothing to say.
#[test]
fn answers_to_nobody_between_what_links_say_replay_identical() {
    for recording in [Recording::Wire, Recording::Link] {
        let mut world = World::new(11);
        world.record_at(recording);
        world.config().limits.half_open_unvalidated = 0;
        let (server, first) = (world.server(), world.client());
        let session = world.connect(first, server, "first");
        world.run(SECOND, echo);
        for round in 0..10 {
            // What has come meanwhile is handed over all together.
            world.pause(server);
            for number in 0..5 {
                let client = world.client();
                world.connect(client, server, &format!("client-{round}-{number}"));
            }
            world.request(first, session, b"between them");
            world.run(SECOND / 10, echo);
            world.wake(server);
            world.run(SECOND, echo);
        }
        let now = world.now();
        let metrics = world.node(server).metrics(now);
        assert_eq!((metrics.incoming_retried, metrics.sessions), (51, 51));
        let traces = world.traces(server);
        assert_eq!(traces.len(), 1);
        let report = replayed(&traces[0]);
        assert!(report.is_identical(), "{recording:?}: {report}");
    }
}
