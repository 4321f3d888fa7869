//! Links whose peers send much that comes to nothing: frames that say nothing, cancels of what was answered, answers that
//! come too late. A byte can be such a frame, so that megabytes of them may wait to be read, and with no event among them
//! a poll would not return before all are. They are read in portions, with a pause after each: of a link, that is
//! some ten thousands of frames a second, and QUIC's flow control holds whoever sends more.

use std::time::{Duration, Instant};

use crate::id::LinkKey;

use super::Node;
use super::tables::LinkEntry;

/// How long a link is not read after a visit that has read as much as it may and made little of it.
const PAUSE: Duration = Duration::from_millis(1);

/// What a node had read and made of it when a visit began.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    frames: u64,
    events: usize,
}

impl Node {
    /// A visit begins to read.
    pub(super) fn begin_reading(&self) -> Begun {
        Begun {
            frames: self.metrics.frames_in,
            events: self.events.len(),
        }
    }

    /// A visit has read as much as it may, and leaves the rest: to the link's next turn, or, where less than half of the
    /// frames have come to an event, to the end of a pause.
    pub(super) fn read_on(&mut self, now: Instant, key: LinkKey, begun: Begun) {
        let frames = self.metrics.frames_in - begun.frames;
        let events = (self.events.len() - begun.events) as u64;
        if 2 * events >= frames {
            self.mark(key);
        } else if let Some(entry) = self.links.get_mut(key) {
            entry.throttled_until = Some(now + PAUSE);
            self.metrics.reads_throttled += 1;
        }
    }
}

impl LinkEntry {
    /// Whether the link is not to be read yet.
    pub(super) fn is_throttled(&mut self, now: Instant) -> bool {
        self.throttled_until.take_if(|until| *until <= now);
        self.throttled_until.is_some()
    }
}
