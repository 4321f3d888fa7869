//! Whom a server does not let in: its application is told, once each and within a bound, and traces are what they are
//! without that.

use std::time::Instant;

use trunkline_core::trace::Replay;
use trunkline_core::{
    Admission, CloseCode, DrainPlan, Event, LinkKey, Node, Refusal, TimeoutReason,
};
use trunkline_proto::control::Frame;
use trunkline_proto::{Heartbeat, Hello, Resume};
use trunkline_testkit::raw_peer::{RawSettings, hello};
use trunkline_testkit::{NodeIndex, Recording, World, silent};

use crate::SECOND;

/// How many wait to be told at most.
const BOUND: usize = 256;

/// A world whose server asks its application.
fn asking(seed: u64) -> (World, NodeIndex) {
    let mut world = World::new(seed);
    world.admission = Admission::Ask;
    world.config().limits.sessions_per_client = 1;
    let server = world.server();
    (world, server)
}

/// Lets in who has no other name.
fn decide(node: &mut Node, now: Instant, event: &Event) {
    let Event::Admission(request) = event else {
        return;
    };
    match request.client.as_str() {
        "undecided" => {}
        "mallory" => {
            let refusal = Refusal {
                reason: "not on the list,\n\u{202e}whoever you are".into(),
                retry_after: None,
            };
            node.refuse(now, request.link, refusal).unwrap();
        }
        _ => node.admit(now, request.link).unwrap(),
    }
}

/// A raw client that says this, once its handshake is done.
fn says(world: &mut World, server: NodeIndex, hello: &Hello) -> NodeIndex {
    let peer = connects(world, server);
    world.raw(peer).link().hello(hello);
    world.run(SECOND / 10, decide);
    peer
}

/// A raw client whose handshake is done, and that says nothing.
fn connects(world: &mut World, server: NodeIndex) -> NodeIndex {
    let peer = world.raw_client(server, &RawSettings::default());
    world.run(SECOND / 10, decide);
    peer
}

fn links_asked_about(world: &World, server: NodeIndex) -> Vec<LinkKey> {
    let events = world.log(server).iter().map(|(_, event)| event);
    let links = events.filter_map(|event| match event {
        Event::Admission(request) => Some(request.link),
        _ => None,
    });
    links.collect()
}

fn refusals(world: &World, server: NodeIndex) -> Vec<Event> {
    let events = world.log(server).iter().map(|(_, event)| event);
    let refused = events.filter(|event| matches!(event, Event::Refused { .. }));
    refused.cloned().collect()
}

/// Clients that are not let in, for each of the reasons that there are; returns what is expected to be told of them:
/// name, code, and what is part of the reason.
fn crowd(
    world: &mut World,
    server: NodeIndex,
) -> Vec<(NodeIndex, &'static str, CloseCode, &'static str)> {
    let mut expected = Vec::new();
    says(world, server, &hello("anna", 1));
    let peer = says(world, server, &hello("mallory", 2));
    let reason = "not on the list,  whoever you are";
    expected.push((peer, "mallory", CloseCode::REFUSED, reason));
    let peer = says(world, server, &hello("anna", 3));
    let reason = "keeps no more sessions";
    expected.push((peer, "anna", CloseCode::TOO_MANY_SESSIONS, reason));
    let mut stolen = hello("mallet", 4);
    stolen.session_id = hello("anna", 1).session_id;
    let peer = says(world, server, &stolen);
    let reason = "a session of this id exists";
    expected.push((peer, "mallet", CloseCode::WRONG_TOKEN, reason));
    let guessed = Hello {
        resume: Some(Resume {
            session_id: hello("anna", 1).session_id,
            token: vec![7; 16].into(),
            attempt: 1,
            ..Resume::default()
        }),
        ..hello("anna", 5)
    };
    let peer = says(world, server, &guessed);
    let reason = "the token does not resume this session";
    expected.push((peer, "anna", CloseCode::WRONG_TOKEN, reason));

    // Who says nothing, or nothing that is whole, and who has gone by itself is nobody's refusal.
    connects(world, server);
    says(
        world,
        server,
        &Hello {
            version: 2,
            ..hello("later", 6)
        },
    );
    let gone = says(world, server, &hello("undecided", 7));
    let now = world.now();
    world.raw(gone).link().close(now, 0, b"");
    world.run(SECOND / 10, decide);

    let talks = says(world, server, &hello("undecided", 8));
    let beat = Frame::Heartbeat(Heartbeat::default());
    world.raw(talks).link().send_control(beat);
    world.run(SECOND / 10, decide);
    let reason = "Heartbeat is not expected";
    expected.push((talks, "undecided", CloseCode::PROTOCOL_VIOLATION, reason));
    let waits = says(world, server, &hello("undecided", 9));
    world.run(11 * SECOND, decide);
    let reason = "no admission in time";
    expected.push((waits, "undecided", CloseCode::ADMISSION_TIMEOUT, reason));

    let before = says(world, server, &hello("undecided", 10));
    let behind = connects(world, server);
    let now = world.now();
    let plan = DrainPlan::within(10 * SECOND);
    world.node(server).drain(now, plan).unwrap();
    world.raw(behind).link().hello(&hello("bert", 11));
    world.run(SECOND / 10, decide);
    let reason = "the server is going away";
    expected.push((before, "undecided", CloseCode::GOING_AWAY, reason));
    expected.push((behind, "bert", CloseCode::GOING_AWAY, reason));
    world.run(10 * SECOND, decide);
    expected
}

#[test]
fn each_is_told_of_once_with_its_name_address_and_reason() {
    let (mut world, server) = asking(1);
    let expected = crowd(&mut world, server);
    let told = refusals(&world, server);
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (event, (peer, name, wanted, part)) in told.iter().zip(&expected) {
        let Event::Refused {
            client,
            address,
            code,
            reason,
            ..
        } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!((client.as_str(), code), (*name, wanted), "{event:?}");
        assert_eq!(*address, world.address(*peer), "{event:?}");
        assert!(reason.contains(part), "{event:?}");
    }
    let now = world.now();
    let metrics = world.node(server).metrics(now);
    assert_eq!(metrics.clients_refused, told.len() as u64);
    assert_eq!(metrics.refusals_untold, 0);
}

#[test]
fn the_link_is_that_which_the_application_was_asked_about() {
    let (mut world, server) = asking(2);
    says(&mut world, server, &hello("mallory", 1));
    let [Event::Refused { link, .. }] = &refusals(&world, server)[..] else {
        panic!("{:?}", world.log(server));
    };
    assert_eq!([*link], links_asked_about(&world, server)[..]);
}

/// So that whoever is refused again and again fills nothing.
#[test]
fn beyond_a_bound_refusals_are_only_counted() {
    const SURPLUS: usize = 44;
    let (mut world, server) = asking(3);
    let client = world.client();
    for number in 0..BOUND + SURPLUS {
        world.connect(client, server, &format!("client-{number}"));
    }
    world.run(SECOND, silent);
    let links = links_asked_about(&world, server);
    assert_eq!(links.len(), BOUND + SURPLUS);
    let now = world.now();
    for link in links {
        let node = world.node(server);
        node.refuse(now, link, Refusal::default()).unwrap();
    }
    world.run(SECOND, silent);
    let told = refusals(&world, server);
    assert_eq!(told.len(), BOUND);
    let now = world.now();
    let metrics = world.node(server).metrics(now);
    let counted = (metrics.clients_refused, metrics.refusals_untold);
    assert_eq!(counted, ((BOUND + SURPLUS) as u64, SURPLUS as u64));
    // Now that they were told there is room again.
    says(&mut world, server, &hello("mallory", 1));
    assert_eq!(refusals(&world, server).len(), BOUND + 1);
}

#[test]
fn it_comes_last_and_until_then_the_node_wants_to_be_polled() {
    let (mut world, server) = asking(4);
    let client = world.client();
    world.connect(client, server, "anna");
    world.connect(client, server, "bert");
    world.run(SECOND, silent);
    let links = links_asked_about(&world, server);
    let now = world.now();
    let node = world.node(server);
    node.refuse(now, links[0], Refusal::default()).unwrap();
    node.admit(now, links[1]).unwrap();
    assert!(matches!(node.poll_event(), Some(Event::Connected { .. })));
    let mut buffer = Vec::new();
    while node
        .poll_transmit(now, std::num::NonZeroUsize::MIN, &mut buffer)
        .is_some()
    {}
    assert_eq!(node.poll_timeout(), Some(now));
    assert_eq!(node.timeout_reason(), Some(TimeoutReason::Undrained));
    assert!(matches!(node.poll_event(), Some(Event::Refused { .. })));
    assert_eq!(node.poll_event(), None);
    assert!(node.poll_timeout() > Some(now));
}

/// A trace has no word of it, and a replay tells of it all the same.
#[test]
fn it_stands_in_no_trace_and_is_told_by_the_replay() {
    for recording in [Recording::Link, Recording::Wire] {
        let (mut world, _) = asking(5);
        world.record_at(recording);
        let server = world.server();
        crowd(&mut world, server);
        world.kill(server);
        let [trace] = &world.traces(server)[..] else {
            panic!("one process, one trace");
        };
        assert!(!contains(trace, b"Refused"));
        let mut told = Vec::new();
        let replay = Replay::new(&trace[..]).unwrap();
        let replay = replay.on_event(|_, event| told.push(event.clone()));
        let report = replay.run(Instant::now()).unwrap();
        assert!(report.is_identical(), "{report}");
        let log = world.log(server).iter();
        let all: Vec<_> = log.map(|(_, event)| event.clone()).collect();
        assert_eq!(told, all);
        assert!(refusals(&world, server).len() > 5);
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
