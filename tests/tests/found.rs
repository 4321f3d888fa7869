//! What random runs have found, cut down to what it takes.

#![allow(clippy::unwrap_used, reason = "tests end by panicking")]

use std::time::Duration;

use trunkline_testkit::{World, echo};

const SECOND: Duration = Duration::from_secs(1);

/// All that a server hears of a dial is its end: it was cut off until its client gave up.
#[test]
fn a_dial_that_is_heard_of_when_it_is_given_up_leaves_nothing_behind() {
    let mut world = World::new(1);
    world.config().timeouts.admission = 3 * SECOND;
    let server = world.server();
    let client = world.client();
    world.path.cut = true;
    world.connect(client, server, "alice");
    // QUIC's probes come after 0.3, 0.9 and 2.1 seconds, and the next would after 4.5.
    world.run(5 * SECOND / 2, echo);
    world.path.cut = false;
    world.run(SECOND, echo);
    world.kill(client);
    world.run(2 * SECOND, echo);
    let now = world.now();
    let metrics = world.node(server).metrics(now);
    assert!(metrics.datagrams_in > 0, "the end came through");
    assert_eq!(metrics.links_opened, metrics.links_closed);
    assert_eq!(world.node(server).poll_timeout(), None);
}
