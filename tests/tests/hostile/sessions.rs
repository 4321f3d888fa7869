//! Sessions of others, of the past, and of nobody.

use std::time::Duration;

use trunkline_core::{Event, SessionInfo};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{CloseCode, Hello, Ready, Receipt, Receipts, Resume, Welcome};
use trunkline_testkit::raw_peer::{RawSettings, hello};
use trunkline_testkit::{NodeIndex, World};

use crate::siege::Siege;

const TICK: Duration = Duration::from_millis(200);

/// A hello that asks for a session of before, for the `seed`th time.
fn resuming(client: &str, seed: u64, session_id: &[u8], token: &[u8]) -> Hello {
    Hello {
        resume: Some(Resume {
            session_id: session_id.to_vec().into(),
            token: token.to_vec().into(),
            epoch: 1,
            received: Vec::new(),
            attempt: seed,
        }),
        ..hello(client, seed)
    }
}

/// Says hello on a link of its own.
fn knock(siege: &mut Siege, hello: &Hello) -> NodeIndex {
    let peer = siege.raw(&RawSettings::default());
    siege.link(peer).hello(hello);
    siege.run(TICK);
    peer
}

/// The peer comes back for a session over another link, for the `attempt`th time.
fn come_back(siege: &mut Siege, peer: NodeIndex, first: &Hello, attempt: u64, token: &[u8]) {
    let server = siege.server;
    siege.world.redial(peer, server);
    siege.run(TICK);
    let again = resuming(&first.client_id, attempt, &first.session_id, token);
    siege.link(peer).hello(&again);
}

fn welcome(siege: &mut Siege, peer: NodeIndex) -> Welcome {
    match siege.link(peer).control().first() {
        Some(Frame::Welcome(welcome)) => welcome.clone(),
        other => panic!("{other:?}, {:?}", siege.link(peer).ended()),
    }
}

fn sessions(siege: &mut Siege) -> Vec<SessionInfo> {
    let server = siege.server;
    siege.world.node(server).sessions().collect()
}

#[test]
fn a_session_that_nobody_knows_is_replaced_and_the_client_is_told() {
    let mut siege = Siege::new(51);
    let before = siege.metrics();
    let peer = knock(&mut siege, &resuming("alice", 300, &[9; 16], &[8; 16]));
    let welcome = welcome(&mut siege, peer);
    assert_eq!((welcome.resumed, welcome.epoch), (false, 1));
    assert_eq!(CloseCode(welcome.lost_code), CloseCode::UNKNOWN_SESSION);
    assert_eq!(welcome.session_id, hello("alice", 300).session_id);
    let after = siege.metrics();
    assert_eq!(after.sessions_unknown, before.sessions_unknown + 1);
    assert_eq!(after.sessions_resumed, before.sessions_resumed);
    siege.unharmed();
}

/// Whoever learns the honest client's session id, and claims its name, lacks the token.
#[test]
fn another_clients_session_is_not_to_be_had() {
    let mut siege = Siege::new(52);
    let theirs = sessions(&mut siege)[0].clone();
    let before = siege.count(CloseCode::WRONG_TOKEN);
    let attempts = [
        resuming("honest", 310, &theirs.id.0, &[0; 16]),
        resuming("honest", 311, &theirs.id.0, &theirs.id.0),
        resuming("mallory", 312, &theirs.id.0, &[0xff; 16]),
        // And nor is its id for a session of one's own.
        Hello {
            session_id: theirs.id.0.to_vec().into(),
            ..hello("honest", 313)
        },
    ];
    for attempt in &attempts {
        let peer = knock(&mut siege, attempt);
        let reason = siege.closed(peer, CloseCode::WRONG_TOKEN);
        let says = if attempt.resume.is_some() {
            "the token does not resume this session"
        } else {
            "a session of this id exists"
        };
        assert!(reason.contains(says), "{reason}");
    }
    assert_eq!(
        siege.count(CloseCode::WRONG_TOKEN),
        before + attempts.len() as u64
    );
    let now = sessions(&mut siege);
    assert_eq!((now.len(), now[0].epoch), (1, theirs.epoch));
    siege.unharmed();
}

/// The right token under another name is wrong, and does not spoil the session for who has it.
#[test]
fn a_token_is_good_for_the_identity_that_it_was_given_to() {
    let mut siege = Siege::new(53);
    let first = hello("alice", 320);
    let alice = knock(&mut siege, &first);
    let token = welcome(&mut siege, alice).token;
    let thief = knock(
        &mut siege,
        &resuming("mallory", 321, &first.session_id, &token),
    );
    siege.closed(thief, CloseCode::WRONG_TOKEN);
    assert_eq!(
        siege.link(alice).ended(),
        None,
        "nothing has happened to its link"
    );
    let again = knock(
        &mut siege,
        &resuming("alice", 322, &first.session_id, &token),
    );
    assert!(welcome(&mut siege, again).resumed);
    siege.closed(alice, CloseCode::SUPERSEDED);
    siege.unharmed();
}

#[test]
fn an_old_token_is_good_until_the_client_is_ready_and_no_longer() {
    let mut siege = Siege::new(54);
    let first = hello("alice", 330);
    let peer = knock(&mut siege, &first);
    let token = welcome(&mut siege, peer).token;
    let resume = |seed, token: &[u8]| resuming("alice", seed, &first.session_id, token);
    // Its Welcome is lost, and it asks again with the token that it knows, time after time.
    for (n, epoch) in [(331, 2), (332, 3)] {
        let peer = knock(&mut siege, &resume(n, &token));
        assert_eq!(welcome(&mut siege, peer).epoch, epoch);
    }
    let peer = knock(&mut siege, &resume(333, &token));
    let fresh = welcome(&mut siege, peer);
    assert_eq!(fresh.epoch, 4);
    // Ready for an epoch of before says nothing.
    siege
        .link(peer)
        .send_control(Frame::Ready(Ready { epoch: 3 }));
    siege.run(TICK);
    let peer = knock(&mut siege, &resume(334, &token));
    let fresh = welcome(&mut siege, peer);
    siege
        .link(peer)
        .send_control(Frame::Ready(Ready { epoch: fresh.epoch }));
    siege.run(TICK);
    let before = siege.count(CloseCode::WRONG_TOKEN);
    let old = knock(&mut siege, &resume(335, &token));
    siege.closed(old, CloseCode::WRONG_TOKEN);
    assert_eq!(siege.count(CloseCode::WRONG_TOKEN), before + 1);
    assert_eq!(siege.link(peer).ended(), None);
    let new = knock(&mut siege, &resume(336, &fresh.token));
    assert!(welcome(&mut siege, new).resumed);
    siege.unharmed();
}

/// A client's first attempt is slow on its way, and its second is there before it.
#[test]
fn a_late_attempt_does_not_take_the_session_from_the_one_that_followed() {
    let mut siege = Siege::new(56);
    let first = hello("alice", 350);
    let peer = knock(&mut siege, &first);
    let token = welcome(&mut siege, peer).token;
    let resume = |attempt| resuming("alice", attempt, &first.session_id, &token);
    let second = knock(&mut siege, &resume(2));
    assert_eq!(welcome(&mut siege, second).epoch, 2);
    for late in [1, 2] {
        let late = knock(&mut siege, &resume(late));
        let reason = siege.closed(late, CloseCode::SUPERSEDED);
        assert!(reason.contains("a later attempt"), "{reason}");
    }
    assert_eq!(siege.link(second).ended(), None);
    let third = knock(&mut siege, &resume(3));
    assert_eq!(
        welcome(&mut siege, third).epoch,
        3,
        "the token was not used up"
    );
    siege.closed(second, CloseCode::SUPERSEDED);
    siege.unharmed();
}

#[test]
fn there_is_an_end_to_one_clients_sessions_and_to_all() {
    let mut world = World::new(55);
    world.config().limits.sessions_per_client = 2;
    world.config().limits.sessions = 4;
    let mut siege = Siege::of(world);
    for seed in [340, 341] {
        let peer = knock(&mut siege, &hello("greedy", seed));
        welcome(&mut siege, peer);
    }
    let refused = |siege: &mut Siege, client: &str, seed| {
        let peer = knock(siege, &hello(client, seed));
        let reason = siege.closed(peer, CloseCode::TOO_MANY_SESSIONS);
        assert!(reason.contains("keeps no more sessions"), "{reason}");
    };
    refused(&mut siege, "greedy", 342);
    let peer = knock(&mut siege, &hello("another", 343));
    welcome(&mut siege, peer);
    refused(&mut siege, "one-too-many", 344);
    assert_eq!(siege.count(CloseCode::TOO_MANY_SESSIONS), 2);
    assert_eq!(siege.metrics().sessions, 4);
    siege.unharmed();
}

/// What a client that resumes sends again is dropped, also if it is not what it was.
#[test]
fn what_is_held_is_dropped_whatever_it_holds() {
    let mut siege = Siege::new(57);
    let said = |body: &'static str| Envelope {
        tag: Some(1),
        body: body.into(),
        ..Envelope::default()
    };
    let first = hello("alice", 360);
    let peer = knock(&mut siege, &first);
    let token = welcome(&mut siege, peer).token;
    let lane = siege.link(peer).open_lane(0, 0);
    for body in ["one", "two", "three", "four"] {
        siege.link(peer).send_envelope(lane, &said(body));
    }
    siege.run(TICK);
    let before = siege.metrics();
    let server = siege.server;
    come_back(&mut siege, peer, &first, 361, &token);
    let link = siege.link(peer);
    let lane = link.open_lane(0, 0);
    link.send_envelope(lane, &said("one"));
    link.send_envelope(lane, &said("another two"));
    // A kind that does not belong here, and a request without a promise: had they been new, the link would be
    // closed. The tag of one that is dropped is that of those behind it all the same.
    for (kind, tag) in [(Kind::Reply, Some(7)), (Kind::Request, None)] {
        let envelope = Envelope {
            kind: kind.into(),
            tag,
            ..said("otherwise")
        };
        link.send_envelope(lane, &envelope);
    }
    let five = Envelope {
        tag: None,
        ..said("five")
    };
    link.send_envelope(lane, &five);
    siege.run(TICK);
    assert_eq!(siege.link(peer).ended(), None);
    let messages = siege.world.log(server).iter();
    let taken: Vec<_> = messages
        .filter_map(|(_, event)| match event {
            Event::Message(delivery) => Some((delivery.tag.0, &delivery.body[..])),
            _ => None,
        })
        .filter(|(tag, _)| [1, 7].contains(tag))
        .collect();
    let one_to_four = ["one", "two", "three", "four"].map(|body| (1, body.as_bytes()));
    assert_eq!(taken, [&one_to_four[..], &[(7, &b"five"[..])]].concat());
    let dropped = siege.metrics().duplicates_dropped - before.duplicates_dropped;
    assert_eq!(dropped, 4);
    siege.unharmed();
}

#[test]
fn a_stream_that_leaves_out_what_is_not_held_is_a_gap() {
    let mut siege = Siege::new(58);
    let first = hello("alice", 370);
    let peer = knock(&mut siege, &first);
    let token = welcome(&mut siege, peer).token;
    let lane = siege.link(peer).open_lane(0, 0);
    for _ in 0..4 {
        siege.link(peer).send_envelope(lane, &Envelope::default());
    }
    siege.run(TICK);
    come_back(&mut siege, peer, &first, 371, &token);
    let link = siege.link(peer);
    let lane = link.open_lane(0, 5);
    link.send_envelope(lane, &Envelope::default());
    siege.run(TICK);
    siege.closed(peer, CloseCode::SEQUENCE_GAP);
    siege.unharmed();
}

/// What was sent on an earlier link may be said to be held in `Resume`, but not later: the place of what follows in its
/// stream would not be its number.
#[test]
fn a_receipt_for_what_this_link_has_not_carried_is_refused() {
    let mut siege = Siege::new(59);
    let first = hello("alice", 380);
    let peer = siege.raw(&RawSettings {
        stream_window: 300_000,
        ..RawSettings::default()
    });
    siege.link(peer).hello(&first);
    siege.run(TICK);
    let token = welcome(&mut siege, peer).token;
    let session = sessions(&mut siege).last().unwrap().session;
    let server = siege.server;
    for _ in 0..40 {
        let body = vec![7; 100_000];
        siege.world.send(server, session, body).unwrap();
    }
    siege.run(TICK);
    let came = siege.link(peer).envelopes(0).len() as u64;
    assert!(came >= 15, "{came}");
    come_back(&mut siege, peer, &first, 381, &token);
    // Its stream is full long before all of that is on its way again.
    siege.link(peer).set_reads(false);
    siege.run(TICK);
    let receipts = vec![Receipt {
        lane: 0,
        next: came,
    }];
    let link = siege.link(peer);
    link.send_control(Frame::Receipts(Receipts { receipts }));
    siege.run(TICK);
    siege.closed(peer, CloseCode::BAD_RECEIPT);
    siege.unharmed();
}

/// A link that was superseded is not listened to any more: what it still says is nobody's.
#[test]
fn a_superseded_link_speaks_for_nobody() {
    let mut siege = Siege::new(56);
    let first = hello("alice", 350);
    let old = knock(&mut siege, &first);
    let token = welcome(&mut siege, old).token;
    let server = siege.server;
    let message = |body: &'static str| Envelope {
        kind: Kind::Message.into(),
        body: body.into(),
        ..Envelope::default()
    };
    let lane = siege.link(old).open_lane(0, 0);
    siege.world.redial(old, server);
    siege.run(TICK);
    let again = resuming("alice", 351, &first.session_id, &token);
    siege.link(old).hello(&again);
    siege.world.raw(old).links()[0].send_envelope(lane, &message("from the old link"));
    siege.run(TICK);
    let lane = siege.link(old).open_lane(0, 0);
    siege
        .link(old)
        .send_envelope(lane, &message("from the new link"));
    siege.run(TICK);
    // Which of the two came first is up to QUIC; only one of them can be number 0.
    let bodies = siege.world.bodies(siege.server);
    let said = bodies.iter().filter(|body| body.ends_with(b"link")).count();
    assert_eq!(said, 1);
    assert_eq!(siege.link(old).ended(), None);
    siege.unharmed();
}
