//! Handshakes on bad networks.

use std::time::Duration;

use trunkline_core::Event;
use trunkline_testkit::{World, echo};

const SECOND: Duration = Duration::from_secs(1);

/// Every handshake gets through, within the time of a few dials. Among so many are some whose last
/// packets from the client come so late that several of the server's probes are overdue by then:
/// the world checks that this does not make the server spin.
#[test]
fn handshakes_get_through_a_network_that_loses_a_third_in_bursts() {
    for (delay, seed) in [15, 20]
        .into_iter()
        .flat_map(|d| (0..100).map(move |s| (d, s)))
    {
        let mut world = World::new(seed);
        world.path.delay = Duration::from_millis(delay);
        world.path.loss = 0.3;
        world.path.burst = Some(3.0);
        let server = world.server();
        let client = world.client();
        world.connect(client, server, "alice");
        world.run(30 * SECOND, echo);
        let connected = |event: &Event| matches!(event, Event::Connected { .. });
        assert!(
            world.log(client).iter().any(|(_, event)| connected(event)),
            "delay {delay} ms, seed {seed}: {:?}",
            world.log(client)
        );
    }
}
