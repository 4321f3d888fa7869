//! A congestion controller that does not fill the queues of a fast path.
//!
//! Controllers that go by losses send until a queue is full: between two machines of a fast network that
//! is the receiver's socket buffer, some megabytes, and what is small and urgent waits behind all of it.
//! What is in flight beyond what the path needs, its rate times its round trip, only waits. So no more
//! than a few times that may be in flight, as BBR has it (Cardwell et al., 2016), but the controller
//! underneath still decides below that.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory};

/// So many times what the path needs may be in flight. Twice is what a window that doubles each round trip
/// takes, whose rate is known a round trip late.
const TIMES: u128 = 4;

/// Nobody is held to less, in bytes: it is half a millisecond at a gigabyte a second, and ends take turns of
/// about that length.
const FLOOR: u64 = 512 << 10;

/// A rate is measured for the shortest round trip, and no shorter: acks come in batches.
const MEASURED_FOR: Duration = Duration::from_millis(10);

/// The highest rate of this time counts, and of as much before it.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// The shortest round trip of this time counts, and of as much before it: a path may become longer.
const SHORTEST_OF: Duration = Duration::from_secs(10);

/// What anybody may have in flight who knows nothing of the path, in bytes (RFC 9002, section 7.2: ten packets).
pub(super) const INITIAL_WINDOW: u64 = 14_720;

/// What may be in flight while a queue of our own empties, so that a round trip without it is seen. Bytes.
const DRAINED: u64 = INITIAL_WINDOW;

/// Acks that are further apart than this, and than two round trips, are those of somebody who has little to
/// say.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes controllers that are bounded.
pub(super) struct BoundedConfig<F>(pub(super) Arc<F>);

impl<F: ControllerFactory> ControllerFactory for BoundedConfig<F> {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Bounded {
            inner: self.0.clone().build(now, mtu),
            bound: Bound::new(now),
        })
    }
}

struct Bounded {
    inner: Box<dyn Controller>,
    bound: Bound,
}

impl Bounded {
    /// Whether it is this bound that counts.
    fn is_held(&self) -> bool {
        self.bound.bytes <= self.inner.window()
    }
}

impl Controller for Bounded {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        // A window that is not used does not grow (RFC 9002, section 7.8).
        let held = self.is_held();
        self.bound.acked(now, sent, bytes);
        self.inner
            .on_ack(now, sent, bytes, app_limited || held, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        let held = self.is_held();
        self.bound.measure(now, in_flight, held, app_limited);
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window().min(self.bound.window())
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            bound: self.bound.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What may be in flight, by what the path has delivered.
#[derive(Clone, Debug)]
struct Bound {
    bytes: u64,
    measured: Measured,
    /// The highest rates, in bytes a second: of the present time, and of the one before it.
    rates: [u64; 2],
    rates_since: Instant,
    /// The shortest round trips, in the same way.
    shortest: [Duration; 2],
    shortest_since: Instant,
    drain: Drain,
}

/// What was acked since a rate was measured.
#[derive(Clone, Copy, Debug)]
struct Measured {
    bytes: u64,
    since: Instant,
    /// When the last packet was sent that was acked by then, and the last one that is by now.
    sent: [Instant; 2],
}

/// How far a queue of our own has emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    Over,
    Empties,
    /// What is sent from then on finds it empty.
    Empty(Instant),
}

impl Bound {
    fn new(now: Instant) -> Self {
        Self {
            bytes: FLOOR,
            measured: Measured {
                bytes: 0,
                since: now,
                sent: [now; 2],
            },
            rates: [0; 2],
            rates_since: now,
            shortest: [Duration::MAX; 2],
            shortest_since: now,
            drain: Drain::Over,
        }
    }

    fn window(&self) -> u64 {
        match self.drain {
            Drain::Over => self.bytes,
            Drain::Empties | Drain::Empty(_) => DRAINED,
        }
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.measured.bytes += bytes;
        self.measured.sent[1] = self.measured.sent[1].max(sent);
        let trip = now.saturating_duration_since(sent);
        self.shortest[0] = self.shortest[0].min(trip);
        if let Drain::Empty(since) = self.drain
            && sent >= since
        {
            self.drain = Drain::Over;
        }
    }

    /// Acks of one packet have been looked at; `held`: it is this bound that counts.
    fn measure(&mut self, now: Instant, in_flight: u64, held: bool, app_limited: bool) {
        if self.drain == Drain::Empties && in_flight <= DRAINED {
            self.drain = Drain::Empty(now);
        }
        let shortest = self.shortest[0].min(self.shortest[1]);
        let Measured { bytes, since, sent } = self.measured;
        // What a pause has held back is acked all at once, but was not sent so.
        let time = now
            .saturating_duration_since(since)
            .max(sent[1].saturating_duration_since(sent[0]));
        if shortest == Duration::MAX || time < shortest.max(MEASURED_FOR) {
            return;
        }
        self.measured = Measured {
            bytes: 0,
            since: now,
            sent: [sent[1]; 2],
        };
        // Who has little to say says nothing of the path.
        if !app_limited && now.saturating_duration_since(self.rates_since) >= REMEMBERED_FOR {
            self.rates = [0, self.rates[0]];
            self.rates_since = now;
        }
        let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos();
        self.rates[0] = self.rates[0].max(u64::try_from(rate).unwrap_or(u64::MAX));
        let highest = self.rates[0].max(self.rates[1]);
        let needed = u128::from(highest) * shortest.as_nanos() / 1_000_000_000;
        self.bytes = u64::try_from(needed * TIMES).unwrap_or(u64::MAX).max(FLOOR);
        if now.saturating_duration_since(self.shortest_since) >= SHORTEST_OF {
            self.shortest = [Duration::MAX, self.shortest[0]];
            self.shortest_since = now;
            // What comes after a pause has found the path empty.
            let pause = PAUSE.max(2 * shortest);
            if held && in_flight > DRAINED && time < pause {
                self.drain = Drain::Empties;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// A path of that rate, in bytes a second, and round trip, kept as full as may be for that long.
    fn use_path(bound: &mut Bound, now: &mut Instant, rate: u64, trip: Duration, time: Duration) {
        let end = *now + time;
        while *now < end {
            // The window, once a round trip; what is beyond the path's rate waits.
            let window = bound.window();
            let nanos = u128::from(window) * 1_000_000_000 / u128::from(rate);
            let sent = *now;
            *now += trip.max(Duration::from_nanos(u64::try_from(nanos).unwrap()));
            bound.acked(*now, sent, window);
            bound.measure(*now, window, true, false);
        }
    }

    const TRIP: Duration = Duration::from_millis(100);
    const SECOND: Duration = Duration::from_secs(1);
    /// Of a gigabit a second and that round trip.
    const NEEDED: u64 = 12_500_000;

    fn long_path() -> (Bound, Instant) {
        let mut now = Instant::now();
        let mut bound = Bound::new(now);
        use_path(&mut bound, &mut now, 125_000_000, TRIP, 20 * TRIP);
        (bound, now)
    }

    fn is_a_few_times(bytes: u64, needed: u64) -> bool {
        (3 * needed..5 * needed).contains(&bytes)
    }

    #[test]
    fn a_fast_path_of_no_length_gets_the_floor() {
        let trip = 50 * MICROSECOND;
        let mut now = Instant::now();
        let mut bound = Bound::new(now);
        // The handshake.
        bound.acked(now + trip, now, 1_200);
        for _ in 0..10 {
            use_path(&mut bound, &mut now, 1_000_000_000, trip, 10 * SECOND);
            assert_eq!(bound.bytes, FLOOR);
        }
    }

    #[test]
    fn a_long_path_gets_a_few_times_what_it_needs_and_soon() {
        let (bound, _) = long_path();
        assert!(is_a_few_times(bound.bytes, NEEDED), "{}", bound.bytes);
    }

    #[test]
    fn who_says_little_is_not_held_to_less() {
        let (mut bound, mut now) = long_path();
        let bytes = bound.window();
        for _ in 0..10 {
            let sent = now + 15 * SECOND;
            now = sent + TRIP;
            bound.acked(now, sent, 100);
            bound.measure(now, 0, true, true);
            assert_eq!(bound.window(), bytes);
        }
        // Nor once it has more to say.
        let sent = now + 15 * SECOND;
        now = sent + TRIP;
        bound.acked(now, sent, INITIAL_WINDOW);
        bound.measure(now, bytes, true, false);
        assert_eq!(bound.window(), bytes);
    }

    #[test]
    fn a_queue_of_its_own_does_not_make_a_path_seem_longer() {
        let (mut bound, mut now) = long_path();
        for _ in 0..10 {
            use_path(&mut bound, &mut now, 125_000_000, TRIP, 10 * SECOND);
            assert!(is_a_few_times(bound.bytes, NEEDED), "{}", bound.bytes);
        }
    }

    #[test]
    fn nor_does_it_if_the_path_is_very_long() {
        let (rate, trip) = (12_500_000, 12 * TRIP);
        let start = Instant::now();
        let (mut now, mut bound) = (start, Bound::new(start));
        let mut in_flight = VecDeque::new();
        while now < start + 400 * SECOND {
            // A tenth of a window each tenth of a round trip.
            let window = bound.window();
            let nanos = window * 1_000_000_000 / rate;
            now += trip.max(Duration::from_nanos(nanos)) / 10;
            in_flight.push_back((now, window / 10));
            if in_flight.len() > 10
                && let Some((sent, bytes)) = in_flight.pop_front()
            {
                bound.acked(now, sent, bytes);
                let left = in_flight.iter().map(|(_, bytes)| bytes).sum();
                bound.measure(now, left, true, false);
            }
        }
        let needed = NEEDED * 12 / 10;
        assert!(is_a_few_times(bound.bytes, needed), "{}", bound.bytes);
    }

    #[test]
    fn a_path_that_becomes_longer_gets_what_it_needs_then() {
        let (mut bound, mut now) = long_path();
        use_path(&mut bound, &mut now, 125_000_000, 10 * TRIP, 40 * SECOND);
        assert!(is_a_few_times(bound.bytes, 10 * NEEDED), "{}", bound.bytes);
    }

    #[test]
    fn little_traffic_does_not_make_a_path_seem_slow() {
        let (mut bound, mut now) = long_path();
        let busy = bound.bytes;
        for _ in 0..60 {
            let sent = now;
            now += SECOND;
            bound.acked(sent + TRIP, sent, 100);
            bound.measure(sent + TRIP, 0, false, true);
        }
        assert_eq!(bound.bytes, busy);
    }

    #[test]
    fn what_a_pause_has_held_back_does_not_make_a_path_seem_fast() {
        let start = Instant::now();
        let mut bound = Bound::new(start);
        // A megabyte a millisecond, all of it acked 100 ms later at once.
        let now = start + TRIP;
        for n in 0..100 {
            bound.acked(now, start + Duration::from_millis(n), 1_000_000);
            bound.measure(now, 0, true, false);
        }
        let later = now + 2 * MEASURED_FOR;
        bound.acked(later, now, 100);
        bound.measure(later, 0, true, false);
        let highest = bound.rates[0];
        assert!(highest <= 1_100_000_000, "{highest}");
    }
}
