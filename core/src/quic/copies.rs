//! Second copies of what thin links send on lossy paths.
//!
//! A lost packet is missed a round trip later at the earliest. What was in it is late by so much, and
//! everything behind it in its lane with it. So where a path has lost packets lately, and a link says
//! little on it, every datagram is sent again a moment later. QUIC discards what comes twice (RFC 9000,
//! section 12.3), and what one loss hits is late by that moment. TCP has the like for thin streams
//! (redundant data bundling: Evensen et al., 2010), and so has audio over RTP (RFC 2198).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quinn_proto::Transmit;

use super::bounded::INITIAL_WINDOW;
use crate::planted::{Bug, planted};

/// Where a round trip is shorter, what is lost is there again soon enough.
const SLOW: Duration = Duration::from_millis(5);

/// Two losses within this time make a path lossy.
const LOSSES_WITHIN: Duration = Duration::from_secs(10);

/// For so long a path is lossy then: copies hide further losses.
const LOSSY_FOR: Duration = Duration::from_secs(30);

/// QUIC may take an address that the peer has moved to for its own without having shown it for three probe timeouts,
/// in which the peer has a hand. Only three times as much as came from there may be sent to it until then, and copies
/// are not counted in.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// A copy follows after this part of a round trip, long before the first is taken for lost.
const DELAY_PART: u32 = 32;
const DELAY_MAX: Duration = Duration::from_millis(10);

/// A link is thin while it and its copies send no more bytes in a round trip than anybody may in the
/// first one, and while the congestion window leaves it room: one that is held back by that has no
/// more to give.
const THIN: usize = INITIAL_WINDOW as usize;

/// A connection's copies.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// The path's other end.
    peer: Option<SocketAddr>,
    /// When it came to be there from elsewhere. Little may be sent to an address that has not
    /// answered yet, and so no copies for [`UNKNOWN_FOR`].
    moved: Option<Instant>,
    /// How many packets were lost there.
    lost: u64,
    last_loss: Option<Instant>,
    lossy_until: Option<Instant>,
    /// When the present round trip began; bytes sent in it, and in the one before.
    trip: Option<Instant>,
    sent: [usize; 2],
    /// Of thin links alone, and for a small part of a round trip: not more than [`THIN`] bytes.
    waiting: VecDeque<Copy>,
}

#[derive(Debug)]
struct Copy {
    at: Instant,
    transmit: Transmit,
    bytes: Vec<u8>,
}

impl Copies {
    /// Datagrams go out now; they will again, if that is worth it.
    pub(crate) fn sent(
        &mut self,
        now: Instant,
        connection: &quinn_proto::Connection,
        transmit: &Transmit,
        bytes: &[u8],
    ) {
        let round_trip = connection.rtt();
        if planted(Bug::CopyHandshakes) && connection.is_handshaking() {
            return self.copy(now, round_trip, transmit, bytes);
        }
        if round_trip < SLOW || connection.is_handshaking() {
            return;
        }
        let path = connection.stats().path;
        self.look(now, path.lost_packets, transmit.destination);
        if self.copies(now, round_trip, path.cwnd as usize, transmit.size) {
            self.copy(now, round_trip, transmit, bytes);
        }
    }

    fn copy(&mut self, now: Instant, round_trip: Duration, transmit: &Transmit, bytes: &[u8]) {
        self.waiting.push_back(Copy {
            at: now + (round_trip / DELAY_PART).min(DELAY_MAX),
            transmit: Transmit { ..*transmit },
            bytes: bytes.to_vec(),
        });
    }

    /// Learns what became of the path.
    fn look(&mut self, now: Instant, lost: u64, to: SocketAddr) {
        if self.peer != Some(to) {
            *self = Self {
                peer: Some(to),
                moved: self.peer.map(|_| now),
                lost,
                ..Self::default()
            };
        }
        if lost == self.lost {
            return;
        }
        self.lost = lost;
        let before = self.last_loss.replace(now);
        if before.is_some_and(|before| now < before + LOSSES_WITHIN) {
            self.lossy_until = Some(now + LOSSY_FOR);
        }
    }

    /// Whether so many bytes, sent now, are to be sent twice. `window`: the congestion window.
    fn copies(&mut self, now: Instant, round_trip: Duration, window: usize, size: usize) -> bool {
        if self.trip.is_none_or(|trip| now >= trip + round_trip) {
            self.trip = Some(now);
            self.sent = [0, self.sent[0]];
        }
        self.sent[0] += size;
        let known = self.moved.is_none_or(|moved| now >= moved + UNKNOWN_FOR);
        let lossy = self.lossy_until.is_some_and(|until| now < until);
        let most = self.sent[0].max(self.sent[1]);
        let thin = 2 * most <= THIN && 10 * most <= 9 * window;
        known && lossy && thin
    }

    /// When the next copy goes.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.front().map(|copy| copy.at)
    }

    /// The next copy, if its time has come, the peer is still where it was to go, and it has no more datagrams than
    /// may be sent at a time.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        to: SocketAddr,
        max_segments: usize,
    ) -> Option<(Transmit, Vec<u8>)> {
        while self.next().is_some_and(|at| at <= now) {
            let Copy {
                transmit, bytes, ..
            } = self.waiting.pop_front()?;
            let segments = transmit
                .segment_size
                .map_or(1, |size| bytes.len().div_ceil(size.max(1)));
            if transmit.destination == to && segments <= max_segments {
                return Some((transmit, bytes));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(50);

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// Copies of a path that has lost two packets by then.
    fn lossy(now: Instant) -> Copies {
        let mut copies = Copies::default();
        copies.look(now, 0, at(1));
        copies.look(now, 1, at(1));
        copies.look(now, 2, at(1));
        copies
    }

    #[test]
    fn two_losses_within_ten_seconds_are_needed_and_last_half_a_minute() {
        let mut now = Instant::now();
        let mut copies = Copies::default();
        copies.look(now, 3, at(1));
        assert!(
            !copies.copies(now, TRIP, 100_000, 100),
            "these were there before"
        );
        copies.look(now, 4, at(1));
        now += LOSSES_WITHIN;
        copies.look(now, 5, at(1));
        assert!(!copies.copies(now, TRIP, 100_000, 100));
        copies.look(now + SLOW, 6, at(1));
        assert!(copies.copies(now + LOSSY_FOR, TRIP, 100_000, 100));
        assert!(!copies.copies(now + LOSSY_FOR + SLOW, TRIP, 100_000, 100));
    }

    #[test]
    fn a_link_that_says_much_in_a_round_trip_says_it_once() {
        let now = Instant::now();
        let mut copies = lossy(now);
        assert!(copies.copies(now, TRIP, 100_000, THIN / 2));
        assert!(!copies.copies(now, TRIP, 100_000, 1));
        assert!(
            !copies.copies(now + TRIP, TRIP, 100_000, 1),
            "nor after a full one"
        );
        assert!(copies.copies(now + 2 * TRIP, TRIP, 100_000, 1));
    }

    #[test]
    fn a_link_that_its_congestion_window_holds_back_says_things_once() {
        let now = Instant::now();
        let mut copies = lossy(now);
        assert!(copies.copies(now, TRIP, 2_000, 1_800));
        assert!(!copies.copies(now, TRIP, 2_000, 100));
    }

    #[test]
    fn a_peer_that_has_moved_gets_no_copies_until_it_is_known_there() {
        let now = Instant::now();
        let mut copies = lossy(now);
        let moved = now + TRIP;
        for lost in 2..5 {
            copies.look(moved, lost, at(2));
        }
        assert!(!copies.copies(moved, TRIP, 100_000, 100));
        let known = moved + UNKNOWN_FOR;
        for lost in 5..8 {
            copies.look(known - TRIP, lost, at(2));
        }
        assert!(!copies.copies(known - TRIP, TRIP, 100_000, 100));
        assert!(copies.copies(known, TRIP, 100_000, 100));
    }

    #[test]
    fn a_copy_goes_when_its_time_has_come_and_nowhere_else() {
        let now = Instant::now();
        let mut copies = Copies::default();
        for (after, port) in [(1, 1), (2, 2), (3, 1)] {
            copies.waiting.push_back(Copy {
                at: now + after * SLOW,
                transmit: Transmit {
                    destination: at(port),
                    ecn: None,
                    size: 1,
                    segment_size: None,
                    src_ip: None,
                },
                bytes: vec![port as u8],
            });
        }
        assert!(copies.take(now, at(1), 1).is_none());
        assert_eq!(copies.take(now + SLOW, at(1), 1).unwrap().1, [1]);
        assert_eq!(copies.next(), Some(now + 2 * SLOW));
        assert_eq!(copies.take(now + 3 * SLOW, at(1), 1).unwrap().1, [1]);
        assert_eq!(copies.next(), None);
    }
}
