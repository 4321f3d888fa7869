//! `trunkline impair` as a program, between two sockets.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "support/program.rs"]
mod program;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{assert_one_line, run, trunkline};

/// Far longer than anything takes: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, std::net::SocketAddr) {
    let mut buffer = [0; 2_000];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (buffer[..length].to_vec(), from)
}

/// A proxy in front of that socket, and the address that it says it listens on.
fn proxy(server: &UdpSocket, options: &[&str]) -> (Child, String) {
    let to = server.local_addr().expect("an address").to_string();
    let arguments = [&["impair", "--listen", "127.0.0.1:0", "--to", &to], options].concat();
    let mut child = trunkline(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    let address = line
        .split_once("listening on ")
        .and_then(|(_, rest)| rest.split_once(','))
        .map(|(address, _)| address);
    let address = address
        .unwrap_or_else(|| panic!("no address in {line:?}"))
        .to_owned();
    (child, address)
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
}

fn summary(child: Child) -> Value {
    let output = child.wait_with_output().expect("ended");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("one object and nothing else")
}

#[cfg(unix)]
#[test]
fn packets_pass_both_ways_and_are_counted() {
    let server = socket();
    let (child, address) = proxy(&server, &["--json", "--seed", "42"]);
    let client = socket();
    client.send_to(b"hello", &address).expect("sent");
    let (data, from) = receive(&server);
    assert_eq!(data, b"hello");
    server.send_to(b"hello yourself", from).expect("sent");
    assert_eq!(receive(&client).0, b"hello yourself");

    interrupt(&child);
    let summary = summary(child);
    assert_eq!(summary["seed"], 42);
    assert_eq!(summary["listen"], address);
    assert_eq!(summary["clients"]["seen"], 1);
    assert_eq!(
        (&summary["up"]["packets"], &summary["up"]["bytes"]),
        (&1.into(), &5.into())
    );
    assert_eq!(
        (&summary["down"]["packets"], &summary["down"]["delivered"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn it_ends_with_a_summary_when_its_time_is_up() {
    let server = socket();
    let (child, address) = proxy(&server, &["--for", "1s", "--json", "--seed", "42"]);
    let summary = summary(child);
    assert_eq!(summary["seed"], 42);
    assert_eq!(summary["listen"], address);
    assert!(summary["seconds"].as_f64() >= Some(1.0), "{summary}");
}

#[test]
fn the_same_seed_loses_the_same_packets() {
    let survivors = |seed: &str| {
        let server = socket();
        let (mut child, address) = proxy(
            &server,
            &["--loss", "50%", "--seed", seed, "--direction", "up"],
        );
        let client = socket();
        let mut arrived = Vec::new();
        // Of forty, with either seed, more than twelve survive: no need to wait for silence.
        for number in 0..40_u8 {
            client.send_to(&[number], &address).expect("sent");
        }
        while arrived.len() < 12 {
            arrived.push(receive(&server).0[0]);
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        arrived
    };
    let first = survivors("5");
    assert!(first.is_sorted());
    assert_eq!(first, survivors("5"));
    assert_ne!(first, survivors("6"));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it_with_a_summary() {
    let server = socket();
    let (child, address) = proxy(&server, &["--delay", "1ms"]);
    socket().send_to(b"hello", &address).expect("sent");
    receive(&server);
    interrupt(&child);
    let output = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("client to server") && said.contains("1 seen"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn orders_on_standard_input_are_carried_out_and_told_and_wrong_ones_are_told_only() {
    let mut proxy = program::Program::start_with(
        &[
            "impair",
            "--listen",
            "127.0.0.1:0",
            "--to",
            "127.0.0.1:9",
            "--stdin",
            "--json",
        ],
        Stdio::piped(),
    );
    let address = proxy.address();
    let mut input = proxy.child().stdin.take().expect("piped");
    input.write_all(b"cut sideways\ncut up\n").expect("written");
    proxy.line(&["'cut sideways'", "cut up"]);
    proxy.line(&["the path is cut, client to server"]);
    socket().send_to(b"into the dark", &address).expect("sent");
    input.write_all(b"rebind\nheal\n").expect("written");
    proxy.line(&["every client has a new port"]);
    proxy.line(&["what was ordered is undone"]);
    // The end of its input is not its own.
    drop(input);
    socket().send_to(b"into the light", &address).expect("sent");
    proxy.signal("INT");
    let summary = proxy.end().summary();
    assert_eq!(summary["rebinds"], 1, "{summary}");
    assert_eq!(summary["cut_now"], false, "{summary}");
}

#[test]
fn an_address_in_use_is_one_line() {
    let taken = socket();
    let address = taken.local_addr().expect("an address").to_string();
    let output = run(&[
        "impair",
        "--listen",
        &address,
        "--to",
        "127.0.0.1:9",
        "--for",
        "1s",
    ]);
    assert_one_line(&output, 1, &[&address, "in use", "port 0"]);
}
