//! Memory: what a node holds stays under what its configuration allows.

use std::time::Instant;

use trunkline_core::{Config, MetricsSnapshot, Node};

use super::Oracle;

/// An idle node: its tables, its histogram, TLS's memory of earlier sessions, and queues that had been
/// longer.
const NODE: usize = 1 << 20;
/// What the tables keep of a link or session that is gone: they stay as long as they once were, ours and
/// QUIC's.
const PLACE: usize = 2 << 10;
/// An idle connection and its handshake, with TLS's and QUIC's state.
const LINK: usize = 128 << 10;
/// An idle session.
const SESSION: usize = 16 << 10;
/// Bookkeeping of a message, a promise, a delivery or an event.
const ENTRY: usize = 512;
/// Beside the lanes: answers, bulk answers, best effort, and the control stream.
const OTHER_STREAMS: usize = 4;
/// Collections grow by doubling.
const GROWTH: usize = 2;
/// What a process may leave behind that its thread goes on to use, such as caches of TLS.
const RESIDUE: i64 = 64 << 10;

/// How many bytes a node may hold that has so many links and sessions, and had `most` of both at once:
///
/// `NODE + most × PLACE + links × LINK + sessions × SESSION + GROWTH × queued`, where `queued` is the
/// least of what the caps allow and of what there was at all:
///
/// * each stream of a link holds what the peer may send ahead (`stream_receive_window`), and what was
///   written and is not held by the peer (`lane_window_bytes`), and a frame each way;
/// * each session holds its outbox, best effort, and what its application has not answered;
/// * the event queue holds what the application has not taken;
/// * and all of that together is no more than was ever sent, received or queued.
fn bound(config: &Config, links: usize, sessions: usize, most: usize, ever: usize) -> usize {
    let limits = &config.limits;
    let streams = usize::from(limits.lanes) + OTHER_STREAMS;
    let window = config.transport.stream_receive_window as usize;
    let link = streams * (window + limits.lane_window_bytes + 2 * limits.frame_bytes);
    let entries = limits.promises + limits.outbox_messages + streams * limits.deliveries;
    let session = limits.outbox_bytes
        + limits.best_effort_bytes
        + streams * (limits.delivery_bytes + limits.frame_bytes)
        + entries.saturating_mul(ENTRY);
    let events = limits.event_bytes + limits.frame_bytes + limits.event_messages * ENTRY;
    let events = if sessions + links > 0 { events } else { 0 };
    let caps = (links.saturating_mul(link))
        .saturating_add(sessions.saturating_mul(session))
        .saturating_add(events);
    NODE + most * PLACE + links * LINK + sessions * SESSION + GROWTH * caps.min(ever)
}

/// What there was at all: `given` bytes from the application, and what came and went.
fn ever(metrics: &MetricsSnapshot, given: usize) -> usize {
    let entries = metrics.messages_sent
        + metrics.messages_received
        + metrics.requests_sent
        + metrics.requests_received
        + metrics.best_effort_sent
        + metrics.best_effort_received
        + metrics.frames_in
        + metrics.frames_out;
    let bytes = metrics.bytes_in + metrics.bytes_out;
    usize::try_from(bytes).unwrap_or(usize::MAX) + entries as usize * ENTRY + given
}

impl Oracle {
    /// Looks at the memory that a node holds, in bytes, as an allocator has counted it.
    pub fn weigh(&mut self, now: Instant, node: usize, held: i64, shown: &Node) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let metrics = shown.metrics(now);
        let links = (metrics.links_opened - metrics.links_closed) as usize;
        process.most_places = process.most_places.max(links + metrics.sessions);
        let places = process.most_places;
        let ever = ever(&metrics, process.given);
        let most = bound(&process.config, links, metrics.sessions, places, ever);
        if held > 0 && held as usize > most {
            let sessions = metrics.sessions;
            let what = format!(
                "node {node} holds {held} bytes with {links} links and {sessions} sessions: at most {most} may be"
            );
            self.violation(now, 5, what);
        }
    }

    /// Looks at the memory that is left of a process that has ended.
    pub fn weigh_remains(&mut self, now: Instant, node: usize, left: i64) {
        if left > RESIDUE {
            let what = format!("a process of node {node} has left {left} bytes behind");
            self.violation(now, 5, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_limits_allow_little_and_none_of_it_without_links_and_sessions() {
        let mut config = Config::default();
        config.limits.frame_bytes = 4_096;
        config.limits.promises = 10;
        config.limits.outbox_messages = 10;
        config.limits.outbox_bytes = 4_096;
        config.limits.lane_window_bytes = 4_096;
        config.limits.deliveries = 10;
        config.limits.delivery_bytes = 4_096;
        config.limits.event_messages = 10;
        config.limits.event_bytes = 4_096;
        config.limits.best_effort_bytes = 4_096;
        config.transport.stream_receive_window = 16_384;
        let most = bound(&config, 1, 1, 2, usize::MAX);
        assert!(most > NODE + LINK + SESSION && most < 3 << 20, "{most}");
        assert!(bound(&config, 2, 2, 4, usize::MAX) < 2 * most);
        // The defaults allow much more, and no more than there was.
        assert!(bound(&Config::default(), 1, 1, 2, usize::MAX) > 50 << 20);
        let little = bound(&Config::default(), 1, 1, 2, 10_000);
        assert_eq!(little, NODE + 2 * PLACE + LINK + SESSION + 2 * 10_000);
        assert_eq!(bound(&config, 0, 0, 0, usize::MAX), NODE);
        assert_eq!(bound(&config, 0, 0, 8, usize::MAX), NODE + 8 * PLACE);
    }

    #[test]
    fn what_a_process_leaves_behind_is_a_violation() {
        let now = Instant::now();
        let mut oracle = Oracle::new(now);
        oracle.weigh_remains(now, 0, RESIDUE);
        assert!(oracle.violations().is_empty());
        oracle.weigh_remains(now, 0, RESIDUE + 1);
        assert_eq!(oracle.violations()[0].invariant, 5);
    }
}
