//! `serve`, `request`, `send`, `listen` and `clients` as programs, on a good network.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "support/program.rs"]
mod program;
mod support;

use std::io::Write;
use std::process::Stdio;

use program::{Certificates, Program};
use serde_json::Value;

#[test]
fn requests_are_answered_and_counted() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&[]);
    let options = ["hello", "--count", "500", "--size", "1kb", "--json"];
    let summary = certificates
        .client("request", &address, &options)
        .end()
        .summary();
    for (key, value) in [
        ("sent", 500),
        ("replied", 500),
        ("lost", 0),
        ("timed_out", 0),
        ("rejected", 0),
        ("duplicated", 0),
        ("reordered", 0),
        ("unreported", 0),
        ("reconnects", 0),
        ("resumed", 0),
        ("sessions_lost", 0),
    ] {
        assert_eq!(summary[key], value, "{key} in {summary}");
    }
    assert!(summary["p50_ms"].as_f64() > Some(0.0), "{summary}");
    assert!(
        summary["p99_ms"].as_f64() >= summary["p50_ms"].as_f64(),
        "{summary}"
    );
    server.line(&["request 500 (default lane)", "hello...", "(1000 bytes)"]);

    let printed = certificates
        .client("request", &address, &["hi", "--count", "2", "--print"])
        .end();
    assert!(printed.status.success(), "{printed:?}");
    assert!(printed.results.contains("1 hi (") && printed.results.contains("2 hi ("));
    assert!(printed.results.contains("replied"), "{printed:?}");
}

/// A server and a client record themselves, and another process finds the same in both files.
#[cfg(unix)]
#[test]
fn what_is_recorded_replays_identical() {
    for option in ["--record", "--record-wire"] {
        let certificates = Certificates::new(&[]);
        let [server_file, client_file] = ["server.tlt", "client.tlt"].map(|f| certificates.file(f));
        let (server, address) = certificates.server(&[option, &server_file]);
        let options = ["hello", "--count", "20", "--json", option, &client_file];
        let summary = certificates
            .client("request", &address, &options)
            .end()
            .summary();
        assert_eq!(summary["replied"], 20, "{summary}");
        server.signal("TERM");
        server.end();
        for file in [&server_file, &client_file] {
            let replayed = support::run(&["replay", file, "--json"]);
            let printed = String::from_utf8_lossy(&replayed.stdout);
            assert!(replayed.status.success(), "{option} {file}: {printed}");
        }
        // It overwrites nothing.
        let ended = certificates
            .client("request", &address, &["hello", option, &client_file])
            .end();
        assert!(
            !ended.status.success() && ended.notes.contains("client.tlt"),
            "{ended:?}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_server_of_several_shards_is_one_server() {
    let certificates = Certificates::new(&[]);
    let options = ["--shards", "3", "--admin", "anna"];
    let (_server, address) = certificates.server(&options);
    let mut waiting = Vec::new();
    for id in ["otto", "emil", "ida", "paula", "kurt"] {
        let options = ["hello", "--rate", "20/s", "--client-id", id];
        let mut client = certificates.client("request", &address, &options);
        client.line(&["connected to"]);
        waiting.push(client);
    }
    let listed = certificates
        .client("clients", &address, &["--client-id", "anna", "--json"])
        .end()
        .summary();
    let clients = listed["clients"].as_array().expect("a list");
    assert_eq!(clients.len(), 6, "{listed}");
    for client in waiting {
        client.signal("INT");
        let ended = client.end();
        assert!(ended.status.success(), "{ended:?}");
    }
}

#[test]
fn each_message_is_told_of_when_it_is_sent_and_when_it_has_settled() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&["--write-first", "--json"]);
    for (command, options, outcome) in [
        ("request", &["hi", "--count", "2"][..], "replied"),
        ("send", &["hi", "--count", "2", "--ack"], "acked"),
        ("send", &["hi", "--count", "2"], "queued"),
    ] {
        let options = [options, &["--client-id", outcome, "--json", "--each"]].concat();
        let ended = certificates.client(command, &address, &options).end();
        assert!(ended.status.success(), "{ended:?}");
        let lines: Vec<Value> = ended
            .results
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object"))
            .collect();
        let [told @ .., summary] = lines.as_slice() else {
            panic!("nothing in {ended:?}");
        };
        assert_eq!(
            (&summary["event"], &summary["sent"]),
            (&"summary".into(), &2.into())
        );
        let (mut sent, mut settled) = (Vec::new(), Vec::new());
        for line in told {
            let number = line["number"].as_u64().expect("a number");
            if line["event"] == "sent" {
                sent.push(number);
            } else {
                assert_eq!(
                    (&line["event"], &line["outcome"]),
                    (&"settled".into(), &outcome.into())
                );
                settled.push(number);
            }
        }
        settled.sort_unstable();
        assert_eq!((sent, settled), (vec![1, 2], vec![1, 2]));
        server.line(&[&format!("\"{outcome}\""), "\"number\":2"]);
    }
}

#[test]
fn a_request_that_nobody_answers_in_time_is_told_and_the_server_sees_it_given_up() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&["--delay", "10m"]);
    let options = ["hello", "--count", "1", "--timeout", "2s", "--json"];
    let ended = certificates.client("request", &address, &options).end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.notes.contains("nothing was replied to"), "{ended:?}");
    let summary: Value = serde_json::from_str(&ended.results).expect("an object");
    assert_eq!(
        (&summary["timed_out"], &summary["unreported"]),
        (&1.into(), &0.into())
    );
    server.line(&["gave up on request 1"]);
}

#[test]
fn messages_are_acked_and_shown_with_client_lane_and_text() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&[]);
    let options = ["one", "two\u{7}", "--ack", "--client-id", "anna", "--json"];
    let summary = certificates
        .client("send", &address, &options)
        .end()
        .summary();
    assert_eq!(
        (&summary["sent"], &summary["acked"]),
        (&2.into(), &2.into())
    );
    server.line(&["anna connected from 127.0.0.1:"]);
    server.line(&["anna note 1 (default lane): \"one\""]);
    // What could ring a bell is shown instead.
    server.line(&["anna note 2 (default lane): \"two\\u{7}\""]);
    server.line(&["anna is gone: it has closed the session"]);

    let mut lines = Program::start_with(
        &[
            "send",
            &address,
            "--dev",
            certificates.directory(),
            "--stdin",
            "--json",
        ],
        Stdio::piped(),
    );
    let mut input = lines.child().stdin.take().expect("piped");
    input.write_all(b"a\nb\nc\n").expect("written");
    drop(input);
    let summary = lines.end().summary();
    assert_eq!(
        (&summary["sent"], &summary["handled"]),
        (&3.into(), &3.into())
    );
    assert_eq!(summary["undelivered"], 0, "{summary}");
    server.line(&["note 3", "\"c\""]);
}

#[test]
fn a_client_id_writes_no_line_of_its_own() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&[]);
    let forged = "anna note 7 (default lane): \"paid\"";
    let shown = r#""anna note 7 (default lane): \"paid\"""#;
    let mut listener = certificates.client("listen", &address, &["--count", "1"]);
    listener.line(&["connected to"]);
    let options = ["hi", "--to-all", "--ack", "--client-id", forged];
    let sent = certificates.client("send", &address, &options).end();
    assert!(sent.status.success(), "{sent:?}");
    for what in ["connected from", "to all, 1", "is gone"] {
        let line = server.line(&[what, "note 7"]);
        assert!(line.contains(&format!("{shown} {what}")), "{line}");
    }
    assert_eq!(listener.end().results, format!("{shown} to all: hi\n"));
    // A program that reads JSON gets it as it is.
    let (mut server, address) = certificates.server(&["--json"]);
    let options = ["hi", "--count", "1", "--client-id", forged];
    let ended = certificates.client("request", &address, &options).end();
    assert!(ended.status.success(), "{ended:?}");
    let line: Value = serde_json::from_str(&server.line(&["connected"])).expect("an object");
    assert_eq!(line["client"], forged);
}

#[test]
fn a_group_hears_what_is_sent_to_it_and_nobody_else_does() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&[]);
    let listener = |options: &[&str]| certificates.client("listen", &address, options);
    let mut member = listener(&["--group", "lobby", "--count", "2", "--json"]);
    member.line(&["joined lobby"]);
    let mut outsider = listener(&["--count", "1"]);
    outsider.line(&["connected to"]);
    server.line(&["joined lobby"]);

    let send = |options: &[&str]| certificates.client("send", &address, options).end();
    let from_anna = ["--client-id", "anna", "--ack"];
    let sent = send(&[&["psst", "--to-group", "lobby"], &from_anna[..]].concat());
    assert!(sent.status.success(), "{sent:?}");
    server.line(&["anna to group lobby", "\"psst\"", "for 1,"]);
    let sent = send(&[&["hear me", "--to-all"], &from_anna[..]].concat());
    assert!(sent.status.success(), "{sent:?}");

    let heard = member.end();
    assert!(heard.status.success(), "{heard:?}");
    let heard: Vec<Value> = heard
        .results
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(heard.len(), 2);
    assert_eq!(
        (&heard[0]["event"], &heard[0]["group"]),
        (&"relayed".into(), &"lobby".into())
    );
    assert_eq!(
        (&heard[0]["from"], &heard[0]["text"]),
        (&"anna".into(), &"psst".into())
    );
    assert_eq!(
        (&heard[1]["group"], &heard[1]["text"]),
        (&Value::Null, &"hear me".into())
    );
    assert_eq!(outsider.end().results, "anna to all: hear me\n");

    let sent = send(&[&["hello?", "--to-group", "nobody"], &from_anna[..]].concat());
    assert_eq!(sent.status.code(), Some(1), "{sent:?}");
    assert!(
        sent.notes.contains("nobody is in the group nobody"),
        "{sent:?}"
    );
}

#[test]
fn the_list_of_clients_is_for_those_who_may_see_it() {
    let certificates = Certificates::new(&[]);
    let (_server, address) = certificates.server(&["--admin", "anna"]);
    let mut listener = certificates.client("listen", &address, &["--client-id", "otto"]);
    listener.line(&["connected to"]);
    let list = |options: &[&str]| certificates.client("clients", &address, options).end();

    let listed = list(&["--client-id", "anna", "--json"]).summary();
    let clients = listed["clients"].as_array().expect("a list");
    let otto = clients
        .iter()
        .find(|client| client["client"] == "otto")
        .unwrap_or_else(|| panic!("no otto in {listed}"));
    assert_eq!(
        (&otto["state"], &otto["epoch"]),
        (&"connected".into(), &1.into())
    );
    assert!(otto["round_trip_ms"].as_f64() > Some(0.0), "{otto}");
    for key in [
        "connected_ms",
        "heard_ms",
        "queued_bytes",
        "sent",
        "received",
    ] {
        assert!(otto[key].is_u64(), "{key} in {otto}");
    }
    assert!(
        otto["address"]
            .as_str()
            .is_some_and(|a| a.starts_with("127.0.0.1:"))
    );
    let table = list(&["--client-id", "anna"]).results;
    assert!(table.starts_with("client "), "{table}");
    let otto = table.lines().find(|line| line.starts_with("otto "));
    assert!(
        otto.is_some_and(|row| row.contains(" connected ")),
        "{table}"
    );

    let refused = list(&["--client-id", "otto"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        refused.notes.contains("otto may not") && refused.notes.contains("--admin otto"),
        "{refused:?}"
    );
}

#[test]
fn mutual_tls_binds_the_client_id_to_the_certificate() {
    let certificates = Certificates::new(&["anna"]);
    let mut server = Program::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--cert",
        &certificates.file("cert.pem"),
        "--key",
        &certificates.file("key.pem"),
        "--admission",
        "mutual-tls",
        "--client-ca",
        &certificates.file("ca.pem"),
    ]);
    let address = server.address();
    let send = |options: &[&str]| certificates.client("send", &address, options).end();
    // Her certificate stands in the directory.
    let sent = send(&["hi", "--ack", "--client-id", "anna"]);
    assert!(sent.status.success(), "{sent:?}");
    server.line(&["anna note 1"]);

    let (certificate, key) = (
        certificates.file("client-anna.pem"),
        certificates.file("client-anna.key"),
    );
    let borrowed = send(&[
        "hi",
        "--client-id",
        "otto",
        "--cert",
        &certificate,
        "--key",
        &key,
    ]);
    assert_eq!(borrowed.status.code(), Some(1), "{borrowed:?}");
    assert!(
        borrowed.notes.contains("not connected") && borrowed.notes.contains("does not name"),
        "{borrowed:?}"
    );
    server.line(&["otto from 127.0.0.1:", "was not let in", "does not name"]);
    let bare = send(&["hi", "--client-id", "otto"]);
    assert_eq!(bare.status.code(), Some(1), "{bare:?}");
    assert!(
        bare.notes.contains("certificate") && bare.notes.contains("--cert and --key"),
        "{bare:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_server_tells_everything_as_json_and_ends_with_a_summary() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&["--json"]);
    let options = ["hi", "--count", "1", "--client-id", "anna"];
    let requested = certificates.client("request", &address, &options).end();
    assert!(requested.status.success(), "{requested:?}");
    server.line(&["\"closed\""]);
    server.signal("INT");
    let ended = server.end();
    assert!(ended.status.success(), "{ended:?}");
    let events: Vec<Value> = ended
        .results
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    let kinds: Vec<_> = events.iter().filter_map(|e| e["event"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "listening",
            "connected",
            "request",
            "closed",
            "draining",
            "summary"
        ]
    );
    let request = &events[2];
    assert_eq!(
        (&request["client"], &request["lane"], &request["text"]),
        (&"anna".into(), &"default".into(), &"hi".into())
    );
    assert!(request["time"].as_f64() > Some(1e9), "{request}");
    let summary = &events[5];
    assert_eq!(
        (&summary["sessions"], &summary["requests"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_server_that_nobody_reads_any_more_ends() {
    let certificates = Certificates::new(&[]);
    let directory = certificates.directory();
    let mut server = support::trunkline(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--dev",
        directory,
        "--admission",
        "open",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("started");
    drop(server.stdout.take());
    let mut line = String::new();
    let stderr = server.stderr.as_mut().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).expect("a line");
    let address = line
        .split([' ', ';'])
        .find(|word| word.starts_with("127."))
        .expect("an address");
    let mut client = certificates.client("request", address, &["hi"]);
    assert!(server.wait().expect("ended").success());
    client.line(&["disconnected", "the server closes"]);
}
