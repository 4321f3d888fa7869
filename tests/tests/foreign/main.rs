//! A client and a server that were written from PROTOCOL.md alone get along with a node.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

mod resuming;

use std::time::Duration;

use trunkline_core::{
    Admission, Audience, CloseCode, DisconnectReason, Event, Message, Refusal, Tag,
};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{
    Cancel, Close, Drain, Heartbeat, Hello, Limits, Ready, Receipt, Receipts, Welcome,
};
use trunkline_testkit::raw_peer::{Ended, RawLink, RawSettings, StreamId, hello};
use trunkline_testkit::{NodeIndex, World, echo, silent};

const TICK: Duration = Duration::from_millis(100);
const MESSAGE: i32 = Kind::Message as i32;
const REQUEST: i32 = Kind::Request as i32;
const REPLY: i32 = Kind::Reply as i32;
const ACKS: i32 = Kind::Acks as i32;

fn request(promise: u64, body: &'static str) -> Envelope {
    Envelope {
        kind: REQUEST,
        tag: Some(7),
        promise,
        timeout_ms: 5_000,
        body: body.into(),
        ..Envelope::default()
    }
}

fn message(promise: u64, body: &'static str) -> Envelope {
    Envelope {
        kind: MESSAGE,
        timeout_ms: 0,
        ..request(promise, body)
    }
}

fn receipts(lanes: &[(u32, u64)]) -> Vec<Receipt> {
    let receipt = |(lane, next): &(u32, u64)| Receipt {
        lane: *lane,
        next: *next,
    };
    lanes.iter().map(receipt).collect()
}

fn welcome(link: &RawLink) -> Welcome {
    match link.control().first() {
        Some(Frame::Welcome(welcome)) => welcome.clone(),
        other => panic!("{other:?} in place of Welcome, {:?}", link.ended()),
    }
}

/// Has said hello as `sensor-7`, and written a request right behind it.
fn first_link(world: &mut World, server: NodeIndex, hello: &Hello) -> (NodeIndex, StreamId) {
    let client = world.raw_client(server, &RawSettings::default());
    world.run(TICK, echo);
    let link = world.raw(client).link();
    link.hello(hello);
    let lane = link.open_lane(0, 0);
    link.send_envelope(lane, &request(1, "first"));
    (client, lane)
}

#[test]
fn the_first_request_of_a_foreign_client_needs_no_welcome() {
    let mut world = World::new(1);
    world.path.delay = Duration::from_millis(50);
    let server = world.server();
    let client = world.raw_client(server, &RawSettings::default());
    world.run(TICK + Duration::from_millis(1), echo);
    let link = world.raw(client).link();
    assert!(link.is_up(), "one round trip for the handshake");
    link.hello(&hello("sensor-7", 1));
    let lane = link.open_lane(0, 0);
    link.send_envelope(lane, &request(1, "first"));
    world.run(TICK + Duration::from_millis(1), echo);
    let link = world.raw(client).link();
    let welcome = welcome(link);
    assert_eq!(
        (welcome.version, welcome.epoch, welcome.resumed),
        (1, 1, false)
    );
    assert_eq!(welcome.session_id, hello("sensor-7", 1).session_id);
    assert_eq!(
        (
            welcome.heartbeat_ms,
            welcome.retention_ms,
            welcome.lost_code
        ),
        (15_000, 120_000, 0)
    );
    assert_eq!(
        welcome.limits,
        Some(Limits {
            frame_bytes: 1 << 20,
            lanes: 4
        })
    );
    let replies = link.envelopes(64);
    assert_eq!(replies.len(), 1, "and one for the request");
    assert_eq!(link.first_number(64), Some(0));
    let reply = &replies[0];
    assert_eq!((reply.kind, reply.tag, reply.promise), (REPLY, Some(7), 1));
    assert_eq!(replies[0].body, "first");
}

#[test]
fn messages_acks_and_heartbeats_go_both_ways() {
    let mut world = World::new(2);
    let server = world.server();
    let (client, lane) = first_link(&mut world, server, &hello("sensor-7", 1));
    world.run(TICK, echo);
    let link = world.raw(client).link();
    link.send_control(Frame::Ready(Ready { epoch: 1 }));
    link.send_control(Frame::Receipts(Receipts {
        receipts: receipts(&[(64, 1)]),
    }));
    // Promises 2, 3 and 5 want an ack, 4 a reply, and one message wants nothing.
    for promise in [2, 3, 5, 0] {
        if promise == 5 {
            link.send_envelope(lane, &request(4, "second"));
        }
        link.send_envelope(lane, &message(promise, "said"));
    }
    link.send_control(Frame::Heartbeat(Heartbeat { number: 1 }));
    world.run(TICK, echo);
    let link = world.raw(client).link();
    let answers = link.envelopes(64);
    let mut acked = Vec::new();
    for answer in answers.iter().filter(|answer| answer.kind == ACKS) {
        let mut last = 0;
        for run in answer.acks.chunks(2) {
            let first = last + run[0] + 1;
            last = first + run[1] - 1;
            acked.extend(first..=last);
        }
    }
    assert_eq!(acked, [2, 3, 5]);
    let control = link.control();
    let held = control.iter().filter_map(|frame| match frame {
        Frame::Receipts(receipts) => receipts.receipts.iter().find(|receipt| receipt.lane == 0),
        _ => None,
    });
    assert_eq!(held.map(|receipt| receipt.next).max(), Some(6));

    // And the other way: a message, a request and a broadcast of the server.
    let session = world.node(server).sessions().next().unwrap().session;
    let acked = world.send_acked(server, session, b"to the client");
    let replied = world.request(server, session, b"ask the client");
    let now = world.now();
    let news = Message::new(Tag(9), "news");
    world
        .node(server)
        .broadcast(now, &Audience::Everyone, news, None)
        .unwrap();
    world.run(TICK, echo);
    let link = world.raw(client).link();
    let came = link.envelopes(0);
    assert_eq!((came[0].kind, came[0].promise), (MESSAGE, 1));
    assert_eq!((came[1].kind, came[1].promise), (REQUEST, 2));
    assert_eq!(link.envelopes(66)[0].body, "news");
    let answers = link.open_lane(64, 0);
    let acks = Envelope {
        kind: ACKS,
        acks: vec![0, 1],
        ..Envelope::default()
    };
    link.send_envelope(answers, &acks);
    let reply = Envelope {
        kind: REPLY,
        ..request(2, "the client's word")
    };
    link.send_envelope(answers, &reply);
    world.run(TICK, echo);
    assert_eq!(world.outcome(server, acked).as_deref(), Some("Acked"));
    assert_eq!(
        world.outcome(server, replied).as_deref(),
        Some("Replied the client's word")
    );

    // Heartbeats alone keep it.
    for number in 2..10 {
        let beat = Frame::Heartbeat(Heartbeat { number });
        world.raw(client).link().send_control(beat);
        world.run(10 * Duration::from_secs(1), echo);
    }
    assert_eq!(world.raw(client).link().ended(), None);
}

#[test]
fn a_foreign_client_cancels_and_closes_in_order() {
    let mut world = World::new(4);
    let server = world.server();
    let (client, lane) = first_link(&mut world, server, &hello("sensor-7", 1));
    world.run(TICK, silent);
    let link = world.raw(client).link();
    link.send_control(Frame::Ready(Ready { epoch: 1 }));
    link.send_control(Frame::Cancel(Cancel { promise: 1 }));
    link.send_envelope(lane, &message(0, "last"));
    // What nobody waits for is dealt with all the same, before the server lets go.
    world.run(TICK, echo);
    let cancelled = |event: &Event| matches!(event, Event::Cancelled { .. });
    assert!(world.log(server).iter().any(|(_, event)| cancelled(event)));
    let link = world.raw(client).link();
    link.send_control(Frame::Close(Close {
        code: 0,
        reason: "done".into(),
        retry_after_ms: 0,
    }));
    world.run(TICK, silent);
    let link = world.raw(client).link();
    assert!(
        matches!(link.ended(), Some(Ended::Application { code: 0, .. })),
        "{:?}",
        link.ended()
    );
    assert_eq!(world.bodies(server), ["first", "last"]);
    assert_eq!(world.node(server).sessions().count(), 0);
}

/// A client that is on the point of saying Close, with a message before that the server's application has not
/// dealt with: what the test does next comes in the same flight.
fn says_close(world: &mut World, server: NodeIndex) -> (NodeIndex, StreamId) {
    let (client, lane) = first_link(world, server, &hello("sensor-7", 1));
    world.run(TICK, silent);
    let link = world.raw(client).link();
    link.send_control(Frame::Ready(Ready { epoch: 1 }));
    link.send_envelope(lane, &message(0, "last"));
    world.run(TICK, silent);
    let link = world.raw(client).link();
    link.send_control(Frame::Close(Close {
        code: 0,
        reason: "done".into(),
        retry_after_ms: 0,
    }));
    (client, lane)
}

#[test]
fn a_foreign_client_may_end_its_streams_once_it_has_said_close() {
    for stops in [false, true] {
        let mut world = World::new(6);
        let server = world.server();
        let (client, lane) = says_close(&mut world, server);
        let link = world.raw(client).link();
        let control = link.control_stream();
        if stops {
            link.stop(control, 0);
        }
        link.finish(control);
        link.finish(lane);
        world.run(TICK, silent);
        // Its application is not done with it, and has its time.
        assert_eq!(world.raw(client).link().ended(), None, "{stops}");
        world.run(6 * Duration::from_secs(1), silent);
        let ended = world.raw(client).link().ended().cloned();
        assert!(
            matches!(ended, Some(Ended::Application { code: 0, .. })),
            "{stops}: {ended:?}"
        );
        let left = world.log(server).iter().any(|(_, event)| {
            let code = CloseCode::NORMAL;
            matches!(event, Event::Closed { reason: DisconnectReason::Peer { code: c, .. }, .. } if *c == code)
        });
        assert!(left, "{stops}: {:?}", world.log(server));
    }
}

#[test]
fn who_has_said_close_may_not_open_streams_in_place_of_ended_ones() {
    let mut world = World::new(8);
    let server = world.server();
    let (client, _) = says_close(&mut world, server);
    let mut opened = 1;
    while world.raw(client).link().ended().is_none() {
        assert!(opened < 100, "streams without an end");
        let link = world.raw(client).link();
        while let Some(stream) = link.open_unidirectional() {
            link.finish(stream);
            opened += 1;
        }
        world.run(TICK, silent);
    }
    let ended = world.raw(client).link().ended().cloned();
    let broken = u64::from(CloseCode::PROTOCOL_VIOLATION.0);
    assert!(
        matches!(ended, Some(Ended::Application { code, .. }) if code == broken),
        "{ended:?}"
    );
    // Its lanes, and the three that are always there, twice.
    assert!(opened <= 2 * (4 + 3), "{opened}");
}

#[test]
fn a_foreign_client_that_is_refused_may_end_its_streams() {
    let mut world = World::new(7);
    world.admission = Admission::Ask;
    let server = world.server();
    let (client, lane) = first_link(&mut world, server, &hello("sensor-7", 1));
    world.run(TICK, |node, now, event| {
        if let Event::Admission(request) = event {
            node.refuse(now, request.link, Refusal::default()).unwrap();
        }
    });
    let link = world.raw(client).link();
    let said =
        |frame: &Frame| matches!(frame, Frame::Close(close) if close.code == CloseCode::REFUSED.0);
    assert!(link.control().iter().any(said), "{:?}", link.control());
    link.finish(lane);
    let control = link.control_stream();
    link.finish(control);
    world.run(TICK, silent);
    let ended = world.raw(client).link().ended().cloned();
    let refused = u64::from(CloseCode::REFUSED.0);
    assert!(
        matches!(ended, Some(Ended::Application { code, .. }) if code == refused),
        "{ended:?}"
    );
}

#[test]
fn a_node_gets_along_with_a_foreign_server() {
    let mut world = World::new(5);
    let server = world.raw_server(&RawSettings::default());
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let promise = world.request(client, session, b"ping");
    world.run(TICK, echo);
    let link = world.raw(server).link();
    let Some(Frame::Hello(hello)) = link.control().first().cloned() else {
        panic!("{:?}", link.control());
    };
    assert_eq!((hello.version, hello.client_id.as_str()), (1, "alice"));
    assert!(hello.resume.is_none());
    // It asks no other address, and its first request is there already.
    let asked = link.envelopes(0);
    assert_eq!((asked[0].kind, asked[0].promise), (REQUEST, 1));
    assert_eq!(asked[0].body, "ping");
    link.send_control(Frame::Welcome(Welcome {
        version: 1,
        session_id: hello.session_id.clone(),
        token: vec![3; 16].into(),
        epoch: 1,
        limits: Some(Limits {
            frame_bytes: 65_536,
            lanes: 3,
        }),
        heartbeat_ms: 1_000,
        retention_ms: 60_000,
        ..Welcome::default()
    }));
    let answers = link.open_lane(64, 0);
    link.send_envelope(
        answers,
        &Envelope {
            kind: REPLY,
            ..request(1, "pong")
        },
    );
    world.run(2 * Duration::from_secs(1), echo);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied pong")
    );
    let link = world.raw(server).link();
    let control = link.control();
    assert_eq!(control[1], Frame::Ready(Ready { epoch: 1 }));
    let receipt = Frame::Receipts(Receipts {
        receipts: receipts(&[(64, 1)]),
    });
    assert!(control.contains(&receipt), "{control:?}");
    let beats = control.iter().filter_map(|frame| match frame {
        Frame::Heartbeat(beat) => Some(beat.number),
        _ => None,
    });
    assert_eq!(beats.collect::<Vec<_>>()[..2], [1, 2]);

    // The server drains, and closes in order.
    link.send_control(Frame::Drain(Drain {
        deadline_ms: 1_000,
        retry_after_ms: 3_000,
        alternative: "elsewhere:4433".into(),
    }));
    link.send_control(Frame::Close(Close {
        code: CloseCode::GOING_AWAY.0,
        reason: "leaving".into(),
        retry_after_ms: 0,
    }));
    world.run(TICK, echo);
    let draining = Event::Draining {
        session,
        deadline: Duration::from_secs(1),
        retry_after: Some(Duration::from_secs(3)),
        alternative: Some("elsewhere:4433".into()),
    };
    assert!(
        world
            .log(client)
            .iter()
            .any(|(_, event)| *event == draining)
    );
    let left = world.log(client).iter().any(|(_, event)| {
        let code = CloseCode::GOING_AWAY;
        matches!(event, Event::Disconnected { reason: DisconnectReason::Peer { code: c, .. }, .. } if *c == code)
    });
    assert!(left, "{:?}", world.log(client));
    let closed = u64::from(CloseCode::GOING_AWAY.0);
    let ended = world.raw(server).link().ended().cloned();
    assert!(
        matches!(ended, Some(Ended::Application { code, .. }) if code == closed),
        "{ended:?}"
    );
    // It comes back when it was told to, and for a new session.
    world.run(6 * Duration::from_secs(1), echo);
    assert_eq!(world.raw(server).links().len(), 2);
    let link = world.raw(server).link();
    assert!(
        matches!(link.control().first(), Some(Frame::Hello(hello)) if hello.resume.is_none()),
        "{:?}",
        link.control()
    );
}

/// What it says of its address before it is let in is shown by the handshake alone.
#[test]
fn a_client_is_judged_by_the_address_of_its_handshake() {
    let mut world = World::new(31);
    world.admission = Admission::Ask;
    let server = world.server();
    let client = world.raw_client(server, &RawSettings::default());
    world.run(TICK, silent);
    world.raw(client).link().hello(&hello("sensor-7", 1));
    let now = world.now();
    let elsewhere = ([192, 0, 2, 7], 4_433).into();
    for datagram in world.raw(client).take_datagrams(now) {
        world.inject(elsewhere, server, &datagram);
    }
    world.run(10 * TICK, silent);
    let asked: Vec<_> = world
        .log(server)
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Admission(request) => Some(request.address),
            _ => None,
        })
        .collect();
    assert_eq!(
        asked,
        [world.address(client)],
        "told once, when it was sent again"
    );
}

/// A field that the kind does not use is ignored.
#[test]
fn a_message_that_nobody_waits_for_has_no_deadline() {
    let mut world = World::new(32);
    let server = world.server();
    let (client, lane) = first_link(&mut world, server, &hello("sensor-7", 1));
    let mut said = message(0, "said");
    said.timeout_ms = 5_000;
    world.raw(client).link().send_envelope(lane, &said);
    world.run(TICK, silent);
    let timeouts: Vec<_> = world
        .log(server)
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Message(delivery) => Some(delivery.timeout),
            _ => None,
        })
        .collect();
    assert_eq!(timeouts, [Some(Duration::from_secs(5)), None]);
}
