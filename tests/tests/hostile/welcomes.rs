//! Welcomes that do not fit the hello.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use trunkline_core::DisconnectReason;
use trunkline_proto::control::Frame;
use trunkline_proto::generated::Envelope;
use trunkline_proto::{CloseCode, Hello, Receipt, Welcome};

use crate::siege::Siege;
use crate::victim::{TICK, delay, dialled, losses, refused};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_welcome_that_does_not_fit_is_refused() {
    type Change = fn(&mut Welcome);
    let cases: [(&str, Change, CloseCode, &str); 11] = [
        (
            "another session",
            |welcome| welcome.session_id = vec![9; 16].into(),
            CloseCode::PROTOCOL_VIOLATION,
            "Welcome names another session than Hello",
        ),
        (
            "a later version",
            |welcome| welcome.version = 2,
            CloseCode::VERSION_MISMATCH,
            "this client speaks version 1, not 2",
        ),
        (
            "no version",
            |welcome| welcome.version = 0,
            CloseCode::VERSION_MISMATCH,
            "this client speaks version 1, not 0",
        ),
        (
            "epoch 0",
            |welcome| welcome.epoch = 0,
            CloseCode::PROTOCOL_VIOLATION,
            "Welcome's epoch 0 is not above the last, 0",
        ),
        (
            "a resume that nobody asked for",
            |welcome| welcome.resumed = true,
            CloseCode::PROTOCOL_VIOLATION,
            "Hello asked for none",
        ),
        (
            "a short token",
            |welcome| welcome.token = vec![1; 15].into(),
            CloseCode::UNDECODABLE,
            "token has 15 bytes, not 16",
        ),
        (
            "no session",
            |welcome| welcome.session_id.clear(),
            CloseCode::UNDECODABLE,
            "session_id has 0 bytes, not 16",
        ),
        (
            "receipts for what was never sent",
            |welcome| welcome.received = vec![Receipt { lane: 0, next: 1 }],
            CloseCode::BAD_RECEIPT,
            "up to 1: so much was never sent",
        ),
        (
            "receipts for a lane that does not exist",
            |welcome| welcome.received = vec![Receipt { lane: 62, next: 0 }],
            CloseCode::UNKNOWN_LANE,
            "there is no lane 62 here",
        ),
        (
            "best effort in a welcome",
            |welcome| welcome.received = vec![Receipt { lane: 66, next: 7 }],
            CloseCode::BAD_RECEIPT,
            "lane best-effort",
        ),
        (
            "nothing at all",
            |welcome| *welcome = Welcome::default(),
            CloseCode::VERSION_MISMATCH,
            "this client speaks version 1",
        ),
    ];
    let mut siege = Siege::new(61);
    for (name, change, code, says) in cases {
        let (server, session) = dialled(&mut siege);
        let mut welcome = siege.fitting_welcome(server);
        change(&mut welcome);
        siege.link(server).send_control(Frame::Welcome(welcome));
        refused(&mut siege, (server, session), name, code, says);
        // What follows is what the table of close codes says, as if the server had closed.
        if code.redials() {
            assert!(delay(&siege, session) <= SECOND, "{name}");
            let lost = usize::from(!code.resumes());
            assert_eq!(losses(&siege, session), lost, "{name}");
        } else {
            assert!(matches!(
                siege.closed_session(session),
                DisconnectReason::Local { .. }
            ));
        }
    }
    siege.unharmed();
}

#[test]
fn a_resume_that_does_not_fit_is_refused_and_the_session_lost_once() {
    type Answer = fn(&Hello, Welcome) -> Welcome;
    let cases: [(&str, Answer, &str); 4] = [
        (
            "the epoch of before",
            |_, before| Welcome {
                resumed: true,
                epoch: 1,
                ..before
            },
            "Welcome's epoch 1 is not above the last, 1",
        ),
        (
            "another session",
            |hello, before| Welcome {
                resumed: true,
                epoch: 2,
                session_id: hello.session_id.clone(),
                ..before
            },
            "Welcome names another session than Hello",
        ),
        (
            "the old session's name for a new one",
            |_, before| Welcome {
                resumed: false,
                lost_code: 10,
                ..before
            },
            "Welcome names another session than Hello",
        ),
        (
            "a new session of epoch 0",
            |hello, before| Welcome {
                resumed: false,
                epoch: 0,
                session_id: hello.session_id.clone(),
                ..before
            },
            "Welcome's epoch 0 is not above the last, 0",
        ),
    ];
    let mut siege = Siege::new(62);
    for (name, answer, says) in cases {
        let (server, session) = dialled(&mut siege);
        let victim = siege.victim_node();
        let promise = siege.world.send_acked(victim, session, b"waits");
        let first = siege.fitting_welcome(server);
        siege
            .link(server)
            .send_control(Frame::Welcome(first.clone()));
        siege.run(TICK);
        let now = siege.world.now();
        siege
            .link(server)
            .close(now, u64::from(CloseCode::INTERNAL.0), b"for a moment");
        siege.run(2 * SECOND);
        let hello = siege.hello(server);
        let resume = hello.resume.clone().unwrap();
        assert_eq!(
            (&resume.session_id, &resume.token),
            (&first.session_id, &first.token)
        );
        assert_ne!(hello.session_id, first.session_id);
        // What comes in lanes before a Welcome means nothing to a client that resumes.
        let lane = siege.link(server).open_lane(0, 0);
        let early = Envelope {
            body: "too early".into(),
            ..Envelope::default()
        };
        siege.link(server).send_envelope(lane, &early);
        siege.run(TICK);
        let welcome = answer(&hello, first);
        siege.link(server).send_control(Frame::Welcome(welcome));
        let code = CloseCode::PROTOCOL_VIOLATION;
        refused(&mut siege, (server, session), name, code, says);
        assert_eq!(losses(&siege, session), 1, "{name}");
        let outcome = siege.world.outcome(victim, promise);
        assert_eq!(
            outcome.as_deref(),
            Some("Lost { maybe_delivered: true }"),
            "{name}"
        );
        let bodies = siege.world.bodies(victim);
        assert!(!bodies.iter().any(|body| body == "too early"));
    }
    siege.unharmed();
}

/// The destination connection id of a QUIC Initial packet (RFC 9000 §17.2.2).
fn destination_of(payload: &[u8]) -> Option<&[u8]> {
    let (first, rest) = payload.split_first()?;
    if first & 0xf0 != 0xc0 {
        return None;
    }
    let (length, rest) = rest.get(4..)?.split_first()?;
    rest.get(..usize::from(*length))
}

#[test]
fn a_redial_id_of_eight_bytes_begins_the_next_connection_and_one_of_another_length_is_none() {
    for length in [0, 7, 8, 9, 20, 21] {
        let mut siege = Siege::new(63);
        let (server, session) = dialled(&mut siege);
        let victim = siege.victim_node();
        let redial_id: Vec<u8> = (100..).take(length).collect();
        let welcome = Welcome {
            redial_id: redial_id.clone().into(),
            ..siege.fitting_welcome(server)
        };
        siege.link(server).send_control(Frame::Welcome(welcome));
        siege.run(TICK);
        let first_of_all = Rc::new(RefCell::new(None));
        let seen = first_of_all.clone();
        siege.world.observe(move |datagram| {
            if (datagram.from, datagram.to) == (victim, server) {
                let destination = destination_of(datagram.payload).map(<[u8]>::to_vec);
                let mut first = seen.borrow_mut();
                *first = first.take().or(destination);
            }
        });
        let now = siege.world.now();
        siege
            .link(server)
            .close(now, u64::from(CloseCode::INTERNAL.0), b"for a moment");
        siege.run(2 * SECOND);
        assert!(siege.hello(server).resume.is_some());
        let destination = first_of_all.borrow_mut().take().unwrap();
        let agrees = destination.iter().zip(&redial_id);
        let agrees = agrees.take_while(|(one, other)| one == other).count();
        assert_eq!(destination.len(), 20);
        if length == 8 {
            assert_eq!(agrees, 8, "{destination:x?}");
        } else {
            assert!(agrees < 4, "{length} bytes: {destination:x?}");
        }
        assert_eq!(losses(&siege, session), 0);
        siege.unharmed();
    }
}
