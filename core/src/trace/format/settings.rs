//! The configuration, by the names of its fields.

use std::time::Duration;

use crate::config::{
    Config, Congestion, Heartbeat, Limits, PromisesFull, Redial, SessionsFull, Shard, SlowConsumer,
    Timeouts, Transport,
};

/// A field that can be written as text and read back exactly.
pub(super) trait Setting {
    fn text(&self) -> String;

    /// `None`: the text is not one of this field's.
    fn set(&mut self, text: &str) -> Option<()>;
}

/// Every field, with its name as a path from [`Config`].
pub(super) fn settings(config: &mut Config) -> Vec<(&'static str, &mut dyn Setting)> {
    // Taken apart whole, so that a new field cannot be forgotten here.
    let Config {
        heartbeat: Heartbeat { interval, misses },
        redial:
            Redial {
                first,
                cap,
                jitter,
                stable_after,
                max_attempts,
            },
        limits:
            Limits {
                frame_bytes,
                lanes,
                promises,
                promises_total,
                outbox_messages,
                outbox_bytes,
                outbox_bytes_total,
                lane_window_bytes,
                deliveries,
                delivery_bytes,
                event_messages,
                event_bytes,
                best_effort_bytes,
                sessions,
                sessions_per_client,
                half_open,
                half_open_unvalidated,
                groups,
                groups_per_session,
            },
        slow_consumer,
        promises_full,
        sessions_full,
        timeouts:
            Timeouts {
                admission,
                retention,
                close,
                receipt,
                promise,
            },
        transport:
            Transport {
                stream_receive_window,
                initial_rtt,
                initial_mtu,
                max_mtu,
                mtu_discovery,
                copies_on_loss,
                congestion,
                migration,
                min_reset_interval,
                tls_resumption,
            },
        report_sent,
        shard: Shard { number, of },
    } = config;
    vec![
        ("heartbeat.interval", interval),
        ("heartbeat.misses", misses),
        ("redial.first", first),
        ("redial.cap", cap),
        ("redial.jitter", jitter),
        ("redial.stable_after", stable_after),
        ("redial.max_attempts", max_attempts),
        ("limits.frame_bytes", frame_bytes),
        ("limits.lanes", lanes),
        ("limits.promises", promises),
        ("limits.promises_total", promises_total),
        ("limits.outbox_messages", outbox_messages),
        ("limits.outbox_bytes", outbox_bytes),
        ("limits.outbox_bytes_total", outbox_bytes_total),
        ("limits.lane_window_bytes", lane_window_bytes),
        ("limits.deliveries", deliveries),
        ("limits.delivery_bytes", delivery_bytes),
        ("limits.event_messages", event_messages),
        ("limits.event_bytes", event_bytes),
        ("limits.best_effort_bytes", best_effort_bytes),
        ("limits.sessions", sessions),
        ("limits.sessions_per_client", sessions_per_client),
        ("limits.half_open", half_open),
        ("limits.half_open_unvalidated", half_open_unvalidated),
        ("limits.groups", groups),
        ("limits.groups_per_session", groups_per_session),
        ("slow_consumer", slow_consumer),
        ("promises_full", promises_full),
        ("sessions_full", sessions_full),
        ("timeouts.admission", admission),
        ("timeouts.retention", retention),
        ("timeouts.close", close),
        ("timeouts.receipt", receipt),
        ("timeouts.promise", promise),
        ("transport.stream_receive_window", stream_receive_window),
        ("transport.initial_rtt", initial_rtt),
        ("transport.initial_mtu", initial_mtu),
        ("transport.max_mtu", max_mtu),
        ("transport.mtu_discovery", mtu_discovery),
        ("transport.copies_on_loss", copies_on_loss),
        ("transport.congestion", congestion),
        ("transport.migration", migration),
        ("transport.min_reset_interval", min_reset_interval),
        ("transport.tls_resumption", tls_resumption),
        ("report_sent", report_sent),
        ("shard.number", number),
        ("shard.of", of),
    ]
}

/// Sets a field by its path; says what is wrong.
pub(in crate::trace) fn change(config: &mut Config, field: &str, text: &str) -> Result<(), String> {
    let mut all = settings(config);
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let Some((_, setting)) = all.iter_mut().find(|(name, _)| *name == field) else {
        let group = field.split('.').next().unwrap_or_default();
        let mut alike: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| name.starts_with(group) && !group.is_empty())
            .collect();
        if alike.is_empty() {
            alike = names;
        }
        return Err(format!(
            "there is no such setting; there are {}",
            alike.join(", ")
        ));
    };
    let now = setting.text();
    let set = setting.set(text);
    set.ok_or_else(|| format!("that is no value of it; what was recorded is {now}"))
}

/// Fields whose text is what `Display` writes and `FromStr` reads; for `f64` that is exact.
macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn text(&self) -> String {
                self.to_string()
            }

            fn set(&mut self, text: &str) -> Option<()> {
                *self = text.parse().ok()?;
                Some(())
            }
        }
    )*};
}

plain!(bool, f64, u8, u16, u32, usize);

impl Setting for Duration {
    fn text(&self) -> String {
        format!("{}ns", self.as_nanos())
    }

    fn set(&mut self, text: &str) -> Option<()> {
        let nanos: u128 = text.strip_suffix("ns")?.parse().ok()?;
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        *self = Self::new(seconds, (nanos % 1_000_000_000) as u32);
        Some(())
    }
}

impl Setting for Option<u32> {
    fn text(&self) -> String {
        self.map_or_else(|| "none".into(), |number| number.to_string())
    }

    fn set(&mut self, text: &str) -> Option<()> {
        *self = match text {
            "none" => None,
            number => Some(number.parse().ok()?),
        };
        Some(())
    }
}

/// Fields that are one of a few things.
macro_rules! choice {
    ($type:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        impl Setting for $type {
            fn text(&self) -> String {
                match self {
                    $(Self::$variant => $text,)*
                }
                .to_owned()
            }

            fn set(&mut self, text: &str) -> Option<()> {
                *self = match text {
                    $($text => Self::$variant,)*
                    _ => return None,
                };
                Some(())
            }
        }
    };
}

choice!(SlowConsumer {
    DropNewest = "drop-newest",
    DropOldest = "drop-oldest",
    KeepLatest = "keep-latest",
    Disconnect = "disconnect",
});
choice!(PromisesFull {
    Refuse = "refuse",
    EvictOldest = "evict-oldest",
});
choice!(SessionsFull {
    Refuse = "refuse",
    EndOldest = "end-oldest",
});
choice!(Congestion {
    Cubic = "cubic",
    NewReno = "new-reno",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_comes_back() {
        let mut config = Config {
            slow_consumer: SlowConsumer::KeepLatest,
            promises_full: PromisesFull::EvictOldest,
            sessions_full: SessionsFull::EndOldest,
            report_sent: true,
            ..Config::default()
        };
        config.heartbeat.interval = Duration::new(7, 123_456_789);
        config.redial.jitter = 0.1 + 0.2;
        config.redial.max_attempts = Some(3);
        config.transport.congestion = Congestion::NewReno;
        let texts: Vec<_> = settings(&mut config)
            .iter()
            .map(|(name, setting)| (*name, setting.text()))
            .collect();
        let mut read = Config::default();
        for ((name, setting), (written, text)) in settings(&mut read).into_iter().zip(&texts) {
            assert_eq!(name, *written);
            setting.set(text).unwrap();
        }
        assert_eq!(format!("{read:?}"), format!("{config:?}"));
    }

    #[test]
    fn names_are_different() {
        let mut config = Config::default();
        let mut names: Vec<_> = settings(&mut config)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
