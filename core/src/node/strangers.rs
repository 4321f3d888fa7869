//! Lines of the log that anybody brings about who can reach a server, as often as they like: so many are written a
//! second, and then how many were not. And what is written of connections that no client was let in over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::error::{CloseCode, DisconnectReason};
use crate::link::Stage;
use crate::logged::logged;

use super::Node;
use super::log::code_of;

/// So many lines are written in each [`WINDOW`], by all shards of a server together.
const LINES: u32 = 50;

/// And so many that everybody sees of those who have not said who they are: they need nothing for it.
const NAMELESS: u32 = 5;

const WINDOW: Duration = Duration::from_secs(1);

/// What strangers may write to the log. Each kind of line has a bound of its own: a flood of one leaves room for the
/// others.
#[derive(Debug)]
pub(super) struct Strangers {
    /// Of clients that were refused.
    refused: Bucket,
    nameless: Bucket,
    details: Bucket,
}

/// What is left of a window's lines.
#[derive(Debug)]
struct Bucket {
    lines: u32,
    /// When the window began.
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Bucket {
    fn of(lines: u32, shards: u16) -> Self {
        Self {
            lines: (lines / u32::from(shards.max(1))).max(1),
            since: None,
            written: 0,
            left_out: 0,
        }
    }

    /// Whether one more may be written now; otherwise it counts as left out.
    fn may(&mut self, now: Instant) -> bool {
        if self.is_over(now) {
            (self.since, self.written) = (Some(now), 0);
        }
        let room = self.written < self.lines;
        self.written += u32::from(room);
        self.left_out += u64::from(!room);
        room
    }

    /// How many lines were left out, once their window is over.
    fn take_left_out(&mut self, now: Instant) -> Option<u64> {
        (self.left_out > 0 && self.is_over(now)).then(|| std::mem::take(&mut self.left_out))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.since
            .is_none_or(|since| now.saturating_duration_since(since) >= WINDOW)
    }
}

impl Strangers {
    /// At one of so many shards.
    pub(super) fn new(shards: u16) -> Self {
        Self {
            refused: Bucket::of(LINES, shards),
            nameless: Bucket::of(NAMELESS, shards),
            details: Bucket::of(LINES, shards),
        }
    }

    /// Lines of this window that everybody sees, and details.
    #[cfg(test)]
    pub(super) fn written(&self) -> (u32, u32) {
        (
            self.refused.written + self.nameless.written,
            self.details.written,
        )
    }

    /// Lines that were left out, and not told of yet.
    #[cfg(test)]
    pub(super) fn left_out(&self) -> u64 {
        self.refused.left_out + self.nameless.left_out + self.details.left_out
    }

    /// Has a line written of a client that was refused, if there is room for it.
    pub(super) fn refused(&mut self, now: Instant, line: impl FnOnce()) {
        self.tell_left_out(now);
        if self.refused.may(now) {
            logged(line);
        }
    }

    /// The same for one that everybody sees, of a connection whose client has no name.
    fn nameless(&mut self, now: Instant, line: impl FnOnce()) {
        self.tell_left_out(now);
        if self.nameless.may(now) {
            logged(line);
        }
    }

    /// The same for a line that is a detail.
    fn detail(&mut self, now: Instant, line: impl FnOnce()) {
        self.tell_left_out(now);
        if self.details.may(now) {
            logged(line);
        }
    }

    /// Says how many lines were not written, once that is known.
    pub(super) fn tell_left_out(&mut self, now: Instant) {
        const TEXT: &str = "more connections or clients were not let in, without a line each";
        for shown in [&mut self.refused, &mut self.nameless] {
            if let Some(more) = shown.take_left_out(now) {
                logged(|| tracing::info!(more, "{TEXT}"));
            }
        }
        if let Some(more) = self.details.take_left_out(now) {
            logged(|| tracing::debug!(more, "{TEXT}"));
        }
    }
}

impl Node {
    /// A server's connection is over that no client was let in over. It has no session that could tell of it.
    pub(super) fn ended_outside(
        &mut self,
        now: Instant,
        address: SocketAddr,
        stage: &Stage,
        reason: &DisconnectReason,
    ) {
        match stage {
            Stage::Handshake | Stage::AwaitsHello => {
                let late = matches!(reason, DisconnectReason::ConnectTimeout);
                self.metrics.handshakes_timed_out += u64::from(late);
            }
            // Its line says that it was refused.
            Stage::Refused(_) => return,
            Stage::AwaitsAdmission(_) if code_of(reason).is_some() => return,
            _ => {}
        }
        self.not_let_in(now, address, reason);
    }

    /// Writes a line of a connection that ended before its client was let in: one that everybody sees, if somebody has
    /// to mend something, here or there.
    pub(super) fn not_let_in(
        &mut self,
        now: Instant,
        address: SocketAddr,
        reason: &DisconnectReason,
    ) {
        const TEXT: &str = "a connection ended before its client was let in";
        // Put into words only if it is written; as a text, whose quotes the log escapes.
        let code = code_of(reason);
        if is_to_be_mended(reason) {
            self.strangers.nameless(
                now,
                || tracing::info!(%address, reason = reason.to_string(), code, "{TEXT}"),
            );
        } else {
            self.strangers.detail(
                now,
                || tracing::debug!(%address, reason = reason.to_string(), code, "{TEXT}"),
            );
        }
    }
}

/// Whether it is about certificates, or the sides do not speak the same protocol.
fn is_to_be_mended(reason: &DisconnectReason) -> bool {
    match reason {
        DisconnectReason::Certificate(_)
        | DisconnectReason::CertificateExpired(_)
        | DisconnectReason::NoCommonProtocol => true,
        DisconnectReason::Local { code, .. } => *code == CloseCode::PROTOCOL_VIOLATION,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_second_and_then_how_many_more() {
        let mut now = Instant::now();
        let mut strangers = Strangers::new(1);
        let mut written = 0;
        for _ in 0..60 {
            strangers.refused(now, || written += 1);
        }
        assert_eq!((written, strangers.refused.left_out), (50, 10));
        // They do not crowd each other out.
        for _ in 0..6 {
            strangers.nameless(now, || written += 1);
        }
        assert_eq!((written, strangers.nameless.left_out), (55, 1));
        strangers.detail(now, || written += 1);
        assert_eq!((written, strangers.details.left_out), (56, 0));
        now += WINDOW - Duration::from_millis(1);
        assert_eq!(strangers.refused.take_left_out(now), None);
        now += Duration::from_millis(1);
        assert_eq!(strangers.refused.take_left_out(now), Some(10));
        assert_eq!(strangers.refused.take_left_out(now), None, "once");
        strangers.refused(now, || written += 1);
        assert_eq!((written, strangers.refused.left_out), (57, 0));
    }

    #[test]
    fn shards_share_the_bound() {
        let mut strangers = Strangers::new(16);
        let (now, mut written) = (Instant::now(), 0);
        for _ in 0..60 {
            strangers.refused(now, || written += 1);
            strangers.nameless(now, || written += 1);
        }
        assert_eq!(written, 3 + 1);
    }

    #[test]
    fn who_has_to_mend_something_is_shown() {
        let shown = |reason| is_to_be_mended(&reason);
        assert!(shown(DisconnectReason::Certificate("none".into())));
        assert!(shown(DisconnectReason::NoCommonProtocol));
        let of = |code| DisconnectReason::local(code, "");
        assert!(shown(of(CloseCode::PROTOCOL_VIOLATION)));
        assert!(!shown(of(CloseCode::ADMISSION_TIMEOUT)));
        assert!(!shown(DisconnectReason::ConnectTimeout));
        assert!(!shown(DisconnectReason::Reset));
    }
}
