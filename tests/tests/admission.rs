//! Who is let in, and what those are told who are not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::time::Duration;

use trunkline_core::{Admission, CloseCode, DisconnectReason, Event, Refusal};
use trunkline_testkit::{NodeIndex, World, echo};

const SECOND: Duration = Duration::from_secs(1);

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
    let mut asked = None;
    world.run(SECOND, |_, _, event| {
        if let Event::Admission(request) = event {
            asked = Some(request.link);
        }
    });
    world.direction(server, client).cut = true;
    let now = world.now();
    world.node(server).admit(now, asked.unwrap()).unwrap();
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
