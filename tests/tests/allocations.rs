//! What a message costs in memory on its way, once everything has been used before: nothing of its own
//! beside its payload, and a large one's payload is copied once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

#[allow(dead_code, reason = "benchmarks do more with it than is counted here")]
#[path = "../benches/work/turns.rs"]
mod turns;

use allocation_counter::AllocationInfo;
use turns::{Nodes, Recorded};

/// What a round of both nodes allocates, on average, once the first rounds are over.
fn measure(nodes: &mut Nodes, round: impl Fn(&mut Nodes)) -> AllocationInfo {
    const ROUNDS: u64 = 10;
    for _ in 0..20 {
        round(nodes);
    }
    let mut used = allocation_counter::measure(|| {
        for _ in 0..ROUNDS {
            round(nodes);
        }
    });
    used.count_total /= ROUNDS;
    used.bytes_total /= ROUNDS;
    used
}

/// Both ways, all that is allocated belongs to datagrams (each of which carries some thirty of these
/// messages: the datagram itself, what quinn-proto remembers of a packet that it sent and of one that it
/// received, memory for the message that two datagrams share), or to a whole turn (tables that grow by
/// doubling and give back what they do not need). One allocation for each message, at either end, would
/// be more than three times as much.
#[test]
fn nothing_is_allocated_for_each_message() {
    const MESSAGES: usize = 1_000;
    let mut nodes = Nodes::new(1, 16, Recorded::No);
    type Round = fn(&mut Nodes, usize) -> usize;
    let rounds: [Round; 2] = [Nodes::pipeline, Nodes::requests];
    for (what, send) in ["message", "request"].into_iter().zip(rounds) {
        let used = measure(&mut nodes, |nodes| {
            assert_eq!(send(nodes, MESSAGES), MESSAGES)
        });
        let each = used.count_total as f64 / MESSAGES as f64;
        assert!(each < 0.5, "{each} allocations for each {what}");
    }
}

/// A large payload is written to QUIC as it stands in the sender's memory, and put together once from
/// the datagrams that it came in: so there are its datagrams, its one copy, and what packets cost.
#[test]
fn a_large_payload_is_copied_once() {
    // With its envelope, a frame of 1 MiB.
    const BYTES: usize = (1 << 20) - 64;
    let mut nodes = Nodes::new(1, BYTES, Recorded::No);
    let used = measure(&mut nodes, |nodes| assert_eq!(nodes.pipeline(1), 1));
    let copies = used.bytes_total as f64 / BYTES as f64;
    assert!(copies < 3.0, "{copies} times its own bytes");
}
