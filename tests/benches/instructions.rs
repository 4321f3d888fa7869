//! By counting instructions, which a busy machine does not change:
//! `cargo bench -p trunkline-testkit --bench instructions`. It needs valgrind and, in the version of
//! the crate gungraun that Cargo.lock names, `cargo install gungraun-runner`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark ends by panicking"
)]
#![allow(
    unused_qualifications,
    reason = "what gungraun's macros make of a setup's path"
)]

mod work;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use gungraun::{library_benchmark, library_benchmark_group, main};
use work::codec;
use work::deadlines::{Deadlines, Promises};
use work::turns::{Nodes, Recorded};

#[library_benchmark]
#[bench::of_a_message(setup = codec::frame)]
fn decode(frame: Bytes) -> trunkline_proto::Envelope {
    black_box(codec::decode(frame))
}

#[library_benchmark]
#[bench::of_a_message(setup = BytesMut::with_capacity, args = (64))]
fn encode(out: BytesMut) -> BytesMut {
    black_box(codec::encode(out))
}

#[library_benchmark]
#[bench::a_thousand(1_000)]
fn acks(count: u64) -> BytesMut {
    black_box(codec::acks(count))
}

#[library_benchmark]
#[bench::among_10(setup = Deadlines::new, args = (10))]
#[bench::among_10_000(setup = Deadlines::new, args = (10_000))]
#[bench::among_1_000_000(setup = Deadlines::new, args = (1_000_000))]
fn postpone_a_hundred_times(mut deadlines: Deadlines) -> Deadlines {
    for _ in 0..100 {
        black_box(deadlines.postpone());
    }
    deadlines
}

#[library_benchmark]
#[bench::among_10(setup = Promises::new, args = (10))]
#[bench::among_10_000(setup = Promises::new, args = (10_000))]
fn turn_over_a_hundred_times(mut promises: Promises) -> Promises {
    for _ in 0..100 {
        black_box(promises.turn_over());
    }
    promises
}

fn nodes(sessions: usize, body: usize) -> Nodes {
    recorded(Recorded::No, sessions, body)
}

fn recorded(recorded: Recorded, sessions: usize, body: usize) -> Nodes {
    let mut nodes = Nodes::new(sessions, body, recorded);
    // Queues have grown to what they need.
    nodes.request();
    nodes.pipeline(100);
    nodes
}

#[library_benchmark]
#[bench::of_one_session(setup = nodes, args = (1, 128))]
#[bench::among_200_sessions(setup = nodes, args = (200, 128))]
#[bench::recorded_above_quic(setup = recorded, args = (Recorded::Link, 1, 128))]
#[bench::recorded_on_the_wire(setup = recorded, args = (Recorded::Wire, 1, 128))]
fn request(mut nodes: Nodes) -> Nodes {
    black_box(nodes.request());
    nodes
}

#[library_benchmark]
#[bench::of_16_bytes(setup = nodes, args = (1, 16))]
#[bench::of_128_bytes(setup = nodes, args = (1, 128))]
#[bench::of_16_kib(setup = nodes, args = (1, 16_384))]
#[bench::recorded_above_quic(setup = recorded, args = (Recorded::Link, 1, 128))]
#[bench::recorded_on_the_wire(setup = recorded, args = (Recorded::Wire, 1, 128))]
fn a_hundred_messages(mut nodes: Nodes) -> Nodes {
    black_box(nodes.pipeline(100));
    nodes
}

library_benchmark_group!(name = frames, benchmarks = [decode, encode, acks]);
library_benchmark_group!(
    name = tables,
    benchmarks = [postpone_a_hundred_times, turn_over_a_hundred_times]
);
library_benchmark_group!(name = turns, benchmarks = [request, a_hundred_messages]);
main!(library_benchmark_groups = frames, tables, turns);
