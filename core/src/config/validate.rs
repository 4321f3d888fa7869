//! The checks of all settings that a node makes before it starts.

use std::time::Duration;

use crate::error::ConfigError;
use crate::id::{SHARDS_MAX, SLOTS_MAX};

use super::{Config, ETHERNET_IPV4, HEARTBEAT_RANGE};

impl Config {
    /// Checks every field, so that what a node is given is what it does.
    pub fn validate(&self) -> Result<(), ConfigError> {
        fn ensure(
            holds: bool,
            field: &'static str,
            given: impl ToString,
            allowed: &'static str,
        ) -> Result<(), ConfigError> {
            if holds {
                Ok(())
            } else {
                Err(ConfigError::OutOfRange {
                    field,
                    given: given.to_string(),
                    allowed,
                })
            }
        }
        let span = |d: Duration| format!("{d:?}");
        let Self {
            heartbeat,
            redial,
            limits,
            timeouts,
            transport,
            shard,
            ..
        } = self;
        let beats = HEARTBEAT_RANGE.0..=HEARTBEAT_RANGE.1;
        ensure(
            beats.contains(&heartbeat.interval),
            "heartbeat.interval",
            span(heartbeat.interval),
            "100 ms to 5 min",
        )?;
        ensure(
            (1..=100).contains(&heartbeat.misses),
            "heartbeat.misses",
            heartbeat.misses,
            "1 to 100",
        )?;
        ensure(
            redial.first >= Duration::from_millis(1),
            "redial.first",
            span(redial.first),
            "1 ms or more",
        )?;
        ensure(
            redial.cap >= redial.first,
            "redial.cap",
            span(redial.cap),
            "at least redial.first",
        )?;
        ensure(
            redial.cap <= Duration::from_secs(86_400),
            "redial.cap",
            span(redial.cap),
            "at most a day",
        )?;
        ensure(
            (0.0..=1.0).contains(&redial.jitter),
            "redial.jitter",
            redial.jitter,
            "0 to 1",
        )?;
        ensure(
            redial.max_attempts != Some(0),
            "redial.max_attempts",
            0,
            "1 or more, or none",
        )?;
        let frames = trunkline_proto::FRAME_MIN..=trunkline_proto::FRAME_MAX;
        ensure(
            frames.contains(&limits.frame_bytes),
            "limits.frame_bytes",
            limits.frame_bytes,
            "4 KiB to 1 MiB",
        )?;
        let lanes = 2..=trunkline_proto::LANES_MAX;
        ensure(
            lanes.contains(&limits.lanes),
            "limits.lanes",
            limits.lanes,
            "2 to 62",
        )?;
        for (field, given) in [
            ("limits.promises", limits.promises),
            ("limits.promises_total", limits.promises_total),
            ("limits.outbox_messages", limits.outbox_messages),
            ("limits.deliveries", limits.deliveries),
            ("limits.event_messages", limits.event_messages),
            ("limits.sessions_per_client", limits.sessions_per_client),
            ("limits.half_open", limits.half_open),
        ] {
            ensure((1..=1 << 30).contains(&given), field, given, "1 to 2^30")?;
        }
        ensure(
            (1..=SLOTS_MAX).contains(&limits.sessions),
            "limits.sessions",
            limits.sessions,
            "1 to 2^24",
        )?;
        ensure(
            (1..=SHARDS_MAX).contains(&shard.of),
            "shard.of",
            shard.of,
            "1 to 256",
        )?;
        ensure(
            shard.number < shard.of,
            "shard.number",
            shard.number,
            "below shard.of",
        )?;
        for (field, given) in [
            ("limits.outbox_bytes", limits.outbox_bytes),
            ("limits.outbox_bytes_total", limits.outbox_bytes_total),
            ("limits.lane_window_bytes", limits.lane_window_bytes),
            ("limits.delivery_bytes", limits.delivery_bytes),
            ("limits.event_bytes", limits.event_bytes),
            ("limits.best_effort_bytes", limits.best_effort_bytes),
        ] {
            ensure(given >= 1_024, field, given, "1 KiB or more")?;
        }
        let day = Duration::from_secs(86_400);
        for (field, given) in [
            ("timeouts.admission", timeouts.admission),
            ("timeouts.close", timeouts.close),
            ("timeouts.receipt", timeouts.receipt),
        ] {
            ensure(
                given >= Duration::from_millis(1) && given <= day,
                field,
                span(given),
                "1 ms to a day",
            )?;
        }
        ensure(
            timeouts.retention <= day,
            "timeouts.retention",
            span(timeouts.retention),
            "at most a day",
        )?;
        ensure(
            timeouts.promise <= day,
            "timeouts.promise",
            span(timeouts.promise),
            "at most a day, zero for none",
        )?;
        let windows = 16_384..=1 << 30;
        ensure(
            windows.contains(&transport.stream_receive_window),
            "transport.stream_receive_window",
            transport.stream_receive_window,
            "16 KiB to 1 GiB",
        )?;
        ensure(
            (1_200..=9_188).contains(&transport.max_mtu),
            "transport.max_mtu",
            transport.max_mtu,
            "1,200 to 9,188",
        )?;
        ensure(
            (1_200..=ETHERNET_IPV4).contains(&transport.initial_mtu),
            "transport.initial_mtu",
            transport.initial_mtu,
            "1,200 to 1,472",
        )?;
        ensure(
            transport.initial_rtt >= Duration::from_millis(1)
                && transport.initial_rtt <= Duration::from_secs(10),
            "transport.initial_rtt",
            span(transport.initial_rtt),
            "1 ms to 10 s",
        )?;
        ensure(
            transport.min_reset_interval <= Duration::from_secs(3_600),
            "transport.min_reset_interval",
            span(transport.min_reset_interval),
            "at most an hour, zero for no limit",
        )
    }
}
