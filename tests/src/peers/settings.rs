//! How nodes are configured for all workloads.

use std::time::Duration;

use trunkline_core::Config;

/// The settings of clients and servers: the defaults, but for windows that are as large as those
/// of the programs that this one is compared with (8 MiB a stream), and a broadcast queue that
/// takes any burst, since every event is to arrive. Those programs wait for an answer as long as it takes:
/// on a path that is gone for a while, half a minute is not enough to compare with them.
///
/// With `PEERS_TLS=resume` at both ends, what one node dials after its first connection resumes a TLS
/// session; with `PEERS_MTU=8952`, packets are as large as jumbo frames carry, if the path does.
pub fn config() -> Config {
    let mut config = Config::default();
    config.transport.stream_receive_window = 8 << 20;
    config.limits.lane_window_bytes = 8 << 20;
    config.limits.best_effort_bytes = 64 << 20;
    config.timeouts.promise = Duration::from_secs(120);
    config.transport.tls_resumption = std::env::var("PEERS_TLS").as_deref() == Ok("resume");
    if let Some(largest) = std::env::var("PEERS_MTU")
        .ok()
        .and_then(|size| size.parse().ok())
    {
        config.transport.max_mtu = largest;
    }
    config
}
