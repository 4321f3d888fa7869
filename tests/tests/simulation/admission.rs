//! Who is let in, and what those are told who are not.

use std::time::Duration;

use trunkline_core::{
    Admission, CloseCode, CommandError, DisconnectReason, DrainPlan, Event, PromiseKey, Refusal,
};
use trunkline_proto::Close;
use trunkline_proto::control::Frame;
use trunkline_testkit::raw_peer::{Ended, RawSettings, hello};
use trunkline_testkit::{NodeIndex, World, echo};

use crate::SECOND;

fn asking(seed: u64) -> (World, NodeIndex, NodeIndex) {
    let mut world = World::new(seed);
    world.admission = Admission::Ask;
    let server = world.server();
    let client = world.client();
    (world, server, client)
}

#[test]
fn nothing_reaches_the_application_before_it_admits_the_client() {
    let (mut world, server, client) = asking(1);
    let session = world.connect(client, server, "alice");
    let promise = world.request(client, session, b"ping");
    let mut request = None;
    world.run(SECOND, |_, _, event| match event {
        Event::Admission(asked) => request = Some(asked.clone()),
        event => panic!("{event:?} before admission"),
    });
    let request = request.unwrap();
    assert_eq!(
        (request.client.as_str(), request.agent.as_str()),
        ("alice", "testkit")
    );
    let now = world.now();
    world.node(server).admit(now, request.link).unwrap();
    assert!(
        world.node(server).admit(now, request.link).is_err(),
        "one answer is enough"
    );
    world.run(SECOND, echo);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied ping")
    );
}

#[test]
fn a_refused_client_learns_why_and_comes_back_only_if_asked_to() {
    for retry_after in [None, Some(7 * SECOND)] {
        let (mut world, server, client) = asking(2);
        let session = world.connect(client, server, "mallory");
        let mut asked = Vec::new();
        world.run(30 * SECOND, |node, now, event| {
            if let Event::Admission(request) = event {
                asked.push(now);
                let refusal = Refusal {
                    reason: "not on the list".into(),
                    retry_after,
                };
                node.refuse(now, request.link, refusal).unwrap();
            }
        });
        let told = DisconnectReason::Peer {
            code: CloseCode::REFUSED,
            reason: "not on the list".into(),
            retry_after,
        };
        let retained = retry_after.is_some();
        let event = Event::Disconnected {
            session,
            reason: told,
            retained,
        };
        assert!(
            world.log(client).iter().any(|(_, e)| *e == event),
            "{:?}",
            world.log(client)
        );
        assert_eq!(world.node(client).session_info(session).is_some(), retained);
        let lost = |event: &Event| matches!(event, Event::SessionLost { .. });
        assert!(
            !world.log(client).iter().any(|(_, e)| lost(e)),
            "there was no session to lose"
        );
        assert_eq!(asked.len() > 1, retained);
        if let [first, second, ..] = asked[..] {
            assert!(
                second - first >= 7 * SECOND,
                "back after {:?}",
                second - first
            );
        }
        let now = world.now();
        assert_eq!(world.node(server).metrics(now).sessions, 0);
    }
}

/// The first Hello made a session whose Welcome was lost; the next one, which asks for it, is
/// refused for a while.
#[test]
fn a_client_that_is_refused_when_it_asks_for_its_session_asks_for_it_again() {
    let (mut world, server, client) = asking(3);
    let session = world.connect(client, server, "alice");
    let promise = world.request(client, session, b"ping");
    let asked = world.asked();
    world.direction(server, client).cut = true;
    let now = world.now();
    world.node(server).admit(now, asked).unwrap();
    // The client waits for Welcome until its deadline, and dials again.
    world.run(9 * SECOND, echo);
    world.direction(server, client).cut = false;
    let mut times = 0;
    world.run(30 * SECOND, |node, now, event| {
        if let Event::Admission(request) = event {
            times += 1;
            let refusal = Refusal {
                reason: "later".into(),
                retry_after: Some(SECOND),
            };
            if times == 1 {
                node.refuse(now, request.link, refusal).unwrap();
            } else {
                node.admit(now, request.link).unwrap();
            }
        }
        echo(node, now, event);
    });
    assert_eq!(times, 2, "{:?}", world.log(client));
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied ping")
    );
    assert_eq!(world.bodies(server).len(), 1);
}

#[test]
fn a_client_that_is_never_answered_is_sent_away_after_the_deadline() {
    let (mut world, server, client) = asking(3);
    let session = world.connect(client, server, "alice");
    world.run(9 * SECOND, |_, _, _| {});
    let ended = |event: &Event| matches!(event, Event::Disconnected { .. });
    assert!(!world.log(client).iter().any(|(_, e)| ended(e)));
    world.run(2 * SECOND, |_, _, _| {});
    let code = world.log(client).iter().find_map(|(_, event)| match event {
        Event::Disconnected {
            session: of,
            reason,
            ..
        } if *of == session => Some(reason.clone()),
        _ => None,
    });
    assert!(
        matches!(
            code,
            Some(
                DisconnectReason::Peer {
                    code: CloseCode::ADMISSION_TIMEOUT,
                    ..
                } | DisconnectReason::ConnectTimeout
            )
        ),
        "{code:?}"
    );
}

/// Nobody decides about the first Hello; the server says so before the client gives the link up, and
/// before QUIC does, which hears nothing meanwhile.
#[test]
fn what_waits_for_an_admission_that_never_comes_goes_with_the_next() {
    for interval in [15 * SECOND, SECOND] {
        let mut world = World::new(4);
        world.admission = Admission::Ask;
        world.config().heartbeat.interval = interval;
        let [server, client] = [world.server(), world.client()];
        let session = world.connect(client, server, "alice");
        let promise = world.request(client, session, b"ping");
        let mut asked = 0;
        world.run(25 * SECOND, |node, now, event| {
            if let Event::Admission(request) = event {
                asked += 1;
                if asked == 2 {
                    node.admit(now, request.link).unwrap();
                }
            }
            echo(node, now, event);
        });
        assert_eq!(asked, 2);
        once_and_not_lost(&world, server, client, promise);
    }
}

/// The server's drain begins while it decides about a Hello, and nothing was made of that.
#[test]
fn what_waits_for_a_server_that_goes_away_gets_to_the_one_that_follows() {
    let (mut world, server, client) = asking(5);
    let session = world.connect(client, server, "alice");
    let promise = world.request(client, session, b"ping");
    let asked = world.asked();
    let now = world.now();
    let plan = DrainPlan {
        deadline: SECOND,
        retry_after: Some(7 * SECOND),
        alternative: None,
    };
    world.node(server).drain(now, plan).unwrap();
    let late = world.node(server).admit(now, asked);
    assert_eq!(late, Err(CommandError::UnknownLink));
    let drained = |event: &Event| matches!(event, Event::Drained { .. });
    assert_eq!(world.count(server, drained), 0, "somebody is to hear of it");
    world.run(SECOND, echo);
    assert_eq!(world.count(server, drained), 1);
    let away = DisconnectReason::Peer {
        code: CloseCode::GOING_AWAY,
        reason: "the server is going away".into(),
        retry_after: Some(7 * SECOND),
    };
    let told = |event: &Event| matches!(event, Event::Disconnected { reason, retained: true, .. } if *reason == away);
    assert_eq!(world.count(client, told), 1, "{:?}", world.log(client));
    world.kill(server);
    world.admission = Admission::Open;
    world.start_process(server);
    world.run(5 * SECOND, echo);
    assert_eq!(world.outcome(client, promise), None, "it was asked to wait");
    world.run(10 * SECOND, echo);
    once_and_not_lost(&world, server, client, promise);
}

/// Clients whose Hello comes after the drain has begun are told so, and sent away if they stay.
#[test]
fn a_client_that_a_draining_server_turns_away_hears_one_code_however_it_goes() {
    let mut world = World::new(6);
    let server = world.server();
    let [ends, stays] = [(); 2].map(|()| world.raw_client(server, &RawSettings::default()));
    world.run(SECOND, echo);
    let now = world.now();
    let plan = DrainPlan {
        deadline: 20 * SECOND,
        retry_after: Some(7 * SECOND),
        alternative: None,
    };
    world.node(server).drain(now, plan).unwrap();
    let away = Frame::Close(Close {
        code: CloseCode::GOING_AWAY.0,
        reason: "the server is going away".into(),
        retry_after_ms: 7_000,
    });
    for (peer, seed) in [(ends, 1), (stays, 2)] {
        let link = world.raw(peer).link();
        link.hello(&hello("anna", seed));
        world.run(SECOND / 2, echo);
        assert_eq!(
            world.raw(peer).link().control(),
            std::slice::from_ref(&away)
        );
    }
    let link = world.raw(ends).link();
    let control = link.control_stream();
    link.finish(control);
    world.run(10 * SECOND, echo);
    for peer in [ends, stays] {
        let ended = world.raw(peer).link().ended().cloned();
        assert!(
            matches!(ended, Some(Ended::Application { code: 1, .. })),
            "{ended:?}"
        );
    }
    let now = world.now();
    let metrics = world.node(server).metrics(now);
    assert_eq!(metrics.closed_by_code[&CloseCode::GOING_AWAY], 2);
}

/// The client sleeps while its server says Close and then closes the connection: both wait for it.
#[test]
fn a_client_that_slept_through_its_refusal_reads_why() {
    let (mut world, server, client) = asking(7);
    let session = world.connect(client, server, "alice");
    let promise = world.request(client, session, b"ping");
    let asked = world.asked();
    world.pause(client);
    let now = world.now();
    let refusal = Refusal {
        reason: "later".into(),
        retry_after: Some(3 * SECOND),
    };
    let refused = world.node(server).refuse(now, asked, refusal);
    refused.unwrap();
    world.run(7 * SECOND, echo);
    world.wake(client);
    world.run(20 * SECOND, |node, now, event| {
        if let Event::Admission(request) = event {
            node.admit(now, request.link).unwrap();
        }
        echo(node, now, event);
    });
    let told = DisconnectReason::Peer {
        code: CloseCode::REFUSED,
        reason: "later".into(),
        retry_after: Some(3 * SECOND),
    };
    let read =
        |event: &Event| matches!(event, Event::Disconnected { reason, .. } if *reason == told);
    assert_eq!(world.count(client, read), 1, "{:?}", world.log(client));
    once_and_not_lost(&world, server, client, promise);
}

fn once_and_not_lost(world: &World, server: NodeIndex, client: NodeIndex, promise: PromiseKey) {
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied ping"),
        "{:?}",
        world.log(client)
    );
    assert_eq!(world.bodies(server), [&b"ping"[..]]);
    let lost = |event: &Event| matches!(event, Event::SessionLost { .. });
    assert_eq!(world.count(client, lost), 0, "there was no session to lose");
}

#[test]
fn a_wide_area_request_takes_its_round_trip_and_little_more() {
    let mut world = World::new(4);
    world.path.delay = Duration::from_millis(40);
    world.path.loss = 0.01;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(2 * SECOND, echo);
    for n in 0..2_000_u32 {
        world.request(client, session, &n.to_be_bytes());
        world.run(Duration::from_millis(10), echo);
    }
    world.run(5 * SECOND, echo);
    let now = world.now();
    let metrics = world.node(client).metrics(now);
    assert_eq!(metrics.replies_received, 2_000);
    let p99 = metrics.latency_p99;
    assert!(
        p99 >= Duration::from_millis(80) && p99 < Duration::from_millis(200),
        "p99 {p99:?}"
    );
}

#[test]
fn a_drain_waits_for_whom_it_sends_away_also_where_only_absent_clients_had_sessions() {
    let mut world = World::new(41);
    world.admission = Admission::Ask;
    world.config().heartbeat.interval = SECOND;
    let (server, gone, client) = (world.server(), world.client(), world.client());
    world.connect(gone, server, "gone");
    let link = world.asked();
    let now = world.now();
    world.node(server).admit(now, link).unwrap();
    world.run(SECOND, echo);
    world.kill(gone);
    world.run(10 * SECOND, echo);
    world.connect(client, server, "alice");
    let _ = world.asked();
    let now = world.now();
    let plan = DrainPlan::within(10 * SECOND);
    world.node(server).drain(now, plan).unwrap();
    let is_drained = |event: &Event| matches!(event, Event::Drained { .. });
    let drained = std::iter::from_fn(|| world.node(server).poll_event());
    assert!(!drained.into_iter().any(|event| is_drained(&event)));
    world.run(SECOND, echo);
    assert_eq!(world.count(server, is_drained), 1);
}
