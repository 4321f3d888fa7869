//! What the system refuses to send or to receive. One error concerns one datagram, and anybody may bring it about, so
//! all are counted and few stand in the log.

use std::io;
use std::time::{Duration, Instant};

use crate::logged::logged;
use crate::{Node, Transmit};

/// How long a kind of error that was told of is only counted.
const QUIET: Duration = Duration::from_secs(600);

/// Which way it was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// The kinds of errors that there have been.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<Trouble>);

#[derive(Debug)]
struct Trouble {
    way: Way,
    kind: io::ErrorKind,
    told: Instant,
    untold: u64,
}

impl Troubles {
    /// The system did not send something.
    pub(super) fn not_sent(
        &mut self,
        now: Instant,
        node: &mut Node,
        transmit: &Transmit,
        error: &io::Error,
    ) {
        let datagrams = match transmit.segment_size {
            Some(each) => transmit.size.div_ceil(each.max(1)),
            None => 1,
        };
        node.count_unsent(datagrams as u64);
        let address = transmit.destination;
        logged(|| tracing::debug!(%error, %address, "sending failed"));
        if let Some(before) = self.due(now, Way::Out, error.kind()) {
            logged(|| {
                tracing::warn!(
                    %error, %address, before,
                    "the system refuses to send; this is told once in a while, and counted as `datagrams_unsent`"
                );
            });
        }
    }

    /// The system did not hand over what came, if anything did.
    pub(super) fn not_received(&mut self, now: Instant, node: &mut Node, error: &io::Error) {
        node.count_receive_failed();
        logged(|| tracing::debug!(%error, "receiving failed"));
        if let Some(before) = self.due(now, Way::In, error.kind()) {
            logged(|| {
                tracing::warn!(
                    %error, before,
                    "receiving fails; this is told once in a while, and counted as `receives_failed`"
                );
            });
        }
    }

    /// Whether to tell of it: how many of its kind were not told of since the last one.
    fn due(&mut self, now: Instant, way: Way, kind: io::ErrorKind) -> Option<u64> {
        let known = |trouble: &&mut Trouble| trouble.way == way && trouble.kind == kind;
        let Some(trouble) = self.0.iter_mut().find(known) else {
            self.0.push(Trouble {
                way,
                kind,
                told: now,
                untold: 0,
            });
            return Some(0);
        };
        if now.saturating_duration_since(trouble.told) < QUIET {
            trouble.untold += 1;
            return None;
        }
        trouble.told = now;
        Some(std::mem::take(&mut trouble.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_told_at_once_and_then_one_in_a_while() {
        let mut troubles = Troubles::default();
        let now = Instant::now();
        let (denied, unreachable) = (
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::NetworkUnreachable,
        );
        assert_eq!(troubles.due(now, Way::Out, denied), Some(0));
        assert_eq!(troubles.due(now, Way::Out, denied), None);
        assert_eq!(troubles.due(now, Way::Out, unreachable), Some(0));
        assert_eq!(troubles.due(now, Way::In, denied), Some(0));
        let later = now + QUIET;
        assert_eq!(
            troubles.due(later - Duration::from_nanos(1), Way::Out, denied),
            None
        );
        assert_eq!(troubles.due(later, Way::Out, denied), Some(2));
        assert_eq!(troubles.due(later, Way::Out, denied), None);
    }
}
