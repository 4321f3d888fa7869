//! What a path does to datagrams.

use std::time::Duration;

/// The impairments of one direction of a path. The default delays by a millisecond and does
/// nothing else; change any field at any time.
///
/// A datagram meets them in the order in which a real path has them: a cut, an MTU or loss takes
/// it away; the bottleneck lets it pass, wait or not; then it is under way for its delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// How long a datagram is under way; at least a microsecond. So long that no clock shows it, as `Duration::MAX`: it
    /// never arrives, and counts as one of a cut path.
    pub delay: Duration,
    /// Up to so much more, drawn for each datagram: more than the gap between two reorders them.
    pub jitter: Duration,
    /// Share of datagrams that get lost, 0 to 1.
    pub loss: f64,
    /// Mean number of datagrams that get lost in a row (Gilbert-Elliott); `None`: each datagram's
    /// loss is its own. At least `loss / (1 - loss)`, or there is less loss than `loss` says.
    pub burst: Option<f64>,
    /// Share of datagrams that come twice, 0 to 1; the copy is never corrupted.
    pub duplicate: f64,
    /// Share of datagrams that are held back for 1 to 20 ms more, so that those behind overtake
    /// them, 0 to 1.
    pub reorder: f64,
    /// Share of datagrams that arrive with one bit flipped, 0 to 1.
    pub corrupt: f64,
    /// Bits of UDP payload a second that leave the bottleneck; `None`: it has none.
    pub rate: Option<u64>,
    /// Bytes that may wait for the bottleneck; what comes to a full queue is dropped. `None`: what
    /// leaves in 50 ms, and 64 kB at least.
    pub queue: Option<usize>,
    /// Bytes of UDP payload that the path carries at most; larger datagrams vanish without a word,
    /// as where ICMP is filtered. `None`: any.
    pub mtu: Option<usize>,
    /// Nothing gets through.
    pub cut: bool,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: None,
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            rate: None,
            queue: None,
            mtu: None,
            cut: false,
        }
    }
}

impl Path {
    /// Bytes that may wait for a bottleneck of `rate` bits a second.
    pub(crate) fn queue_bytes(&self, rate: u64) -> u64 {
        let by_rate = (rate / 8 / 20).max(64_000);
        self.queue.map_or(by_rate, |bytes| bytes as u64)
    }
}
