//! A client that comes back for its session.

use std::time::Duration;

use trunkline_core::{CloseCode, DrainPlan, Event, SessionsFull, Tag};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{Hello, Limits, Ready, Resume};
use trunkline_testkit::raw_peer::{Ended, RawSettings, hello};
use trunkline_testkit::{NodeIndex, World, echo, silent};

use super::{ACKS, TICK, first_link, message, receipts, request, welcome};

/// A hello that asks for the session of an earlier one, of which it has received so much.
fn resuming(first: &Hello, token: bytes::Bytes, received: &[(u32, u64)]) -> Hello {
    let mut again = hello("sensor-7", 2);
    again.resume = Some(Resume {
        session_id: first.session_id.clone(),
        token,
        epoch: 1,
        received: receipts(received),
        attempt: 1,
    });
    again
}

/// A client whose first request nobody has answered yet, and the hello with which it comes back.
fn begun(seed: u64) -> (World, NodeIndex, NodeIndex, Hello) {
    let mut world = World::new(seed);
    let server = world.server();
    let first = hello("sensor-7", 1);
    let (client, _) = first_link(&mut world, server, &first);
    world.run(TICK, silent);
    let token = welcome(world.raw(client).link()).token;
    (world, server, client, resuming(&first, token, &[]))
}

#[test]
fn a_foreign_client_resumes_and_nothing_is_doubled_or_lost() {
    let mut world = World::new(3);
    let server = world.server();
    let first = hello("sensor-7", 1);
    let (client, lane) = first_link(&mut world, server, &first);
    world.run(TICK, echo);
    let link = world.raw(client).link();
    let token = welcome(link).token;
    link.send_control(Frame::Ready(Ready { epoch: 1 }));
    for _ in 1..4 {
        link.send_envelope(lane, &message(0, "kept"));
    }
    world.run(TICK, echo);
    // The server sends two messages that this client has not taken, for it reads no more.
    world.raw(client).link().set_reads(false);
    let session = world.node(server).sessions().next().unwrap().session;
    let promises = ["a", "b"].map(|body| world.send_acked(server, session, body.as_bytes()));
    world.run(TICK, echo);

    world.redial(client, server);
    world.run(TICK, echo);
    let link = world.raw(client).link();
    link.hello(&resuming(&first, token, &[(64, 1)]));
    world.run(TICK, echo);
    let old = &world.raw(client).links()[0];
    let superseded = u64::from(CloseCode::SUPERSEDED.0);
    assert!(matches!(old.ended(), Some(Ended::Application { code, .. }) if *code == superseded));
    let link = world.raw(client).link();
    let resumed = welcome(link);
    assert_eq!(
        (resumed.epoch, resumed.resumed, resumed.lost_code),
        (2, true, 0)
    );
    assert_eq!(resumed.session_id, first.session_id);
    assert_eq!(resumed.received, receipts(&[(0, 4)]));
    link.send_control(Frame::Ready(Ready { epoch: 2 }));
    // Not all of it needs sending again: what is, is dropped.
    let lane = link.open_lane(0, 3);
    link.send_envelope(lane, &message(0, "kept"));
    link.send_envelope(lane, &message(0, "new"));
    link.send_envelope(lane, &request(2, "asked"));
    world.run(TICK, echo);
    let bodies: Vec<_> = world.bodies(server);
    assert_eq!(bodies, ["first", "kept", "kept", "kept", "new", "asked"]);
    let link = world.raw(client).link();
    let replayed = link.envelopes(0);
    assert!(
        replayed
            .iter()
            .map(|message| &message.body[..])
            .eq([b"a", b"b"])
    );
    assert_eq!(link.first_number(0), Some(0));
    assert!(replayed.iter().all(|message| message.tag > Some(0)));
    assert_eq!(link.first_number(64), Some(1), "the client holds number 0");
    let answers = link.open_lane(64, 0);
    let acks = Envelope {
        kind: ACKS,
        acks: vec![0, 2],
        ..Envelope::default()
    };
    link.send_envelope(answers, &acks);
    world.run(TICK, echo);
    for promise in promises {
        assert_eq!(world.outcome(server, promise).as_deref(), Some("Acked"));
    }
}

#[test]
fn a_reply_that_a_client_does_not_take_any_more_when_it_resumes_is_a_rejection() {
    let (mut world, server, client, mut again) = begun(8);
    let came = world.log(server).iter().find_map(|(_, event)| match event {
        Event::Message(delivery) => Some(delivery.key),
        _ => None,
    });
    let delivery = came.unwrap();
    let now = world.now();
    world.raw(client).link().close(now, 2, b"broken");
    world.redial(client, server);
    world.run(TICK, silent);
    let now = world.now();
    let node = world.node(server);
    node.reply(now, delivery, Tag(7), vec![0; 200_000]).unwrap();
    again.limits = Some(Limits {
        frame_bytes: 65_536,
        lanes: 4,
    });
    world.raw(client).link().hello(&again);
    world.run(TICK, silent);
    let link = world.raw(client).link();
    assert!(welcome(link).resumed);
    let [rejected] = &link.envelopes(64)[..] else {
        panic!("{:?}", link.envelopes(64));
    };
    assert_eq!((rejected.kind, rejected.promise), (Kind::Reject as i32, 1));
    assert!(rejected.reason.contains("200000 bytes"), "{rejected:?}");
    assert!(link.envelopes(65).is_empty());
}

#[test]
fn a_client_that_resumes_while_the_server_drains_is_told_where_to_go() {
    let (mut world, server, client, again) = begun(9);
    // The server does not know that the client's first link is as good as dead.
    world.redial(client, server);
    world.run(TICK, silent);
    let now = world.now();
    let plan = DrainPlan {
        alternative: Some("elsewhere:4433".into()),
        ..DrainPlan::within(Duration::from_secs(60))
    };
    world.node(server).drain(now, plan).unwrap();
    world.run(TICK, silent);
    world.raw(client).link().hello(&again);
    world.run(TICK, silent);
    let told = |frame: &Frame| matches!(frame, Frame::Drain(drain) if drain.alternative == "elsewhere:4433" && drain.deadline_ms < 60_000);
    let link = world.raw(client).link();
    assert!(welcome(link).resumed);
    assert!(link.control().iter().any(told), "{:?}", link.control());
}

/// A client's first hello on a link that it has given up comes after that of the link which followed, and so does the
/// second of three.
#[test]
fn a_hello_that_comes_late_makes_nothing_and_ends_nothing() {
    let mut world = World::new(10);
    world.config().sessions_full = SessionsFull::EndOldest;
    world.config().limits.sessions_per_client = 1;
    let server = world.server();
    let client = world.raw_client(server, &RawSettings::default());
    world.redial(client, server);
    world.redial(client, server);
    world.run(TICK, silent);
    let first = hello("sensor-7", 1);
    let asks = |seed, attempt| {
        let mut asks = hello("sensor-7", seed);
        asks.resume = Some(Resume {
            session_id: first.session_id.clone(),
            token: first.token.clone(),
            epoch: 0,
            received: Vec::new(),
            attempt,
        });
        asks
    };
    let latest = asks(3, 2);
    let order = [(2, latest.clone()), (0, first.clone()), (1, asks(2, 1))];
    for (link, hello) in order {
        world.raw(client).links()[link].hello(&hello);
        world.run(TICK, silent);
    }
    let links = world.raw(client).links();
    let made = welcome(&links[2]);
    assert_eq!(
        (made.resumed, &made.session_id),
        (false, &latest.session_id)
    );
    assert_eq!(links[2].ended(), None);
    let superseded = u64::from(CloseCode::SUPERSEDED.0);
    for late in &links[..2] {
        assert!(
            matches!(late.ended(), Some(Ended::Application { code, .. }) if *code == superseded)
        );
    }
    assert_eq!(world.node(server).sessions().count(), 1);
}

/// A lane is its receiver's, who may have more of them, and nothing in them.
#[test]
fn a_client_may_say_that_it_holds_nothing_of_lanes_that_it_alone_has() {
    let (mut world, server, client, mut again) = begun(11);
    again.limits = Some(Limits {
        frame_bytes: 65_536,
        lanes: 8,
    });
    if let Some(resume) = &mut again.resume {
        resume.received = receipts(&[(5, 0), (64, 0)]);
    }
    world.redial(client, server);
    world.run(TICK, silent);
    world.raw(client).link().hello(&again);
    world.run(TICK, silent);
    let link = world.raw(client).link();
    assert!(welcome(link).resumed);
    assert_eq!(link.ended(), None);
}

/// A hello that asks for a session again, for the how-manieth time.
fn attempt_at(lost: &Hello, attempt: u8) -> Hello {
    let mut again = resuming(lost, lost.token.clone(), &[]);
    again.session_id = vec![attempt; 16].into();
    if let Some(resume) = &mut again.resume {
        resume.attempt = attempt.into();
    }
    again
}

/// A server that was started anew makes a session for each attempt whose answer is lost, and keeps the last.
#[test]
fn sessions_of_attempts_that_were_given_up_go_with_the_next_one() {
    let mut world = World::new(12);
    world.config().limits.sessions_per_client = 1;
    let server = world.server();
    let client = world.raw_client(server, &RawSettings::default());
    world.redial(client, server);
    world.run(TICK, silent);
    let lost = hello("sensor-7", 1);
    for (link, attempt) in [(0, 1), (1, 2)] {
        let again = attempt_at(&lost, attempt);
        world.raw(client).links()[link].hello(&again);
        world.run(TICK, silent);
    }
    let [first, second] = world.raw(client).links() else {
        panic!("there are two links");
    };
    assert!(!welcome(first).resumed && !welcome(second).resumed);
    let superseded = u64::from(CloseCode::SUPERSEDED.0);
    assert!(matches!(first.ended(), Some(Ended::Application { code, .. }) if *code == superseded));
    assert_eq!(second.ended(), None);
    assert_eq!(world.node(server).sessions().count(), 1);
}

/// Whoever knows a session's name, and no token of it, ends nothing that its client has.
#[test]
fn a_session_that_its_client_has_confirmed_does_not_go_with_an_attempt_at_another() {
    let mut world = World::new(13);
    let server = world.server();
    let client = world.raw_client(server, &RawSettings::default());
    world.redial(client, server);
    world.run(TICK, silent);
    let lost = hello("sensor-7", 1);
    let link = &mut world.raw(client).links()[0];
    link.hello(&attempt_at(&lost, 1));
    link.send_control(Frame::Ready(Ready { epoch: 1 }));
    world.run(TICK, silent);
    world.raw(client).links()[1].hello(&attempt_at(&lost, 2));
    world.run(TICK, silent);
    assert!(
        world
            .raw(client)
            .links()
            .iter()
            .all(|link| link.ended().is_none())
    );
    assert_eq!(world.node(server).sessions().count(), 2);
}
