//! What a node's connections answered, for a recorder above QUIC.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::Fault;
use crate::id::LinkKey;
use crate::tap::LinkNote;

/// The notes of all links of a node that were not taken yet.
#[derive(Debug)]
pub(crate) struct LinkLog {
    /// `None`: nobody takes them any more.
    notes: Mutex<Option<Vec<(LinkKey, LinkNote)>>>,
    /// There are some. It is asked after each call, which mostly notes nothing.
    any: AtomicBool,
}

impl Default for LinkLog {
    fn default() -> Self {
        Self {
            notes: Mutex::new(Some(Vec::new())),
            any: AtomicBool::new(false),
        }
    }
}

impl LinkLog {
    pub(crate) fn note(&self, link: LinkKey, note: LinkNote) {
        if let Some(notes) = &mut *self.notes() {
            notes.push((link, note));
            self.any.store(true, Ordering::Release);
        }
    }

    /// Whether something was noted since it was taken last.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What was noted since this was asked last, in place of what is in `taken`.
    pub(crate) fn take(&self, taken: &mut Vec<(LinkKey, LinkNote)>) {
        taken.clear();
        let mut notes = self.notes();
        self.any.store(false, Ordering::Release);
        if let Some(notes) = &mut *notes {
            std::mem::swap(notes, taken);
        }
    }

    /// Notes nothing more.
    pub(crate) fn stop(&self) {
        *self.notes() = None;
    }

    fn notes(&self) -> MutexGuard<'_, Option<Vec<(LinkKey, LinkNote)>>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where one link notes what its connection answers, if anywhere.
#[derive(Debug, Default)]
pub(crate) struct Notes(Option<(LinkKey, Arc<LinkLog>)>);

impl Notes {
    pub(crate) fn of(link: LinkKey, log: &Arc<LinkLog>) -> Self {
        Self(Some((link, log.clone())))
    }

    pub(crate) fn on(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn note(&self, note: impl FnOnce() -> LinkNote) {
        if let Some((link, log)) = &self.0 {
            log.note(*link, note());
        }
    }
}

/// A stream cannot be read any further.
pub(super) fn broken(slot: Option<u32>, fault: &Fault) -> LinkNote {
    LinkNote::Broken {
        slot,
        code: fault.code,
        reason: fault.reason.clone(),
    }
}

/// How long after `now` it is.
pub(super) fn nanoseconds(now: Instant, at: Instant) -> i64 {
    let span = |from: Instant, to: Instant| {
        i64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(i64::MAX)
    };
    match span(now, at) {
        0 => -span(at, now),
        later => later,
    }
}

/// A number of streams or chunks, of which there are never so many.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
