//! How sessions end in order.

use std::time::Duration;

use trunkline_core::{
    Admission, CloseCode, CommandError, DisconnectReason, Event, LinkState, Node, Refusal,
    UndeliveredReason,
};
use trunkline_proto::control::Frame;
use trunkline_proto::{Cancel, Close};
use trunkline_testkit::raw_peer::{RawSettings, hello};
use trunkline_testkit::{World, echo, silent};

use crate::{SECOND, message};

/// Whatever its code says of links that break: both sides have said that it is over.
#[test]
fn a_close_in_order_ends_the_clients_session_as_well() {
    for code in [CloseCode::INTERNAL, CloseCode::FLOODED, CloseCode(500)] {
        let (mut world, server, client) = World::pair(9);
        let session = world.connect(client, server, "alice");
        world.run(SECOND, silent);
        let served = world.node(server).sessions().next().unwrap().session;
        let now = world.now();
        let node = world.node(server);
        node.close(now, served, code, "mended soon").unwrap();
        world.run(SECOND / 10, silent);
        world.kill(server);
        world.run(SECOND, silent);
        let lost = |event: &Event| *event == Event::SessionLost { session };
        assert_eq!(world.count(client, lost), 1, "{code:?}");
        // What is sent now belongs to the next session.
        world.send(client, session, b"next".to_vec()).unwrap();
        world.start_process(server);
        world.run(120 * SECOND, echo);
        assert_eq!(world.bodies(server), ["next"], "{code:?}");
        assert_eq!(world.count(client, lost), 1, "{code:?}");
    }
}

#[test]
fn closing_loses_nothing_that_was_sent_before() {
    let (mut world, server, client) = World::pair(5);
    world.path.loss = 0.2;
    world.path.delay = Duration::from_millis(20);
    let session = world.connect(client, server, "alice");
    let now = world.now();
    for n in 0..200_u32 {
        world
            .node(client)
            .send(now, session, message(n.to_be_bytes().to_vec()))
            .unwrap();
    }
    world.run(SECOND, echo);
    let now = world.now();
    world
        .node(client)
        .close(now, session, CloseCode::NORMAL, "done")
        .unwrap();
    let late = world
        .node(client)
        .send(now, session, message("late"))
        .unwrap_err();
    assert_eq!(late.error, CommandError::Closing);
    world.run(20 * SECOND, echo);
    let got: Vec<_> = world.bodies(server).iter().map(|b| b.to_vec()).collect();
    assert_eq!(
        got,
        (0..200_u32)
            .map(|n| n.to_be_bytes().to_vec())
            .collect::<Vec<_>>()
    );
    for node in [client, server] {
        assert!(
            world
                .log(node)
                .iter()
                .any(|(_, e)| matches!(e, Event::Closed { .. }))
        );
        assert_eq!(world.node(node).sessions().count(), 0);
    }
}

#[test]
fn when_both_sides_close_at_once_the_servers_code_counts() {
    let (mut world, server, client) = World::pair(8);
    let own = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let session = world.node(server).sessions().next().unwrap().session;
    let now = world.now();
    let (of_server, of_client) = (CloseCode(1_001), CloseCode(1_002));
    let node = world.node(server);
    node.close(now, session, of_server, "server").unwrap();
    let node = world.node(client);
    node.close(now, own, of_client, "client").unwrap();
    world.run(10 * SECOND, silent);
    let reason = DisconnectReason::Local {
        code: of_server,
        reason: "server".into(),
    };
    let closed = Event::Closed { session, reason };
    assert_eq!(world.log(server).last().unwrap().1, closed);
    let closed = |event: &Event| matches!(event, Event::Closed { .. });
    assert!(closed(&world.log(client).last().unwrap().1));
}

/// A world whose links die and come back within fractions of a second.
fn quick(seed: u64) -> World {
    let mut world = World::new(seed);
    world.config().heartbeat.interval = Duration::from_millis(100);
    world.config().redial.first = Duration::from_millis(100);
    world
}

#[test]
fn closing_goes_on_over_the_next_link_when_one_breaks() {
    let mut world = quick(6);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    world.path.cut = true;
    for n in 0..20 {
        world.send(client, session, vec![n]).unwrap();
    }
    let now = world.now();
    let code = CloseCode::NORMAL;
    world
        .node(client)
        .close(now, session, code, "done")
        .unwrap();
    world.run(SECOND, echo);
    let broke = |e: &Event| matches!(e, Event::Disconnected { retained: true, .. });
    assert!(world.count(client, broke) > 0);
    world.path.cut = false;
    world.run(10 * SECOND, echo);
    let got: Vec<_> = world.bodies(server).iter().map(|b| b[0]).collect();
    assert_eq!(got, (0..20).collect::<Vec<_>>());
    for node in [client, server] {
        assert_eq!(world.node(node).sessions().count(), 0);
    }
    let back = |e: &Event| matches!(e, Event::Undelivered { .. });
    assert_eq!(world.count(client, back), 0);
}

#[test]
fn closing_gives_up_in_time_when_no_link_comes_back() {
    let mut world = quick(7);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    world.path.cut = true;
    world.send(client, session, vec![1]).unwrap();
    let now = world.now();
    let code = CloseCode::NORMAL;
    world
        .node(client)
        .close(now, session, code, "done")
        .unwrap();
    world.run(5 * SECOND + Duration::from_millis(1), echo);
    let (closed, end) = world.log(client).last().unwrap().clone();
    assert_eq!(closed - now, 5 * SECOND);
    let local = DisconnectReason::Local {
        code,
        reason: "done".into(),
    };
    let reason = local;
    assert_eq!(end, Event::Closed { session, reason });
    let back = |e: &Event| {
        matches!(
            e,
            Event::Undelivered {
                maybe_delivered: true,
                reason: UndeliveredReason::SessionOver,
                ..
            }
        )
    };
    assert_eq!(world.count(client, back), 1);
}

#[test]
fn a_peer_that_closes_gets_what_was_on_its_way_to_it() {
    let mut world = World::new(8);
    world.path.delay = Duration::from_millis(50);
    world.path.loss = 0.1;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let now = world.now();
    let code = CloseCode::NORMAL;
    let there = world.node(server).sessions().next().unwrap().session;
    for n in 0..500_u16 {
        world.send(server, there, n.to_be_bytes().to_vec()).unwrap();
    }
    world
        .node(client)
        .close(now, session, code, "done")
        .unwrap();
    world.run(10 * SECOND, echo);
    let expected: Vec<_> = (0..500_u16).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(world.bodies(client), expected);
    let back = |e: &Event| matches!(e, Event::Undelivered { .. });
    assert_eq!(world.count(server, back), 0);
    for node in [client, server] {
        assert_eq!(world.node(node).sessions().count(), 0);
    }
}

#[test]
fn a_client_that_is_refused_for_a_while_does_not_wait_for_its_own_application() {
    let mut world = quick(9);
    world.admission = Admission::Ask;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let mut asked = 0;
    let retry_after = Some(30 * SECOND);
    let mut refuse_the_second = |node: &mut Node, now, event: &Event| {
        let Event::Admission(request) = event else {
            return;
        };
        asked += 1;
        if asked == 2 {
            let refusal = Refusal {
                reason: "later".into(),
                retry_after,
            };
            node.refuse(now, request.link, refusal).unwrap();
        } else {
            node.admit(now, request.link).unwrap();
        }
    };
    world.run(SECOND, &mut refuse_the_second);
    let there = world.node(server).sessions().next().unwrap().session;
    world.send(server, there, b"work".to_vec()).unwrap();
    world.run(SECOND, &mut refuse_the_second);
    assert_eq!(world.bodies(client).len(), 1);
    world.path.cut = true;
    world.run(SECOND, &mut refuse_the_second);
    world.path.cut = false;
    world.run(90 * SECOND, &mut refuse_the_second);
    assert_eq!(asked, 3, "{:?}", world.log(client));
    let refused = DisconnectReason::Peer {
        code: CloseCode::REFUSED,
        reason: "later".into(),
        retry_after,
    };
    assert_eq!(world.disconnects(client).last(), Some(&refused));
    let lost = |event: &Event| matches!(event, Event::SessionLost { .. } | Event::Closed { .. });
    assert_eq!(world.count(client, lost), 0);
    let info = world.node(client).session_info(session).unwrap();
    assert_eq!((info.state, info.epoch), (LinkState::Connected, 2));
}

#[test]
fn a_session_that_its_client_has_closed_is_not_kept_because_a_handler_is_slow() {
    let (mut world, server, client) = World::pair(10);
    let own = world.connect(client, server, "alice");
    world.run(SECOND, silent);
    world.send(client, own, b"work".to_vec()).unwrap();
    world.run(SECOND, silent);
    let mut handled = None;
    for (_, event) in world.log(server) {
        if let Event::Message(delivery) = event {
            handled = Some(delivery.key);
        }
    }
    let (now, code) = (world.now(), CloseCode(1_000));
    let node = world.node(client);
    node.close(now, own, code, "done").unwrap();
    // The client takes its leave after 5 s, when its patience is over.
    world.run(6 * SECOND, silent);
    assert_eq!(world.node(server).sessions().count(), 0);
    let reason = DisconnectReason::Peer {
        code,
        reason: "done".into(),
        retry_after: None,
    };
    let session = handled.unwrap().session;
    let closed = Event::Closed { session, reason };
    assert_eq!(world.log(server).last().unwrap().1, closed);
    let now = world.now();
    let late = world.node(server).ack(now, handled.unwrap());
    assert_eq!(late, Err(CommandError::UnknownDelivery));
}

/// All of it comes at once: more than one visit of the link reads, and the end of the link with it.
#[test]
fn a_close_behind_many_hints_is_read_though_the_connection_ends_with_it() {
    let mut world = World::new(11);
    let server = world.server();
    let peer = world.raw_client(server, &RawSettings::default());
    world.run(SECOND, silent);
    world.raw(peer).link().hello(&hello("raw", 9));
    world.run(SECOND, silent);
    let session = world.node(server).sessions().next().unwrap().session;
    world.pause(server);
    let code = CloseCode(1_001);
    let link = world.raw(peer).link();
    for promise in 1..=100 {
        link.send_control(Frame::Cancel(Cancel { promise }));
    }
    link.send_control(Frame::Close(Close {
        code: code.0,
        reason: "done".into(),
        retry_after_ms: 0,
    }));
    world.run(SECOND / 100, silent);
    let now = world.now();
    world.raw(peer).link().close(now, code.0.into(), b"");
    world.run(SECOND / 100, silent);
    world.wake(server);
    world.run(SECOND, silent);
    assert_eq!(world.node(server).sessions().count(), 0);
    let reason = DisconnectReason::Peer {
        code,
        reason: "done".into(),
        retry_after: None,
    };
    let closed = Event::Closed { session, reason };
    assert_eq!(world.log(server).last().unwrap().1, closed);
}
