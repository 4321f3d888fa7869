//! The messages of all workloads. Both programs speak them, so that each one's client finds its
//! match in the other one's server.

use std::time::Duration;

use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use prost::{Message, Name};
use trunkline_core::{Lane, Status, StatusCode};

/// Payloads above this size travel on the bulk lane, as large requests do by themselves: they give
/// way to everything else.
pub const BULK_ABOVE: usize = 64 << 10;

/// The group of the sessions that have subscribed.
pub const SUBSCRIBERS: &str = "subscribers";

/// The lane that a one-way message with such a payload takes.
pub fn note_lane(payload: usize) -> Lane {
    if payload > BULK_ABOVE {
        Lane::BULK
    } else {
        Lane::DEFAULT
    }
}

/// A one-way message, of which the server does no more than accept it.
#[derive(Clone, PartialEq, Message)]
pub struct Note {
    /// Filler.
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: Bytes,
}

/// A request that is replied to with itself.
#[derive(Clone, PartialEq, Message)]
pub struct Echo {
    /// Filler.
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: Bytes,
}

/// From now on, the session gets events.
#[derive(Clone, PartialEq, Message)]
pub struct Subscribe {}

/// Asks the server to send events to all subscribers.
#[derive(Clone, PartialEq, Message)]
pub struct Start {
    /// How many.
    #[prost(uint64, tag = "1")]
    pub events: u64,
    /// The size of each one's payload, in bytes.
    #[prost(uint64, tag = "2")]
    pub payload: u64,
    /// How many a second; 0: as fast as possible.
    #[prost(double, tag = "3")]
    pub rate_hz: f64,
}

impl Start {
    /// Refuses what no server should be made to do.
    pub fn check(&self) -> Result<(), Status> {
        let refuse = |reason| Err(Status::new(StatusCode::INVALID_ARGUMENT, reason));
        if self.events > 1_000_000 {
            refuse("more than 1,000,000 events")
        } else if self.payload > 1_000_000 {
            refuse("more than 1,000,000 bytes in an event")
        } else if !(self.rate_hz == 0.0 || self.rate_hz >= 0.001) {
            refuse("a rate below 0.001 events a second")
        } else {
            Ok(())
        }
    }

    /// When event `number`, from 0, is due after the start.
    pub fn due(&self, number: u64) -> Duration {
        if self.rate_hz > 0.0 {
            Duration::from_secs_f64(number as f64 / self.rate_hz)
        } else {
            Duration::ZERO
        }
    }
}

/// What subscribers get.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// The machine's monotonic clock in nanoseconds when the server began to send it, 8 bytes, big
    /// endian; then filler.
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: Bytes,
}

impl Event {
    /// An event that begins now.
    pub fn now(payload: usize) -> anyhow::Result<Self> {
        let mut bytes = vec![0x5a; payload.max(8)];
        bytes[..8].copy_from_slice(&clock_ns()?.to_be_bytes());
        Ok(Self {
            payload: bytes.into(),
        })
    }

    /// When it began, on the machine's monotonic clock, in nanoseconds.
    pub fn began_ns(&self) -> Option<u64> {
        self.payload
            .first_chunk()
            .map(|bytes| u64::from_be_bytes(*bytes))
    }
}

/// The machine's monotonic clock in nanoseconds: the same one in every process.
pub fn clock_ns() -> anyhow::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let ns = i128::from(now.tv_sec()) * 1_000_000_000 + i128::from(now.tv_nsec());
    Ok(u64::try_from(ns)?)
}

/// The messages' tags.
#[expect(missing_docs, reason = "each is its message's")]
pub mod tag {
    use trunkline_core::Tag;

    pub const NOTE: Tag = Tag::of("bench.v1.Note");
    pub const ECHO: Tag = Tag::of("bench.v1.Echo");
    pub const SUBSCRIBE: Tag = Tag::of("bench.v1.Subscribe");
    pub const START: Tag = Tag::of("bench.v1.Start");
    pub const EVENT: Tag = Tag::of("bench.v1.Event");
}

macro_rules! named {
    ($($message:ident),+) => {$(
        impl Name for $message {
            const NAME: &'static str = stringify!($message);
            const PACKAGE: &'static str = "bench.v1";
        }
    )+};
}
named!(Note, Echo, Subscribe, Start, Event);

#[cfg(test)]
mod tests {
    use trunkline_core::Tag;

    use super::*;

    #[test]
    fn tags_are_those_of_the_full_names() {
        assert_eq!(Tag::of(&Note::full_name()), tag::NOTE);
        assert_eq!(Tag::of(&Echo::full_name()), tag::ECHO);
        assert_eq!(Tag::of(&Subscribe::full_name()), tag::SUBSCRIBE);
        assert_eq!(Tag::of(&Start::full_name()), tag::START);
        assert_eq!(Tag::of(&Event::full_name()), tag::EVENT);
    }

    #[test]
    fn a_start_is_checked_and_paced() {
        let start = |events, payload, rate_hz| Start {
            events,
            payload,
            rate_hz,
        };
        let paced = start(100, 128, 10.0);
        assert!(paced.check().is_ok());
        assert_eq!(paced.due(15), Duration::from_millis(1_500));
        assert_eq!(start(100, 128, 0.0).due(15), Duration::ZERO);
        for bad in [
            start(1_000_001, 1, 0.0),
            start(1, 1_000_001, 0.0),
            start(1, 1, f64::NAN),
            start(1, 1, 1e-9),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_event_says_when_it_began() {
        let before = clock_ns().unwrap();
        let event = Event::now(128).unwrap();
        assert_eq!(event.payload.len(), 128);
        assert!((before..=clock_ns().unwrap()).contains(&event.began_ns().unwrap()));
        assert_eq!(Event::now(0).unwrap().payload.len(), 8);
        assert_eq!(Event::default().began_ns(), None);
    }
}
