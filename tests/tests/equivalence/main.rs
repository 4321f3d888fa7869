//! One scenario on tokio, on smol, on both at once and in a bare loop, over real sockets: both
//! applications see the same, whatever drives the core.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests end by panicking; the parts of one test are no library"
)]

mod bare;
mod handles;
mod journal;
mod relay;
mod script;

use std::time::Duration;

use trunkline_core::Config;
use trunkline_testkit::Certificates;

/// No phase takes so long; one that does ends the test, and says what differs.
const PATIENCE: Duration = Duration::from_secs(30);

type Tokio = trunkline_tokio::Runtime;
type Smol = trunkline_smol::Runtime;

/// A silent peer is found within seconds, and a client is back at once.
fn config() -> Config {
    let mut config = Config::default();
    config.heartbeat.interval = Duration::from_secs(1);
    config.redial.first = Duration::from_millis(20);
    config.transport.initial_rtt = Duration::from_millis(20);
    config
}

fn differs(seen: &[String], then: &[&str]) -> ! {
    let lines = |lines: &[&str]| lines.join("\n  ");
    let seen: Vec<_> = seen.iter().map(String::as_str).collect();
    panic!(
        "both sides have seen\n  {}\nand not\n  {}",
        lines(&seen),
        lines(then)
    );
}

fn certificates() -> Certificates {
    Certificates::new().unwrap()
}

/// All that both applications see, in order.
fn expected() -> Vec<String> {
    let lines = script::SCRIPT.iter().flat_map(|phase| phase.then);
    lines.map(ToString::to_string).collect()
}

fn on_tokio(play: impl Future<Output = Vec<String>>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(play)
}

#[test]
fn on_tokio_both_sides_see_what_the_script_says() {
    let seen = on_tokio(handles::play::<Tokio, Tokio>(certificates()));
    assert_eq!(seen, expected());
}

#[test]
fn on_smol_both_sides_see_what_the_script_says() {
    let seen = smol::block_on(handles::play::<Smol, Smol>(certificates()));
    assert_eq!(seen, expected());
}

#[test]
fn in_a_bare_loop_both_sides_see_what_the_script_says() {
    assert_eq!(bare::play(certificates()), expected());
}

#[test]
fn a_smol_client_and_a_tokio_server_see_what_the_script_says() {
    let seen = on_tokio(handles::play::<Smol, Tokio>(certificates()));
    assert_eq!(seen, expected());
}

#[test]
fn a_tokio_client_and_a_smol_server_see_what_the_script_says() {
    let seen = on_tokio(handles::play::<Tokio, Smol>(certificates()));
    assert_eq!(seen, expected());
}
