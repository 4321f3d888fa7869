//! What one lane has received: the next sequence number, what the peer was told of it, and how
//! much the application still owes an answer for.

use crate::planted::{Bug, planted};

/// What to do with an envelope of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is the next one.
    New,
    /// The session holds it already: a replay after a resume.
    Duplicate,
    /// Envelopes are missing before it, which an ordered stream cannot do.
    Gap,
}

/// From so many envelopes, or so many bytes, on, they are not left unreported for long.
const FEW: u64 = 16;
const FEW_BYTES: usize = 4 << 10;

/// A report is urgent once this part of the sender's window, one in so many, is unreported, long before the
/// window is full. That of best effort has no other reports.
const WINDOW_PART: usize = 4;

/// Or once so many envelopes are, however small: their sender keeps each of them until then.
const MANY: u64 = 256;

/// The receiving side of one lane.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    next: u64,
    reported: u64,
    unreported_bytes: usize,
    owed: usize,
    owed_bytes: usize,
}

impl Inbox {
    /// Takes note of an envelope of `bytes` bytes.
    pub(crate) fn arrived(&mut self, seq: u64, bytes: usize) -> Arrival {
        match seq.cmp(&self.next) {
            std::cmp::Ordering::Less if planted(Bug::SkipDedupe) => Arrival::New,
            std::cmp::Ordering::Less => Arrival::Duplicate,
            std::cmp::Ordering::Greater => Arrival::Gap,
            std::cmp::Ordering::Equal => {
                self.next += 1;
                self.unreported_bytes += bytes;
                Arrival::New
            }
        }
    }

    /// Everything below this is held here.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// What has to be reported: everything below the number that is returned.
    pub(crate) fn unreported(&self) -> Option<u64> {
        (self.reported < self.next).then_some(self.next)
    }

    /// Whether so much is unreported that the peer's window may be waiting for it.
    pub(crate) fn report_is_urgent(&self, window: usize) -> bool {
        self.unreported_bytes >= window / WINDOW_PART || self.next - self.reported >= MANY
    }

    /// Whether so little is unreported that the peer may well keep it for a while. Asked of lanes of answers
    /// alone: no application waits for room in those.
    pub(crate) fn report_can_wait(&self) -> bool {
        self.unreported_bytes < FEW_BYTES && self.next - self.reported < FEW
    }

    /// The peer was told, by a receipt or by an answer, that everything below `next` is held.
    pub(crate) fn reported(&mut self, next: u64) {
        self.reported = self.reported.max(next.min(self.next));
        if self.reported == self.next {
            self.unreported_bytes = 0;
        }
    }

    /// The application was handed a message of this lane.
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.owed += 1;
        self.owed_bytes += bytes;
    }

    /// The application has answered one.
    pub(crate) fn answered(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_sub(1);
        self.owed_bytes = self.owed_bytes.saturating_sub(bytes);
    }

    /// Whether the application may be handed more.
    pub(crate) fn has_room(&self, messages: usize, bytes: usize) -> bool {
        self.owed < messages && self.owed_bytes < bytes
    }

    /// Starts a stream that counts from nothing again (best effort, with each link).
    pub(crate) fn restart(&mut self) {
        self.next = 0;
        self.reported = 0;
        self.unreported_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_and_gaps_are_seen() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.arrived(0, 10), Arrival::New);
        assert_eq!(inbox.arrived(0, 10), Arrival::Duplicate);
        assert_eq!(inbox.arrived(2, 10), Arrival::Gap);
        assert_eq!(inbox.arrived(1, 10), Arrival::New);
        assert_eq!(inbox.unreported(), Some(2));
        inbox.reported(2);
        assert_eq!(inbox.unreported(), None);
    }

    #[test]
    fn the_lane_has_room_again_once_the_application_answers() {
        let mut inbox = Inbox::default();
        inbox.owe(100);
        assert!(!inbox.has_room(1, 1_000));
        assert!(!inbox.has_room(10, 100));
        inbox.answered(100);
        assert!(inbox.has_room(1, 1));
    }

    #[test]
    fn a_report_becomes_urgent_with_bytes_or_count() {
        let mut inbox = Inbox::default();
        inbox.arrived(0, 300);
        assert!(inbox.report_is_urgent(1_200));
        assert!(!inbox.report_is_urgent(1_204));
        (1..256).for_each(|seq| assert_eq!(inbox.arrived(seq, 0), Arrival::New));
        assert!(inbox.report_is_urgent(usize::MAX));
    }

    #[test]
    fn few_small_envelopes_can_wait() {
        let mut inbox = Inbox::default();
        (0..15).for_each(|seq| assert_eq!(inbox.arrived(seq, 10), Arrival::New));
        assert!(inbox.report_can_wait());
        inbox.arrived(15, 10);
        assert!(!inbox.report_can_wait());
        inbox.reported(16);
        inbox.arrived(16, 4_096);
        assert!(!inbox.report_can_wait());
    }
}
