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
    /// What is held is not told at a resume, and what is replayed is taken as new. Either alone does
    /// no harm.
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
}

impl Bug {
    /// All of them.
    #[cfg(feature = "planted")]
    pub const ALL: [Self; 16] = [
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
