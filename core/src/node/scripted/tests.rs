//! What a scripted link shows of a node, bytes in and bytes out.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use trunkline_proto as wire;
use wire::control::Frame;

use super::*;
use crate::error::{CloseCode, DisconnectReason};
use crate::frame::encode_frame;
use crate::id::SessionKey;
use crate::message::{Message, Outcome};
use crate::node::Event;
use crate::quic::{Said, ScriptStream};

const CONTROL: ScriptStream = ScriptStream::Bidirectional(0);

fn server() -> (Node, Instant) {
    let roles = ScriptedRoles {
        admission: Some(Admission::Open),
        client: false,
    };
    let now = Instant::now();
    let random = Seed::new([7; 32]).rng("test", 0);
    let node = Node::scripted(
        Config::default(),
        roles,
        random,
        now,
        SystemTime::UNIX_EPOCH,
    )
    .unwrap();
    (node, now)
}

fn client() -> (Node, Instant, SessionKey) {
    let roles = ScriptedRoles {
        admission: None,
        client: true,
    };
    let now = Instant::now();
    let random = Seed::new([7; 32]).rng("test", 0);
    let mut node = Node::scripted(
        Config::default(),
        roles,
        random,
        now,
        SystemTime::UNIX_EPOCH,
    )
    .unwrap();
    let dial = crate::node::Dial {
        address: "192.0.2.1:4433".parse().unwrap(),
        server_name: "localhost".into(),
        client: "anna".parse().unwrap(),
        credentials: Bytes::new(),
        agent: "test".into(),
    };
    let session = node.connect(now, dial).unwrap();
    (node, now, session)
}

fn link(node: &Node) -> Option<LinkKey> {
    node.links.iter().next().map(|(key, _)| key)
}

/// The Hello with which a client has begun.
fn said_hello(said: &[(LinkKey, Said)]) -> wire::Hello {
    let Some((_, Said::Bytes(CONTROL, hello))) = said.first() else {
        panic!("{said:?}")
    };
    let hello = wire::Control::decode_length_delimited(&hello[..]).unwrap();
    let Some(Frame::Hello(hello)) = hello.frame else {
        panic!("{hello:?}")
    };
    hello
}

fn control(frame: Frame) -> Bytes {
    framed(&wire::Control { frame: Some(frame) })
}

fn framed(message: &impl prost::Message) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(message, &mut out);
    out.freeze()
}

fn hello() -> Bytes {
    hello_of("anna", 1)
}

fn hello_of(client: &str, session: u8) -> Bytes {
    control(Frame::Hello(wire::Hello {
        version: wire::VERSION,
        client_id: client.into(),
        session_id: vec![session; 16].into(),
        token: vec![2; 16].into(),
        resume: None,
        credentials: Bytes::new(),
        limits: None,
        agent: "script".into(),
    }))
}

/// Everything that a node has to say for now.
fn drain(node: &mut Node, now: Instant) -> (Vec<Event>, Vec<(LinkKey, Said)>) {
    let mut events = Vec::new();
    let mut buffer = Vec::new();
    loop {
        let transmit = node.poll_transmit(now, std::num::NonZeroUsize::MIN, &mut buffer);
        assert_eq!(transmit, None, "there are no packets");
        match node.poll_event() {
            Some(event) => events.push(event),
            None => return (events, node.endpoint.take_said()),
        }
    }
}

fn begin(node: &mut Node, now: Instant) -> LinkKey {
    let address = "192.0.2.1:5".parse().unwrap();
    let link = node.begin_scripted(now, address, Vec::new()).unwrap();
    assert!(node.play(now, link, ScriptEvent::Up));
    link
}

#[test]
fn bytes_in_any_chunks_are_what_they_are_whole() {
    let envelope = wire::EnvelopeHeader {
        tag: Some(9),
        promise: 1,
        ..wire::EnvelopeHeader::default()
    };
    let lane = {
        let mut out = BytesMut::new();
        encode_frame(&wire::LaneOpen { lane: 0, next: 0 }, &mut out);
        envelope.encode_frame_header(3, &mut out);
        out.extend_from_slice(b"abc");
        out.freeze()
    };
    for size in [1, 2, 7, 1_000] {
        let (mut node, now) = server();
        let link = begin(&mut node, now);
        for (stream, bytes) in [(CONTROL, hello()), (ScriptStream::Lane(0), lane.clone())] {
            for chunk in bytes.chunks(size) {
                let chunk = Bytes::copy_from_slice(chunk);
                assert!(node.play(now, link, ScriptEvent::Bytes(stream, chunk)));
            }
        }
        let (events, said) = drain(&mut node, now);
        let [
            Event::Connected { resumed: false, .. },
            Event::Message(delivery),
        ] = &events[..]
        else {
            panic!("{size}: {events:?}")
        };
        assert_eq!(&delivery.body[..], b"abc");
        let [(at, Said::Bytes(CONTROL, welcome))] = &said[..] else {
            panic!("{size}: {said:?}")
        };
        assert_eq!(*at, link);
        let welcome = wire::Control::decode_length_delimited(&welcome[..]).unwrap();
        assert!(matches!(welcome.frame, Some(Frame::Welcome(_))));
        node.ack(now, delivery.key).unwrap();
        let (events, said) = drain(&mut node, now);
        assert!(events.is_empty(), "{events:?}");
        assert!(
            said.iter()
                .any(|(_, said)| matches!(said, Said::Bytes(ScriptStream::Lane(0), _))),
            "the ack is in {said:?}"
        );
    }
}

#[test]
fn what_a_peer_does_wrong_closes_its_link() {
    for (event, code) in [
        (
            ScriptEvent::Bytes(CONTROL, Bytes::from_static(&[0xff; 8])),
            CloseCode::UNDECODABLE,
        ),
        (ScriptEvent::Finish(CONTROL), CloseCode::PROTOCOL_VIOLATION),
        (
            ScriptEvent::Reset(CONTROL, 3),
            CloseCode::PROTOCOL_VIOLATION,
        ),
        (ScriptEvent::Stop(CONTROL, 3), CloseCode::PROTOCOL_VIOLATION),
    ] {
        let (mut node, now) = server();
        let link = begin(&mut node, now);
        node.play(now, link, ScriptEvent::Bytes(CONTROL, hello()));
        drain(&mut node, now);
        assert!(node.play(now, link, event.clone()));
        let (events, said) = drain(&mut node, now);
        assert!(
            matches!(&said[..], [(_, Said::Closed(closed, _))] if *closed == code),
            "{event:?}: {said:?}"
        );
        assert!(
            matches!(&events[..], [Event::Disconnected { retained: true, .. }]),
            "{events:?}"
        );
        assert!(!node.play(now, link, ScriptEvent::Up), "the link is gone");
    }
}

#[test]
fn a_second_control_stream_is_refused_and_a_stalled_one_goes_on() {
    let (mut node, now) = server();
    let link = begin(&mut node, now);
    node.play(now, link, ScriptEvent::Stall);
    node.play(now, link, ScriptEvent::Bytes(CONTROL, hello()));
    let second = ScriptStream::Bidirectional(1);
    node.play(now, link, ScriptEvent::Bytes(second, hello()));
    let (_, said) = drain(&mut node, now);
    assert_eq!(said, [(link, Said::Refused(second))]);
    node.play(now, link, ScriptEvent::Flow);
    let (_, said) = drain(&mut node, now);
    assert!(
        matches!(&said[..], [(_, Said::Bytes(CONTROL, _))]),
        "{said:?}"
    );
}

#[test]
fn a_client_dials_again_when_its_link_is_down() {
    let (mut node, mut now, session) = client();
    let message = Message::new(crate::id::Tag(1), "hello");
    let promise = node.request(now, session, message, None).unwrap();
    let first = link(&node).unwrap();
    node.play(now, first, ScriptEvent::Up);
    let (_, said) = drain(&mut node, now);
    // Hello, and what may go ahead of Welcome: the lane's opening and the request.
    assert!(said.len() >= 2, "{said:?}");
    node.play(now, first, ScriptEvent::Down(DisconnectReason::Reset));
    drain(&mut node, now);
    assert_eq!(link(&node), None);
    now += Duration::from_secs(2);
    node.handle_input(now, crate::node::Input::Timeout);
    let second = link(&node).unwrap();
    assert_ne!(first, second);
    node.play(now, second, ScriptEvent::Up);
    let (_, said) = drain(&mut node, now);
    let hello = said_hello(&said);
    let welcome = control(Frame::Welcome(wire::Welcome {
        version: wire::VERSION,
        session_id: hello.resume.unwrap().session_id,
        token: hello.token,
        epoch: 2,
        resumed: true,
        ..wire::Welcome::default()
    }));
    node.play(now, second, ScriptEvent::Bytes(CONTROL, welcome));
    let mut answers = BytesMut::new();
    let lane = u32::from(wire::LANE_ANSWERS);
    encode_frame(&wire::LaneOpen { lane, next: 0 }, &mut answers);
    let header = wire::EnvelopeHeader {
        kind: wire::Kind::Reply,
        promise: promise.number,
        ..wire::EnvelopeHeader::default()
    };
    header.encode_frame_header(2, &mut answers);
    answers.extend_from_slice(b"hi");
    let reply = ScriptEvent::Bytes(ScriptStream::Lane(0), answers.freeze());
    node.play(now, second, reply);
    let (events, _) = drain(&mut node, now);
    let [.., Event::Connected { .. }, Event::Settled { outcome, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(
        matches!(outcome, Outcome::Replied { body, .. } if body == "hi"),
        "{outcome:?}"
    );
}

#[test]
fn an_acknowledgement_is_a_sign_of_life_once_a_heartbeat() {
    let (mut node, mut now, session) = client();
    let link = link(&node).unwrap();
    node.play(now, link, ScriptEvent::Up);
    let (_, said) = drain(&mut node, now);
    let hello = said_hello(&said);
    let welcome = control(Frame::Welcome(wire::Welcome {
        version: wire::VERSION,
        session_id: hello.session_id,
        token: hello.token,
        epoch: 1,
        ..wire::Welcome::default()
    }));
    node.play(now, link, ScriptEvent::Bytes(CONTROL, welcome));
    drain(&mut node, now);
    let heard = |node: &Node| node.session_info(session).unwrap().last_heard;
    let welcomed = heard(&node);
    assert_eq!(welcomed, Some(now));
    let acknowledge = |node: &mut Node, now| {
        node.play(now, link, ScriptEvent::Acknowledge);
        drain(node, now);
    };
    acknowledge(&mut node, now + Duration::from_millis(1));
    assert_eq!(heard(&node), welcomed, "nothing was asked");
    let said = loop {
        now = node.poll_timeout().unwrap();
        node.handle_input(now, crate::node::Input::Timeout);
        let (_, said) = drain(&mut node, now);
        if !said.is_empty() {
            break said;
        }
    };
    let beat = control(Frame::Heartbeat(wire::Heartbeat { number: 1 }));
    assert_eq!(said, [(link, Said::Bytes(CONTROL, beat))]);
    let answered = now + Duration::from_millis(1);
    acknowledge(&mut node, answered);
    assert_eq!(heard(&node), Some(answered));
    acknowledge(&mut node, answered + Duration::from_millis(1));
    assert_eq!(heard(&node), Some(answered), "once");
}

/// What a peer can send that no event comes of, a byte or three a frame: on the control stream before and after Hello, and
/// in a lane, lists of acks with nothing in them.
fn floods() -> [(&'static str, Vec<ScriptEvent>, usize); 3] {
    let zeros = |count| ScriptEvent::Bytes(CONTROL, vec![0; count].into());
    let mut answers = BytesMut::new();
    let lane = u32::from(wire::LANE_ANSWERS);
    encode_frame(&wire::LaneOpen { lane, next: 0 }, &mut answers);
    let header = wire::EnvelopeHeader {
        kind: wire::Kind::Acks,
        ..wire::EnvelopeHeader::default()
    };
    for _ in 0..50_000 {
        header.encode_frame_header(0, &mut answers);
    }
    let answers = ScriptEvent::Bytes(ScriptStream::Lane(0), answers.freeze());
    let hello = || ScriptEvent::Bytes(CONTROL, hello());
    [
        ("before Hello", vec![zeros(60_000)], 60_000),
        ("once it is up", vec![hello(), zeros(200_000)], 200_001),
        ("in a lane", vec![hello(), answers], 50_002),
    ]
}

#[test]
fn what_comes_to_nothing_is_read_in_portions() {
    for (name, events, frames) in floods() {
        let (mut node, mut now) = server();
        let link = begin(&mut node, now);
        let begins = events.len() > 1;
        for event in events {
            node.play(now, link, event);
        }
        let connected = |event| matches!(event, Some(Event::Connected { .. }));
        assert_eq!(connected(node.poll_event()), begins, "{name}");
        assert_eq!(node.poll_event(), None, "{name}");
        assert!(node.metrics.links_visited <= 2, "{name}");
        assert!(node.metrics.frames_in <= 320, "{name}");
        let mut buffer = Vec::new();
        let transmit = node.poll_transmit(now, std::num::NonZeroUsize::MIN, &mut buffer);
        assert_eq!(transmit, None, "{name}");
        assert!(node.metrics.links_visited <= 4, "{name}");
        assert!(node.metrics.frames_in <= 320, "{name}");
        // Another peer need not wait for the rest of it.
        let other = begin(&mut node, now);
        let hello = hello_of("bert", 2);
        node.play(now, other, ScriptEvent::Bytes(CONTROL, hello));
        assert!(connected(node.poll_event()), "{name}");
        drain(&mut node, now);
        // It is not forgotten either, and wants no timeout just after one.
        let begun = now;
        while node.metrics.frames_in < frames as u64 + 1 {
            let due = node.poll_timeout().unwrap();
            assert!(due > now, "{name}");
            now = due;
            let before = (node.metrics.links_visited, node.metrics.frames_in);
            node.handle_input(now, crate::node::Input::Timeout);
            drain(&mut node, now);
            assert!(node.metrics.links_visited - before.0 <= 4, "{name}");
            assert!(node.metrics.frames_in - before.1 <= 320, "{name}");
        }
        // Some 64,000 frames a second are read of control streams, and four times as many of lanes.
        let took = now - begun;
        assert!(took < Duration::from_secs(4), "{name}: {took:?}");
        drain(&mut node, now);
        assert!(node.poll_timeout().unwrap() > now + Duration::from_millis(1));
        assert_eq!(node.links.len(), 2, "{name}: nobody is ended for it");
    }
}

#[test]
fn what_has_events_is_read_at_once() {
    let (mut node, now) = server();
    let link = begin(&mut node, now);
    node.play(now, link, ScriptEvent::Bytes(CONTROL, hello()));
    let mut lane = BytesMut::new();
    encode_frame(&wire::LaneOpen { lane: 0, next: 0 }, &mut lane);
    let message = wire::EnvelopeHeader::default();
    for _ in 0..1_000 {
        message.encode_frame_header(0, &mut lane);
    }
    let lane = ScriptEvent::Bytes(ScriptStream::Lane(0), lane.freeze());
    node.play(now, link, lane);
    // As many hints as nobody needs, but not more than the messages.
    node.play(now, link, ScriptEvent::Bytes(CONTROL, vec![0; 200].into()));
    let (events, _) = drain(&mut node, now);
    assert_eq!(events.len(), 1_001);
    assert_eq!(node.metrics.frames_in, 1 + 200 + 1_001);
}

/// A process that has slept finds what its peer has said in time, however much that is.
#[test]
fn nobody_is_judged_while_what_it_said_waits_to_be_read() {
    let (mut node, mut now) = server();
    let link = begin(&mut node, now);
    let mut said = vec![0; 100];
    said.extend_from_slice(&hello());
    node.play(now, link, ScriptEvent::Bytes(CONTROL, said.into()));
    let (events, _) = drain(&mut node, now);
    assert_eq!(events, []);
    now += Duration::from_secs(3_600);
    node.handle_input(now, crate::node::Input::Timeout);
    let (events, _) = drain(&mut node, now);
    assert!(
        matches!(&events[..], [Event::Connected { .. }]),
        "{events:?}"
    );
}

/// What a peer has said before its connection ended is read all the same.
#[test]
fn the_last_words_of_a_link_are_read_before_it_ends() {
    let (mut node, now) = server();
    let link = begin(&mut node, now);
    let close = control(Frame::Close(wire::Close {
        code: CloseCode::NORMAL.0,
        ..wire::Close::default()
    }));
    let mut said = vec![0; 100];
    said.extend_from_slice(&close);
    node.play(now, link, ScriptEvent::Bytes(CONTROL, hello()));
    node.play(now, link, ScriptEvent::Bytes(CONTROL, said.into()));
    let (events, _) = drain(&mut node, now);
    assert!(matches!(&events[..], [Event::Connected { .. }]));
    node.play(now, link, ScriptEvent::Down(DisconnectReason::Reset));
    let (events, _) = drain(&mut node, now);
    assert!(
        matches!(
            &events[..],
            [Event::Disconnected { .. }, Event::Closed { .. }]
        ),
        "{events:?}"
    );
}
