//! QUIC's transport parameters from our configuration.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::congestion::{CubicConfig, NewRenoConfig};
use quinn_proto::{IdleTimeout, Side, TransportConfig, VarInt};

use crate::config::{Config, Congestion};

/// Unidirectional streams beside one for each lane: answers, bulk answers, best effort.
const OTHER_STREAMS: u32 = 3;

/// What a client may leave with a server that has not admitted it, in bytes: a hello, and first
/// messages right behind it.
const BEFORE_ADMISSION: u32 = 64 << 10;

/// What every connection that the node accepts (as server) or dials (as client) runs with.
///
/// The send window holds every lane's window, so that a full lane never keeps the control stream
/// from being written.
pub(crate) fn transport(config: &Config, side: Side) -> Arc<TransportConfig> {
    let streams = streams(config);
    let window = config.transport.stream_receive_window;
    let (control_streams, receive_window) = match side {
        Side::Server => (1, receive_window(config).min(BEFORE_ADMISSION)),
        Side::Client => (0, receive_window(config)),
    };
    let lane_window = (config.limits.lane_window_bytes + config.limits.frame_bytes) as u64;
    let mut transport = TransportConfig::default();
    transport
        // The client opens the control stream.
        .max_concurrent_bidi_streams(VarInt::from_u32(control_streams))
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

fn streams(config: &Config) -> u32 {
    u32::from(config.limits.lanes) + OTHER_STREAMS
}

/// Flow control for an admitted connection: the sum of its streams', so that a full lane never
/// keeps the control stream from being read.
pub(crate) fn receive_window(config: &Config) -> u32 {
    let window = config.transport.stream_receive_window;
    window.saturating_mul(streams(config) + 1)
}

/// Heartbeats own liveness; QUIC's own timeout stands behind them, at twice their patience.
fn idle_timeout(config: &Config) -> Duration {
    config.heartbeat.interval * config.heartbeat.misses * 2
}
