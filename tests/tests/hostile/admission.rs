//! What comes before admission: hellos that are wrong, late or never, and what they may cost.

use std::time::Duration;

use trunkline_core::{Admission, Event, Refusal};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::Envelope;
use trunkline_proto::{
    Cancel, Close, CloseCode, Drain, Heartbeat, Hello, Ready, Receipt, Receipts, Resume,
};
use trunkline_testkit::raw_peer::{RawSettings, control, frame, hello, length};
use trunkline_testkit::{INITIAL_BYTES, Initials, NodeIndex, World};

use crate::siege::Siege;
use crate::table::{Fault, commit_before_hello};

const SECOND: Duration = Duration::from_secs(1);

fn changed(change: impl FnOnce(&mut Hello)) -> Frame {
    let mut hello = hello("client", 7);
    change(&mut hello);
    Frame::Hello(hello)
}

#[test]
fn a_hello_that_is_wrong_has_its_number() {
    let faults = [
        Fault {
            name: "a later version",
            act: |link| link.send_control(changed(|hello| hello.version = 2)),
            code: CloseCode::VERSION_MISMATCH,
            says: "this server speaks version 1, not 2",
        },
        Fault {
            name: "no version, and nothing else that is right",
            act: |link| link.send_control(Frame::Hello(Hello::default())),
            code: CloseCode::VERSION_MISMATCH,
            says: "this server speaks version 1, not 0",
        },
        Fault {
            name: "no name",
            act: |link| link.send_control(changed(|hello| hello.client_id.clear())),
            code: CloseCode::UNDECODABLE,
            says: "client id \"\" is not usable",
        },
        Fault {
            name: "a name that is too long",
            act: |link| link.send_control(changed(|hello| hello.client_id = "x".repeat(129))),
            code: CloseCode::UNDECODABLE,
            says: "1 to 128 bytes",
        },
        Fault {
            name: "a name that would move a terminal's cursor",
            act: |link| link.send_control(changed(|hello| hello.client_id = "a\u{1b}[2J".into())),
            code: CloseCode::UNDECODABLE,
            says: "without control characters",
        },
        Fault {
            name: "a name that turns text around",
            act: |link| link.send_control(changed(|hello| hello.client_id = "a\u{202e}b".into())),
            code: CloseCode::UNDECODABLE,
            says: "turn text around",
        },
        Fault {
            name: "a short session id",
            act: |link| link.send_control(changed(|hello| hello.session_id = vec![1; 15].into())),
            code: CloseCode::UNDECODABLE,
            says: "session_id has 15 bytes, not 16",
        },
        Fault {
            name: "no token",
            act: |link| link.send_control(changed(|hello| hello.token.clear())),
            code: CloseCode::UNDECODABLE,
            says: "token has 0 bytes, not 16",
        },
        Fault {
            name: "a resume without a token",
            act: |link| {
                let resume = Resume {
                    session_id: vec![1; 16].into(),
                    ..Resume::default()
                };
                link.send_control(changed(|hello| hello.resume = Some(resume)));
            },
            code: CloseCode::UNDECODABLE,
            says: "resume.token has 0 bytes, not 16",
        },
        Fault {
            name: "a resume that is no attempt",
            act: |link| {
                let resume = Resume {
                    session_id: vec![1; 16].into(),
                    token: vec![1; 16].into(),
                    ..Resume::default()
                };
                link.send_control(changed(|hello| hello.resume = Some(resume)));
            },
            code: CloseCode::UNDECODABLE,
            says: "resume.attempt is 0: attempts are counted from 1",
        },
        Fault {
            name: "a resume with more receipts than lanes",
            act: |link| {
                let resume = Resume {
                    session_id: vec![1; 16].into(),
                    token: vec![1; 16].into(),
                    attempt: 1,
                    received: vec![Receipt::default(); 1_900],
                    ..Resume::default()
                };
                link.send_control(changed(|hello| hello.resume = Some(resume)));
            },
            code: CloseCode::UNDECODABLE,
            says: "resume.received has 1900 entries, and there are 64 lanes at most",
        },
        Fault {
            name: "a hello of more than 4 KiB",
            act: |link| {
                let credentials = vec![7; 4_096];
                let bytes = control(changed(|hello| hello.credentials = credentials.into()));
                let stream = link.control_stream();
                link.send(stream, &bytes);
            },
            code: CloseCode::FRAME_TOO_LARGE,
            says: "at most 4096 are allowed here",
        },
        Fault {
            name: "2^62 bytes of hello",
            act: |link| {
                let stream = link.control_stream();
                link.send(stream, &length(1 << 62));
            },
            code: CloseCode::UNDECODABLE,
            says: "length takes more than 4 bytes",
        },
        Fault {
            name: "another protocol",
            act: |link| {
                let stream = link.control_stream();
                link.send(stream, &frame(b"EHLO client.example.com\r\n"));
            },
            code: CloseCode::UNDECODABLE,
            says: "a control frame is not protobuf",
        },
        Fault {
            name: "the control stream is reset in place of a hello",
            act: |link| {
                let stream = link.control_stream();
                link.send(stream, &[0x20]);
                link.reset(stream, 1);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "a stream was reset",
        },
    ];
    let mut siege = Siege::new(31);
    commit_before_hello(&mut siege, &faults);
    // Nobody has said who it is.
    assert_eq!(
        (siege.metrics().clients_refused, siege.refused()),
        (0, vec![])
    );
}

#[test]
fn nothing_but_a_hello_comes_first() {
    macro_rules! first {
        ($name:literal, $frame:expr) => {
            Fault {
                name: $name,
                act: |link| link.send_control($frame),
                code: CloseCode::PROTOCOL_VIOLATION,
                says: concat!(
                    $name,
                    " is not expected while the link is in wait for Hello"
                ),
            }
        };
    }
    let faults = [
        first!(
            "Welcome",
            Frame::Welcome(trunkline_proto::Welcome::default())
        ),
        first!("Ready", Frame::Ready(Ready { epoch: 1 })),
        first!("Heartbeat", Frame::Heartbeat(Heartbeat::default())),
        first!("Receipts", Frame::Receipts(Receipts::default())),
        first!("Cancel", Frame::Cancel(Cancel { promise: 1 })),
        first!("Drain", Frame::Drain(Drain::default())),
        first!("Close", Frame::Close(Close::default())),
    ];
    commit_before_hello(&mut Siege::new(32), &faults);
}

/// A world whose server asks its application.
fn asking(seed: u64) -> World {
    let mut world = World::new(seed);
    world.admission = Admission::Ask;
    world
}

#[test]
fn who_waits_for_admission_waits_in_silence() {
    let mut siege = Siege::of(asking(33));
    // The application takes its time with whoever is not the honest client.
    siege.decides(|_, _, _| {});
    for (seed, frame) in [
        (110, changed(|_| {})),
        (111, Frame::Heartbeat(Heartbeat::default())),
        (112, Frame::Close(Close::default())),
    ] {
        let peer = siege.raw(&RawSettings::default());
        siege.link(peer).hello(&hello("impatient", seed));
        siege.link(peer).send_control(frame);
        siege.run(SECOND / 5);
        let reason = siege.closed(peer, CloseCode::PROTOCOL_VIOLATION);
        assert!(reason.contains("in wait for its admission"), "{reason}");
    }
    siege.unharmed();
}

#[test]
fn a_refused_client_is_told_why_and_goes_or_is_sent() {
    let mut siege = Siege::of(asking(34));
    siege.decides(|node, now, request| {
        let refusal = Refusal {
            reason: format!("{} is not on the list", request.client),
            retry_after: Some(7 * SECOND),
        };
        node.refuse(now, request.link, refusal).unwrap();
    });
    let close = Close {
        code: CloseCode::REFUSED.0,
        reason: "stranger is not on the list".into(),
        retry_after_ms: 7_000,
    };
    let before = siege.metrics();
    let [goes, stays, talks] = [(120, 0), (121, 0), (122, 0)].map(|(seed, _)| {
        let peer = siege.raw(&RawSettings::default());
        siege.link(peer).hello(&hello("stranger", seed));
        siege.run(SECOND / 5);
        assert_eq!(siege.link(peer).control(), [Frame::Close(close.clone())]);
        assert_eq!(siege.link(peer).ended(), None, "the client closes");
        peer
    });
    assert_eq!(
        siege.metrics().admissions_refused,
        before.admissions_refused + 3
    );
    let now = siege.world.now();
    siege
        .link(goes)
        .close(now, u64::from(CloseCode::REFUSED.0), b"");
    // One that talks on has not understood.
    siege
        .link(talks)
        .send_control(Frame::Heartbeat(Heartbeat::default()));
    siege.run(SECOND / 5);
    assert_eq!(siege.count(CloseCode::REFUSED), 1);
    siege.closed(talks, CloseCode::PROTOCOL_VIOLATION);
    // And one that stays is sent away, with the same number: it was refused, not late.
    siege.run(5 * SECOND);
    let reason = siege.closed(stays, CloseCode::REFUSED);
    assert!(reason.contains("turned away"), "{reason}");
    let after = siege.metrics();
    assert_eq!(
        after.admissions_refused,
        before.admissions_refused + 3,
        "each once"
    );
    assert_eq!(siege.count(CloseCode::REFUSED), 2);
    assert_eq!(siege.refused(), ["stranger: REFUSED (3)"; 3]);
    assert_eq!(after.sessions, 1);
    siege.unharmed();
}

#[test]
fn the_deadline_to_admission_ends_whoever_is_late() {
    let mut siege = Siege::of(asking(35));
    siege.decides(|_, _, _| {});
    let nothing = siege.raw(&RawSettings::default());
    let part = siege.raw(&RawSettings::default());
    let bytes = control(changed(|_| {}));
    let stream = siege.link(part).control_stream();
    siege.link(part).send(stream, &bytes[..20]);
    let lanes = siege.raw(&RawSettings::default());
    let lane = siege.link(lanes).open_lane(0, 0);
    siege.link(lanes).send_envelope(lane, &Envelope::default());
    let undecided = siege.raw(&RawSettings::default());
    siege.link(undecided).hello(&hello("undecided", 130));
    let before = siege.metrics();
    siege.run(9 * SECOND + SECOND / 2);
    for peer in [nothing, part, lanes] {
        assert_eq!(siege.link(peer).ended(), None);
    }
    siege.run(SECOND);
    for peer in [nothing, part, lanes, undecided] {
        let reason = siege.closed(peer, CloseCode::ADMISSION_TIMEOUT);
        assert!(reason.contains("no admission in time"), "{reason}");
    }
    assert_eq!(siege.count(CloseCode::ADMISSION_TIMEOUT), 4);
    assert_eq!(
        siege.metrics().admissions_refused,
        before.admissions_refused + 1
    );
    // The others were no clients yet.
    assert_eq!(
        siege.metrics().handshakes_timed_out,
        before.handshakes_timed_out + 3
    );
    // The application's answer comes too late, and finds nobody.
    let asked = siege
        .world
        .log(siege.server)
        .iter()
        .rev()
        .find_map(|(_, event)| match event {
            Event::Admission(request) => Some(request.link),
            _ => None,
        });
    let (server, now) = (siege.server, siege.world.now());
    assert!(siege.world.node(server).admit(now, asked.unwrap()).is_err());
    assert_eq!(siege.metrics().sessions, 1);
    siege.unharmed();
}

/// Before admission no lane is read, and QUIC's flow control lets a stranger leave no more behind
/// than a hello and a first message take.
#[test]
fn who_is_not_admitted_cannot_fill_the_servers_memory() {
    let mut siege = Siege::of(asking(36));
    siege.decides(|_, _, _| {});
    let fill = |siege: &mut Siege, peer: NodeIndex| {
        let link = siege.link(peer);
        let streams: Vec<_> = std::iter::from_fn(|| link.open_unidirectional()).collect();
        assert_eq!(streams.len(), 7);
        let mut total = 0;
        for _ in 0..50 {
            for stream in &streams {
                total += siege.link(peer).write(*stream, &[7; 100_000]);
            }
            siege.run(SECOND / 10);
        }
        total
    };
    let silent = siege.raw(&RawSettings::default());
    let undecided = siege.raw(&RawSettings::default());
    siege.link(undecided).hello(&hello("undecided", 140));
    siege.run(SECOND / 5);
    for peer in [silent, undecided] {
        let left = fill(&mut siege, peer);
        assert!(left >= 16 << 10, "a first message is taken: {left} bytes");
        assert!(left <= 128 << 10, "{left} bytes were taken from a stranger");
    }
    siege.unharmed();
}

/// Strangers that hold their place until the deadline take none from those who come later.
#[test]
fn a_crowd_that_says_nothing_is_gone_after_the_deadline() {
    let mut siege = Siege::new(37);
    let crowd: Vec<_> = (0..50)
        .map(|_| {
            siege
                .world
                .raw_client(siege.server, &RawSettings::default())
        })
        .collect();
    siege.run(SECOND);
    let late = siege.admitted();
    siege.run(11 * SECOND);
    for peer in crowd {
        siege.closed(peer, CloseCode::ADMISSION_TIMEOUT);
    }
    assert_eq!(siege.count(CloseCode::ADMISSION_TIMEOUT), 50);
    assert_eq!(siege.link(late).ended(), None);
    siege.unharmed();
}

/// A server that everybody dials who has not been there yet, and how many may be half open.
fn with_places(seed: u64, places: usize, unvalidated: usize) -> Siege {
    let mut world = World::new(seed);
    let limits = &mut world.config().limits;
    limits.half_open = places;
    limits.half_open_unvalidated = unvalidated;
    Siege::of(world)
}

/// A client that was not there before dials, and is let in at once.
fn newcomer(siege: &mut Siege) {
    let client = siege.world.client();
    siege.world.connect(client, siege.server, "newcomer");
    siege.run(SECOND / 5);
    let connected = |event: &Event| matches!(event, Event::Connected { .. });
    let log = siege.world.log(client);
    assert!(log.iter().any(|(_, event)| connected(event)), "{log:?}");
}

/// Strangers with addresses of their own, all of one network, complete their handshakes, hold every
/// place that they get until the deadline, and take each again that becomes free.
#[test]
fn one_network_gets_half_of_the_places_and_keeps_nobody_else_out() {
    let mut siege = with_places(38, 20, 0);
    let crowd: Vec<_> = (0..40)
        .map(|_| {
            siege
                .world
                .raw_client(siege.server, &RawSettings::default())
        })
        .collect();
    let mut others = 1;
    let mut most = 0;
    for _ in 0..10 {
        siege.run(3 * SECOND);
        newcomer(&mut siege);
        others += 1;
        let metrics = siege.metrics();
        assert_eq!(metrics.connected, others);
        let held = metrics.links_opened - metrics.links_closed - others as u64;
        assert!(held <= 10, "{held} places");
        most = most.max(held);
        for peer in &crowd {
            if !siege.link(*peer).is_up() {
                siege.world.redial(*peer, siege.server);
            }
        }
    }
    // They had all that they may have, more than once, and asked for more.
    assert_eq!(most, 10);
    let late = siege.count(CloseCode::ADMISSION_TIMEOUT);
    assert!(late >= 20, "{late} were sent away");
    assert!(siege.metrics().incoming_ignored >= 40);
    siege.unharmed();
}

/// Anybody can write a network's addresses, and keeps nobody of that network out by it, even where a
/// server asks nobody else to show that an address is his own.
#[test]
fn forged_addresses_are_not_held_against_their_network() {
    let mut siege = with_places(39, 20, 20);
    let mut initials = Initials::new("trunkline/1", 7).unwrap();
    let before = siege.metrics();
    for host in 100..200 {
        let mut datagram = [0; INITIAL_BYTES];
        initials.write(&mut datagram).unwrap();
        let from = ([10, 0, 0, host], 4_433).into();
        siege.world.inject(from, siege.server, &datagram);
    }
    siege.run(SECOND / 10);
    let after = siege.metrics();
    assert_eq!(after.links_opened - before.links_opened, 10);
    assert_eq!(after.incoming_retried - before.incoming_retried, 90);
    newcomer(&mut siege);
    siege.unharmed();
}
