//! Every datagram: bit for bit, without private keys.

use std::num::NonZeroUsize;
use std::time::{Instant, SystemTime};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use trunkline_core::tap::{Call, Signature};
use trunkline_core::trace::{
    End, Ending, Header, Reader, Record, Recorder, Replay, TraceError, Writer, replay,
};
use trunkline_core::{
    Admission, ClientRole, Config, Datagram, Dial, Identity, Input, Node, Origin, Roles, Roots,
    Seed, ServerRole,
};
use trunkline_testkit::{Certificates, Random, Recording, World, assert_replays, echo};

use crate::conversation::{
    SECOND, conversation, ecdsa, ended, records, replayed, with_client_certificate,
};
use crate::disorder::disordered;
use crate::memory::Memory;

#[test]
fn all_sides_of_a_conversation_replay_identical() {
    for (seed, certificates) in [(1, Certificates::new().unwrap()), (2, ecdsa())] {
        let traces = conversation(seed, &certificates);
        for (side, trace) in traces.iter().enumerate() {
            let report = replayed(trace);
            assert!(report.is_identical(), "seed {seed}, side {side}: {report}");
            assert_eq!(report.ending, Some(Ending::Said(End::Stopped)));
            assert!(report.records > 1_000, "{report}");
            assert!(report.time > 180 * SECOND, "{report}");
            assert!(report.to_string().starts_with("identical: "), "{report}");
        }
    }
}

/// The records of a trace from a certain one on, changed by `change`, which gets the number of each.
fn changed(trace: &[u8], mut change: impl FnMut(u64, &mut Vec<u8>)) -> Vec<u8> {
    let mut reader = Reader::new(trace).unwrap();
    let mut out = Vec::new();
    let header: Header = reader.header().clone();
    let mut writer = Writer::new(&mut out, &header).unwrap();
    while let Some((number, record)) = reader.next_record().unwrap() {
        if let Record::Call {
            at,
            call:
                Call::Datagram {
                    remote,
                    local_ip,
                    ecn,
                    data,
                },
        } = record
        {
            let mut data = data.to_vec();
            change(number, &mut data);
            let call = Call::Datagram {
                remote,
                local_ip,
                ecn,
                data: &data,
            };
            writer.write(&Record::Call { at, call }).unwrap();
        } else {
            writer.write(&record).unwrap();
        }
    }
    out
}

#[test]
fn a_trace_that_is_written_again_is_the_same() {
    let trace = conversation(3, &ecdsa()).remove(0);
    // Each record has a block of its own now, which takes more bytes.
    let again = changed(&trace, |_, _| {});
    assert_eq!(records(&again), records(&trace));
    assert_eq!(changed(&again, |_, _| {}), again);
    assert!(trace.len() < again.len());
}

#[test]
fn a_flipped_byte_of_a_datagram_is_found() {
    let trace = conversation(4, &Certificates::new().unwrap()).remove(0);
    let datagrams = {
        let mut all = Vec::new();
        changed(&trace, |number, data| all.push((number, data.clone())));
        all
    };
    // The network copies some: one that is found in the file by what it holds.
    let once = |data: &Vec<u8>| datagrams.iter().filter(|(_, other)| other == data).count() == 1;
    let mut later = datagrams[datagrams.len() / 2..].iter();
    let (number, data) = later.find(|(_, data)| once(data)).unwrap();

    // In the file: the record is named, and nothing behind it is believed.
    let at = trace
        .windows(data.len())
        .position(|window| window == data)
        .unwrap();
    let mut damaged = trace.clone();
    damaged[at + data.len() / 2] ^= 1;
    match replay(&damaged[..], Instant::now()) {
        Err(TraceError::Damaged { record, .. }) => assert_eq!(record, *number),
        other => panic!("{other:?}"),
    }

    // In what the node is given: the first record that differs is named, and what it follows on.
    let other = changed(&trace, |n, data| {
        if n == *number {
            let middle = data.len() / 2;
            data[middle] ^= 1;
        }
    });
    let report = replayed(&other);
    let difference = report.difference.clone().unwrap();
    assert!(difference.record > *number, "{report}");
    let (after, _) = difference.after.unwrap();
    assert!(after >= *number, "{report}");
    let text = report.to_string();
    assert!(
        text.contains(&format!("different: record {}", difference.record)),
        "{text}"
    );
    assert!(text.contains("expected") && text.contains("came"), "{text}");
}

#[test]
fn another_seed_differs_in_the_first_thing_that_comes_out() {
    for trace in conversation(5, &Certificates::new().unwrap()) {
        let mut reader = Reader::new(&trace[..]).unwrap();
        let first_out = loop {
            let (number, record) = reader.next_record().unwrap().unwrap();
            if matches!(record, Record::Transmit { mark: Some(_), .. }) {
                break number;
            }
        };
        let other = Replay::new(&trace[..]).unwrap().seed(Seed::new([9; 32]));
        let report = other.run(Instant::now()).unwrap();
        let difference = report.difference.clone().unwrap();
        // A server that signs is asked to sign something else even before it gives anything out.
        assert!(difference.record <= first_out, "{report}");
    }
}

#[test]
fn a_trace_replays_to_its_last_whole_record_wherever_it_is_cut() {
    let trace = conversation(6, &ecdsa()).remove(0);
    let header = {
        let reader = Reader::new(&trace[..]).unwrap();
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, reader.header()).unwrap();
        bytes.len()
    };
    let mut before = 0;
    for tenth in 0..=10 {
        let cut = header + (trace.len() - header) * tenth / 10;
        let report = replayed(&trace[..cut]);
        assert!(report.is_identical(), "cut at {cut}: {report}");
        assert!(report.records >= before, "cut at {cut}: {report}");
        let less = replayed(&trace[..cut.saturating_sub(1).max(header)]);
        assert!(less.is_identical(), "cut before {cut}: {less}");
        // And nothing is called identical that was not looked at.
        let cut_short = matches!(less.ending, Some(Ending::CutShort(_)));
        let whole = less.to_string().starts_with("identical: ");
        assert!(whole != cut_short, "cut before {cut}: {less}");
        // No more than what shared a block, of a kilobyte, with the last record.
        let lost = report.records - less.records;
        assert!(lost < 200, "cut before {cut}: {less}");
        before = report.records;
    }
    assert!(matches!(
        replay(&trace[..header - 1], Instant::now()),
        Err(TraceError::NoHeader)
    ));
}

/// As where a process is killed, or a recording reaches its limit: behind a call whose signatures were not
/// recorded any more.
#[test]
fn a_trace_that_ends_behind_any_record_replays_identical() {
    const FIRST: u64 = 150;
    for trace in conversation(13, &ecdsa()) {
        for end in [None, Some(End::Full), Some(End::Stopped)] {
            for kept in 1..=FIRST {
                let report = replayed(&ended(&trace, kept, end));
                assert!(
                    report.is_identical(),
                    "after record {kept}, {end:?}: {report}"
                );
            }
        }
    }
}

/// A server that has signed, and is gone before anybody has asked it for what it says.
#[test]
fn a_server_that_is_dropped_behind_a_first_packet_leaves_its_signature() {
    let certificates = ecdsa();
    let now = Instant::now();
    let origin = |seed| Origin {
        now,
        // When certificates are valid.
        wall: SystemTime::UNIX_EPOCH + 1_800_000_000 * SECOND,
        seed: Seed::new([seed; 32]),
        keys: None,
    };
    let server = Roles {
        server: Some(ServerRole {
            identity: certificates.server.clone(),
            admission: Admission::Open,
            client_roots: None,
        }),
        client: None,
    };
    let client = Roles {
        server: None,
        client: Some(ClientRole {
            roots: certificates.roots.clone(),
            identity: None,
        }),
    };
    let mut client = Node::new(Config::default(), client, origin(1)).unwrap();
    let dial = Dial {
        address: ([10, 0, 0, 1], 4433).into(),
        server_name: "localhost".into(),
        client: "anna".parse().unwrap(),
        credentials: bytes::Bytes::new(),
        agent: "test".into(),
    };
    client.connect(now, dial).unwrap();
    let memory = Memory::default();
    let recorder = Recorder::wire(memory.clone());
    let mut server = recorder
        .start(Config::default(), server, origin(2))
        .unwrap();
    let mut datagram = Vec::new();
    while client
        .poll_transmit(now, NonZeroUsize::MIN, &mut datagram)
        .is_some()
    {
        let from = ([10, 0, 0, 2], 5000).into();
        let came = Datagram::new(from, (&datagram[..]).into());
        server.handle_input(now, Input::Datagram(came));
        datagram.clear();
    }
    drop(server);
    let trace = memory.bytes();
    assert_eq!(signatures(&trace), 1);
    let report = replayed(&trace);
    assert!(report.is_identical(), "{report}");
    assert_eq!(report.ending, Some(Ending::Said(End::Stopped)));
}

/// How many signatures were made.
fn signatures(trace: &[u8]) -> usize {
    let mut reader = Reader::new(trace).unwrap();
    let mut made = 0;
    while let Some((_, record)) = reader.next_record().unwrap() {
        if let Record::Signature(Signature::Made { signature, .. }) = record {
            assert!(signature.is_some());
            made += 1;
        }
    }
    made
}

#[test]
fn a_trace_holds_signatures_and_no_private_key() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let der = key.serialize_der();
    // The 32 bytes of the secret number inside PKCS #8 (RFC 5915).
    let at = der.windows(4).position(|w| w == [1, 1, 4, 32]).unwrap() + 4;
    let secret = der[at..at + 32].to_vec();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let mut certificates = Certificates::new().unwrap();
    let chain = vec![certificate.der().clone()];
    certificates.roots = Roots::from_der(chain.clone(), "the test").unwrap();
    let der = PrivatePkcs8KeyDer::from(der).into();
    certificates.server = Identity::from_der(chain, der, "the test").unwrap();
    let trace = conversation(7, &certificates).remove(0);
    assert!(!trace.windows(32).any(|window| window == secret));
    let made = signatures(&trace);
    // Three clients, before and after the cut.
    assert!(made >= 6, "{made} signatures");
}

/// Both sides sign at random, with keys that a replay does not have, and the server lets in whom the
/// certificate names.
#[test]
fn a_client_that_shows_a_certificate_replays_identical_on_both_sides() {
    for trace in with_client_certificate(Recording::Wire) {
        let report = replayed(&trace);
        assert!(report.is_identical(), "{report}");
        assert_eq!(report.ending, Some(Ending::Said(End::Stopped)));
        let made = signatures(&trace);
        assert!(made >= 2, "{made} signatures: once more after the cut");
    }
}

#[test]
fn a_restarted_process_is_a_trace_of_its_own() {
    let mut world = World::new(8);
    world.record();
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "anna");
    world.run(SECOND, echo);
    world.kill(server);
    world.run(SECOND, echo);
    world.start_process(server);
    let promise = world.request(client, session, b"ask");
    world.run(120 * SECOND, echo);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Lost { maybe_delivered: true }")
    );
    let traces = world.traces(server);
    assert_eq!(traces.len(), 2);
    for trace in traces.iter().chain(&world.traces(client)) {
        let report = replayed(trace);
        assert!(report.is_identical(), "{report}");
    }
    assert_eq!(replayed(&traces[1]).ending, Some(Ending::Open));
}

#[test]
fn a_process_that_has_done_nothing_yet_has_a_trace() {
    for recording in [Recording::Wire, Recording::Link] {
        let mut world = World::new(14);
        world.record_at(recording);
        let server = world.server();
        let report = replayed(&world.traces(server).pop().unwrap());
        assert_eq!((report.records, report.ending), (0, Some(Ending::Open)));
    }
}

#[test]
fn a_trace_file_is_a_test_in_one_line() {
    let trace = conversation(9, &Certificates::new().unwrap()).remove(1);
    let path = std::env::temp_dir().join(format!("trunkline-{}.tlt", std::process::id()));
    std::fs::write(&path, &trace).unwrap();
    assert_replays(&path);
    std::fs::write(&path, &trace[..trace.len() - 3]).unwrap();
    let cut = std::panic::catch_unwind(|| assert_replays(&path));
    std::fs::remove_file(&path).unwrap();
    assert!(cut.is_err(), "a trace that is cut short is no test");
}

/// Replays what no node has ever met: records of a real trace left out, doubled, moved in time. A
/// node takes any calls at any times without a panic, and so does a replay.
#[test]
fn no_sequence_of_calls_makes_a_replay_panic() {
    let traces = conversation(10, &Certificates::new().unwrap());
    let mut random = Random::new(11);
    let (mut differed, mut events) = (0, 0);
    for round in 0..100 {
        let source = &traces[round % traces.len()];
        let trace = disordered(source, 5_000, &mut random, |record, moved, _| {
            if let Record::Call { at, .. } | Record::Transmit { at, .. } = record {
                *at = at.wrapping_add(moved);
            }
        });
        let replay = Replay::new(&trace[..]).unwrap().to_the_end();
        let report = replay.on_event(|_, _| events += 1).run(Instant::now());
        let report = report.unwrap();
        differed += usize::from(!report.is_identical());
        assert!(report.records > 500, "{report}");
    }
    assert!(differed > 90 && events > 1_000, "{differed}, {events}");
}
