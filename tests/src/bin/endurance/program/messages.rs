//! What clients and the server say to each other.

use prost::{Message, Name};
use trunkline_core::{CloseCode, MetricsSnapshot, Tag};

/// A one-way message with its place in its session's order, from 0.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Numbered {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
}

/// A one-way message that is accepted, and no more.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ready {}

/// A request, answered with [`Standing`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ask {}

/// How a server stands; the session that asks is counted in it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Standing {
    /// Numbered messages that came in their place.
    #[prost(uint64, tag = "1")]
    pub(crate) in_order: u64,
    /// Numbered messages whose number had come before.
    #[prost(uint64, tag = "2")]
    pub(crate) repeated: u64,
    /// Numbers that were left out.
    #[prost(uint64, tag = "3")]
    pub(crate) skipped: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) sessions: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) connected: u64,
    /// Links that are not yet forgotten.
    #[prost(uint64, tag = "6")]
    pub(crate) links: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) sessions_opened: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) sessions_resumed: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) heartbeat_timeouts: u64,
    /// Messages that came again over a resumed session, and were dropped.
    #[prost(uint64, tag = "10")]
    pub(crate) duplicates_dropped: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) links_opened: u64,
    /// First packets whose address was asked to show that it is its own.
    #[prost(uint64, tag = "12")]
    pub(crate) retried: u64,
    /// First packets that were not answered.
    #[prost(uint64, tag = "13")]
    pub(crate) ignored: u64,
    #[prost(uint64, tag = "14")]
    pub(crate) best_effort_dropped: u64,
    /// Links that were closed because their clients were too slow.
    #[prost(uint64, tag = "15")]
    pub(crate) closed_as_slow: u64,
    #[prost(uint64, tag = "16")]
    pub(crate) protocol_mismatches: u64,
}

/// A request, answered with [`Told`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AskSlow {}

/// Which clients a server was told to be slow.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Told {
    #[prost(message, repeated, tag = "1")]
    pub(crate) slow: Vec<Slow>,
}

/// A client that was found slow.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Slow {
    /// Its address.
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    /// When, on the machine's monotonic clock.
    #[prost(uint64, tag = "2")]
    pub(crate) at_ns: u64,
}

impl Standing {
    /// What a node's metrics say, beside what its application has counted.
    pub(crate) fn with(self, metrics: &MetricsSnapshot) -> Self {
        Self {
            sessions: metrics.sessions as u64,
            connected: metrics.connected as u64,
            links: metrics.links_opened - metrics.links_closed,
            sessions_opened: metrics.sessions_opened,
            sessions_resumed: metrics.sessions_resumed,
            heartbeat_timeouts: metrics.heartbeat_timeouts,
            duplicates_dropped: metrics.duplicates_dropped,
            links_opened: metrics.links_opened,
            retried: metrics.incoming_retried,
            ignored: metrics.incoming_ignored,
            protocol_mismatches: metrics.protocol_mismatches,
            best_effort_dropped: metrics.best_effort_dropped,
            closed_as_slow: metrics
                .closed_by_code
                .get(&CloseCode::SLOW_CONSUMER)
                .copied()
                .unwrap_or_default(),
            ..self
        }
    }
}

/// The messages' tags.
pub(crate) mod tag {
    use super::Tag;

    pub(crate) const NUMBERED: Tag = Tag::of("endurance.v1.Numbered");
    pub(crate) const READY: Tag = Tag::of("endurance.v1.Ready");
    pub(crate) const ASK: Tag = Tag::of("endurance.v1.Ask");
    pub(crate) const STANDING: Tag = Tag::of("endurance.v1.Standing");
    pub(crate) const ASK_SLOW: Tag = Tag::of("endurance.v1.AskSlow");
    pub(crate) const TOLD: Tag = Tag::of("endurance.v1.Told");
}

macro_rules! named {
    ($($message:ident),+) => {$(
        impl Name for $message {
            const NAME: &'static str = stringify!($message);
            const PACKAGE: &'static str = "endurance.v1";
        }
    )+};
}
named!(Numbered, Ready, Ask, Standing, AskSlow, Told);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_those_of_the_full_names() {
        assert_eq!(Tag::of(&Numbered::full_name()), tag::NUMBERED);
        assert_eq!(Tag::of(&Ready::full_name()), tag::READY);
        assert_eq!(Tag::of(&Ask::full_name()), tag::ASK);
        assert_eq!(Tag::of(&Standing::full_name()), tag::STANDING);
        assert_eq!(Tag::of(&AskSlow::full_name()), tag::ASK_SLOW);
        assert_eq!(Tag::of(&Told::full_name()), tag::TOLD);
    }
}
