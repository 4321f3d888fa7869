//! QUIC's transport parameters from our configuration.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::congestion::{ControllerFactory, CubicConfig, NewRenoConfig};
use quinn_proto::{
    IdleTimeout, MtuDiscoveryConfig, NoneTokenLog, TransportConfig, ValidationTokenConfig, VarInt,
};

use super::bounded::BoundedConfig;
use crate::config::{Config, Congestion, ETHERNET_IPV6, Transport};

/// It is not looked for what is nearer than this, in bytes.
const SMALLEST_STEP: u16 = 20;

/// Unidirectional streams beside one for each lane: answers, bulk answers, best effort.
const OTHER_STREAMS: u32 = 3;

/// How many unidirectional streams a peer may have open, which is enough for all of a link.
pub(crate) fn peer_streams(config: &Config) -> u32 {
    u32::from(config.limits.lanes) + OTHER_STREAMS
}

/// Bytes that a client may send before it is admitted, on all streams: its hello and some first
/// messages. They wait in memory for whoever has shown nothing but an address.
const UNADMITTED_WINDOW: u32 = 64 << 10;

/// Flow control for a whole connection, once its peer is known: the sum of its streams', so that a
/// full lane never keeps the control stream from being read.
pub(crate) fn receive_window(config: &Config) -> VarInt {
    let streams = peer_streams(config);
    let window = config.transport.stream_receive_window;
    VarInt::from_u32(window.saturating_mul(streams + 1))
}

/// What a server's connections run with until their clients are admitted.
pub(crate) fn server_transport(config: &Config) -> Arc<TransportConfig> {
    let mut transport = transport(config);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .receive_window(receive_window(config).min(VarInt::from_u32(UNADMITTED_WINDOW)));
    Arc::new(transport)
}

/// A server gives no tokens for later connections (NEW_TOKEN, RFC 9000 section 8.1.3), and takes none: whoever once had
/// an address would pass for it for weeks, and the log of used ones draws randomness of its own. It is said in words
/// because what goes without depends on quinn-proto's feature `bloom`, which another crate of the application may turn on.
pub(crate) fn no_later_tokens() -> ValidationTokenConfig {
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    tokens
}

/// What a client's connections run with.
pub(crate) fn client_transport(config: &Config) -> Arc<TransportConfig> {
    Arc::new(transport(config))
}

/// The send window holds every lane's window, so that a full lane never keeps the control stream
/// from being written.
fn transport(config: &Config) -> TransportConfig {
    let streams = peer_streams(config);
    let window = config.transport.stream_receive_window;
    let lane_window = config
        .limits
        .lane_window_bytes
        .saturating_add(config.limits.frame_bytes) as u64;
    let mut transport = TransportConfig::default();
    transport
        // Only clients open one, for control.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(streams))
        .stream_receive_window(VarInt::from_u32(window))
        .receive_window(receive_window(config))
        .send_window(lane_window.saturating_mul(u64::from(streams) + 1))
        .max_idle_timeout(IdleTimeout::try_from(idle_timeout(config)).ok())
        .keep_alive_interval(None)
        .datagram_receive_buffer_size(None)
        .initial_rtt(config.transport.initial_rtt)
        .initial_mtu(config.transport.initial_mtu);
    let search = config.transport.mtu_discovery;
    transport.mtu_discovery_config(search.then(|| mtu_discovery(&config.transport)));
    match config.transport.congestion {
        Congestion::Cubic => bounded(&mut transport, CubicConfig::default()),
        Congestion::NewReno => bounded(&mut transport, NewRenoConfig::default()),
    }
    transport
}

/// A search that takes a quarter of the way for its smallest step (RFC 8899, section 5.3.2): from the smallest
/// packet, 64 bytes. Where the path is an Ethernet it takes two probes, and with quinn's own 20 bytes four. A
/// probe is as large as what it asks for, to be encrypted and read: each is some 6 % of the CPU that a connection
/// takes to come up.
fn mtu_discovery(transport: &Transport) -> MtuDiscoveryConfig {
    let mut search = MtuDiscoveryConfig::default();
    let step = ETHERNET_IPV6
        .saturating_sub(transport.initial_mtu)
        .div_ceil(4)
        + 1;
    search
        .upper_bound(transport.max_mtu)
        .minimum_change(step.max(SMALLEST_STEP));
    search
}

fn bounded(
    transport: &mut TransportConfig,
    factory: impl ControllerFactory + Send + Sync + 'static,
) {
    transport.congestion_controller_factory(Arc::new(BoundedConfig(Arc::new(factory))));
}

/// Heartbeats own liveness; QUIC's own timeout stands behind them, at twice their patience. And nothing need
/// be said while an application decides about an admission.
fn idle_timeout(config: &Config) -> Duration {
    let beats = config.heartbeat.interval * config.heartbeat.misses * 2;
    beats.max(config.timeouts.admission + config.timeouts.close)
}
