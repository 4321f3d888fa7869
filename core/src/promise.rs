//! The table of promises of one session: pending acks and replies. Each settles exactly once.

use std::time::Duration;

use crate::id::Lane;
use crate::sliding::SlidingTable;

/// What a promise waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    Ack,
    Reply,
}

/// A pending ack or reply. Its owner keeps what it needs to time it out in `timer`.
#[derive(Debug)]
pub(crate) struct Promise<T> {
    pub(crate) awaits: Awaits,
    /// How old the node was.
    pub(crate) made: Duration,
    /// The lane of its message.
    pub(crate) lane: Lane,
    /// What its message counts for in the outbox, in bytes.
    pub(crate) weight: usize,
    /// The sequence number of its message, once that is written to a link.
    pub(crate) seq: Option<u64>,
    pub(crate) timer: T,
}

/// The pending promises of one session, by the number that stands on the wire.
pub(crate) type Promises<T> = SlidingTable<Promise<T>>;
