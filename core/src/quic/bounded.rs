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

/// So many times what the path needs may be in flight: twice what it takes to double each round trip.
/// On a path where others' queues make the round trip longer than so many times its shortest, a link
/// still sends [`FLOOR`] bytes in each.
const TIMES: u128 = 4;

/// Nobody is held to less, in bytes: it is half a millisecond at a gigabyte a second, and ends take turns of
/// about that length.
const FLOOR: u64 = 512 << 10;

/// A rate is measured for a round trip, and no shorter: acks come in batches.
const MEASURED_FOR: Duration = Duration::from_millis(10);

/// The highest rate of this time counts, and of as much before it.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

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
        self.bound.acked(bytes, rtt.min());
        // A window that is not used does not grow (RFC 9002, section 7.8).
        let held = self.bound.bytes <= self.inner.window();
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
        self.bound.measure(now);
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
        self.inner.window().min(self.bound.bytes)
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
    shortest: Duration,
    /// Since when bytes are counted, and how many were acked.
    since: Instant,
    acked: u64,
    /// The highest rates, in bytes a second: of the present time, and of the one before it.
    rates: [u64; 2],
    present_since: Instant,
}

impl Bound {
    fn new(now: Instant) -> Self {
        Self {
            bytes: FLOOR,
            shortest: Duration::ZERO,
            since: now,
            acked: 0,
            rates: [0; 2],
            present_since: now,
        }
    }

    fn acked(&mut self, bytes: u64, shortest: Duration) {
        self.acked += bytes;
        self.shortest = shortest;
    }

    fn measure(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.since);
        if time < self.shortest.max(MEASURED_FOR) {
            return;
        }
        let rate = u128::from(self.acked) * 1_000_000_000 / time.as_nanos();
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        (self.since, self.acked) = (now, 0);
        if now.saturating_duration_since(self.present_since) >= REMEMBERED_FOR {
            self.rates = [0, self.rates[0]];
            self.present_since = now;
        }
        self.rates[0] = self.rates[0].max(rate);
        let highest = self.rates[0].max(self.rates[1]);
        let needed = u128::from(highest) * self.shortest.as_nanos() / 1_000_000_000;
        self.bytes = u64::try_from(needed * TIMES).unwrap_or(u64::MAX).max(FLOOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// A path of that rate, in bytes a second, and round trip, kept as full as may be for that long.
    fn use_path(bound: &mut Bound, now: &mut Instant, rate: u64, trip: Duration, time: Duration) {
        let end = *now + time;
        while *now < end {
            // The window, once a round trip; what is beyond the path's rate waits.
            let window = bound.bytes;
            let nanos = u128::from(window) * 1_000_000_000 / u128::from(rate);
            *now += trip.max(Duration::from_nanos(u64::try_from(nanos).unwrap()));
            bound.acked(window, trip);
            bound.measure(*now);
        }
    }

    #[test]
    fn a_fast_path_of_no_length_gets_the_floor() {
        let mut now = Instant::now();
        let mut bound = Bound::new(now);
        let second = Duration::from_secs(1);
        use_path(
            &mut bound,
            &mut now,
            1_000_000_000,
            50 * MICROSECOND,
            second,
        );
        assert_eq!(bound.bytes, FLOOR);
    }

    #[test]
    fn a_long_path_gets_a_few_times_what_it_needs_and_soon() {
        let mut now = Instant::now();
        let mut bound = Bound::new(now);
        let trip = Duration::from_millis(100);
        use_path(&mut bound, &mut now, 125_000_000, trip, 20 * trip);
        let needed = 12_500_000;
        assert!(
            bound.bytes > 3 * needed && bound.bytes < 5 * needed,
            "{}",
            bound.bytes
        );
    }

    #[test]
    fn a_rest_takes_nothing_away_at_first_and_all_in_the_end() {
        let mut now = Instant::now();
        let mut bound = Bound::new(now);
        let trip = Duration::from_millis(100);
        use_path(&mut bound, &mut now, 125_000_000, trip, 20 * trip);
        let busy = bound.bytes;
        for (seconds, bytes) in [(4, busy), (60, FLOOR)] {
            for _ in 0..seconds {
                now += Duration::from_secs(1);
                bound.acked(100, trip);
                bound.measure(now);
            }
            assert_eq!(bound.bytes, bytes, "after {seconds} s");
        }
    }

    #[test]
    fn acks_of_one_moment_are_no_rate() {
        let now = Instant::now();
        let mut bound = Bound::new(now);
        (0..1_000).for_each(|_| {
            bound.acked(1 << 20, Duration::from_millis(1));
            bound.measure(now);
        });
        assert_eq!(bound.bytes, FLOOR);
    }
}
