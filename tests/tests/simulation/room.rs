//! Room: what is full says so, what is given up frees it, and what the peer cannot take comes back.

use std::time::Duration;

use trunkline_core::{
    CloseCode, CommandError, Event, Limits, PromisesFull, SessionKey, UndeliveredReason,
};
use trunkline_testkit::{NodeIndex, World, echo, silent};

use crate::{SECOND, message};

#[test]
fn what_times_out_while_there_is_no_link_frees_its_room_at_once() {
    let mut world = World::new(1);
    world.config().limits.outbox_messages = 4;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.kill(server);
    let now = world.now();
    for n in 0..4 {
        let node = world.node(client);
        node.send_acked(now, session, message(vec![n]), Some(SECOND))
            .unwrap();
    }
    assert_eq!(
        world.send(client, session, vec![4]),
        Err(CommandError::OutboxFull)
    );
    world.run(2 * SECOND, echo);
    assert_eq!(
        world.count(client, |e| matches!(e, Event::Writable { .. })),
        1
    );
    let info = world.node(client).session_info(session).unwrap();
    assert_eq!(info.queued_bytes, 0);
    assert_eq!(world.send(client, session, vec![4]), Ok(()));
}

#[test]
fn a_message_that_the_server_does_not_take_comes_back_and_the_session_lives() {
    let mut world = World::new(2);
    world.config().limits.frame_bytes = 64 << 10;
    let server = world.server();
    world.config().limits.frame_bytes = 1 << 20;
    let client = world.client();
    let session = world.connect(client, server, "alice");
    // Sent before anybody knows what the server takes.
    let large = world.send_acked(client, session, &[1; 100_000]);
    assert_eq!(world.send(client, session, vec![2; 100_000]), Ok(()));
    let small = world.send_acked(client, session, b"small");
    let fits = world.request(client, session, &[3; 50_000]);
    world.run(SECOND, echo);
    let outcome = world.outcome(client, large).unwrap();
    assert!(outcome.contains("frames of 65536 bytes"), "{outcome}");
    let back = |e: &Event| {
        let reason = UndeliveredReason::NotTaken;
        matches!(e, Event::Undelivered { message, maybe_delivered: false, reason: found, .. }
            if message.body.len() == 100_000 && *found == reason)
    };
    assert_eq!(world.count(client, back), 1);
    assert_eq!(world.outcome(client, small).as_deref(), Some("Acked"));
    assert!(world.outcome(client, fits).unwrap().starts_with("Replied"));
    let broke = |e: &Event| matches!(e, Event::Disconnected { .. });
    assert_eq!(world.count(client, broke), 0);
    let info = world.node(client).session_info(session).unwrap();
    assert_eq!((info.queued_bytes, info.promises), (0, 0));
}

/// A client's session has all of the room that its node's sessions share, with messages that nobody waits for
/// and that do not arrive while the path is cut, and another one was refused for it: in this order.
fn one_has_all_room(cut: bool) -> (World, NodeIndex, [SessionKey; 2]) {
    let mut world = World::new(3);
    world.config().limits.outbox_bytes_total = 10_000;
    let server = world.server();
    let client = world.client();
    let [greedy, modest] = ["greedy", "modest"].map(|name| world.connect(client, server, name));
    world.run(SECOND, echo);
    world.path.cut = cut;
    for _ in 0..2 {
        assert_eq!(world.send(client, greedy, vec![1; 4_500]), Ok(()));
    }
    let full = world.send(client, modest, vec![2; 4_500]);
    assert_eq!(full, Err(CommandError::OutboxFull));
    (world, client, [greedy, modest])
}

#[test]
fn sessions_share_the_nodes_room_and_hear_of_it_from_each_other() {
    let (mut world, client, [_, modest]) = one_has_all_room(false);
    world.run(SECOND, echo);
    let writable = |e: &Event| *e == Event::Writable { session: modest };
    assert_eq!(world.count(client, writable), 1);
    let now = world.now();
    assert_eq!(world.node(client).metrics(now).outbox_bytes, 0);
    assert_eq!(world.send(client, modest, vec![2; 4_500]), Ok(()));
}

#[test]
fn a_session_that_ends_makes_room_for_others() {
    // No promise settles when the messages come back.
    let (mut world, client, [greedy, modest]) = one_has_all_room(true);
    let now = world.now();
    let node = world.node(client);
    node.close(now, greedy, CloseCode::NORMAL, "enough")
        .unwrap();
    world.run(6 * SECOND, echo);
    let back = |e: &Event| matches!(e, Event::Undelivered { session, .. } if *session == greedy);
    assert_eq!(world.count(client, back), 2);
    let writable = |e: &Event| *e == Event::Writable { session: modest };
    assert_eq!(world.count(client, writable), 1);
    assert_eq!(world.send(client, modest, vec![2; 4_500]), Ok(()));
}

/// A node with 10,000 bytes of room for all its sessions, of which two have servers of their own; that of the
/// first one stands still, and holds nothing of what is sent to it.
fn one_server_stands_still(
    limits: impl FnOnce(&mut Limits),
) -> (World, NodeIndex, [SessionKey; 2]) {
    let mut world = World::new(5);
    world.config().limits.outbox_bytes_total = 10_000;
    limits(&mut world.config().limits);
    let [still, lively] = [world.server(), world.server()];
    let client = world.client();
    let held = world.connect(client, still, "held");
    let modest = world.connect(client, lively, "modest");
    world.run(SECOND, echo);
    world.pause(still);
    (world, client, [held, modest])
}

fn heard(world: &World, client: NodeIndex, session: SessionKey) -> usize {
    world.count(client, |e| *e == Event::Writable { session })
}

#[test]
fn the_rest_of_what_others_hold_for_long_is_told_of() {
    let (mut world, client, [held, modest]) = one_server_stands_still(|_| {});
    assert_eq!(world.send(client, held, vec![1; 7_000]), Ok(()));
    let full = world.send(client, held, vec![1; 4_000]);
    assert_eq!(full, Err(CommandError::OutboxFull));
    assert_eq!(world.send(client, modest, vec![2; 2_000]), Ok(()));
    let full = world.send(client, modest, vec![2; 2_000]);
    assert_eq!(full, Err(CommandError::OutboxFull));
    world.run(SECOND, echo);
    assert_eq!(heard(&world, client, modest), 1);
    assert_eq!(heard(&world, client, held), 0);
    assert_eq!(world.send(client, modest, vec![2; 2_000]), Ok(()));
}

/// Nobody is told that there is room for less than what was refused.
#[test]
fn what_is_too_little_is_told_to_nobody() {
    let (mut world, client, [held, modest]) = one_server_stands_still(|_| {});
    assert_eq!(world.send(client, held, vec![1; 7_000]), Ok(()));
    let full = world.send(client, modest, vec![2; 4_000]);
    assert_eq!(full, Err(CommandError::OutboxFull));
    for _ in 0..10 {
        world.send_acked(client, modest, b"small");
        world.run(10 * SECOND, echo);
    }
    assert_eq!(heard(&world, client, modest), 0);
}

#[test]
fn the_last_free_promises_are_told_of() {
    let (mut world, client, [held, modest]) = one_server_stands_still(|limits| {
        limits.outbox_bytes_total = 1 << 20;
        limits.promises_total = 160;
        limits.promises = 155;
    });
    for _ in 0..155 {
        world.request(client, held, b"");
    }
    for _ in 0..5 {
        world.request(client, modest, b"");
    }
    let now = world.now();
    let full = world.node(client).request(now, modest, message("x"), None);
    assert_eq!(full.unwrap_err().error, CommandError::PromisesFull);
    world.run(SECOND, echo);
    assert_eq!(heard(&world, client, modest), 1);
}

/// A node of whose room a server that stands still holds most, and thirty sessions more; none of them uses what it
/// hears of.
fn thirty_want_room(limits: impl FnOnce(&mut Limits)) -> (World, NodeIndex, Vec<SessionKey>) {
    let (mut world, client, [held, modest]) = one_server_stands_still(limits);
    let lively = world.server();
    let names = (0..30).map(|number| format!("client-{number}"));
    let others: Vec<_> = names
        .map(|name| world.connect(client, lively, &name))
        .collect();
    world.run(SECOND, echo);
    (world, client, [vec![held, modest], others].concat())
}

#[test]
fn promises_that_are_free_are_told_of_in_turn_to_all_who_want_one() {
    let (mut world, client, sessions) = thirty_want_room(|limits| {
        limits.outbox_bytes_total = 1 << 20;
        limits.promises_total = 160;
        limits.promises = 159;
    });
    let [held, modest, others @ ..] = &sessions[..] else {
        panic!("{sessions:?}");
    };
    for _ in 0..159 {
        world.request(client, *held, b"");
    }
    world.request(client, *modest, b"");
    let now = world.now();
    for other in others {
        let full = world.node(client).request(now, *other, message("x"), None);
        assert_eq!(full.unwrap_err().error, CommandError::PromisesFull);
    }
    world.run(SECOND, echo);
    for other in others {
        assert_eq!(heard(&world, client, *other), 1, "{other:?}");
    }
}

#[test]
fn bytes_that_are_free_are_told_of_in_turn_to_all_who_want_some() {
    let (mut world, client, sessions) = thirty_want_room(|_| {});
    let [held, modest, others @ ..] = &sessions[..] else {
        panic!("{sessions:?}");
    };
    assert_eq!(world.send(client, *held, vec![1; 7_000]), Ok(()));
    assert_eq!(world.send(client, *modest, vec![2; 2_000]), Ok(()));
    for (other, place) in others.iter().zip(1..) {
        // Every third wants more than there is going to be.
        let size = if place % 3 == 0 { 4_000 } else { 2_000 };
        let full = world.send(client, *other, vec![3; size]);
        assert_eq!(full, Err(CommandError::OutboxFull));
    }
    world.run(SECOND, echo);
    for (other, place) in others.iter().zip(1..) {
        let told = usize::from(place % 3 != 0);
        assert_eq!(heard(&world, client, *other), told, "{other:?}");
    }
}

#[test]
fn who_was_short_of_what_others_held_is_told_of_it_with_an_outbox_that_is_more_than_half_full() {
    let (mut world, client, [held, modest]) =
        one_server_stands_still(|limits| limits.outbox_bytes = 6_000);
    world.path.cut = true;
    assert_eq!(world.send(client, held, vec![1; 5_500]), Ok(()));
    assert_eq!(world.send(client, modest, vec![2; 4_000]), Ok(()));
    let full = world.send(client, modest, vec![2; 1_000]);
    assert_eq!(full, Err(CommandError::OutboxFull));
    let now = world.now();
    let node = world.node(client);
    node.close(now, held, CloseCode::NORMAL, "enough").unwrap();
    world.run(6 * SECOND, echo);
    assert_eq!(heard(&world, client, modest), 1);
    assert_eq!(world.send(client, modest, vec![2; 1_000]), Ok(()));
}

#[test]
fn more_cancels_at_a_time_than_the_peer_can_read_cost_no_link() {
    let mut world = World::new(14);
    world.path.delay = Duration::from_millis(50);
    world.config().transport.stream_receive_window = 16 << 10;
    world.config().limits.deliveries = 10_000;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, silent);
    for number in 0..8_000_u32 {
        let now = world.now();
        let asked = message(number.to_be_bytes().to_vec());
        let node = world.node(client);
        node.request(now, session, asked, Some(10 * SECOND))
            .unwrap();
    }
    world.run(30 * SECOND, silent);
    let cancelled = world.count(server, |e| matches!(e, Event::Cancelled { .. }));
    assert!(cancelled > 500, "{cancelled}");
    for node in [server, client] {
        assert_eq!(world.disconnects(node), []);
    }
}

#[test]
fn an_evicted_promise_is_cancelled_at_the_peer() {
    let mut world = World::new(4);
    world.config().limits.promises = 1;
    world.config().promises_full = PromisesFull::EvictOldest;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let evicted = world.request(client, session, b"old");
    world.run(SECOND, silent);
    world.request(client, session, b"new");
    world.run(SECOND, silent);
    assert_eq!(world.outcome(client, evicted).as_deref(), Some("Evicted"));
    let told = |e: &Event| matches!(e, Event::Cancelled { .. });
    assert_eq!(world.count(server, told), 1);
}

#[test]
fn a_promise_given_up_without_a_link_is_cancelled_at_the_peer_on_the_next() {
    let mut world = World::new(5);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let given_up = world.request(client, session, b"work");
    world.run(SECOND, silent);
    world.path.cut = true;
    world.run(60 * SECOND, silent);
    let now = world.now();
    world.node(client).cancel(now, given_up).unwrap();
    world.path.cut = false;
    world.run(60 * SECOND, silent);
    let resumed = |e: &Event| matches!(e, Event::Connected { resumed: true, .. });
    assert_eq!(world.count(server, resumed), 1);
    let told = |e: &Event| matches!(e, Event::Cancelled { .. });
    assert_eq!(world.count(server, told), 1);
}

#[test]
fn a_request_that_the_server_has_is_cancelled_again_if_its_link_was_dying() {
    let mut world = World::new(13);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let long_ago = world.request(client, session, b"long ago");
    let given_up = world.request(client, session, b"work");
    world.run(SECOND, silent);
    let cancel = |world: &mut World, promise| {
        let now = world.now();
        world.node(client).cancel(now, promise).unwrap();
    };
    cancel(&mut world, long_ago);
    world.run(60 * SECOND, silent);
    let told = |e: &Event| matches!(e, Event::Cancelled { .. });
    assert_eq!(world.count(server, told), 1);
    world.path.cut = true;
    cancel(&mut world, given_up);
    world.run(60 * SECOND, silent);
    world.path.cut = false;
    world.run(60 * SECOND, silent);
    let resumed = |e: &Event| matches!(e, Event::Connected { resumed: true, .. });
    assert_eq!(world.count(server, resumed), 1);
    assert_eq!(world.count(server, told), 2);
}

#[test]
fn what_was_cancelled_on_a_dying_link_is_not_asked_for_on_the_next() {
    let mut world = World::new(12);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, silent);
    world.path.cut = true;
    let given_up = world.request(client, session, b"not any more");
    let wanted = world.request(client, session, b"still");
    // So many cancels, and no more, are told again.
    let told_again: Vec<_> = (0..64)
        .map(|_| world.request(client, session, b"never"))
        .collect();
    world.run(SECOND, silent);
    let now = world.now();
    for promise in [given_up].into_iter().chain(told_again) {
        world.node(client).cancel(now, promise).unwrap();
    }
    world.run(60 * SECOND, silent);
    world.path.cut = false;
    world.run(60 * SECOND, silent);
    let timeouts: Vec<_> = world
        .log(server)
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Message(delivery) => Some((delivery.body.clone(), delivery.timeout)),
            _ => None,
        })
        .collect();
    let [(first, none_left), (second, left), others @ ..] = &timeouts[..] else {
        panic!("{timeouts:?}");
    };
    assert!(others.len() < 10, "{timeouts:?}");
    assert!(others.iter().all(|(_, left)| left == none_left));
    assert_eq!(
        (&first[..], &second[..]),
        (&b"not any more"[..], &b"still"[..])
    );
    assert_eq!(*none_left, Some(Duration::from_millis(1)));
    assert_ne!(*left, *none_left);
    assert_eq!(world.outcome(client, wanted), None);
}

#[test]
fn who_finds_a_server_full_keeps_what_is_queued() {
    let mut world = World::new(13);
    world.config().limits.sessions = 1;
    let server = world.server();
    world.config().limits.sessions = 100;
    let (early, late) = (world.client(), world.client());
    let first = world.connect(early, server, "alice");
    world.run(SECOND, echo);
    let second = world.connect(late, server, "bob");
    let waits = world.send_acked(late, second, b"once there is room");
    world.run(5 * SECOND, echo);
    assert_eq!(world.outcome(late, waits), None);
    let now = world.now();
    let node = world.node(early);
    node.close(now, first, CloseCode::NORMAL, "room").unwrap();
    world.run(20 * SECOND, echo);
    assert_eq!(world.outcome(late, waits).as_deref(), Some("Acked"));
    assert_eq!(
        world.count(late, |e| matches!(e, Event::SessionLost { .. })),
        0
    );
}

/// Whether the session hears of room once its outbox is empty, while so many of its ten promises
/// stay pending.
fn hears_of_room(pending: u8) -> bool {
    let mut world = World::new(9);
    world.config().limits.promises = 10;
    world.config().limits.outbox_messages = 20;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    for n in 0..pending {
        let now = world.now();
        let node = world.node(client);
        let long = Some(1_000 * SECOND);
        node.request(now, session, message(vec![n]), long).unwrap();
    }
    world.run(SECOND, silent);
    while world.send(client, session, vec![0]).is_ok() {}
    world.run(SECOND, silent);
    world.count(client, |e| matches!(e, Event::Writable { .. })) == 1
}

#[test]
fn an_empty_outbox_is_told_of_whatever_promises_are_pending() {
    assert!(hears_of_room(0));
    assert!(hears_of_room(9));
    assert!(hears_of_room(10));
}

#[test]
fn a_full_promise_table_is_told_of_with_its_first_free_place() {
    let mut world = World::new(10);
    world.config().limits.promises = 10;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let asked: Vec<_> = (0..10)
        .map(|n| world.request(client, session, &[n]))
        .collect();
    world.run(SECOND, silent);
    let now = world.now();
    let full = world.node(client).request(now, session, message("x"), None);
    assert_eq!(full.unwrap_err().error, CommandError::PromisesFull);
    world.node(client).cancel(now, asked[3]).unwrap();
    world.run(SECOND, silent);
    let writable = |e: &Event| matches!(e, Event::Writable { .. });
    assert_eq!(world.count(client, writable), 1);
}

#[test]
fn what_fits_into_no_outbox_comes_back_instead_of_waiting_for_ever() {
    let mut world = World::new(11);
    world.config().limits.outbox_bytes = 2_000;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let refused = world.send(client, session, vec![0; 2_000]);
    assert!(matches!(refused, Err(CommandError::TooLarge { .. })));
}
