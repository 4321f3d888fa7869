//! The time of day, corrected.

use std::time::{Instant, SystemTime};

use crate::tap::Call;

use super::Node;

impl Node {
    /// The time of day as this node counts it: what certificates are judged by, and nothing else.
    pub fn wall(&self, now: Instant) -> SystemTime {
        self.endpoint.wall().at(now)
    }

    /// It is so late by now. A node counts the time of day on from its [`Origin`](super::Origin) by the monotonic
    /// clock, which knows nothing of a machine that was suspended, or whose clock was set: without a word of it,
    /// certificates that were renewed meanwhile are not valid yet, and such as have run out still are. Say it before
    /// a dial, or now and then.
    pub fn set_wall(&mut self, now: Instant, wall: SystemTime) {
        self.enter(now, || Call::SetWall { wall });
        self.endpoint.wall().correct(wall);
    }
}
