//! A recording of real sockets on a bad network, replayed by another process.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;
mod support;
#[path = "support/traces.rs"]
mod traces;

use std::fs::{self, File};
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use program::Program;
use serde_json::Value;
use support::{assert_one_line, run};
use traces::first_records;
use trunkline_core::tap::{Body, LinkNote};
use trunkline_core::trace::Saver;
use trunkline_core::trace::{Reader, Record, Recorded, Writer};
use trunkline_tokio::{
    Admit, Answer, Client, Config, Identity, Message, Recording, Roots, Seed, Server, Service,
    State, Tag,
};

const CLIENTS: u64 = 3;
const MESSAGES: u64 = 3_400;

/// The program as a proxy in front of a server, on a bad network with a tunnel every few seconds.
fn bad_network(server: SocketAddr) -> (Program, String) {
    let to = server.to_string();
    // A hundred packets go the way down: each fate is sure to come to some.
    let path = ["--delay", "2ms", "--loss", "5%", "--reorder", "6%"];
    let more = ["--duplicate", "6%", "--blackout", "2s@4s", "--seed", "7"];
    let listen = ["impair", "--listen", "127.0.0.1:0", "--to", &to, "--json"];
    let mut program = Program::start(&[&listen[..], &path, &more].concat());
    let address = program.address();
    (program, address)
}

/// The network was what it was to be.
fn was_bad(network: Program) {
    network.signal("INT");
    let summary = network.end().summary();
    for way in ["up", "down"] {
        for fate in ["lost", "reordered", "duplicated", "cut"] {
            let packets = summary[way][fate].as_u64();
            assert!(
                packets > Some(0),
                "none was {fate} on its way {way}: {summary}"
            );
        }
    }
}

/// Notices within a second that nothing comes any more, and is back soon after.
fn quick() -> Config {
    let mut config = Config::default();
    config.heartbeat.interval = Duration::from_millis(250);
    config.redial.first = Duration::from_millis(50);
    config.redial.cap = Duration::from_millis(500);
    config
}

/// A server and its clients in one conversation with cuts; each records itself into the directory, at
/// the level that `recording` makes of a path.
async fn conversation(directory: &Path, recording: fn(PathBuf) -> Recording) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate");
    let (pem, key) = (certificate.pem(), key.serialize_pem());
    let identity = Identity::from_pem(pem.as_bytes(), key.as_bytes(), "test").expect("a pair");
    let roots = Roots::from_pem(pem.as_bytes(), "test").expect("a root");
    let handled = Arc::new(AtomicU64::new(0));
    let server = Server::bind("127.0.0.1:0".parse().expect("an address"))
        .identity(identity)
        .admission(Admit::open())
        .config(quick())
        .service(
            Service::new(handled.clone()).otherwise(|context, _: Message| async move {
                context.state().fetch_add(1, Ordering::Relaxed);
                Ok(Answer::Ack)
            }),
        )
        .record(recording(directory.join("server.tlt")))
        .await
        .expect("a server");
    let (network, address) = bad_network(server.local_addr());
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::connect(address.clone())
            .server_name("localhost")
            .roots(roots.clone())
            .client_id(format!("client-{number}"))
            .config(quick())
            .record(recording(directory.join(format!("client-{number}.tlt"))));
        clients.push(client.await.expect("a client"));
    }
    let said = |number: u64| Message::new(Tag::of("test.Said"), number.to_be_bytes().to_vec());
    for half in 0..2 {
        for client in &clients {
            for number in 0..MESSAGES / 2 {
                client.send_raw(said(number)).await.expect("room");
            }
        }
        if half == 0 {
            for client in &clients {
                client
                    .wait_for(|state| matches!(state, State::Reconnecting { .. }))
                    .await;
            }
        }
    }
    for client in &clients {
        // The last of its lane: all before it are handled.
        client.send_raw(said(0)).acked().await.expect("an ack");
    }
    assert_eq!(handled.load(Ordering::Relaxed), CLIENTS * (MESSAGES + 1));
    for client in &clients {
        client.close().await;
    }
    server.close().await;
    if cfg!(unix) {
        was_bad(network);
    }
}

/// What the program says of a trace.
fn replayed(path: &Path) -> (Option<i32>, Value) {
    let output = run(&["replay", &path.display().to_string(), "--json"]);
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

/// What a trace consists of.
fn stats(path: &Path) -> Value {
    let output = run(&["trace", "stats", &path.display().to_string(), "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one object")
}

/// How many links of a recorded node carried a session on.
fn resumed(path: &Path) -> usize {
    let output = run(&["replay", &path.display().to_string(), "--events"]);
    assert!(output.status.success(), "{output:?}");
    let timeline = String::from_utf8(output.stdout).expect("text");
    let resumed = |line: &&str| line.contains(" Connected: ") && line.ends_with(", resumed");
    timeline.lines().filter(resumed).count()
}

/// Every recording of the conversation is its owner's, and replays identical in another process; in
/// each, sessions went on over later links.
fn all_replay_identical(directory: &Path) {
    let names = (0..CLIENTS).map(|number| format!("client-{number}.tlt"));
    for name in names.chain(["server.tlt".to_owned()]) {
        let path = directory.join(name);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        let (status, said) = replayed(&path);
        assert_eq!(status, Some(0), "{said}");
        assert_eq!(said["identical"], true, "{said}");
        assert_eq!(said["build"], Value::Array(vec![]), "{said}");
        assert_eq!(said["ending"], "the recording was stopped in order");
        assert!(said["records"].as_u64() > Some(MESSAGES / 8), "{said}");
        let (resumed, clients) = (resumed(&path), usize::try_from(CLIENTS).unwrap());
        let expected = if path.ends_with("server.tlt") {
            clients
        } else {
            1
        };
        assert!(resumed >= expected, "{}: {resumed}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_conversation_on_a_bad_network_replays_identical_in_another_process() {
    let directory = tempfile::tempdir().expect("a directory");
    conversation(directory.path(), Recording::wire).await;
    all_replay_identical(directory.path());
    let server = directory.path().join("server.tlt");
    looks_inside(&server);
    differs_with_another_seed(&server);
    is_named_where_it_is_damaged(&server);
}

fn looks_inside(server: &Path) {
    let path = server.display().to_string();
    let stats = stats(server);
    assert_eq!(stats["role"], "a server");
    // The first handshakes, and at least one more for each client after the cut.
    assert!(stats["kinds"]["signature"]["records"].as_u64() >= Some(2 * CLIENTS));
    assert!(stats["kinds"]["ack"]["records"].as_u64() >= Some(CLIENTS * MESSAGES));
    let shown = run(&["trace", "show", &path, "--to", "20"]);
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert_eq!(shown.lines().count(), 20, "{shown}");
    assert!(shown.starts_with("1 0."), "{shown}");
    assert!(
        shown.contains("datagram of 1200 bytes from 127.0.0.1"),
        "{shown}"
    );
    let timeline = run(&["replay", &path, "--events", "--until", "2000"]);
    let timeline = String::from_utf8(timeline.stdout).expect("text");
    assert!(timeline.contains(" Connected: session "), "{timeline}");
    assert!(
        timeline.contains("\nidentical: 2000 records over "),
        "{timeline}"
    );
}

fn differs_with_another_seed(server: &Path) {
    let mut reader = Reader::new(BufReader::new(File::open(server).unwrap())).unwrap();
    let mut header = reader.header().clone();
    let Recorded::Wire { seed, .. } = &mut header.recorded else {
        panic!("another level")
    };
    *seed = Seed::new([1; 32]);
    let path = server.with_file_name("other.tlt");
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    for _ in 0..1_000 {
        let (_, record) = reader.next_record().unwrap().unwrap();
        writer.write(&record).unwrap();
    }
    fs::write(&path, writer.into_inner()).unwrap();
    let (status, said) = replayed(&path);
    assert_eq!(status, Some(1), "{said}");
    assert_eq!(said["identical"], false, "{said}");
    assert!(said["difference"]["record"].as_u64() < Some(100), "{said}");
    assert!(said["difference"]["expected"].is_string(), "{said}");
    let output = run(&["replay", &path.display().to_string()]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("different: record "), "{text}");
    assert!(
        text.contains("\n  expected ") && text.contains("\n  came "),
        "{text}"
    );
}

fn is_named_where_it_is_damaged(server: &Path) {
    // In a datagram of the later half, of which there is no copy.
    let mut bytes = fs::read(server).unwrap();
    let is_single = |data: &[u8]| {
        let found = bytes.windows(data.len()).filter(|window| *window == data);
        found.count() == 1
    };
    let mut reader = Reader::new(BufReader::new(File::open(server).unwrap())).unwrap();
    let (number, data) = loop {
        let (number, record) = reader.next_record().unwrap().expect("more records");
        if let Record::Call { call, .. } = record
            && number > MESSAGES
            && let Body::Whole(data) = call.payload()
            && data.len() > 30
            && is_single(data)
        {
            break (number, data.to_vec());
        }
    };
    let at = bytes.windows(data.len()).position(|window| window == data);
    bytes[at.expect("it is there") + 15] ^= 1;
    let path = server.with_file_name("damaged.tlt");
    fs::write(&path, &bytes).unwrap();
    let path = path.display().to_string();
    let output = run(&["replay", &path]);
    let named = format!("record {number} (at byte ");
    assert_one_line(&output, 2, &["damaged.tlt", &named, "is damaged"]);
    fs::write(&path, "something else").unwrap();
    for command in [&["replay"][..], &["trace", "show"], &["trace", "stats"]] {
        let output = run(&[command, &[&path]].concat());
        assert_one_line(&output, 2, &["damaged.tlt", "no trace"]);
    }
    let (server, out) = (server.display().to_string(), format!("{path}.out"));
    let output = run(&["trace", "redact", &server, &out]);
    assert_one_line(
        &output,
        2,
        &["server.tlt", "cannot be redacted", "link level"],
    );
    let output = run(&["trace", "shrink", &server, &out]);
    assert_one_line(
        &output,
        2,
        &["server.tlt", "cannot be cut down", "link level"],
    );
    let output = run(&["replay", &server, "--what-if", "heartbeat.interval=5s"]);
    assert_one_line(&output, 2, &["server.tlt", "link level"]);
    let output = run(&["replay", "/nowhere/x.tlt"]);
    assert_one_line(&output, 2, &["cannot read /nowhere/x.tlt"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_above_quic_also_without_bodies() {
    let directory = tempfile::tempdir().expect("a directory");
    // A client and the server with bodies, and another client as recordings above QUIC are unless told
    // otherwise.
    conversation(directory.path(), |path| {
        let without = path.ends_with("client-1.tlt");
        let recording = Recording::link(path);
        if without {
            recording
        } else {
            recording.bodies()
        }
    })
    .await;
    all_replay_identical(directory.path());
    let stats = stats(&directory.path().join("client-1.tlt"));
    assert_eq!(stats["level"], "link");
    // At first, and after the cut.
    assert!(
        stats["kinds"]["link: dialled"]["records"].as_u64() >= Some(2),
        "{stats}"
    );
    assert!(
        stats["kinds"]["send"]["records"].as_u64() >= Some(MESSAGES),
        "{stats}"
    );
    let server = directory.path().join("server.tlt");
    let path = server.display().to_string();
    let stats = self::stats(&server);
    assert_eq!(stats["level"], "link, with bodies");
    // At first, and after the cut.
    assert!(stats["kinds"]["link: accepted"]["records"].as_u64() >= Some(2 * CLIENTS));
    let frames = stats["kinds"]["link: lane frame read"]["records"].as_u64();
    assert!(frames >= Some(CLIENTS * (MESSAGES + 1)), "{stats}");

    // Without bodies it is smaller, says so, and is identical still.
    let handed_on = server.with_file_name("handed-on.tlt");
    let handed_on = handed_on.display().to_string();
    let output = run(&["trace", "redact", &path, &handed_on]);
    assert!(output.status.success(), "{output:?}");
    let (status, said) = replayed(Path::new(&handed_on));
    assert_eq!((status, &said["identical"]), (Some(0), &Value::Bool(true)));
    let stats = self::stats(Path::new(&handed_on));
    assert_eq!(stats["level"], "link");
    let again = run(&["trace", "redact", &path, &handed_on]);
    assert_one_line(&again, 2, &["cannot write", "handed-on.tlt"]);

    is_named_where_a_frame_is_damaged(&server);
    is_cut_down(&server);
    asks_what_if(&directory.path().join("client-0.tlt"));
}

fn is_named_where_a_frame_is_damaged(server: &Path) {
    let mut reader = Reader::new(BufReader::new(File::open(server).unwrap())).unwrap();
    let (number, found) = loop {
        let (number, record) = reader.next_record().unwrap().expect("more records");
        if let Record::Answers { notes, .. } = record
            && number > MESSAGES / 4
        {
            let frame = notes.iter().find_map(|(_, note)| match note {
                LinkNote::Lane {
                    frame,
                    opening: false,
                    ..
                } => Some(frame.clone()),
                _ => None,
            });
            if let Some(frame) = frame {
                break (number, frame);
            }
        }
    };
    let mut bytes = fs::read(server).unwrap();
    // The numbers of the three clients' messages are the same: the first with that frame is damaged.
    let at = bytes
        .windows(found.len())
        .position(|window| window == found);
    bytes[at.expect("it is there") + found.len() / 2] ^= 1;
    let path = server.with_file_name("damaged-frame.tlt");
    fs::write(&path, &bytes).unwrap();
    let output = run(&["replay", &path.display().to_string()]);
    assert_one_line(&output, 2, &["damaged-frame.tlt", "record ", "is damaged"]);
    let said = String::from_utf8(output.stderr).expect("text");
    let named = said
        .split_once("record ")
        .and_then(|(_, rest)| rest.split_once(' '))
        .and_then(|(number, _)| number.parse::<u64>().ok());
    assert!(named.is_some_and(|named| named <= number), "{said}");
}

fn is_cut_down(server: &Path) {
    let path = server.display().to_string();
    let small = server.with_file_name("small.tlt").display().to_string();
    let output = run(&["trace", "shrink", &path, &small]);
    assert_one_line(&output, 2, &["server.tlt", "replays identical"]);
    let client = server.with_file_name("client-0.tlt");
    let program = env!("CARGO_BIN_EXE_trunkline");
    let command = format!("{program} trace show {{}} --to 40 | grep -q 'connect to'");
    let cut = server.with_file_name("cut.tlt");
    first_records(&client, &cut, 60);
    let output = run(&[
        "trace",
        "shrink",
        &cut.display().to_string(),
        &small,
        "--while",
        &command,
    ]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("small.tlt: 3 records of 60"), "{said}");
}

fn asks_what_if(client: &Path) {
    let path = client.display().to_string();
    let patient = ["--what-if", "heartbeat.misses=100"];
    let output = run(&[&["replay", &path][..], &patient].concat());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("as recorded: "), "{said}");
    // What was cut off is not found dead any more.
    let timeouts = said.lines().find(|line| line.contains("HeartbeatTimeout"));
    let timeouts = timeouts.expect("a line").split_whitespace();
    let counts: Vec<u64> = timeouts.filter_map(|word| word.parse().ok()).collect();
    assert!(counts[0] > counts[1], "{said}");
    assert!(said.contains(" is the first that differs"), "{said}");
    let output = run(&["replay", &path, "--what-if", "heartbeat=5s"]);
    assert_one_line(&output, 2, &["heartbeat=", "heartbeat.interval"]);
    let output = run(&["replay", &path, "--what-if", "heartbeat.interval"]);
    assert_one_line(&output, 2, &["--what-if", "heartbeat.misses=1"]);
}

#[tokio::test]
async fn a_recording_overwrites_nothing_and_leaves_nothing_behind_when_nothing_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = directory.path().join("taken.tlt");
    fs::write(&taken, "mine").unwrap();
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate");
    let (pem, key) = (certificate.pem(), key.serialize_pem());
    let identity = Identity::from_pem(pem.as_bytes(), key.as_bytes(), "test").expect("a pair");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = |recording: Recording| {
        Server::bind(socket.local_addr().unwrap())
            .identity(identity.clone())
            .admission(Admit::open())
            .record(recording)
    };
    let error = server(Recording::from(&*taken))
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("taken.tlt") && error.contains("not overwritten"),
        "{error}"
    );
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
    // The address is in use.
    let fresh = directory.path().join("fresh.tlt");
    let saver = Saver::default();
    for recording in [
        Recording::from(&*fresh),
        Recording::wire(&fresh).last(Duration::from_secs(60), &saver),
    ] {
        let error = server(recording).await.expect_err("refused").to_string();
        assert!(error.contains("cannot bind"), "{error}");
        assert!(!fresh.exists());
    }
}
