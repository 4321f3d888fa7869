//! Bugs that tests plant, to see that they would be found. They exist with the feature `planted`
//! alone, which is for Trunkline's own tests.

/// A bug. Each is one that a library of this kind has had, or would have by one slip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "planted"),
    allow(dead_code, unreachable_pub, reason = "named where it would be")
)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Bug {
    /// What is held is not told at a resume, and what is replayed is taken as new, which alone does no harm. So
    /// it is handed over twice (the simulator's invariant 2), unless its sender has given it up: that is said
    /// again first, and the replayed is dropped for it. Then what is seen is that its sender keeps it for ever
    /// (invariant 7), for what was told on the link before is not told again.
    SkipDedupe,
    DropAck,
    MissByOne,
    SettleTwice,
    ForgetOutboxOnResume,
    ReplayFromWrongNumber,
    ForgetCancel,
    LoseWritable,
    BroadcastTwiceAfterResume,
    KeepExpiredPromise,
    RedialWithoutJitter,
    LeakSessionSlot,
    ForgetPreviousToken,
    ForgetUndelivered,
    DenyDelivery,
    LeakMemory,
    /// What is overdue by the time its timer is set wants it at once.
    WakeAtOnce,
    /// A link's own deadlines are looked at when its timer fires, and QUIC's are not.
    SkipQuicTimeout,
    ForgetRedialTimer,
    /// What no connection sends waits until somebody asks for it.
    StayQuiet,
    TimeOutAtOnce,
    /// What is said in handshakes goes twice, though little may be sent to who has not answered yet.
    CopyHandshakes,
    /// A broadcast goes to sessions in the order of a map of random order.
    IterateAtRandom,
    /// A session's retention runs on when it is resumed, and in time ends the link that has come back.
    FlapLinks,
    /// That a client was not let in is counted and not told.
    ForgetRefusal,
    /// An envelope leaves out its tag though the one before it has another.
    ForgetTag,
}

impl Bug {
    /// All of them.
    #[cfg(feature = "planted")]
    pub const ALL: [Self; 26] = [
        Self::SkipDedupe,
        Self::DropAck,
        Self::MissByOne,
        Self::SettleTwice,
        Self::ForgetOutboxOnResume,
        Self::ReplayFromWrongNumber,
        Self::ForgetCancel,
        Self::LoseWritable,
        Self::BroadcastTwiceAfterResume,
        Self::KeepExpiredPromise,
        Self::RedialWithoutJitter,
        Self::LeakSessionSlot,
        Self::ForgetPreviousToken,
        Self::ForgetUndelivered,
        Self::DenyDelivery,
        Self::LeakMemory,
        Self::WakeAtOnce,
        Self::SkipQuicTimeout,
        Self::ForgetRedialTimer,
        Self::StayQuiet,
        Self::TimeOutAtOnce,
        Self::CopyHandshakes,
        Self::IterateAtRandom,
        Self::FlapLinks,
        Self::ForgetRefusal,
        Self::ForgetTag,
    ];
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in all nodes of this thread, or none any more.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this thread has that bug.
#[cfg(feature = "planted")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Nobody has one.
#[cfg(not(feature = "planted"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

/// The same in the order of a standard map with standard keys, which differ from map to map.
#[cfg(feature = "planted")]
pub(crate) fn in_random_order<T>(mut items: Vec<T>) -> Vec<T> {
    use std::hash::{BuildHasher as _, RandomState};
    let state = RandomState::new();
    let mut place = 0_usize;
    items.sort_by_cached_key(|_| {
        place += 1;
        state.hash_one(place)
    });
    items
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn in_random_order<T>(items: Vec<T>) -> Vec<T> {
    items
}
