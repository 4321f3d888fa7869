//! Resume: a link may break at any moment, and nothing is lost, doubled or reordered.

use std::time::Duration;

use trunkline_core::Event;
use trunkline_testkit::{World, echo};

use crate::SECOND;

/// Cuts the path for two minutes, so that both sides declare the link dead, at each of many moments of
/// one conversation.
#[test]
fn a_link_that_breaks_at_any_moment_costs_nothing() {
    for moment in 0..60 {
        let mut world = World::new(100 + moment);
        world.config().timeouts.retention = 600 * SECOND;
        world.path.delay = Duration::from_millis(10);
        world.path.jitter = Duration::from_millis(3);
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "alice");
        // A hello that nobody answered leaves open whether the session exists; that is told as a
        // loss. From the first Welcome on nothing may be lost.
        world.run(SECOND, echo);
        let mut promises = Vec::new();
        for n in 0..30_u32 {
            promises.push(world.send_acked(client, session, &n.to_be_bytes()));
            promises.push(world.request(client, session, b"ask"));
            world.run(Duration::from_millis(3), echo);
            if u64::from(n) == moment / 2 {
                world.run(Duration::from_millis(moment % 7), echo);
                world.path.cut = true;
                world.run(120 * SECOND, echo);
                world.path.cut = false;
            }
        }
        world.run(120 * SECOND, echo);
        for promise in promises {
            let outcome = world.outcome(client, promise);
            assert!(
                matches!(outcome.as_deref(), Some("Acked" | "Replied ask")),
                "cut at {moment}: {promise:?} settled as {outcome:?}"
            );
        }
        let numbers: Vec<_> = world
            .bodies(server)
            .iter()
            .filter(|b| b.len() == 4)
            .map(|b| b.to_vec())
            .collect();
        let expected: Vec<_> = (0..30_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(numbers, expected, "cut at {moment}");
        let lost = |event: &Event| matches!(event, Event::SessionLost { .. });
        assert!(
            !world.log(client).iter().any(|(_, e)| lost(e)),
            "cut at {moment}"
        );
    }
}

#[test]
fn a_session_is_kept_for_its_retention_and_no_longer() {
    for (away, kept) in [(100, true), (200, false)] {
        let mut world = World::new(5);
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "alice");
        world.run(SECOND, echo);
        world.path.cut = true;
        // Both find the link dead after 45 s; the server then keeps the session for 120 s.
        world.run((45 + away) * SECOND, echo);
        world.path.cut = false;
        world.run(120 * SECOND, echo);
        let resumed = |event: &Event| matches!(event, Event::Connected { resumed: true, .. });
        assert_eq!(
            world.log(client).iter().any(|(_, e)| resumed(e)),
            kept,
            "away for {away} s"
        );
        let now = world.now();
        let metrics = world.node(server).metrics(now);
        assert_eq!(metrics.sessions_lost, u64::from(!kept));
        let promise = world.request(client, session, b"ping");
        world.run(SECOND, echo);
        assert_eq!(
            world.outcome(client, promise).as_deref(),
            Some("Replied ping")
        );
    }
}
