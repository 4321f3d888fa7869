//! QUIC's transport parameters from our configuration.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::congestion::{CubicConfig, NewRenoConfig};
use quinn_proto::{IdleTimeout, TransportConfig, VarInt};

use crate::config::{Config, Congestion};

/// Unidirectional streams beside one for each lane: answers, bulk answers, best effort.
const OTHER_STREAMS: u32 = 3;

/// What every connection of the node runs with.
///
/// Flow control for the connection is the sum of its streams', and the send window holds every
/// lane's window, so that a full lane never keeps the control stream from being written or read.
pub(crate) fn transport(config: &Config) -> Arc<TransportConfig> {
    let streams = u32::from(config.limits.lanes) + OTHER_STREAMS;
    let window = config.transport.stream_receive_window;
    let receive_window = window.saturating_mul(streams + 1);
    let lane_window = (config.limits.lane_window_bytes + config.limits.frame_bytes) as u64;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(streams))
        .stream_receive_window(VarInt::from_u32(window))
        .receive_window(VarInt::from_u32(receive_window))
        .send_window(lane_window.saturating_mul(u64::from(streams) + 1))
        .max_idle_timeout(IdleTimeout::try_from(idle_timeout(config)).ok())
        .keep_alive_interval(None)
        .datagram_receive_buffer_size(None)
        .initial_rtt(config.transport.initial_rtt)
        .initial_mtu(config.transport.initial_mtu);
    if !config.transport.mtu_discovery {
        transport.mtu_discovery_config(None);
    }
    match config.transport.congestion {
        Congestion::Cubic => {
            transport.congestion_controller_factory(Arc::new(CubicConfig::default()))
        }
        Congestion::NewReno => {
            transport.congestion_controller_factory(Arc::new(NewRenoConfig::default()))
        }
    };
    Arc::new(transport)
}

/// Heartbeats own liveness; QUIC's own timeout stands behind them, at twice their patience.
fn idle_timeout(config: &Config) -> Duration {
    config.heartbeat.interval * config.heartbeat.misses * 2
}
