//! What is written is read again, and what is not a trace is refused.

mod blocks;
mod calls;
mod notes;

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use self::notes::notes;
use super::*;
use crate::error::{CloseCode, StatusCode};
use crate::id::{DeliveryKey, Key, Lane, LinkKey, PromiseKey, SessionKey, Tag};
use crate::node::{Admission, ScriptedRoles};
use crate::quic::PersistentKeys;
use crate::seed::{DrawKey, Seed};
use crate::tap::{Body, Call, EventMark, Letter, Level, LinkNote, Signature, TransmitMark};

fn header() -> Header {
    Header {
        build: Build::own(),
        config: crate::Config::default(),
        wall: SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 123_456_789),
        beginning: Beginning::default(),
        recorded: Recorded::Wire {
            seed: Seed::new([5; 32]),
            keys: Some(PersistentKeys::new([6; 32], [7; 32])),
            roles: Box::default(),
        },
    }
}

fn link_header() -> Header {
    Header {
        recorded: Recorded::Link {
            draws: Some(Draws(DrawKey::new([8; 32]))),
            roles: ScriptedRoles {
                admission: Some(Admission::Ask),
                client: true,
            },
            bodies: false,
        },
        ..header()
    }
}

/// One of each kind.
fn calls() -> Vec<Call<'static>> {
    let key = Key {
        slot: 300,
        generation: 2,
    };
    let session = SessionKey(key);
    let delivery = DeliveryKey { session, number: 9 };
    let promise = PromiseKey {
        session,
        number: u64::MAX,
    };
    let message = Letter {
        lane: Some(Lane::BEST_EFFORT),
        tag: Tag::of("test.Said"),
        body: Body::Whole(b"body"),
    };
    let bare = Letter {
        lane: None,
        ..message
    };
    let timeout = Some(Duration::from_nanos(1_500_000_001));
    vec![
        Call::Datagram {
            remote: ([192, 0, 2, 1], 4433).into(),
            local_ip: Some([192, 0, 2, 2].into()),
            ecn: Some(2),
            data: &[0xff; 1_200],
        },
        Call::Datagram {
            remote: "[2001:db8::1%7]:65535".parse().unwrap(),
            local_ip: Some("2001:db8::2".parse().unwrap()),
            ecn: None,
            data: &[],
        },
        Call::Timeout,
        Call::Connect {
            address: ([192, 0, 2, 1], 4433).into(),
            server_name: "localhost",
            client: "anna",
            credentials: Body::Whole(b"secret"),
            agent: "test/1",
        },
        Call::Redirect {
            session,
            address: ([192, 0, 2, 1], 1).into(),
        },
        Call::AddAddress {
            session,
            address: ([192, 0, 2, 2], 1).into(),
        },
        Call::ForgetAddresses { session },
        Call::SetCredentials {
            session,
            credentials: Body::Whole(b"another secret"),
        },
        Call::SetServerIdentity {
            chain: b"certificates",
        },
        Call::SetClientIdentity {
            chain: b"certificates",
        },
        Call::SetClientRoots {
            certificates: b"certificates",
        },
        Call::SetServerRoots {
            certificates: b"certificates",
        },
        Call::SetWall {
            wall: SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 1),
        },
        Call::Join {
            session,
            group: "readers",
        },
        Call::Leave {
            session,
            group: "readers",
        },
        Call::Close {
            session,
            code: CloseCode::NORMAL,
            reason: "enough",
        },
        Call::Drain {
            deadline: Duration::from_secs(3),
            retry_after: None,
            alternative: Some("there:4433"),
        },
        Call::Admit { link: LinkKey(key) },
        Call::Refuse {
            link: LinkKey(key),
            reason: "",
            retry_after: timeout,
        },
        Call::Send {
            to: session,
            message,
        },
        Call::SendAcked {
            to: session,
            message: bare,
            timeout,
        },
        Call::Request {
            to: session,
            message: bare,
            timeout: None,
        },
        Call::SendBestEffort {
            to: session,
            message,
            key: Some(7),
        },
        Call::Broadcast {
            group: None,
            message,
            key: None,
        },
        Call::Broadcast {
            group: Some("readers"),
            message,
            key: None,
        },
        Call::BroadcastExcept {
            except: session,
            group: None,
            message,
            key: Some(7),
        },
        Call::BroadcastExcept {
            except: session,
            group: Some("readers"),
            message,
            key: None,
        },
        Call::Cancel { promise },
        Call::Ack { delivery },
        Call::Reply {
            delivery,
            tag: Tag(1),
            body: Body::Whole(b"reply"),
        },
        Call::Reject {
            delivery,
            code: StatusCode(1_000),
            reason: "no",
        },
    ]
}

fn records() -> Vec<Record<'static>> {
    let mark = TransmitMark {
        size: 1_200,
        digest: u64::MAX,
    };
    let mut records: Vec<_> = calls()
        .into_iter()
        .zip([0, -5, 7, i64::MAX, 0, i64::MIN].into_iter().cycle())
        .map(|(call, at)| Record::Call { at, call })
        .collect();
    records.extend([
        Record::Transmit {
            at: 1_000_000,
            max_segments: NonZeroUsize::MIN,
            mark: Some(mark),
        },
        Record::Transmit {
            at: 1_000_000,
            max_segments: NonZeroUsize::MIN,
            mark: None,
        },
        Record::Event(Some(EventMark {
            name: "Connected",
            digest: 3,
        })),
        Record::Event(None),
        Record::Signature(Signature::Scheme(Some(0x0403))),
        Record::Signature(Signature::Scheme(None)),
        Record::Signature(Signature::Made {
            message: [3; 32],
            signature: Some(vec![4; 70]),
        }),
        Record::Signature(Signature::Made {
            message: [3; 32],
            signature: None,
        }),
        Record::End(End::Full),
    ]);
    records
}

/// The same without what bodies and credentials hold.
fn marked(mut call: Call<'static>) -> Call<'static> {
    if let Call::Send { message, .. }
    | Call::SendAcked { message, .. }
    | Call::Request { message, .. }
    | Call::SendBestEffort { message, .. }
    | Call::Broadcast { message, .. }
    | Call::BroadcastExcept { message, .. } = &mut call
    {
        let length = message.body.len();
        message.body = Body::Marked { length, hash: 9 };
    }
    if let Call::Reply { body, .. }
    | Call::Connect {
        credentials: body, ..
    } = &mut call
    {
        let length = body.len();
        *body = Body::Marked { length, hash: 9 };
    }
    call
}

fn is_datagram(record: &Record<'_>) -> bool {
    matches!(record, Record::Call { call, .. } if matches!(call, Call::Datagram { .. }))
}

#[test]
fn a_link_trace_has_no_datagrams() {
    let records: Vec<_> = records().into_iter().filter(is_datagram).collect();
    assert!(!records.is_empty());
    for record in records {
        let bytes = written(&link_header(), vec![record]);
        let error = read(&bytes).unwrap_err();
        assert!(matches!(error, TraceError::Unknown { .. }), "{error:?}");
    }
}

/// What is recorded above QUIC alone.
fn link_records() -> Vec<Record<'static>> {
    let link = |slot| {
        LinkKey(Key {
            slot,
            generation: 1,
        })
    };
    let answers = |polled| Record::Answers {
        polled,
        notes: notes().into_iter().map(|note| (link(3), note)).collect(),
    };
    let between = [(link(1), LinkNote::Came), (link(2), LinkNote::Came)];
    let marked = calls().into_iter().map(|call| Record::Call {
        at: 5,
        call: marked(call),
    });
    let mut records = records();
    records.truncate(records.len() - 1);
    records.extend(marked);
    records.retain(|record| !is_datagram(record));
    records.extend([
        Record::Arrival { at: -7 },
        answers(false),
        answers(true),
        Record::Answers {
            polled: false,
            notes: between.to_vec(),
        },
        Record::Asked { at: 1, sent: true },
        Record::Asked { at: 2, sent: false },
        Record::End(End::Full),
    ]);
    records
}

fn trace() -> Vec<u8> {
    written(&header(), records())
}

fn written(header: &Header, records: Vec<Record<'_>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, header).unwrap();
    for record in records {
        writer.write(&record).unwrap();
    }
    bytes
}

#[test]
fn changes_of_roots_are_written_as_certificates() {
    let certificates = b"certificates";
    for (kind, call) in [
        (26, Call::SetClientRoots { certificates }),
        (27, Call::SetServerRoots { certificates }),
    ] {
        for level in [Level::Wire, Level::Link] {
            let (mut bytes, call) = (Vec::new(), call);
            Record::Call { at: 3, call }.encode(level, &mut 0, &mut bytes);
            assert_eq!(bytes, [&[kind, 6, 12][..], certificates].concat());
        }
    }
}

/// All records up to the end or an error.
fn read(bytes: &[u8]) -> Result<(u64, Option<Ending>), TraceError> {
    let mut reader = Reader::new(bytes)?;
    let mut last = 0;
    while let Some((number, record)) = reader.next_record()? {
        // Words are made for whatever can be read.
        assert!(!record.to_string().is_empty());
        last = number;
    }
    Ok((last, reader.ending()))
}

/// The trace has these records, to a full file's end.
fn assert_reads_as(bytes: &[u8], records: &[Record<'_>]) {
    let mut reader = Reader::new(bytes).unwrap();
    for (place, expected) in records.iter().enumerate() {
        let (number, record) = reader.next_record().unwrap().unwrap();
        assert_eq!((number, &record), (place as u64 + 1, expected));
    }
    assert!(reader.next_record().unwrap().is_none());
    assert_eq!(reader.ending(), Some(Ending::Said(End::Full)));
}

#[test]
fn records_come_back() {
    for (header, records) in [(header(), records()), (link_header(), link_records())] {
        let bytes = written(&header, records.clone());
        assert_reads_as(&bytes, &records);
    }
}

#[test]
fn the_header_comes_back_and_prints_no_secret() {
    let bytes = trace();
    let reader = Reader::new(&bytes[..]).unwrap();
    let read = reader.header();
    assert_eq!(read.wall, header().wall);
    let secrets = |header: &Header| match &header.recorded {
        Recorded::Wire { seed, keys, .. } => {
            (*seed.bytes(), keys.clone().unwrap().to_bytes().to_vec())
        }
        Recorded::Link { .. } => panic!("another level"),
    };
    assert_eq!(secrets(read), secrets(&header()));
    assert_eq!(read.build, Build::own());
    assert!(read.build.rustc.starts_with("rustc "), "{:?}", read.build);
    assert_eq!(read.build.lock.len(), 16, "{:?}", read.build);
    let printed = format!("{read:?}");
    assert!(printed.contains("Seed(redacted)") && printed.contains("Keys(redacted)"));
    let bytes = written(&link_header(), Vec::new());
    let reader = Reader::new(&bytes[..]).unwrap();
    let printed = format!("{:?}", reader.header());
    assert_eq!(printed, format!("{:?}", link_header()));
    assert!(printed.contains("DrawKey(redacted)"), "{printed}");
}

#[test]
fn what_is_no_trace_or_another_version_is_said_so() {
    assert!(matches!(read(b""), Err(TraceError::NotATrace)));
    assert!(matches!(read(b"TLtrace"), Err(TraceError::NotATrace)));
    assert!(matches!(
        read(b"TLtrace\r\n\x01\x00"),
        Err(TraceError::NotATrace)
    ));
    // Envelopes have other fields since version 2.
    for other in [2, 99] {
        let mut bytes = trace();
        bytes[8] = other;
        let error = read(&bytes).unwrap_err();
        let says = format!("version {other}");
        assert!(error.to_string().contains(&says), "{error}");
    }
}

#[test]
fn what_this_version_cannot_know_is_named() {
    for (entry, value) in [
        ("level", "air"),
        ("draws", "short"),
        ("bodies", "some"),
        ("client", "yes"),
        ("config.limits.patience", "7"),
        ("config.heartbeat.interval", "15 s"),
        ("server.admission", "everybody"),
        ("seed", "short"),
        ("colour", "red"),
    ] {
        let mut body = header().encode().to_vec();
        let mut out = codec::Encoder::new(&mut body);
        out.text(entry);
        out.text(value);
        let error = Header::decode(&body).unwrap_err().to_string();
        assert!(error.contains(entry), "{error}");
    }
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, &header()).unwrap();
    let mut block = vec![0, 0, 99];
    writer::frame(1, &mut block, 2);
    bytes.extend_from_slice(&block);
    assert!(matches!(
        read(&bytes),
        Err(TraceError::Unknown { record: 1, .. })
    ));
}

#[test]
fn lengths_are_as_short_as_can_be() {
    for size in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        let body = vec![7; size];
        let mut expected = b"before".to_vec();
        codec::Encoder::new(&mut expected).number(size as u64);
        expected.push(length_check(3, size as u64));
        expected.extend_from_slice(&body);
        expected.extend_from_slice(&checksum(3, &body).to_le_bytes());
        let mut out = [&b"before\0\0"[..], &body].concat();
        writer::frame(3, &mut out, 8);
        assert_eq!(out, expected);
    }
}

#[test]
fn a_limit_is_kept_to_the_byte() {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &header()).unwrap();
    let record = Record::Event(None);
    let before = writer.written();
    assert!(writer.write_within(before + 8, &record).unwrap());
    assert!(!writer.write_within(before + 15, &record).unwrap());
    assert!(writer.write_within(before + 16, &record).unwrap());
    assert_eq!(writer.written(), before + 16);
    assert_eq!(bytes.len() as u64, before + 16);
    assert_eq!(read(&bytes).unwrap().0, 2);
}

#[test]
fn records_that_were_moved_or_removed_are_damage() {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &header()).unwrap();
    let start = writer.written() as usize;
    writer.write(&Record::Event(None)).unwrap();
    writer.write(&Record::End(End::Stopped)).unwrap();
    let (first, second) = (&bytes[start..start + 8], &bytes[start + 8..]);
    let swapped = [&bytes[..start], second, first].concat();
    let removed = [&bytes[..start], second].concat();
    for bytes in [swapped, removed] {
        assert!(matches!(
            read(&bytes),
            Err(TraceError::Damaged { record: 1, .. })
        ));
    }
}

proptest! {
    #[test]
    fn no_byte_can_be_changed_unnoticed(at in 0_usize..1 << 16, bit in 0_u32..8) {
        let whole = trace();
        let mut bytes = whole.clone();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        match read(&bytes) {
            Err(_) => {}
            Ok((_, ending)) => prop_assert!(matches!(ending, Some(Ending::CutShort(_)))),
        }
    }

    #[test]
    fn any_bytes_can_be_read_as_a_record_or_are_refused(body: Vec<u8>) {
        for level in [Level::Wire, Level::Link] {
            if let Some(record) = Record::decode(&body, level, &mut 0) {
                let mut again = Vec::new();
                record.encode(level, &mut 0, &mut again);
                prop_assert_eq!(Record::decode(&again, level, &mut 0), Some(record));
            }
        }
    }

    #[test]
    fn any_bytes_can_be_read_as_a_header_or_are_refused(body: Vec<u8>) {
        prop_assert!(Header::decode(&body).is_err());
    }
}

/// Whoever reads traces in another language goes by it.
#[test]
fn the_page_describes_this_version() {
    let page = include_str!("../../TRACE.md");
    for words in [
        format!("describes the file, version {FORMAT},"),
        format!("the format's version, little-endian: {FORMAT} |"),
    ] {
        assert!(page.contains(&words), "{words}");
    }
}
