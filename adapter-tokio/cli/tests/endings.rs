//! How the program ends, and what it does not say or accept, where something around it fails.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::panic)]

#[path = "support/program.rs"]
mod program;
mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use program::{Certificates, Program, free_address};
use support::trunkline;

#[test]
fn a_server_whose_log_nobody_reads_goes_on() {
    let certificates = Certificates::new(&[]);
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admission",
        "open",
        "--dev",
    ];
    let mut command = trunkline(&[&arguments[..], &[certificates.directory()]].concat());
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = command.spawn().expect("started");
    let mut log = BufReader::new(server.stderr.take().expect("piped"));
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    drop(log);
    let mut words = line.split([' ', ';']);
    let address = words.find(|word| word.starts_with("127."));
    let address = address.expect("an address");
    // Each of these is a warning; after the last one the server gives its account in the same session.
    let options = ["hi", "--to-group", "nobody", "--count", "3", "--json"];
    let sent = certificates.client("send", address, &options).end();
    assert!(!sent.notes.contains("no account"), "{sent:?}");
    assert_eq!(sent.summary()["sent"], 3);
    server.kill().expect("killed");
    server.wait().expect("ended");
}

#[test]
fn notes_and_a_log_that_nobody_reads_hold_up_nothing() {
    let certificates = Certificates::new(&[]);
    let directory = certificates.directory();
    // Lines for each packet: far more than a pipe takes.
    let all = ["--json", "--log", "trace", "--dev", directory];
    let is_full = |ended: &program::Ended| ended.notes.len() > 32 << 10;
    let open = ["serve", "--listen", "127.0.0.1:0", "--admission", "open"];
    let mut server = Program::unheard(trunkline(&[&open[..], &all].concat()));
    let line = server.line(&["\"listening\""]);
    let listening: serde_json::Value = serde_json::from_str(&line).expect("an object");
    let address = listening["address"].as_str().expect("an address");
    let requests = ["request", address, "hi", "--count", "5000"];
    let options = [&requests[..], &["--in-flight", "4"], &all].concat();
    let ended = Program::unheard(trunkline(&options)).end();
    assert_eq!(ended.summary()["replied"], 5_000);
    assert!(is_full(&ended));
    server.signal("TERM");
    let ended = server.end();
    assert!(ended.status.success() && is_full(&ended));
    assert!(ended.results.contains("\"requests\":5000"));
}

#[test]
fn what_led_to_no_connection_is_recorded_to_its_end() {
    let certificates = Certificates::new(&[]);
    let file = certificates.file("client.tlt");
    let options = ["hi", "--connect-timeout", "300ms", "--record", &file];
    let nobody = free_address();
    let ended = certificates.client("request", &nobody, &options).end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let stats = support::run(&["trace", "stats", &file, "--json"]);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).expect("an object");
    assert_eq!(stats["ending"], "the recording was stopped in order");
}

#[test]
fn who_is_interrupted_before_all_was_sent_has_not_succeeded() {
    let certificates = Certificates::new(&[]);
    let (_server, address) = certificates.server(&[]);
    let options = ["hi", "--ack", "--count", "100000", "--rate", "10/s"];
    let mut client = certificates.client("send", &address, &options);
    client.line(&["connected to"]);
    client.signal("INT");
    let ended = client.end();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
}

#[test]
fn who_is_interrupted_before_the_count_was_reached_has_not_succeeded() {
    let certificates = Certificates::new(&[]);
    let (_server, address) = certificates.server(&[]);
    let requests = ["hi", "--count", "100000", "--rate", "10/s"];
    for (command, options) in [("request", &requests[..]), ("listen", &["--count", "10"])] {
        let mut client = certificates.client(command, &address, options);
        client.line(&["connected to"]);
        client.signal("INT");
        let ended = client.end();
        assert_eq!(ended.status.code(), Some(130), "{command}: {ended:?}");
    }
}

#[test]
fn a_second_signal_ends_a_client_at_once() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&["--delay", "10m"]);
    let mut client = certificates.client("request", &address, &["hello"]);
    server.line(&["request 1 "]);
    server.signal("STOP");
    client.signal("INT");
    client.line(&["once more ends it at once"]);
    client.signal("INT");
    // Not as long as it waits for an account, nor for a session to close.
    let ended = Program::end_within(client, Duration::from_secs(4));
    assert!(!ended.status.success(), "{ended:?}");
}

/// A client command whose standard output is not read: it is closed, or left alone.
fn client(certificates: &Certificates, command: &str, address: &str, options: &[&str]) -> Command {
    let arguments = [
        &[command, address, "--dev", certificates.directory()],
        options,
    ];
    trunkline(&arguments.concat())
}

#[test]
fn what_came_of_the_messages_does_not_depend_on_who_reads_it() {
    let certificates = Certificates::new(&[]);
    let (_server, address) = certificates.server(&[]);
    let (_slow, slow_address) = certificates.server(&["--delay", "10m"]);
    let rejected = ["hi", "--ack", "--to-group", "nobody"];
    let unanswered = ["hi", "--count", "1", "--timeout", "500ms"];
    for (command, address, options, status, said) in [
        ("send", &address, &["hi", "--ack"][..], 0, ""),
        (
            "send",
            &address,
            &["hi", "hi", "--ack", "--json", "--each"],
            0,
            "",
        ),
        ("send", &address, &rejected, 1, "1 rejected"),
        (
            "request",
            &slow_address,
            &unanswered,
            1,
            "nothing was replied to",
        ),
        // It would go on for ever, and nothing is wrong.
        ("request", &address, &["hi", "--print"], 0, ""),
    ] {
        let mut client = Program::unread(client(&certificates, command, address, options));
        drop(client.child().stdout.take());
        let ended = client.end();
        assert_eq!(ended.status.code(), Some(status), "{command}: {ended:?}");
        let last = ended.notes.lines().last().expect("a line");
        assert!(last.contains(said), "{command}: {ended:?}");
    }
}

#[test]
fn a_client_whose_output_is_stuck_hears_of_interrupts() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&[]);
    // The first reply is more than a pipe takes.
    let options = ["hi", "--size", "200kb", "--print", "--rate", "50/s"];
    let options = [&options[..], &["--client-id", "anna"]].concat();
    let mut client = Program::unread(client(&certificates, "request", &address, &options));
    server.line(&["anna request 5 "]);
    client.signal("INT");
    client.line(&["nobody reads what it has printed; once more"]);
    client.signal("INT");
    let ended = client.end();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
}

#[test]
fn a_listener_whose_output_is_stuck_hears_of_interrupts() {
    let certificates = Certificates::new(&[]);
    let (mut server, address) = certificates.server(&[]);
    let options = ["--client-id", "anna"];
    let mut listener = Program::unread(client(&certificates, "listen", &address, &options));
    listener.line(&["connected to"]);
    let options = ["hi", "--size", "200kb", "--count", "5", "--to-all", "--ack"];
    let sent = certificates.client("send", &address, &options).end();
    assert!(sent.status.success(), "{sent:?}");
    // It prints what it has heard; and then nobody reads on.
    let stdout = listener.child().stdout.as_mut().expect("piped");
    stdout.read_exact(&mut [0]).expect("something");
    listener.signal("INT");
    // Its session does not wait for anybody to read.
    server.line(&["anna is gone"]);
    listener.line(&["nobody reads what it has printed; once more"]);
    listener.signal("INT");
    let ended = listener.end();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
}

#[test]
fn a_recording_that_ends_early_is_a_failure() {
    let certificates = Certificates::new(&[]);
    let file = certificates.file("full.tlt");
    // The disk is full after so many blocks.
    let limited = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_trunkline")]);
        command.args(arguments);
        command
    };
    let (_server, address) = certificates.server(&[]);
    let directory = certificates.directory();
    let options = ["hi", "--count", "1000", "--record", &file, "--log", "off"];
    let arguments = [&["send", &address, "--dev", directory], &options[..]].concat();
    let ended = Program::of(limited(&arguments)).end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let last = ended.notes.lines().last().expect("a line");
    assert!(last.contains("full.tlt is not whole"), "{ended:?}");

    // A server goes on without it, until its end.
    let file = certificates.file("server.tlt");
    let open = ["--listen", "127.0.0.1:0", "--admission", "open"];
    let options = ["serve", "--dev", directory, "--record", &file];
    let mut server = Program::of(limited(&[&options[..], &open].concat()));
    let address = server.address();
    let options = ["hi", "--count", "1000", "--json"];
    let sent = certificates.client("request", &address, &options).end();
    assert_eq!(sent.summary()["replied"], 1_000);
    server.signal("TERM");
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.notes.contains("server.tlt is not whole"), "{ended:?}");
}

#[test]
fn a_recording_that_cannot_be_made_is_an_argument_that_cannot_be_used() {
    let certificates = Certificates::new(&[]);
    let (_server, address) = certificates.server(&[]);
    let file = certificates.file("no/such/folder.tlt");
    for option in ["--record", "--record-wire"] {
        let ended = certificates
            .client("send", &address, &["hi", option, &file])
            .end();
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(ended.notes.contains("cannot record to"), "{ended:?}");
    }
}
