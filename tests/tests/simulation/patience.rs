//! Receivers that report seldom what they hold are asked to hurry by senders that have no more room.

use std::time::Instant;

use trunkline_core::{CommandError, Event, Limits, Node, SessionKey};
use trunkline_testkit::{NodeIndex, World, silent};

use crate::{SECOND, message};

/// A server that reports what it holds after ten minutes, a client with limits of its own, and its session.
fn patient(
    seed: u64,
    limit: impl FnOnce(&mut Limits),
) -> (World, NodeIndex, NodeIndex, SessionKey) {
    let mut world = World::new(seed);
    world.config().timeouts.receipt = 600 * SECOND;
    let server = world.server();
    limit(&mut world.config().limits);
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, silent);
    (world, server, client, session)
}

/// The window is smaller than what the receiver goes by.
#[test]
fn a_small_window_is_not_kept_shut_by_a_patient_receiver() {
    let (mut world, server, client, session) =
        patient(6, |limits| limits.lane_window_bytes = 256 << 10);
    for number in 0..20 {
        assert_eq!(world.send(client, session, vec![number; 100_000]), Ok(()));
    }
    world.run(5 * SECOND, silent);
    assert_eq!(world.bodies(server).len(), 20);
}

/// The same where it is the outbox that is smaller, which lets less be written than the window would.
#[test]
fn a_small_outbox_is_not_kept_full_by_a_patient_receiver() {
    let (mut world, server, client, session) = patient(6, |limits| limits.outbox_bytes = 64 << 10);
    let mut left: Vec<u8> = (0..20).collect();
    let mut send = |node: &mut Node, now: Instant| {
        while let Some(number) = left.first().copied() {
            match node.send(now, session, message(vec![number; 10_000])) {
                Ok(()) => left.remove(0),
                Err(refused) => {
                    assert_eq!(refused.error, CommandError::OutboxFull);
                    break;
                }
            };
        }
    };
    let now = world.now();
    send(world.node(client), now);
    world.run(5 * SECOND, |node, now, event| {
        if matches!(event, Event::Writable { .. }) {
            send(node, now);
        }
    });
    assert_eq!(world.bodies(server).len(), 20);
}

/// It is refused when all that was written before is under way, and nothing else has the sender look again.
#[test]
fn who_finds_an_outbox_full_later_asks_then() {
    let (mut world, _, client, session) = patient(7, |limits| limits.outbox_bytes = 64 << 10);
    for number in 0..6 {
        assert_eq!(world.send(client, session, vec![number; 10_000]), Ok(()));
    }
    world.run(SECOND / 10, silent);
    let refused = world.send(client, session, vec![6; 10_000]);
    assert_eq!(refused, Err(CommandError::OutboxFull));
    world.run(SECOND / 10, silent);
    let writable = |event: &Event| matches!(event, Event::Writable { .. });
    assert_eq!(world.count(client, writable), 1);
}
