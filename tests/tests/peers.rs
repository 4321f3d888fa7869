//! The benchmark peers keep their contract: each workload ends well, prints its keys, and its
//! figures add up.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Map, Value};
use tempfile::TempDir;

const ON_TOKIO: &str = env!("CARGO_BIN_EXE_peer-trunkline");
const ON_CORE: &str = env!("CARGO_BIN_EXE_peer-trunkline-core");

/// A folder with what the programs look for.
fn certificates() -> TempDir {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let leaf = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (file, contents) in [
        ("ca.pem", authority.pem()),
        ("cert.pem", leaf.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        fs::write(folder.path().join(file), contents).unwrap();
    }
    folder
}

/// A server that ends with the test.
struct Server {
    process: Child,
    address: String,
    pids: String,
}

impl Server {
    fn start(program: &str, certificates: &Path) -> Self {
        let mut process = Command::new(program)
            .args(["server", "--listen", "127.0.0.1:0", "--max-secs", "60"])
            .env("PEERS_CERT_DIR", certificates)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut ready).unwrap();
        let words = ready
            .strip_prefix("READY ")
            .unwrap_or_else(|| panic!("not ready: {ready:?}"));
        let word = |key| {
            words
                .split_whitespace()
                .find_map(|word| word.strip_prefix(key))
        };
        let (address, pids) = (word("addr=").unwrap().into(), word("pids=").unwrap().into());
        assert_eq!(pids, process.id().to_string());
        Self {
            process,
            address,
            pids,
        }
    }

    /// Ends its standard input, which ends it.
    fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended if the test went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn client(program: &str, certificates: &Path, address: &str, flags: &str) -> Output {
    Command::new(program)
        .args(["client", "--connect", address])
        .args(flags.split_whitespace())
        .env("PEERS_CERT_DIR", certificates)
        .env_remove("PEERS_NAME")
        .output()
        .unwrap()
}

/// The one line that a client printed.
struct Report {
    flags: String,
    keys: Map<String, Value>,
}

impl Report {
    fn of(program: &str, certificates: &Path, server: &Server, flags: &str) -> Self {
        let pids = format!("{flags} --server-pids {}", server.pids);
        let output = client(program, certificates, &server.address, &pids);
        let (out, errors) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{flags}: {errors}");
        assert_eq!(out.lines().count(), 1, "{flags}: {out}");
        let report = Self {
            flags: flags.to_owned(),
            keys: serde_json::from_str(&out).unwrap(),
        };
        report.adds_up();
        report
    }

    fn number(&self, key: &str) -> f64 {
        let number = self.keys.get(key).and_then(Value::as_f64);
        number.unwrap_or_else(|| panic!("{}: {key} is missing in {:?}", self.flags, self.keys))
    }

    fn has(&self, keys: &str) {
        keys.split_whitespace()
            .for_each(|key| assert!(self.number(key) >= 0.0, "{key}"));
    }

    fn equal(&self, what: &str, one: f64, other: f64) {
        let apart = (one - other).abs();
        assert!(
            apart <= 1e-6 * one.abs().max(1.0),
            "{}: {what}: {one} {other}",
            self.flags
        );
    }

    /// What every workload's report says.
    fn adds_up(&self) {
        for text in ["peer", "workload", "allocator"] {
            assert!(self.keys[text].is_string(), "{text}");
        }
        self.has("payload count concurrency conns duration rate_hz client_sys_s server_sys_s");
        assert!(
            self.number("secs") > 0.0 && self.number("msgs") > 0.0,
            "{:?}",
            self.keys
        );
        let (client, server) = (self.number("client_cpu_s"), self.number("server_cpu_s"));
        assert!(client > 0.0 && server > 0.0, "{:?}", self.keys);
        self.equal(
            "cores",
            self.number("cores_busy") * self.number("secs"),
            client + server,
        );
    }

    /// What the reports of workloads with messages say.
    fn counts_messages(&self) {
        let (messages, seconds) = (self.number("msgs"), self.number("secs"));
        self.equal("rate", self.number("msgs_per_s") * seconds, messages);
        let megabytes = messages * self.number("payload") / 1e6;
        self.equal("bytes", self.number("mb_per_s") * seconds, megabytes);
        let cpu = self.number("client_cpu_s") + self.number("server_cpu_s");
        self.equal("CPU", self.number("cpu_us_per_msg") * messages, cpu * 1e6);
    }

    /// What the reports of workloads with latencies say.
    fn measures_latencies(&self) {
        assert!(self.number("lat_samples") > 0.0, "{:?}", self.keys);
        let at = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|key| self.number(key));
        assert!(at[0] > 0.0 && at.is_sorted(), "{at:?}");
    }
}

/// Every workload between a client and a server, for a moment each.
fn every_workload(client: &str, server: &str) {
    let folder = certificates();
    let running = Server::start(server, folder.path());
    let measured = |flags: &str| Report::of(client, folder.path(), &running, flags);
    // So many messages, however long they take.
    let load = "--count 300 --warmup 0 --duration 30";

    // More than are in flight at a time: the server has something to do while it is measured.
    let pipeline = measured("pipeline --count 3000 --warmup 0 --duration 30");
    assert_eq!(pipeline.number("concurrency"), 1_024.0);
    let bulk = measured("bulk --count 20 --warmup 0.01 --duration 30");
    assert_eq!(bulk.number("payload"), 1_000_000.0);
    assert!(bulk.number("msgs") >= 20.0, "{:?}", bulk.keys);
    let rpc = measured(&format!(
        "rpc --payload 16 --concurrency 64 --conns 2 {load}"
    ));
    assert_eq!(rpc.number("conns"), 2.0);
    let mixed = measured("mixed --bulk-payload 100000 --count 50 --warmup 0 --duration 30");
    for report in [&pipeline, &bulk, &rpc, &mixed] {
        report.counts_messages();
        report.measures_latencies();
    }
    for (report, least) in [(&pipeline, 3_000.0), (&rpc, 300.0)] {
        assert!(report.number("msgs") >= least, "{:?}", report.keys);
    }
    assert!(mixed.number("bulk_msgs") > 0.0);
    mixed.has("bulk_p50_us bulk_p99_us");
    let bulk_megabytes = mixed.number("bulk_mb_per_s") * mixed.number("secs");
    mixed.equal("bulk", bulk_megabytes, mixed.number("bulk_msgs") / 10.0);

    for rate in [0, 100] {
        let broadcast = measured(&format!(
            "broadcast --conns 20 --count 10 --rate {rate} --endpoints 3 --duration 20"
        ));
        broadcast.counts_messages();
        assert_eq!(broadcast.number("deliveries"), 200.0);
        assert_eq!(broadcast.number("msgs"), 200.0);
        broadcast.has("deliveries_per_s server_cpu_s_per_m client_cpu_s_per_m");
        if rate > 0 {
            broadcast.measures_latencies();
            assert_eq!(broadcast.number("lat_samples"), 200.0);
        }
    }

    let connect = measured("connect --conns 20 --concurrency 8 --hold 0.1");
    assert_eq!(connect.number("msgs"), 20.0);
    connect.equal(
        "rate",
        connect.number("conns_per_s") * connect.number("secs"),
        20.0,
    );
    connect.has(
        "ready_p50_ms ready_p99_ms handshake_p50_ms handshake_p99_ms server_cpu_us_per_conn \
         client_cpu_us_per_conn rss_before_kib rss_after_kib idle_server_cpu_s \
         idle_server_cpu_us_per_conn_s",
    );
    let grown = connect.number("rss_after_kib") - connect.number("rss_before_kib");
    connect.equal("memory", connect.number("rss_kib_per_conn") * 20.0, grown);
    assert!(connect.number("idle_secs") >= 0.1);
    assert!(connect.keys["rss_idle_end_kib_per_conn"].is_number());
    running.end();
}

#[test]
fn every_workload_on_tokio() {
    every_workload(ON_TOKIO, ON_TOKIO);
}

#[test]
fn every_workload_on_the_core() {
    every_workload(ON_CORE, ON_CORE);
}

#[test]
fn each_programs_client_finds_its_match_in_the_other_ones_server() {
    let folder = certificates();
    for (client, server) in [(ON_TOKIO, ON_CORE), (ON_CORE, ON_TOKIO)] {
        let running = Server::start(server, folder.path());
        for flags in [
            "rpc --count 10 --warmup 0 --duration 30",
            "bulk --count 3 --warmup 0 --duration 30",
            "broadcast --conns 3 --count 4 --duration 20",
        ] {
            Report::of(client, folder.path(), &running, flags);
        }
        running.end();
    }
}

#[test]
fn what_goes_wrong_is_one_line_and_no_report() {
    let (folder, other) = (certificates(), certificates());
    let running = Server::start(ON_CORE, folder.path());
    let refused = |program, certificates: &Path, flags: &str, said: &str| {
        let output = client(program, certificates, &running.address, flags);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{flags}: {errors}"
        );
        assert!(
            errors.contains(said),
            "{flags}: {errors:?} does not say {said:?}"
        );
    };
    for program in [ON_TOKIO, ON_CORE] {
        refused(program, other.path(), "rpc", "certificate");
        refused(program, Path::new("/nowhere"), "rpc", "/nowhere/ca.pem");
        refused(program, folder.path(), "rpc --conns 0", "--conns");
        refused(
            program,
            folder.path(),
            "bulk --payload 2000000 --warmup 0",
            "at most",
        );
    }
    running.end();
}
