//! The program `endurance` measures what it says, and its judgement depends on it. The figures
//! themselves take ten thousand connections and minutes: here are some connections and moments.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_endurance"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The report of a figure that was reached.
#[track_caller]
fn passed(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output:?}");
    assert!(said.trim_end().ends_with(": pass"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["pass"], true, "{report}");
    report
}

#[test]
fn messages_outlive_their_links_on_both_servers() {
    for engine in ["tokio", "core"] {
        let report = passed(&[
            "s2",
            "--engine",
            engine,
            "--connections",
            "3",
            "--count",
            "600",
            "--cuts",
            "2",
            "--window",
            "16",
        ]);
        assert_eq!(report["engine"], engine);
        assert_eq!(
            (&report["acked"], &report["handled"]),
            (&600.into(), &600.into())
        );
        // Each cut has killed each link.
        let count = |what: &str| report[what].as_u64().unwrap();
        assert_eq!((count("cuts"), count("links_killed")), (2, 6), "{report}");
        assert!(count("links_resumed") >= 6, "{report}");
        assert!(count("server_links_resumed") >= 6, "{report}");
    }
}

#[test]
fn connections_that_came_and_went_are_all_counted() {
    // After a tenth of so few a server still grows: whether it is judged to have done so is chance.
    let output = run(&["s7", "--count", "200"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (count, wanted) in [
        ("server_sessions_opened", 200),
        ("server_sessions_left", 0),
        ("server_links_left", 0),
        ("client_sessions_and_links_left", 0),
        ("broken", 0),
    ] {
        assert_eq!(report[count], wanted, "{count} in {report}");
    }
    let tenths = report["server_kib_after_each_tenth"].as_array().unwrap();
    assert_eq!(tenths.len(), 10);
}

#[test]
fn clients_of_a_killed_server_are_told_and_come_back() {
    // They notice with their next heartbeat.
    let report = passed(&["s3", "--connections", "6", "--away", "0.1"]);
    assert_eq!(report["sessions_lost_told"], 6);
    assert!(
        report["all_back_after_seconds"].as_f64() > Some(0.0),
        "{report}"
    );
}

/// How many were sent in what time, and how soon others were let in, is chance on a loaded machine.
#[test]
fn forged_first_packets_keep_nobody_out() {
    for engine in ["core", "tokio"] {
        let output = run(&[
            "s4",
            "--engine",
            engine,
            "--connections",
            "3",
            "--minutes",
            "0.05",
            "--rate",
            "200",
            "--sources",
            "16",
        ]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |what: &str| report[what].as_u64().unwrap();
        assert!(count("connects") >= 1, "{report}");
        assert_eq!(count("connects_begun"), count("connects"), "{report}");
        assert_eq!((count("false_timeouts"), count("dials_failed")), (0, 0));
        // So few are looked into: only above a thousand has an address to show that it is its own.
        assert!(count("server_accepted") > count("connects"), "{report}");
        assert_eq!((count("server_failed"), count("server_retried")), (0, 0));
    }
}

/// Whether the others' latencies move within so short a time is chance, and on a loaded machine so
/// is whether one of them is found slow as well.
#[track_caller]
fn stopped_are_found_slow(engine: &str) {
    let output = run(&[
        "s6",
        "--engine",
        engine,
        "--connections",
        "5",
        "--stopped",
        "2",
        "--rounds",
        "1",
        "--time",
        "2",
        "--rate",
        "100",
        "--payload",
        "20000",
        "--queue",
        "40000",
    ]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for policy in ["drop-newest", "drop-oldest", "keep-latest", "disconnect"] {
        let of = |what: &str| &report[format!("{policy} {what}")];
        assert_eq!(of("found_slow"), 2, "{policy} in {report}");
        assert!(of("dropped").as_u64() >= Some(2), "{policy} in {report}");
        let closed = of("links_closed").as_u64().unwrap();
        assert_eq!(closed >= 2, policy == "disconnect", "{policy} in {report}");
        assert!(of("p99_ms_some_do_not").as_f64() > Some(0.0), "{report}");
    }
}

#[test]
fn clients_that_stop_reading_are_found_slow_under_each_policy() {
    stopped_are_found_slow("core");
}

#[test]
fn clients_that_stop_reading_are_found_slow_on_tokio_too() {
    stopped_are_found_slow("tokio");
}

/// Memory is another matter: so few connections pay for what a process takes by itself.
#[test]
fn datagrams_get_lost_between_clients_and_a_server_that_stay() {
    let lossy = |loss, minutes| {
        let connections = ["s1", "--connections", "200"];
        run(&[&connections[..], &["--loss", loss, "--minutes", minutes]].concat())
    };
    let output = lossy("0.4", "0.1");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |what: &str| report[what].as_u64().unwrap();
    // Two of five clients beat in six seconds; each beat is heard of.
    assert!(count("datagrams") >= 100, "{report}");
    assert!(count("datagrams_lost") >= 10, "{report}");
    assert_eq!((count("false_timeouts"), count("connected")), (0, 200));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("datagrams_lost"), "{said}");
    // What was to be lost and was not is missed, whatever else holds.
    let said = lossy("0", "0.01").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("datagrams_lost is 0, not 1 to"), "{said}");
}

#[test]
fn a_figure_that_is_missed_fails() {
    // What a process takes by itself is more than a few connections may.
    let output = run(&["s1", "--connections", "2", "--minutes", "0.01"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("S1: fail: server_kib_per_connection"),
        "{said}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["pass"], &report["false_timeouts"]),
        (&false.into(), &0.into())
    );
}

#[test]
fn a_bad_command_line_is_told() {
    let output = run(&["s1", "--minutes", "long"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--minutes") && said.contains("0.5"), "{said}");
    let output = run(&["s2", "--cuts", "0"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = run(&["s6", "--connections", "5", "--stopped", "5"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--stopped 5 leaves nobody"), "{said}");
}
