//! The time of day is told to the node when it is not what that counts by itself: the machine was suspended, or its
//! clock was set.

use std::time::{Duration, Instant, SystemTime};

use super::runtime::Io;
use super::turn::Driver;
use crate::Node;
use crate::logged::logged;

/// So often it is looked at while anything happens: a machine that wakes up may be asked for certificates at once.
const EVERY: Duration = Duration::from_secs(1);

/// Certificates are not judged by less.
const TOLERANCE: Duration = Duration::from_secs(1);

/// When the time of day was looked at last.
#[derive(Debug, Default)]
pub(super) struct WallChecks(Option<Instant>);

impl<I: Io> Driver<I> {
    /// Looks at the time of day now and then.
    pub(super) fn check_wall_in_time(&mut self, now: Instant) {
        let last = self.wall_checks.0;
        if last.is_none_or(|last| now.saturating_duration_since(last) >= EVERY) {
            self.check_wall(now);
        }
    }

    /// Looks at the time of day now: somebody's certificate is to be judged.
    pub(super) fn check_wall(&mut self, now: Instant) {
        self.wall_checks.0 = Some(now);
        correct(&mut self.node, now, self.desk.runtime.wall());
    }
}

/// Tells the node the time of day, if it has another one.
pub(super) fn correct(node: &mut Node, now: Instant, wall: SystemTime) {
    let counted = node.wall(now);
    let off = wall
        .duration_since(counted)
        .unwrap_or_else(|e| e.duration());
    if off > TOLERANCE {
        logged(|| tracing::info!(?off, "the time of day is another one than was counted"));
        node.set_wall(now, wall);
    }
}
