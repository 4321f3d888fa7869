//! Answers that nobody asked for, receipts for what was never sent, cancels of nothing.

use std::time::Duration;

use trunkline_core::{Event, Message, PromiseKey, SessionKey, Tag};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{Cancel, CloseCode, Receipt, Receipts, Resume};
use trunkline_testkit::NodeIndex;
use trunkline_testkit::raw_peer::{RawLink, RawSettings, hello};

use crate::siege::Siege;
use crate::table::{Fault, commit};

const SECOND: Duration = Duration::from_secs(1);

fn acks(runs: &[u64]) -> Envelope {
    Envelope {
        kind: Kind::Acks.into(),
        acks: runs.to_vec(),
        ..Envelope::default()
    }
}

fn answer(kind: Kind, promise: u64) -> Envelope {
    Envelope {
        kind: kind.into(),
        promise,
        body: "an answer".into(),
        ..Envelope::default()
    }
}

fn receipt(link: &mut RawLink, lane: u32, next: u64) {
    let receipts = vec![Receipt { lane, next }];
    link.send_control(Frame::Receipts(Receipts { receipts }));
}

/// The server's session with the raw peer that was admitted last.
fn newest(siege: &mut Siege) -> SessionKey {
    let server = siege.server;
    siege.world.node(server).sessions().last().unwrap().session
}

/// An admitted peer to which the server has sent an acked message (promise 1) and a request
/// (promise 2).
fn asked(siege: &mut Siege) -> (NodeIndex, [PromiseKey; 2]) {
    let peer = siege.admitted();
    let (server, session) = (siege.server, newest(siege));
    let promises = [
        siege.world.send_acked(server, session, b"ack me"),
        siege.world.request(server, session, b"reply"),
    ];
    siege.run(SECOND / 5);
    assert_eq!(siege.link(peer).envelopes(0).len(), 2);
    (peer, promises)
}

#[test]
fn an_answer_to_nothing_is_ignored_and_counted() {
    let mut siege = Siege::new(41);
    let (peer, [message, request]) = asked(&mut siege);
    let before = siege.metrics();
    let link = siege.link(peer);
    let lane = link.open_lane(64, 0);
    let bulk = link.open_lane(65, 0);
    // Promises that were never made, the largest number among them.
    link.send_envelope(lane, &answer(Kind::Reply, 3));
    link.send_envelope(lane, &answer(Kind::Reject, u64::MAX));
    link.send_envelope(lane, &acks(&[99, 10, u64::MAX - 110, 1]));
    link.send_envelope(bulk, &answer(Kind::Reply, 1 << 40));
    // The wrong kind of answer: a request is not acked, a message not replied to.
    link.send_envelope(lane, &acks(&[1, 1]));
    link.send_envelope(lane, &answer(Kind::Reply, 1));
    siege.run(SECOND / 5);
    assert_eq!(siege.link(peer).ended(), None);
    let after = siege.metrics();
    assert_eq!(
        after.unasked_answers,
        before.unasked_answers + 1 + 1 + 11 + 1 + 1 + 1
    );
    assert_eq!(after.late_answers, before.late_answers);
    let server = siege.server;
    assert_eq!(siege.world.outcome(server, message), None);
    assert_eq!(siege.world.outcome(server, request), None);
    // The right ones settle them, once.
    let link = siege.link(peer);
    for _ in 0..2 {
        link.send_envelope(lane, &acks(&[0, 1]));
    }
    link.send_envelope(lane, &answer(Kind::Reply, 2));
    link.send_envelope(lane, &answer(Kind::Reject, 2));
    siege.run(SECOND / 5);
    assert_eq!(
        siege.world.outcome(server, message).as_deref(),
        Some("Acked")
    );
    assert_eq!(
        siege.world.outcome(server, request).as_deref(),
        Some("Replied an answer")
    );
    assert_eq!(siege.metrics().unasked_answers, after.unasked_answers + 2);
    assert_eq!(siege.link(peer).ended(), None);
    siege.unharmed();
}

#[test]
fn an_answer_that_comes_late_is_no_fault_however_many_do() {
    let mut siege = Siege::new(42);
    let peer = siege.admitted();
    let (server, session, now) = (siege.server, newest(&mut siege), siege.world.now());
    for _ in 0..3_000 {
        let message = Message::new(Tag(1), "soon over");
        siege
            .world
            .node(server)
            .request(now, session, message, Some(SECOND / 2))
            .unwrap();
    }
    siege.run(SECOND);
    let before = siege.metrics();
    assert_eq!(before.promises_timed_out, 3_000);
    let link = siege.link(peer);
    assert_eq!(link.envelopes(0).len(), 3_000);
    let lane = link.open_lane(64, 0);
    for n in 0..3_000 {
        link.send_envelope(lane, &answer(Kind::Reply, n + 1));
    }
    siege.run(SECOND);
    assert_eq!(siege.link(peer).ended(), None);
    let after = siege.metrics();
    assert_eq!(after.late_answers, before.late_answers + 3_000);
    assert_eq!(after.unasked_answers, before.unasked_answers);
    siege.unharmed();
}

#[test]
fn answers_to_nothing_beyond_any_mistake_are_a_flood() {
    let faults = [
        Fault {
            name: "65,536 acks in a few bytes",
            act: |link| {
                let lane = link.open_lane(64, 0);
                link.send_envelope(lane, &acks(&[0, 65_536]));
            },
            code: CloseCode::FLOODED,
            says: "too many answers to nothing that was asked",
        },
        Fault {
            name: "1,025 replies",
            act: |link| {
                let lane = link.open_lane(64, 0);
                for n in 0..1_025 {
                    link.send_envelope(lane, &answer(Kind::Reply, n + 1));
                }
            },
            code: CloseCode::FLOODED,
            says: "the last to promise 1025",
        },
    ];
    commit(&mut Siege::new(43), &faults);
}

#[test]
fn a_receipt_for_what_was_never_sent_is_a_lie() {
    let faults = [
        Fault {
            name: "a lane in which nothing was sent",
            act: |link| receipt(link, 0, 1),
            code: CloseCode::BAD_RECEIPT,
            says: "lane default was reported as received up to 1: so much was never sent",
        },
        Fault {
            name: "the largest number there is",
            act: |link| receipt(link, 3, u64::MAX),
            code: CloseCode::BAD_RECEIPT,
            says: "up to 18446744073709551615",
        },
        Fault {
            name: "answers that were never given",
            act: |link| receipt(link, 64, 1),
            code: CloseCode::BAD_RECEIPT,
            says: "lane answers",
        },
        Fault {
            name: "large answers that were never given",
            act: |link| receipt(link, 65, 1),
            code: CloseCode::BAD_RECEIPT,
            says: "lane bulk-answers",
        },
        Fault {
            name: "best effort that was never sent",
            act: |link| receipt(link, 66, 1),
            code: CloseCode::BAD_RECEIPT,
            says: "lane best-effort",
        },
        Fault {
            name: "the one after the last that was sent",
            act: |link| {
                let lane = link.open_lane(0, 0);
                let request = Envelope {
                    kind: Kind::Request.into(),
                    promise: 1,
                    ..Envelope::default()
                };
                link.send_envelope(lane, &request);
                receipt(link, 64, 2);
            },
            code: CloseCode::BAD_RECEIPT,
            says: "lane answers was reported as received up to 2",
        },
        Fault {
            name: "a lane that does not exist",
            act: |link| receipt(link, 4, 0),
            code: CloseCode::UNKNOWN_LANE,
            says: "there is no lane 4 here",
        },
        Fault {
            name: "a lane that never will",
            act: |link| receipt(link, 62, 0),
            code: CloseCode::UNKNOWN_LANE,
            says: "there is no lane 62 here",
        },
    ];
    commit(&mut Siege::new(44), &faults);
}

#[test]
fn a_receipt_that_goes_back_is_ignored() {
    let mut siege = Siege::new(45);
    let (peer, _) = asked(&mut siege);
    let (server, session) = (siege.server, newest(&mut siege));
    let queued = |siege: &mut Siege| {
        let info = siege.world.node(server).session_info(session).unwrap();
        info.queued_bytes
    };
    assert!(queued(&mut siege) > 0);
    for next in [2, 1, 0, 2, 0] {
        receipt(siege.link(peer), 0, next);
    }
    siege.run(SECOND / 5);
    assert_eq!(siege.link(peer).ended(), None);
    assert_eq!(queued(&mut siege), 0, "the highest counts");
    siege.unharmed();
}

#[test]
fn receipts_of_a_resume_are_checked_as_any_other() {
    for (lane, next, code, says) in [
        (
            0,
            1,
            CloseCode::BAD_RECEIPT,
            "lane default was reported as received up to 1",
        ),
        (66, 1, CloseCode::BAD_RECEIPT, "lane best-effort"),
        (63, 0, CloseCode::UNKNOWN_LANE, "there is no lane 63 here"),
    ] {
        let mut siege = Siege::new(46);
        let peer = siege.raw(&RawSettings::default());
        let first = hello("liar", 200);
        siege.link(peer).hello(&first);
        siege.run(SECOND / 5);
        let before = siege.count(code);
        let server = siege.server;
        siege.world.redial(peer, server);
        siege.run(SECOND / 5);
        let mut again = hello("liar", 201);
        again.resume = Some(Resume {
            session_id: first.session_id,
            token: first.token,
            epoch: 1,
            received: vec![Receipt { lane, next }],
            attempt: 1,
        });
        siege.link(peer).hello(&again);
        siege.run(SECOND / 5);
        let reason = siege.closed(peer, code);
        assert!(reason.contains(says), "{reason}");
        assert_eq!(siege.count(code), before + 1);
        siege.unharmed();
    }
}

#[test]
fn a_cancel_of_nothing_is_ignored_however_many_there_are() {
    let mut siege = Siege::new(47);
    let peer = siege.admitted();
    let before = siege.world.log(siege.server).len();
    for round in 0..10_u64 {
        let link = siege.link(peer);
        for number in 0..2_000 {
            link.send_control(Frame::Cancel(Cancel {
                promise: round * 2_000 + number,
            }));
        }
        link.send_control(Frame::Cancel(Cancel { promise: 0 }));
        link.send_control(Frame::Cancel(Cancel { promise: u64::MAX }));
        siege.run(SECOND / 5);
    }
    assert_eq!(siege.link(peer).ended(), None);
    let since = &siege.world.log(siege.server)[before..];
    let told = |event: &Event| matches!(event, Event::Cancelled { .. });
    assert!(!since.iter().any(|(_, event)| told(event)));
    // A request that was cancelled so long ago that it is forgotten is answered; one that is
    // remembered is not begun.
    let lane = siege.link(peer).open_lane(0, 0);
    for promise in [1, 19_999] {
        let request = Envelope {
            kind: Kind::Request.into(),
            promise,
            ..Envelope::default()
        };
        siege.link(peer).send_envelope(lane, &request);
    }
    siege.run(SECOND / 5);
    let answered: Vec<_> = siege
        .link(peer)
        .envelopes(64)
        .iter()
        .map(|a| a.promise)
        .collect();
    assert_eq!(answered, [1]);
    assert_eq!(siege.metrics().cancelled_early, 1);
    siege.unharmed();
}
