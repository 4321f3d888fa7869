//! `trunkline demo` as a program.

#![allow(clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{assert_one_line, run, trunkline};

#[test]
fn everything_arrives_once_and_in_order_across_a_cut() {
    let output = run(&["demo", "--json", "--cut", "2s", "--messages", "20"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: Value =
        serde_json::from_slice(&output.stdout).expect("one object and nothing else");
    let number = |of: &Value, key: &str| {
        of[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no number {key} in {of}"))
    };
    let check_books = |books: &Value| {
        let sent = number(books, "sent");
        assert_eq!(number(books, "acked"), sent, "{books}");
        assert_eq!(number(books, "delivered"), sent, "{books}");
        for fault in ["lost", "duplicated", "reordered", "unexpected"] {
            assert_eq!(number(books, fault), 0, "{books}");
        }
        sent
    };

    assert_eq!(
        (&report["ok"], &report["problems"]),
        (&true.into(), &Value::Array(Vec::new()))
    );
    let clients = report["clients"].as_array().expect("a list");
    assert_eq!(clients.len(), 3);
    let sent: u64 = clients
        .iter()
        .map(|client| {
            let (up, down) = (check_books(&client["up"]), check_books(&client["down"]));
            // Twenty before the cut, and many around it.
            assert!(up > 20 && down > 20, "{client}");
            assert!(
                number(client, "resumed") >= 1 && number(client, "epoch") >= 2,
                "{client}"
            );
            assert_eq!(number(client, "requests"), 21, "{client}");
            assert_eq!(number(client, "replies"), 21, "{client}");
            up + down
        })
        .sum();
    assert_eq!(check_books(&report), sent);

    assert!(number(&report, "reconnects") >= number(&report, "resumed"));
    assert!(number(&report, "resumed") >= 3, "{report}");
    assert_eq!(number(&report, "requests"), number(&report, "replies"));
    assert!(number(&report["cut"], "sent") > 0, "{report}");
    assert!(
        number(&report["path"]["up"], "cut") > 0,
        "the path was cut: {report}"
    );
    assert_eq!(number(&report, "broadcasts_strayed"), 0);
    assert!(
        number(&clients[2], "broadcasts_received") <= 1,
        "only the one to everybody"
    );
    assert!(number(&report, "broadcasts_received") <= number(&report, "broadcasts_queued"));
    for latency in ["connect_ms", "request_ms", "ack_ms"] {
        let (p50, p99) = (&report[latency]["p50"], &report[latency]["p99"]);
        assert!(
            p50.as_f64() > Some(0.0) && p99.as_f64() >= p50.as_f64(),
            "{report}"
        );
    }

    for part in [
        "heartbeats every 300ms instead of the default 15s",
        "alice     connected",
        "alice     disconnected: heartbeat timeout",
        "alice     reconnecting: attempt 1 in ",
        "alice     resumed",
        "bob       resumed",
        "carol     resumed",
    ] {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it_before_its_end() {
    let mut child = trunkline(&["demo", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let connected = lines.find(|line| {
        line.as_ref()
            .is_ok_and(|line| line.contains("carol     connected"))
    });
    assert!(connected.is_some());
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    let last = lines.last().expect("more lines").expect("a line");
    assert!(last.ends_with("stopped before its end"), "{last}");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(130));
    assert!(output.stdout.is_empty(), "there is no result");
}

#[test]
fn a_story_that_nobody_reads_is_played_to_its_end() {
    let start = Instant::now();
    let mut child = trunkline(&["demo", "--cut", "2s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ended");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    // Before the cut is over, it cannot know whether anything was lost.
    assert!(Instant::now() - start >= Duration::from_secs(2));
}

#[test]
fn what_cannot_be_shown_is_one_line() {
    for (arguments, parts) in [
        (
            &["--cut", "500ms"][..],
            &["--cut 500ms", "too short", "2s"][..],
        ),
        (&["--cut", "5m"], &["--cut 300s", "60s"]),
        (&["--clients", "1"], &["--clients", "1"]),
        (&["--messages", "0"], &["--messages", "0"]),
        (&["--loss", "5"], &["--loss", "unit is missing", "2%"]),
        (&["--loss", "90%"], &["--loss 90%", "30%"]),
        (&["--delay", "1s"], &["--delay", "1s", "100ms"]),
    ] {
        let output = run(&[&["demo"], arguments].concat());
        assert_one_line(&output, 2, parts);
    }
}
