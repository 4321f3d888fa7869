//! Real processes on loopback: a server that is killed and restarted, stopped and continued, told
//! to leave; and a path that is cut.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::panic)]

#[path = "support/program.rs"]
mod program;
mod support;

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use program::{Certificates, Program, free_address};
use serde_json::Value;

/// What holds whatever happened: each request is counted once, none was lost without a report,
/// handled twice or out of order. Some may have been rejected.
#[track_caller]
fn assert_whole_but_rejected(summary: &Value) {
    let count = |key: &str| {
        summary[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no {key} in {summary}"))
    };
    let counted = [
        "replied",
        "lost",
        "timed_out",
        "rejected",
        "cancelled",
        "unreported",
    ];
    assert_eq!(
        count("sent"),
        counted.into_iter().map(count).sum::<u64>(),
        "{summary}"
    );
    for key in [
        "unreported",
        "mismatched",
        "duplicated",
        "reordered",
        "timed_out",
    ] {
        assert_eq!(count(key), 0, "{key} in {summary}");
    }
}

/// The same where no server goes away in order: that rejects what comes to it too late.
#[track_caller]
fn assert_whole(summary: &Value) {
    assert_whole_but_rejected(summary);
    assert_eq!(summary["rejected"], 0, "{summary}");
}

#[test]
fn a_killed_and_restarted_server_is_noticed_at_once_and_the_client_goes_on() {
    let certificates = Certificates::new(&[]);
    // A fixed port: what a restart finds again.
    let (mut server, address) = certificates.server_at(&free_address(), &["--delay", "100ms"]);
    let options = ["hello", "--rate", "200/s", "--json"];
    let mut client = certificates.client("request", &address, &options);
    client.line(&["connected to"]);
    server.line(&["request 20 "]);

    server.signal("KILL");
    drop(server);
    let (mut server, _) = certificates.server_at(&address, &["--delay", "100ms"]);
    // By the restart, not by silence; and the loss is told before the new session is there.
    client.line(&["disconnected", "restarted"]);
    client.line(&["session lost"]);
    client.line(&["again, with a new session"]);
    client.line(&["under way were lost with the session"]);
    for _ in 0..20 {
        server.line(&[" request "]);
    }

    client.signal("INT");
    let summary = client.end().summary();
    assert_whole(&summary);
    assert!(summary["lost"].as_u64() > Some(0), "{summary}");
    assert!(summary["replied"].as_u64() >= Some(20), "{summary}");
    assert_eq!(summary["sessions_lost"], 1, "{summary}");
    assert_eq!(
        (&summary["reconnects"], &summary["resumed"]),
        (&1.into(), &0.into())
    );
}

#[test]
fn keys_in_a_file_make_a_restart_known_wherever_the_server_listens() {
    let certificates = Certificates::new(&[]);
    let file = certificates.file("server.keys");
    let (mut server, address) = certificates.server_at(&free_address(), &["--keys", &file]);
    let mut client = certificates.client("request", &address, &["hello", "--rate", "50/s"]);
    server.line(&["request 20 "]);
    server.signal("KILL");
    drop(server);
    // Keys that follow from the address would be others now.
    let (_, port) = address.rsplit_once(':').expect("a port");
    let everywhere = format!("0.0.0.0:{port}");
    let (mut server, _) = certificates.server_at(&everywhere, &["--keys", &file]);
    client.line(&["disconnected", "restarted"]);
    server.line(&[" request "]);
}

#[test]
fn a_server_that_stops_for_a_while_loses_nothing() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&[]);
    let options = ["hello", "--rate", "100/s", "--count", "250", "--json"];
    let client = certificates.client("request", &address, &options);
    server.line(&["request 20 "]);
    server.signal("STOP");
    // This is the fault, not a wait for something.
    std::thread::sleep(Duration::from_secs(3));
    server.signal("CONT");
    let summary = client.end().summary();
    assert_whole(&summary);
    assert_eq!(
        (&summary["sent"], &summary["replied"]),
        (&250.into(), &250.into())
    );
    assert_eq!(summary["reconnects"], 0, "{summary}");
}

#[test]
fn a_path_that_is_cut_until_the_link_is_dead_costs_nothing() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&["--heartbeat", "300ms"]);
    let options = ["impair", "--listen", "127.0.0.1:0", "--to", &address];
    let mut impair = Program::start_with(&[&options[..], &["--stdin"]].concat(), Stdio::piped());
    let path = impair.address();
    let mut orders = impair.child().stdin.take().expect("piped");
    let client_options = ["hello", "--rate", "50/s", "--json"];
    let mut client = certificates.client("request", &path, &client_options);
    server.line(&["request 20 "]);
    orders.write_all(b"cut\n").expect("written");
    impair.line(&["the path is cut"]);
    client.line(&["disconnected", "heartbeat timeout"]);
    orders.write_all(b"heal\n").expect("written");
    client.line(&["the session is resumed"]);
    server.line(&["resumed from"]);
    client.signal("INT");
    let summary = client.end().summary();
    assert_whole(&summary);
    assert_eq!(
        (&summary["lost"], &summary["sessions_lost"]),
        (&0.into(), &0.into())
    );
    assert!(summary["resumed"].as_u64() >= Some(1), "{summary}");
    assert_eq!(summary["reconnects"], summary["resumed"], "{summary}");
}

#[test]
fn a_server_tells_where_a_client_goes_on() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&["--quiet"]);
    let options = ["impair", "--listen", "127.0.0.1:0", "--to", &address];
    let mut impair = Program::start_with(&[&options[..], &["--stdin"]].concat(), Stdio::piped());
    let path = impair.address();
    let mut orders = impair.child().stdin.take().expect("piped");
    let options = ["hello", "--rate", "50/s", "--client-id", "anna"];
    let mut client = certificates.client("request", &path, &options);
    client.line(&["connected to"]);
    let connected = server.line(&["anna connected from 127.0.0.1:"]);
    orders.write_all(b"rebind\n").expect("written");
    let moved = server.line(&["anna moved to 127.0.0.1:"]);
    let port = |line: &str| line.rsplit(':').next().map(str::to_owned);
    assert_ne!(port(&connected), port(&moved));
    client.signal("INT");
    let ended = client.end();
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn a_server_that_leaves_in_order_finishes_what_it_has_and_the_client_waits_for_the_next() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server_at(&free_address(), &["--delay", "200ms"]);
    let options = ["hello", "--rate", "100/s", "--json"];
    let mut client = certificates.client("request", &address, &options);
    server.line(&["request 20 "]);
    let told = Instant::now();
    server.signal("TERM");
    server.line(&["going away"]);
    client.line(&["the server goes away"]);
    let told = Instant::now() - told;
    let ended = server.end();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.results.contains("cut off at the end"), "{ended:?}");

    let (mut server, _) = certificates.server_at(&address, &[]);
    client.line(&["again, with a new session"]);
    server.line(&[" request "]);
    client.signal("INT");
    let summary = client.end().summary();
    assert_whole_but_rejected(&summary);
    // What it had, it finished; what was on its way when it said so, it rejected; and what came
    // later was sent to the next one.
    assert_eq!(summary["lost"], 0, "{summary}");
    let on_its_way = 10.0 + told.as_secs_f64() * 100.0;
    let rejected = summary["rejected"].as_f64();
    assert!(
        rejected.is_some_and(|count| count <= on_its_way),
        "{told:?}: {summary}"
    );
}

#[test]
fn what_is_sent_without_an_ack_while_the_path_is_gone_arrives_all_the_same() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&["--heartbeat", "1s"]);
    let directory = certificates.directory();
    let mut client = Program::start_with(
        &["send", &address, "--dev", directory, "--stdin", "--json"],
        Stdio::piped(),
    );
    client.line(&["connected to"]);
    server.signal("STOP");
    client.line(&["disconnected", "heartbeat timeout"]);
    let mut input = client.child().stdin.take().expect("piped");
    input.write_all(b"a\nb\nc\n").expect("written");
    drop(input);
    client.line(&["reconnecting"]);
    server.signal("CONT");
    client.line(&["the session is resumed"]);
    server.line(&["note 3", "\"c\""]);
    let summary = client.end().summary();
    assert_eq!(
        (&summary["sent"], &summary["handled"]),
        (&3.into(), &3.into())
    );
    assert_eq!(
        (&summary["undelivered"], &summary["resumed"]),
        (&0.into(), &1.into())
    );
}

#[test]
fn a_listener_joins_its_groups_again_when_the_server_has_forgotten_it() {
    let certificates = Certificates::new(&[]);
    let (server, address) = certificates.server_at(&free_address(), &["--heartbeat", "1s"]);
    let options = ["--group", "lobby", "--count", "1"];
    let mut listener = certificates.client("listen", &address, &options);
    listener.line(&["joined lobby"]);
    server.signal("KILL");
    drop(server);
    let (mut server, _) = certificates.server_at(&address, &["--heartbeat", "1s"]);
    // It sends nothing but heartbeats: the next one finds out.
    listener.line(&["session lost"]);
    listener.line(&["joined lobby"]);
    server.line(&["joined lobby"]);
    let sent = certificates
        .client(
            "send",
            &address,
            &["hi", "--to-group", "lobby", "--ack", "--client-id", "anna"],
        )
        .end();
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(listener.end().results, "anna to lobby: hi\n");
}

#[test]
fn a_second_signal_ends_a_server_at_once() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&["--delay", "10m"]);
    let _client = certificates.client("request", &address, &["hello", "--count", "1"]);
    server.line(&["request 1 "]);
    server.signal("TERM");
    server.line(&["going away"]);
    server.signal("TERM");
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert!(ended.results.contains("cut off at the end"), "{ended:?}");
}

#[test]
fn a_server_that_has_left_in_order_and_is_not_back_is_not_waited_for_for_ever() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&[]);
    let directory = certificates.directory();
    let arguments = ["send", &address, "--dev", directory, "--stdin", "--ack"];
    let arguments = [&arguments[..], &["--timeout", "1s"]].concat();
    let mut client = Program::start_with(&arguments, Stdio::piped());
    let mut input = client.child().stdin.take().expect("piped");
    input.write_all(b"a\n").expect("written");
    server.line(&["note 1 "]);
    server.signal("TERM");
    client.line(&["the server goes away"]);
    let ended = server.end();
    assert!(ended.status.success(), "{ended:?}");
    input.write_all(b"b\nc\n").expect("written");
    drop(input);
    client.line(&["no server is back after 1 s"]);
    let ended = client.end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let last = ended.notes.lines().last().expect("a line");
    assert!(last.contains("2 not acked in time"), "{ended:?}");
}
