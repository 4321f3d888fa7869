//! Whether a link's peer lives.

use std::time::{Duration, Instant};

use crate::planted::{Bug, planted};
use crate::spans::{part, remainder};

/// What a heartbeat's deadline calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeartbeatAction {
    /// Send a heartbeat with this number: 1, 2, 3 …
    Beat(u64),
    /// The peer was silent for too long. Said once.
    Dead,
}

/// At how many moments of an interval the clients of one node beat: ten a second, with the usual
/// interval.
const BEATS_PER_INTERVAL: u32 = 150;

/// The liveness of one link. A client beats every interval, and the server's QUIC acknowledges: each
/// counts the other as dead when it has heard nothing for `misses` intervals.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    misses: u32,
    last_heard: Instant,
    /// `None` on a server: the client beats.
    next_beat: Option<Instant>,
    beats: u64,
    dead: bool,
}

impl Heartbeat {
    /// A client's. Its first beat comes after a random part of the interval, for a draw from
    /// `0.0..1.0`, and the others an interval apart, so that clients that connected together do
    /// not beat together; those that a node's `origin` is the same for share [`BEATS_PER_INTERVAL`] in which
    /// they beat, and with them wake-ups, at both ends.
    pub(crate) fn client(
        now: Instant,
        origin: Instant,
        interval: Duration,
        misses: u32,
        phase_random: f64,
    ) -> Self {
        let first = now + part(interval, phase_random);
        let step = interval / BEATS_PER_INTERVAL;
        let past = remainder(first.saturating_duration_since(origin), step);
        Self {
            next_beat: Some(first + (step - past)),
            ..Self::server(now, interval, misses)
        }
    }

    /// A server's.
    pub(crate) fn server(now: Instant, interval: Duration, misses: u32) -> Self {
        Self {
            interval,
            misses,
            last_heard: now,
            next_beat: None,
            beats: 0,
            dead: false,
        }
    }

    /// The peer gave a sign of life. Call it for all that has arrived before [`Self::poll`]: after a pause of the
    /// process, what the peer has said and the deadline wait side by side.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = self.last_heard.max(now);
    }

    /// When the peer was last heard, or the link began.
    pub(crate) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// When [`Self::poll`] has something to say next, if nothing is heard until then; `None` once
    /// the peer is dead. It changes with every call that takes `now`.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.dead {
            return None;
        }
        let dead_at = self.dead_at();
        Some(self.next_beat.map_or(dead_at, |beat| beat.min(dead_at)))
    }

    /// What is to be done now, if anything. After it, [`Self::next_deadline`] is later than `now`.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<HeartbeatAction> {
        if self.dead {
            return None;
        }
        if self.dead_at() <= now {
            self.dead = true;
            return Some(HeartbeatAction::Dead);
        }
        let beat = self.next_beat.filter(|beat| *beat <= now)?;
        // Beats that a late call has missed are not made up for, and the phase stays.
        self.next_beat = Some(now + self.interval - remainder(now - beat, self.interval));
        self.beats += 1;
        Some(HeartbeatAction::Beat(self.beats))
    }

    fn dead_at(&self) -> Instant {
        let misses = self.misses + u32::from(planted(Bug::MissByOne));
        self.last_heard + self.interval * misses
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use HeartbeatAction::{Beat, Dead};
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);
    const TICK: Duration = Duration::from_nanos(1);

    /// A client of a node that began with it.
    fn new_client(now: Instant, random: f64) -> Heartbeat {
        Heartbeat::client(now, now, INTERVAL, 3, random)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_client_beats_every_interval_from_a_random_phase_on() {
        let start = Instant::now();
        let mut heartbeat = new_client(start, 0.2);
        let phase = heartbeat.next_deadline().unwrap() - start;
        assert!(
            phase.abs_diff(seconds(3)) < Duration::from_millis(1),
            "{phase:?}"
        );
        for n in 0..10 {
            let due = start + phase + INTERVAL * n;
            heartbeat.heard(due - TICK);
            assert_eq!(heartbeat.poll(due - TICK), None);
            assert_eq!(heartbeat.next_deadline(), Some(due));
            assert_eq!(heartbeat.poll(due), Some(Beat(u64::from(n) + 1)));
            assert_eq!(heartbeat.poll(due), None);
        }
    }

    #[test]
    fn a_server_never_beats() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(start, INTERVAL, 3);
        assert_eq!(heartbeat.next_deadline(), Some(start + seconds(45)));
        assert_eq!(heartbeat.poll(start + seconds(44)), None);
    }

    #[test]
    fn a_silent_peer_is_dead_after_all_its_misses_and_not_a_tick_earlier() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(start, INTERVAL, 3);
        heartbeat.heard(start + seconds(10));
        assert_eq!(heartbeat.next_deadline(), Some(start + seconds(55)));
        assert_eq!(heartbeat.poll(start + seconds(55) - TICK), None);
        assert_eq!(heartbeat.poll(start + seconds(55)), Some(Dead));
        assert_eq!(heartbeat.poll(start + seconds(56)), None, "it dies once");
        assert_eq!(heartbeat.next_deadline(), None);
    }

    #[test]
    fn a_frame_that_is_read_before_a_late_timer_call_keeps_the_link() {
        let start = Instant::now();
        let mut heartbeat = new_client(start, 0.9999);
        let late = start + seconds(60);
        heartbeat.heard(late);
        assert_eq!(heartbeat.poll(late), Some(Beat(1)));
        assert_eq!(
            heartbeat.poll(late),
            None,
            "missed beats are not made up for"
        );
        assert_eq!(
            heartbeat.next_deadline(),
            Some(start + seconds(75)),
            "the phase stays"
        );
    }

    #[test]
    fn hearing_never_moves_time_backwards() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(start, INTERVAL, 3);
        heartbeat.heard(start + seconds(10));
        heartbeat.heard(start + seconds(5));
        assert_eq!(heartbeat.last_heard(), start + seconds(10));
    }

    #[test]
    fn ten_thousand_clients_do_not_beat_together() {
        let start = Instant::now();
        let mut tenths = [0; 150];
        for n in 0..10_000 {
            let heartbeat = new_client(start, f64::from(n) / 10_000.0);
            let phase = heartbeat.next_deadline().unwrap() - start;
            assert!(phase > Duration::ZERO && phase <= INTERVAL);
            tenths[phase.as_millis() as usize / 100 - 1] += 1;
        }
        assert!(
            tenths.iter().all(|count| (60..=75).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn clients_of_one_node_beat_at_few_moments() {
        let origin = Instant::now();
        let moments: BTreeSet<_> = (0..10_000_u32)
            .map(|n| {
                let now = origin + Duration::from_micros(1_234) * n;
                let random = f64::from(n.wrapping_mul(7_919) % 10_000) / 10_000.0;
                let heartbeat = Heartbeat::client(now, origin, INTERVAL, 3, random);
                let beat = heartbeat.next_deadline().unwrap();
                assert!(beat > now && beat <= now + INTERVAL + INTERVAL / BEATS_PER_INTERVAL);
                remainder(beat - origin, INTERVAL)
            })
            .collect();
        assert_eq!(moments.len(), BEATS_PER_INTERVAL as usize);
    }

    proptest! {
        #[test]
        fn it_neither_kills_too_early_nor_spins_nor_stalls(
            random in 0.0..1.0,
            client in any::<bool>(),
            misses in 1..5_u32,
            steps in prop::collection::vec((0..20_000_u64, any::<bool>()), 1..200),
        ) {
            let start = Instant::now();
            let mut heartbeat = if client {
                Heartbeat::client(start, start, INTERVAL, misses, random)
            } else {
                Heartbeat::server(start, INTERVAL, misses)
            };
            let (mut now, mut heard, mut beats) = (start, start, 0);
            for (passed, hears) in steps {
                now += Duration::from_millis(passed);
                if hears {
                    heard = now;
                    heartbeat.heard(now);
                }
                let due = heartbeat.next_deadline().unwrap() <= now;
                match heartbeat.poll(now) {
                    None => prop_assert!(!due),
                    Some(Beat(number)) => {
                        beats += 1;
                        prop_assert!(client && due);
                        prop_assert_eq!(number, beats);
                        prop_assert!(heartbeat.next_deadline().unwrap() <= now + INTERVAL);
                    }
                    Some(Dead) => {
                        prop_assert!(due && now - heard >= INTERVAL * misses);
                        prop_assert_eq!(heartbeat.next_deadline(), None);
                        return Ok(());
                    }
                }
                prop_assert!(now - heard < INTERVAL * misses);
                prop_assert!(heartbeat.next_deadline().unwrap() > now);
            }
        }
    }
}
