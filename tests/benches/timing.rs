//! By the clock: `cargo bench -p trunkline-testkit --bench timing`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark ends by panicking"
)]

mod work;

use divan::Bencher;
use work::turns::Recorded;
use work::{codec, deadlines, turns};

fn main() {
    divan::main();
}

#[divan::bench]
fn decode_an_envelope(bencher: Bencher) {
    bencher
        .with_inputs(codec::frame)
        .bench_values(codec::decode);
}

#[divan::bench]
fn encode_a_header(bencher: Bencher) {
    let buffer = || bytes::BytesMut::with_capacity(64);
    bencher.with_inputs(buffer).bench_values(codec::encode);
}

#[divan::bench]
fn list_a_thousand_acks() -> bytes::BytesMut {
    codec::acks(1_000)
}

#[divan::bench(args = [10, 10_000, 1_000_000])]
fn postpone_a_deadline_among(bencher: Bencher, entries: usize) {
    let mut deadlines = deadlines::Deadlines::new(entries);
    bencher.bench_local(|| deadlines.postpone());
}

#[divan::bench(args = [10, 10_000, 1_000_000])]
fn turn_over_two_promises_among(bencher: Bencher, pending: usize) {
    let mut promises = deadlines::Promises::new(pending);
    bencher.bench_local(|| promises.turn_over());
}

#[divan::bench(args = [1, 100, 10_000])]
fn a_request_of_one_among(bencher: Bencher, sessions: usize) {
    let mut nodes = turns::Nodes::new(sessions, 128, Recorded::No);
    bencher.bench_local(|| nodes.request());
}

#[divan::bench(args = [16, 128, 1_024, 16_384])]
fn a_hundred_messages_of(bencher: Bencher, size: usize) {
    let mut nodes = turns::Nodes::new(1, size, Recorded::No);
    bencher.bench_local(|| nodes.pipeline(100));
}

/// What recording costs: both nodes are recorded so.
#[divan::bench(args = [Recorded::No, Recorded::Link, Recorded::Wire])]
fn a_hundred_messages_recorded(bencher: Bencher, recorded: Recorded) {
    let mut nodes = turns::Nodes::new(1, 128, recorded);
    bencher.bench_local(|| nodes.pipeline(100));
}
