//! No randomness but the seed's: whole simulated runs on threads to which the kernel gives none.
//!
//! A system-call filter (seccomp) refuses `getrandom` and the opening of files to the thread, so that
//! whatever asks the operating system for randomness panics (Rust) or aborts (aws-lc).

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#![allow(clippy::unwrap_used, reason = "tests end by panicking")]

use std::fs::{self, File};
use std::hash::RandomState;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use trunkline_core::trace::replay;
use trunkline_testkit::swarm::{Plan, run};
use trunkline_testkit::{Certificates, Recording, World, echo};

/// Numbers of system calls, as in the kernel's `unistd.h`.
mod call {
    #[cfg(target_arch = "x86_64")]
    pub(super) const REFUSED: [i64; 3] = [GETRANDOM, 2, 257]; // open, openat
    #[cfg(target_arch = "x86_64")]
    const GETRANDOM: i64 = 318;
    #[cfg(target_arch = "aarch64")]
    pub(super) const REFUSED: [i64; 2] = [278, 56]; // getrandom, openat
}

/// From here on the thread gets no randomness of the operating system's.
fn refuse_randomness() {
    let refused = call::REFUSED.map(|number| (number, Vec::new()));
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let not_permitted = SeccompAction::Errno(1);
    let filter = SeccompFilter::new(
        refused.into_iter().collect(),
        SeccompAction::Allow,
        not_permitted,
        arch,
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// What comes of the work on a thread without randomness; an error if it panicked.
fn without_randomness<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::Result<T> {
    let thread = thread::spawn(move || {
        // The keys of std's hash maps are drawn once a thread. rustls has such maps in its caches,
        // and never goes over them in their order; other keys on each thread, and so in the two runs
        // that are compared, show that.
        let _drawn = RandomState::new();
        refuse_randomness();
        work()
    });
    thread.join()
}

/// A handshake, requests across losses, a killed server and a resume.
fn conversation(certificates: &Certificates) -> u64 {
    let mut world = World::with_certificates(11, certificates);
    world.path.loss = 0.05;
    let (server, client) = (world.server(), world.client());
    let session = world.connect(client, server, "alice");
    for round in 0..40_u32 {
        let promise = world.request(client, session, &round.to_be_bytes());
        world.run(Duration::from_secs(3), echo);
        let outcome = world.outcome(client, promise);
        if round < 20 {
            assert!(outcome.unwrap().starts_with("Replied"), "round {round}");
        }
        if round == 20 {
            world.kill(server);
            world.start_process(server);
        }
    }
    world.fingerprint()
}

#[test]
fn a_conversation_takes_no_randomness_but_its_seeds() {
    let certificates = Certificates::new().unwrap();
    let freely = conversation(&certificates);
    let refused = without_randomness(move || conversation(&certificates)).unwrap();
    assert_eq!(freely, refused);
}

#[test]
fn random_runs_take_no_randomness_but_their_seeds() {
    let certificates = Certificates::new().unwrap();
    for seed in 0..20 {
        let plan = Plan::new(seed);
        let freely = run(&plan, &certificates);
        let certificates = certificates.clone();
        let refused = without_randomness(move || run(&plan, &certificates)).unwrap();
        assert_eq!(freely.fingerprint, refused.fingerprint, "seed {seed}");
        assert_eq!(refused.panicked, None, "seed {seed}");
    }
}

/// Two nodes, recorded: the traces of both.
fn recorded(recording: Recording, certificates: &Certificates) -> Vec<Vec<u8>> {
    let mut world = World::with_certificates(12, certificates);
    world.record_at(recording);
    world.config().heartbeat.interval = Duration::from_secs(1);
    world.path.loss = 0.05;
    let (server, client) = (world.server(), world.client());
    let session = world.connect(client, server, "alice");
    for round in 0..10_u32 {
        world.request(client, session, &round.to_be_bytes());
        world.run(Duration::from_secs(3), echo);
    }
    world.kill(server);
    world.start_process(server);
    world.run(Duration::from_secs(10), echo);
    world.kill(client);
    world.kill(server);
    let traces = |node| world.traces(node);
    [server, client].into_iter().flat_map(traces).collect()
}

fn assert_identical(trace: &[u8]) {
    let report = replay(trace, Instant::now()).unwrap();
    assert!(report.is_identical() && report.records > 10, "{report}");
}

#[test]
fn recording_and_replaying_take_no_randomness_but_what_is_in_the_trace() {
    let certificates = Certificates::new().unwrap();
    for recording in [Recording::Wire, Recording::Link] {
        let freely = recorded(recording, &certificates);
        assert_eq!(freely.len(), 3, "the server had two processes");
        let certificates = certificates.clone();
        let refused = without_randomness(move || {
            let traces = recorded(recording, &certificates);
            traces.iter().for_each(|trace| assert_identical(trace));
            traces
        });
        assert!(refused.unwrap() == freely, "another trace");
    }
}

#[test]
fn golden_traces_replay_without_any_randomness() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_trace = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tlt");
    let golden: Vec<_> = files
        .filter(is_trace)
        .map(|path| fs::read(path).unwrap())
        .collect();
    assert!(golden.len() > 20, "{} traces", golden.len());
    without_randomness(move || golden.iter().for_each(|trace| assert_identical(trace))).unwrap();
}

#[test]
fn whoever_takes_randomness_is_caught() {
    let device = without_randomness(|| File::open("/dev/urandom").map(drop));
    let denied = device.unwrap().unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    let drawing = thread::spawn(|| {
        refuse_randomness();
        RandomState::new()
    });
    assert!(drawing.join().is_err(), "std panics, for it gets no keys");
}
