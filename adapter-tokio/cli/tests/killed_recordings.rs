//! What a process leaves of its recording that is killed in mid-traffic, in another process's hands.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;
mod support;

use std::fs::{self, File};
use std::future;
use std::io::BufReader;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use program::{Certificates, Program};
use serde_json::Value;
use support::run;
use trunkline_core::trace::{Ending, Reader, Record};
use trunkline_tokio::{
    Admit, Answer, Client, Config, Identity, Message, Recording, Roots, Server, Service, Tag,
};

/// Set where the test is the process that is killed: the directory of its certificates.
const DOOMED: &str = "TRUNKLINE_TEST_DOOMED";
/// Only what is in the file counts, and the last of it gets there later.
const ENOUGH: u64 = 100_000;
const ENOUGH_SAID: &str = "has recorded enough";
const CLIENTS: u64 = 2;

type Level = fn(PathBuf) -> Recording;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_records_every_datagram_leaves_what_replays_identical() {
    let own = "a_server_killed_while_it_records_every_datagram_leaves_what_replays_identical";
    killed(own, Recording::wire).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_records_above_quic_leaves_what_replays_identical() {
    let own = "a_server_killed_while_it_records_above_quic_leaves_what_replays_identical";
    killed(own, Recording::link).await;
}

/// The test of that name, and the process that it kills.
async fn killed(own: &str, level: Level) {
    if let Some(directory) = std::env::var_os(DOOMED) {
        return serve(&PathBuf::from(directory), level).await;
    }
    let certificates = Certificates::new(&[]);
    let directory = Path::new(certificates.directory());
    let mut server = start_again(own, directory);
    let address = server.address();
    let (network, through) = bad_network(&address);
    // What they have not got rid of when the server is gone, nobody will take.
    let mut config = Config::default();
    config.timeouts.close = Duration::from_millis(100);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let path = directory.join(format!("client-{number}.tlt"));
        let roots = fs::read(certificates.file("ca.pem")).expect("a file");
        let client = Client::connect(through.clone())
            .server_name("localhost")
            .roots(Roots::from_pem(&roots, "test").expect("a root"))
            .client_id(format!("client-{number}"))
            .config(config.clone())
            .record(Recording::link(path));
        clients.push(Arc::new(client.await.expect("a client")));
    }
    // Nobody stops them before the server is gone, and then they wait for room.
    let talks: Vec<_> = clients
        .iter()
        .cloned()
        .map(talk)
        .map(tokio::spawn)
        .collect();
    server.line(&[ENOUGH_SAID]);
    server.signal("KILL");
    let ended = server.end();
    assert_eq!(ended.status.signal(), Some(9), "{ended:?}");
    for talk in talks {
        assert!(!talk.is_finished(), "it was in mid-traffic");
        talk.abort();
    }
    for (number, client) in clients.iter().enumerate() {
        client.close().await;
        let (status, said) = replayed(&directory.join(format!("client-{number}.tlt")), &[]);
        assert_eq!(
            (status, &said["identical"]),
            (0, &Value::Bool(true)),
            "{said}"
        );
        assert_eq!(said["ending"], "the recording was stopped in order");
    }
    network.signal("INT");
    let summary = network.end().summary();
    assert!(summary["up"]["lost"].as_u64() > Some(0), "{summary}");
    every_whole_record_is_identical(&directory.join("server.tlt"));
}

/// The test of that name as a process of its own.
fn start_again(own: &str, directory: &Path) -> Program {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "--nocapture", own])
        .env(DOOMED, directory)
        .stdin(Stdio::null());
    Program::of(command)
}

/// A server that records itself and says once there is enough to look at, until it is killed.
async fn serve(directory: &Path, level: Level) {
    let read = |name: &str| fs::read(directory.join(name)).expect("a file");
    let identity = Identity::from_pem(&read("cert.pem"), &read("key.pem"), "test");
    let file = directory.join("server.tlt");
    let state = Arc::new((AtomicU64::new(0), file.clone()));
    let server = Server::bind("127.0.0.1:0".parse().expect("an address"))
        .identity(identity.expect("a pair"))
        .admission(Admit::open())
        .service(
            Service::new(state).otherwise(|context, _: Message| async move {
                let (handled, file) = &**context.state();
                let handled = handled.fetch_add(1, Ordering::Relaxed);
                if handled % 50 == 0 && fs::metadata(file).expect("a file").len() > ENOUGH {
                    println!("{ENOUGH_SAID}");
                }
                Ok(Answer::Ack)
            }),
        )
        .record(level(file))
        .await
        .expect("a server");
    println!("listening on {}", server.local_addr());
    // Should whoever has started it have gone, it does not stay for ever.
    let forever = future::pending::<()>();
    tokio::time::timeout(Duration::from_secs(60), forever)
        .await
        .expect("somebody kills it");
}

/// The program as a proxy in front of the server.
fn bad_network(server: &str) -> (Program, String) {
    let listen = [
        "impair",
        "--listen",
        "127.0.0.1:0",
        "--to",
        server,
        "--json",
    ];
    let path = [
        "--delay",
        "1ms",
        "--loss",
        "1%",
        "--reorder",
        "1%",
        "--seed",
        "7",
    ];
    let mut program = Program::start(&[&listen[..], &path].concat());
    let address = program.address();
    (program, address)
}

/// Says one thing after another for as long as there is room for it.
async fn talk(client: Arc<Client>) {
    for number in 0_u64.. {
        let said = Message::new(Tag::of("test.Said"), number.to_be_bytes().repeat(8));
        client.send_raw(said).await.expect("room");
    }
}

/// What the program says of a trace.
fn replayed(path: &Path, options: &[&str]) -> (i32, Value) {
    let path = path.display().to_string();
    let output = run(&[&["replay", &path, "--json"], options].concat());
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("a status"), said)
}

/// The last whole record of a file that a replay compares, and what follows. Answers to a poll belong to
/// the record behind them, without which they say nothing; signatures to the call before.
fn whole_records(path: &Path) -> (u64, Ending) {
    let mut reader = Reader::new(BufReader::new(File::open(path).expect("a file"))).unwrap();
    let mut records = 0;
    while let Some((number, record)) = reader.next_record().unwrap() {
        if !matches!(
            record,
            Record::Answers { polled: true, .. } | Record::Signature(_)
        ) {
            records = number;
        }
    }
    (records, reader.ending().expect("it was read to its end"))
}

/// What the killed process left is all there to its last whole record, and is called what it is; as is
/// the same with a part of its last block missing, as another moment would have left it.
fn every_whole_record_is_identical(path: &Path) {
    let (records, ending) = whole_records(path);
    assert!(records > 100, "{records} are hardly any traffic");
    let length = fs::metadata(path).expect("a file").len();
    let whole = match ending {
        Ending::Open => length,
        Ending::CutShort(bytes) => length - bytes,
        Ending::Said(end) => panic!("nobody was left to write {end:?}"),
    };
    assert!(whole >= ENOUGH, "{whole} of {length} bytes");
    says_how_it_ends(path, records, ending);

    let file = File::options().write(true).open(path).expect("its owner's");
    file.set_len(whole - 1).expect("shorter");
    let (fewer, ending) = whole_records(path);
    assert!(fewer <= records, "{fewer} of {records}");
    assert!(matches!(ending, Ending::CutShort(1..)), "{ending:?}");
    says_how_it_ends(path, fewer, ending);
}

fn says_how_it_ends(path: &Path, records: u64, ending: Ending) {
    let is_open = ending == Ending::Open;
    for (options, status) in [
        (&[][..], if is_open { 0 } else { 2 }),
        (&["--cut-short"], 0),
    ] {
        let (code, said) = replayed(path, options);
        assert_eq!(said["identical"], true, "{said}");
        assert_eq!(said["records"], records, "{said}");
        assert_eq!(said["complete"], is_open, "{said}");
        assert_eq!(said["ending"], ending.to_string(), "{said}");
        assert_eq!(code, status, "{options:?}: {said}");
    }
    let words = ending.to_string();
    let known = if is_open {
        "without warning"
    } else {
        "cut short"
    };
    assert!(words.contains(known), "{words}");
}
