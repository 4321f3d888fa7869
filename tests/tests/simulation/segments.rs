//! Datagrams that leave in one piece: as many as a caller allows, and no more than a kernel takes.

use std::num::NonZeroUsize;
use std::time::Duration;

use trunkline_testkit::{World, echo};

/// What an IPv4 packet has room for. A kernel refuses more even if it is to be cut into segments.
const SEND_MAX: usize = 65_507;

#[test]
fn a_transmit_is_never_larger_than_one_udp_send() {
    let mut world = World::new(1);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    // The path's MTU is found, and the congestion window grows beyond what one send takes.
    for _ in 0..20 {
        let promise = world.send_acked(client, session, &[0; 1_000_000]);
        world.run(Duration::from_secs(1), echo);
        assert_eq!(world.outcome(client, promise).as_deref(), Some("Acked"));
    }
    world.send_acked(client, session, &[0; 1_000_000]);
    let (now, node) = (world.now(), world.node(client));
    let mut largest = 0;
    let mut buffer = Vec::new();
    while let Some(transmit) = node.poll_transmit(now, NonZeroUsize::new(64).unwrap(), &mut buffer)
    {
        largest = largest.max(transmit.size);
        buffer.clear();
    }
    assert!(
        largest > SEND_MAX - 1_500,
        "only {largest} bytes: nothing was cut"
    );
    assert!(largest <= SEND_MAX, "{largest} bytes");
}
