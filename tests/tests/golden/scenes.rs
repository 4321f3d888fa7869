//! Scenes of what PROTOCOL.md says that nodes do. Each checks that it shows what it is there to show.
//!
//! Not all of it has one. Of the close codes (§15) these are left out: VERSION_MISMATCH (there is one
//! version), UNAUTHENTICATED, WRONG_TOKEN, SUPERSEDED, SLOW_CONSUMER, INTERNAL, TOO_MANY_SESSIONS, and
//! those of applications; most status codes (§16); and of the rest a new session's lost Welcome (§7.4),
//! a server in several places (§7.6), delays beyond the first few (§14), most limits (§17), and
//! unknown fields (§18). The close codes have their tests in `hostile` and `sharing`.

use std::time::{Duration, Instant};

use trunkline_core::{
    Admission, Audience, CloseCode, DisconnectReason, DrainPlan, Event, Expects, Lane, Node,
    Status, StatusCode,
};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{Receipt, Receipts};
use trunkline_testkit::raw_peer::{RawLink, RawSettings, hello};

use crate::scene::{SECOND, Scene, Traces, doorkeeper, said};

/// A scene's name, and what plays it.
pub(crate) type Named = (&'static str, fn() -> Traces);

pub(crate) const SCENES: [Named; 25] = [
    ("messages", messages),
    ("pressure", pressure),
    ("admission", admission),
    ("refusal", refusal),
    ("lanes", lanes),
    ("requests", requests),
    ("reject", reject),
    ("cancel", cancel),
    ("best-effort", best_effort),
    ("heartbeat", heartbeat),
    ("resume", resume),
    ("rotation", rotation),
    ("previous-token", previous_token),
    ("lost", lost),
    ("retention", retention),
    ("drain", drain),
    ("close", close),
    ("moved", moved),
    ("gap", || fault(CloseCode::SEQUENCE_GAP, gap)),
    ("undecodable", || fault(CloseCode::UNDECODABLE, undecodable)),
    ("too-large", || fault(CloseCode::FRAME_TOO_LARGE, too_large)),
    ("unknown-lane", || {
        fault(CloseCode::UNKNOWN_LANE, unknown_lane)
    }),
    ("misplaced", || {
        fault(CloseCode::PROTOCOL_VIOLATION, misplaced)
    }),
    ("flood", || fault(CloseCode::FLOODED, flood)),
    ("bad-receipt", || fault(CloseCode::BAD_RECEIPT, bad_receipt)),
];

fn messages() -> Traces {
    let (mut scene, session) = Scene::connected(1, |_| {});
    for number in 0..5_u8 {
        scene.tell(true, |node, now| {
            node.send(now, session, said(&[number; 40])).unwrap();
        });
    }
    let acked: [_; 4] =
        [b"a", b"b", b"c", b"d"].map(|body| scene.world.send_acked(scene.client, session, body));
    scene.run(SECOND);
    for promise in acked {
        assert_eq!(scene.outcome(promise).as_deref(), Some("Acked"));
    }
    assert_eq!(scene.world.bodies(scene.server).len(), 9);
    scene.end()
}

fn pressure() -> Traces {
    let (mut scene, session) = Scene::connected(18, |world| {
        world.config().limits.promises = 2;
    });
    let ask = |node: &mut Node, now| node.request(now, session, said(b"room?"), None).is_ok();
    assert!(scene.tell(true, ask) && scene.tell(true, ask));
    assert!(!scene.tell(true, ask), "the table is full");
    scene.run(SECOND);
    assert!(scene.tell(true, ask), "there is room again");
    scene.run(SECOND);
    let told = |event: &Event| matches!(event, Event::Writable { .. });
    assert!(scene.happened(true, told));
    scene.end()
}

fn admission() -> Traces {
    let mut scene = Scene::new(2, |world| world.admission = Admission::Ask);
    let session = scene.dial(b"open sesame");
    scene.world.run(SECOND, doorkeeper);
    let promise = scene.world.request(scene.client, session, b"in?");
    scene.world.run(SECOND, doorkeeper);
    assert_eq!(scene.outcome(promise).as_deref(), Some("Replied in?"));
    scene.end()
}

fn refusal() -> Traces {
    let mut scene = Scene::new(3, |world| world.admission = Admission::Ask);
    scene.dial(b"please");
    scene.world.run(8 * SECOND, doorkeeper);
    let again =
        |event: &Event| matches!(event, Event::Reconnecting { delay, .. } if *delay >= 5 * SECOND);
    assert!(scene.happened(true, again));
    scene.end()
}

fn lanes() -> Traces {
    let (mut scene, session) = Scene::connected(4, |_| {});
    for lane in [Lane::DEFAULT, Lane::BULK, Lane::new(3).unwrap()] {
        for body in [b"one", b"two"] {
            scene.tell(true, |node, now| {
                node.send(now, session, said(body).on(lane)).unwrap();
            });
        }
    }
    let large = vec![7; 70_000];
    let promise = scene.world.request(scene.client, session, &large);
    scene.run(2 * SECOND);
    assert!(scene.outcome(promise).is_some());
    assert_eq!(scene.world.bodies(scene.server).len(), 7);
    scene.end()
}

fn requests() -> Traces {
    let (mut scene, session) = Scene::connected(5, |_| {});
    let promises: Vec<_> = [b"a", b"b", b"c"]
        .map(|body| scene.world.request(scene.client, session, body))
        .into();
    let of_server = scene.of_server();
    let back = scene.tell(false, |node, now| {
        node.request(now, of_server, said(b"and you?"), None)
            .unwrap()
    });
    scene.run(SECOND);
    for promise in promises {
        assert!(scene.outcome(promise).unwrap().starts_with("Replied"));
    }
    let answer = scene.world.outcome(scene.server, back);
    assert_eq!(answer.as_deref(), Some("Replied and you?"));
    scene.end()
}

fn reject() -> Traces {
    let (mut scene, session) = Scene::connected(6, |_| {});
    let asked = scene.world.request(scene.client, session, b"no");
    let told = scene.world.send_acked(scene.client, session, b"no");
    scene.world.run(SECOND, |node, now, event| {
        if let Event::Message(delivery) = event {
            let status = Status::new(StatusCode::INVALID_ARGUMENT, "not this");
            node.reject(now, delivery.key, status).unwrap();
        }
    });
    for promise in [asked, told] {
        assert!(scene.outcome(promise).unwrap().starts_with("Rejected"));
    }
    scene.end()
}

/// Takes messages and does not answer requests.
fn slow(node: &mut Node, now: Instant, event: &Event) {
    if let Event::Message(delivery) = event
        && delivery.expects != Expects::Reply
    {
        node.ack(now, delivery.key).unwrap();
    }
}

fn cancel() -> Traces {
    let (mut scene, session) = Scene::connected(7, |_| {});
    let cancelled = scene.world.request(scene.client, session, b"wait");
    let late = scene.tell(true, |node, now| {
        let timeout = Some(2 * SECOND);
        node.request(now, session, said(b"soon"), timeout).unwrap()
    });
    scene.world.run(SECOND, slow);
    scene.tell(true, |node, now| node.cancel(now, cancelled).unwrap());
    scene.world.run(3 * SECOND, slow);
    assert_eq!(scene.outcome(cancelled).as_deref(), Some("Cancelled"));
    assert_eq!(scene.outcome(late).as_deref(), Some("TimedOut"));
    let told = |event: &Event| matches!(event, Event::Cancelled { .. });
    assert!(scene.happened(false, told));
    scene.end()
}

fn best_effort() -> Traces {
    let (mut scene, session) = Scene::connected(8, |_| {});
    let group = scene.group();
    for (number, audience) in [Audience::Everyone, Audience::Group(group.clone())]
        .iter()
        .enumerate()
    {
        scene.tell(false, |node, now| {
            let key = Some(number as u64);
            node.broadcast(now, audience, said(b"news"), key).unwrap();
        });
    }
    scene.tell(true, |node, now| {
        node.send_best_effort(now, session, said(b"maybe"), None)
            .unwrap();
    });
    scene.run(SECOND);
    let of_server = scene.of_server();
    scene.tell(false, |node, now| {
        node.leave(now, of_server, &group);
        let audience = Audience::Group(group.clone());
        node.broadcast(now, &audience, said(b"unheard"), None)
            .unwrap();
    });
    scene.run(SECOND);
    assert_eq!(scene.world.bodies(scene.client), ["news", "news"]);
    assert_eq!(scene.world.bodies(scene.server), ["maybe"]);
    scene.end()
}

fn heartbeat() -> Traces {
    let (mut scene, _) = Scene::connected(9, |_| {});
    scene.run(50 * SECOND);
    let ended = |event: &Event| matches!(event, Event::Disconnected { .. });
    assert!(!scene.happened(true, ended));
    scene.end()
}

/// Cuts the network until both sides have noticed, with messages under way, and heals it.
fn cut(scene: &mut Scene, time: Duration) {
    scene.world.path.cut = true;
    scene.run(time);
    scene.world.path.cut = false;
    scene.run(20 * SECOND);
}

fn resume() -> Traces {
    let (mut scene, session) = Scene::connected(10, |world| {
        world.config().heartbeat.interval = 2 * SECOND;
        world.config().timeouts.retention = 15 * SECOND;
    });
    scene.tell(true, |node, now| {
        node.send(now, session, said(b"held")).unwrap();
    });
    // So long that its receipt is back.
    scene.run(5 * SECOND);
    let before = scene.world.request(scene.client, session, b"before");
    scene.world.path.cut = true;
    let during = scene.world.request(scene.client, session, b"during");
    scene.tell(true, |node, now| {
        node.send(now, session, said(b"kept")).unwrap();
    });
    cut(&mut scene, 10 * SECOND);
    for promise in [before, during] {
        assert!(scene.outcome(promise).unwrap().starts_with("Replied"));
    }
    let died = |event: &Event| matches!(event, Event::HeartbeatTimeout { .. });
    let resumed = |event: &Event| matches!(event, Event::Connected { resumed: true, .. });
    for client in [true, false] {
        assert!(scene.happened(client, died) && scene.happened(client, resumed));
    }
    assert_eq!(scene.world.bodies(scene.server).len(), 4, "none twice");
    // Beyond the retention that was begun by the cut.
    scene.run(16 * SECOND);
    scene.end()
}

fn rotation() -> Traces {
    let (mut scene, session) = Scene::connected(11, |world| {
        world.config().heartbeat.interval = SECOND;
    });
    for _ in 0..2 {
        cut(&mut scene, 6 * SECOND);
    }
    scene.tell(false, |node, now| {
        let audience = Audience::Everyone;
        node.broadcast(now, &audience, said(b"once"), None).unwrap();
    });
    let promise = scene.world.send_acked(scene.client, session, b"still here");
    scene.run(SECOND);
    assert_eq!(scene.outcome(promise).as_deref(), Some("Acked"));
    assert_eq!(scene.world.bodies(scene.client), ["once"]);
    let third = |event: &Event| matches!(event, Event::Connected { epoch: 3, .. });
    assert!(scene.happened(true, third) && scene.happened(false, third));
    scene.end()
}

/// A Welcome that resumes is lost with its link: the client comes back with the token of before.
fn previous_token() -> Traces {
    let epoch = |wanted| move |event: &Event| matches!(event, Event::Connected { epoch, .. } if *epoch == wanted);
    let after = |datagrams| {
        let (mut scene, _) = Scene::connected(19, |world| {
            world.config().heartbeat.interval = SECOND;
        });
        scene.world.path.cut = true;
        scene.run(6 * SECOND);
        scene.world.path.cut = false;
        let (server, client) = (scene.server, scene.client);
        scene.world.cut_after(server, client, Some(datagrams));
        scene.run(6 * SECOND);
        scene.world.cut_after(server, client, None);
        scene.run(20 * SECOND);
        let lost = scene.happened(false, epoch(2)) && !scene.happened(true, epoch(2));
        lost.then_some(scene)
    };
    let scene = (1..20).find_map(after).unwrap();
    assert!(scene.happened(true, epoch(3)));
    let gone = |event: &Event| matches!(event, Event::SessionLost { .. });
    assert!(!scene.happened(true, gone));
    scene.end()
}

fn lost() -> Traces {
    let (mut scene, session) = Scene::connected(12, |_| {});
    scene.world.kill(scene.server);
    let promise = scene.world.request(scene.client, session, b"gone?");
    scene.tell(true, |node, now| {
        node.send(now, session, said(b"unsaid")).unwrap();
    });
    scene.run(SECOND);
    scene.world.start_process(scene.server);
    scene.run(20 * SECOND);
    assert!(scene.outcome(promise).unwrap().starts_with("Lost"));
    let lost = |event: &Event| matches!(event, Event::SessionLost { .. });
    let back = |event: &Event| matches!(event, Event::Undelivered { .. });
    assert!(scene.happened(true, lost) && scene.happened(true, back));
    scene.end()
}

fn retention() -> Traces {
    let (mut scene, _) = Scene::connected(13, |world| {
        world.config().timeouts.retention = 5 * SECOND;
        world.config().heartbeat.interval = SECOND;
    });
    scene.world.kill(scene.client);
    scene.run(20 * SECOND);
    let closed = |event: &Event| matches!(event, Event::Closed { .. });
    assert!(scene.happened(false, closed));
    scene.end_server()
}

fn drain() -> Traces {
    let (mut scene, session) = Scene::connected(14, |_| {});
    let promise = scene.world.request(scene.client, session, b"in flight");
    scene.tell(false, |node, now| {
        let plan = DrainPlan {
            deadline: 3 * SECOND,
            retry_after: Some(30 * SECOND),
            alternative: Some("elsewhere:4433".into()),
        };
        node.drain(now, plan).unwrap();
    });
    scene.run(5 * SECOND);
    assert!(scene.outcome(promise).is_some());
    let told = |event: &Event| matches!(event, Event::Draining { .. });
    let over = |event: &Event| matches!(event, Event::Drained { .. });
    assert!(scene.happened(true, told) && scene.happened(false, over));
    scene.end()
}

fn close() -> Traces {
    let (mut scene, session) = Scene::connected(15, |_| {});
    for body in [b"last", b"tail"] {
        scene.tell(true, |node, now| {
            node.send(now, session, said(body)).unwrap();
        });
    }
    scene.tell(true, |node, now| {
        node.close(now, session, CloseCode::NORMAL, "enough")
            .unwrap();
    });
    scene.run(5 * SECOND);
    let closed = |event: &Event| matches!(event, Event::Closed { .. });
    assert!(scene.happened(true, closed) && scene.happened(false, closed));
    assert_eq!(scene.world.bodies(scene.server), ["last", "tail"]);
    scene.end()
}

fn moved() -> Traces {
    let (mut scene, session) = Scene::connected(16, |_| {});
    scene.world.rebind(scene.client);
    let promise = scene
        .world
        .request(scene.client, session, b"from elsewhere");
    scene.run(3 * SECOND);
    assert!(scene.outcome(promise).unwrap().starts_with("Replied"));
    let ended = |event: &Event| matches!(event, Event::Disconnected { .. });
    assert!(!scene.happened(false, ended));
    scene.end()
}

/// A peer that is let in does what no link survives.
fn fault(code: CloseCode, act: fn(&mut RawLink)) -> Traces {
    let mut scene = Scene::new(17, |_| {});
    let raw = scene
        .world
        .raw_client(scene.server, &RawSettings::default());
    scene.run(SECOND);
    scene.world.raw(raw).link().hello(&hello("mallory", 5));
    scene.run(SECOND);
    act(scene.world.raw(raw).link());
    scene.run(SECOND);
    let closed = |event: &Event| {
        matches!(
            event,
            Event::Disconnected {
                reason: DisconnectReason::Local { code: with, .. },
                ..
            } if *with == code
        )
    };
    assert!(scene.happened(false, closed), "{code}");
    scene.end_server()
}

fn gap(link: &mut RawLink) {
    let lane = link.open_lane(0, 2);
    link.send_envelope(lane, &Envelope::default());
}

fn undecodable(link: &mut RawLink) {
    let control = link.control_stream();
    link.send(control, &[3, 0xff, 0xff, 0xff]);
}

fn too_large(link: &mut RawLink) {
    let control = link.control_stream();
    link.send(control, &trunkline_testkit::raw_peer::length(4_097));
}

fn unknown_lane(link: &mut RawLink) {
    link.open_lane(62, 0);
}

fn misplaced(link: &mut RawLink) {
    link.hello(&hello("mallory", 5));
}

/// Acks of 65,536 promises that nobody made.
fn flood(link: &mut RawLink) {
    let lane = link.open_lane(64, 0);
    let envelope = Envelope {
        kind: Kind::Acks.into(),
        acks: vec![0, 65_536],
        ..Envelope::default()
    };
    link.send_envelope(lane, &envelope);
}

fn bad_receipt(link: &mut RawLink) {
    let receipts = vec![Receipt { lane: 0, next: 1 }];
    link.send_control(Frame::Receipts(Receipts { receipts }));
}
