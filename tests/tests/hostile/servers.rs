//! Servers that clients have to bear: frames in the wrong place, hostile timings, floods of hints.

use std::time::Duration;

use trunkline_core::{DisconnectReason, Event};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{Cancel, Close, CloseCode, Drain, Heartbeat, Hello, Receipts, Welcome};
use trunkline_testkit::raw_peer::{Ended, RawLink};

use crate::siege::Siege;
use crate::victim::{TICK, delay, dialled, ends, losses, refused, welcomed};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn frames_in_the_wrong_state_break_the_protocol() {
    type Act = fn(&mut RawLink);
    let before_welcome: [(&str, Act, &str); 4] = [
        (
            "Hello",
            |link| link.hello(&Hello::default()),
            "Hello is not expected",
        ),
        (
            "Receipts",
            |link| link.send_control(Frame::Receipts(Receipts::default())),
            "Receipts is not expected",
        ),
        (
            "Cancel",
            |link| link.send_control(Frame::Cancel(Cancel { promise: 1 })),
            "Cancel is not expected",
        ),
        (
            "Drain",
            |link| link.send_control(Frame::Drain(Drain::default())),
            "Drain is not expected",
        ),
    ];
    let after_welcome: [(&str, Act, CloseCode, &str); 4] = [
        (
            "a second welcome",
            |link| {
                let first = link.control();
                assert!(matches!(first[0], Frame::Hello(_)));
                link.send_control(Frame::Welcome(Welcome::default()));
            },
            CloseCode::PROTOCOL_VIOLATION,
            "Welcome is not expected while the link is in use",
        ),
        (
            "a hello",
            |link| link.hello(&Hello::default()),
            CloseCode::PROTOCOL_VIOLATION,
            "Hello is not expected while the link is in use",
        ),
        (
            "a gap",
            |link| {
                let lane = link.open_lane(0, 1);
                link.send_envelope(lane, &Envelope::default());
            },
            CloseCode::SEQUENCE_GAP,
            "went on with number 1, 0 was next",
        ),
        (
            "a lane that the client has not announced",
            |link| {
                link.open_lane(4, 0);
            },
            CloseCode::UNKNOWN_LANE,
            "there is no lane 4 here",
        ),
    ];
    let mut siege = Siege::new(63);
    for (name, act, says) in before_welcome {
        let of = dialled(&mut siege);
        act(siege.link(of.0));
        refused(&mut siege, of, name, CloseCode::PROTOCOL_VIOLATION, says);
    }
    for (name, act, code, says) in after_welcome {
        let of = welcomed(&mut siege);
        act(siege.link(of.0));
        refused(&mut siege, of, name, code, says);
        assert_eq!(losses(&siege, of.1), 1, "{name}");
    }
    siege.unharmed();
}

#[test]
fn a_client_allows_its_server_no_bidirectional_stream() {
    let mut siege = Siege::new(64);
    let (server, _) = welcomed(&mut siege);
    let link = siege.link(server);
    assert!(link.open_bidirectional().is_none());
    let streams = std::iter::from_fn(|| link.open_unidirectional()).count();
    assert_eq!(streams, 4 + 3);
    siege.unharmed();
}

#[test]
fn a_server_that_never_welcomes_is_left_after_the_deadline() {
    let mut siege = Siege::new(65);
    let (server, session) = dialled(&mut siege);
    // As long as a server allows its application, and for what it says then.
    siege.run(14 * SECOND);
    assert_eq!(siege.link(server).ended(), None);
    siege.run(SECOND);
    assert_eq!(ends(&siege, session), [DisconnectReason::ConnectTimeout]);
    assert!(matches!(
        siege.link(server).ended(),
        Some(Ended::Application { code: 5, .. })
    ));
    siege.run(2 * SECOND);
    assert_eq!(siege.world.raw(server).links().len(), 2, "it dials again");
    siege.unharmed();
}

/// How often a client beats in a minute for the interval that its server asks for.
#[test]
fn a_hostile_heartbeat_interval_is_clamped() {
    for (asked, least, most) in [
        (0, 3, 4),
        (u32::MAX, 3, 4),
        (15_000, 3, 4),
        (1, 599, 601),
        (500, 119, 120),
    ] {
        let mut siege = Siege::new(66);
        let (server, session) = dialled(&mut siege);
        let welcome = Welcome {
            heartbeat_ms: asked,
            ..siege.fitting_welcome(server)
        };
        siege.link(server).send_control(Frame::Welcome(welcome));
        siege.run(SECOND / 10);
        siege.run(60 * SECOND);
        assert_eq!(ends(&siege, session), []);
        let frames = siege.link(server).control();
        let beats = frames
            .iter()
            .filter(|frame| matches!(frame, Frame::Heartbeat(_)))
            .count();
        assert!(
            (least..=most).contains(&beats),
            "{beats} beats for {asked} ms"
        );
        siege.unharmed();
    }
}

#[test]
fn a_client_does_not_answer_heartbeats() {
    let mut siege = Siege::new(67);
    let (server, session) = welcomed(&mut siege);
    for number in 0..1_000 {
        let beat = Heartbeat {
            number: 1_000 + number,
        };
        siege.link(server).send_control(Frame::Heartbeat(beat));
    }
    siege.run(SECOND);
    let frames = siege.link(server).control();
    let answer = frames
        .iter()
        .find(|frame| matches!(frame, Frame::Heartbeat(beat) if beat.number >= 1_000));
    assert_eq!(answer, None);
    assert_eq!(ends(&siege, session), []);
    siege.unharmed();
}

/// However long a server wants its clients away, they are back in a quarter of an hour.
#[test]
fn a_hostile_drain_or_retry_time_is_clamped() {
    let longest = Duration::from_secs(900);
    let mut siege = Siege::new(68);
    let drain = Drain {
        deadline_ms: u32::MAX,
        retry_after_ms: u32::MAX,
        alternative: String::new(),
    };
    // A drain, after which the connection just ends.
    let (server, session) = welcomed(&mut siege);
    siege.link(server).send_control(Frame::Drain(drain.clone()));
    siege.run(TICK);
    let told = siege
        .world
        .log(siege.victim_node())
        .iter()
        .find_map(|(_, event)| match event {
            Event::Draining {
                session: of,
                deadline,
                retry_after,
                alternative,
            } if *of == session => Some((*deadline, *retry_after, alternative.clone())),
            _ => None,
        });
    let day = Duration::from_secs(86_400);
    assert_eq!(told, Some((day, Some(Duration::from_secs(600)), None)));
    let now = siege.world.now();
    siege
        .link(server)
        .close(now, u64::from(CloseCode::INTERNAL.0), b"");
    siege.run(TICK);
    let waits = delay(&siege, session);
    assert!(
        waits >= Duration::from_secs(600) && waits <= longest,
        "{waits:?}"
    );
    // A close that says when to come back, for each of its codes.
    for code in [
        CloseCode::REFUSED,
        CloseCode::GOING_AWAY,
        CloseCode::TOO_MANY_SESSIONS,
    ] {
        let (server, session) = dialled(&mut siege);
        siege.link(server).send_control(Frame::Close(Close {
            code: code.0,
            reason: "much later".into(),
            retry_after_ms: u32::MAX,
        }));
        siege.run(TICK);
        let waits = delay(&siege, session);
        assert!(
            waits >= Duration::from_secs(600) && waits <= longest,
            "{code}: {waits:?}"
        );
        let now = siege.world.elapsed();
        siege.world.run(longest, trunkline_testkit::echo);
        assert_eq!(siege.world.elapsed() - now, longest);
        assert!(
            siege.world.raw(server).links().len() > 1,
            "{code}: it is back"
        );
    }
    siege.unharmed();
}

#[test]
fn a_server_that_keeps_saying_that_it_leaves_is_left() {
    let mut siege = Siege::new(69);
    let of = welcomed(&mut siege);
    for n in 0..16 {
        let alternative = format!("host-{n}:4433");
        siege.link(of.0).send_control(Frame::Drain(Drain {
            alternative,
            ..Drain::default()
        }));
    }
    siege.run(TICK);
    assert_eq!(siege.link(of.0).ended(), None);
    for _ in 0..10_000 {
        siege
            .link(of.0)
            .send_control(Frame::Drain(Drain::default()));
    }
    refused(
        &mut siege,
        of,
        "drains",
        CloseCode::FLOODED,
        "Drain came more than 16 times",
    );
    let drains =
        siege.world.log(siege.victim_node()).iter().filter(
            |(_, event)| matches!(event, Event::Draining { session, .. } if *session == of.1),
        );
    assert_eq!(drains.count(), 16);
    siege.unharmed();
}

#[test]
fn what_a_server_writes_is_fit_for_a_terminal() {
    let mut siege = Siege::new(70);
    let (server, session) = welcomed(&mut siege);
    for alternative in [
        "x".repeat(273),
        "host:1\n\u{1b}[2J".to_owned(),
        "host:4433".to_owned(),
    ] {
        siege.link(server).send_control(Frame::Drain(Drain {
            alternative,
            ..Drain::default()
        }));
    }
    siege.link(server).send_control(Frame::Close(Close {
        code: CloseCode::INTERNAL.0,
        reason: "\u{1b}[31mred\r\n".repeat(200),
        retry_after_ms: 0,
    }));
    siege.run(TICK);
    let mut alternatives = Vec::new();
    for (_, event) in siege.world.log(siege.victim_node()) {
        if let Event::Draining { alternative, .. } = event {
            alternatives.push(alternative.clone());
        }
    }
    assert_eq!(alternatives, [None, None, Some("host:4433".to_owned())]);
    let clean = |reason: &DisconnectReason| match reason {
        DisconnectReason::Peer { reason, .. } => {
            assert!(
                reason.len() <= 256 && !reason.chars().any(char::is_control),
                "{reason:?}"
            );
            reason.clone()
        }
        other => panic!("{other:?}"),
    };
    assert!(clean(&ends(&siege, session)[0]).contains("[31mred"));
    // The same from QUIC's own close, whose code may be any of 62 bits.
    siege.run(2 * SECOND);
    siege.welcome(server);
    siege.run(TICK);
    let now = siege.world.now();
    siege
        .link(server)
        .close(now, 1 << 61, "bell\u{7}".repeat(100).as_bytes());
    siege.run(TICK);
    let last = ends(&siege, session).last().cloned().unwrap();
    assert!(clean(&last).starts_with("bell bell "));
    let DisconnectReason::Peer { code, .. } = last else {
        unreachable!()
    };
    assert_eq!(code.name(), "UNASSIGNED");
    assert!(delay(&siege, session) <= 4 * SECOND, "it dials again");
    // And from a rejection.
    siege.run(5 * SECOND);
    let victim = siege.victim_node();
    siege.welcome(server);
    siege.run(TICK);
    let promise = siege.world.request(victim, session, b"ask");
    siege.run(TICK);
    let lane = siege.link(server).open_lane(64, 0);
    let number = siege.link(server).envelopes(0).last().unwrap().promise;
    let reject = Envelope {
        kind: Kind::Reject.into(),
        promise: number,
        status: 5,
        reason: "no\u{9b}such\tthing".into(),
        ..Envelope::default()
    };
    siege.link(server).send_envelope(lane, &reject);
    siege.run(TICK);
    let outcome = siege.world.outcome(victim, promise).unwrap();
    assert!(outcome.contains("no such thing"), "{outcome}");
    siege.unharmed();
}
