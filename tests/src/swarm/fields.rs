//! The fields of a configuration, one by one: to say which are not the defaults, and to try without.

use trunkline_core::Config;

/// A field of [`Config`], by its name there.
pub(super) struct Field {
    pub(super) name: &'static str,
    show: fn(&Config) -> String,
    copy: fn(&mut Config, &Config),
}

macro_rules! fields {
    ($($($part:ident).+,)+) => {
        /// All of them.
        pub(super) const FIELDS: &[Field] = &[$(Field {
            name: stringify!($($part).+),
            show: |config| format!("{:?}", config.$($part).+),
            copy: |to, from| to.$($part).+ = from.$($part).+,
        }),+];
    };
}

fields! {
    heartbeat.interval,
    heartbeat.misses,
    redial.first,
    redial.cap,
    redial.jitter,
    redial.stable_after,
    redial.max_attempts,
    limits.frame_bytes,
    limits.lanes,
    limits.promises,
    limits.promises_total,
    limits.outbox_messages,
    limits.outbox_bytes,
    limits.outbox_bytes_total,
    limits.lane_window_bytes,
    limits.deliveries,
    limits.delivery_bytes,
    limits.event_messages,
    limits.event_bytes,
    limits.best_effort_bytes,
    limits.sessions,
    limits.sessions_per_client,
    limits.half_open,
    limits.half_open_unvalidated,
    limits.groups,
    limits.groups_per_session,
    slow_consumer,
    promises_full,
    sessions_full,
    timeouts.admission,
    timeouts.retention,
    timeouts.close,
    timeouts.receipt,
    timeouts.promise,
    transport.stream_receive_window,
    transport.initial_rtt,
    transport.initial_mtu,
    transport.max_mtu,
    transport.mtu_discovery,
    transport.copies_on_loss,
    transport.congestion,
    transport.migration,
    transport.min_reset_interval,
    transport.tls_resumption,
    report_sent,
}

impl Field {
    /// Whether a configuration has the default there.
    pub(super) fn is_default(&self, config: &Config) -> bool {
        (self.show)(config) == (self.show)(&Config::default())
    }

    /// Sets a configuration's to the default.
    pub(super) fn reset(&self, config: &mut Config) {
        (self.copy)(config, &Config::default());
    }
}

/// What of a configuration is not the default.
pub(super) fn differences(config: &Config) -> String {
    let fields = FIELDS.iter().filter(|field| !field.is_default(config));
    let shown: Vec<_> = fields
        .map(|field| format!("{} = {}", field.name, (field.show)(config)))
        .collect();
    if shown.is_empty() {
        "the defaults".to_owned()
    } else {
        shown.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn every_field_that_is_drawn_is_known() {
        let default = format!("{:?}", Config::default());
        let mut others = 0;
        for seed in 0..200 {
            for mut config in super::super::settings::draw(&mut Random::new(seed)) {
                others += usize::from(differences(&config) != "the defaults");
                FIELDS.iter().for_each(|field| field.reset(&mut config));
                assert_eq!(format!("{config:?}"), default);
            }
        }
        assert!(others > 300);
    }

    #[test]
    fn differences_are_told_by_name() {
        let mut config = Config::default();
        assert_eq!(differences(&config), "the defaults");
        config.limits.promises = 3;
        config.redial.max_attempts = Some(6);
        let told = "redial.max_attempts = Some(6), limits.promises = 3";
        assert_eq!(differences(&config), told);
    }
}
