//! No randomness but the seed's: whole simulated runs on threads to which the kernel gives none.
//!
//! In worlds of nodes, and in the runtime of simulated drivers, handles and handlers.
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
use trunkline_core::driver::{Admit, Context, PromiseError, Service};
use trunkline_core::trace::replay;
use trunkline_core::{Event, PersistentKeys, Status};
use trunkline_testkit::simulated::{Client, Process, Server, Simulation};
use trunkline_testkit::swarm::{Plan, run};
use trunkline_testkit::{Certificates, Recording, World, echo};

const SECOND: Duration = Duration::from_secs(1);

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

/// A link that dies after so many datagrams of each side, in mid-conversation, and the one that resumes
/// its session after so many.
fn resumed(certificates: &Certificates, deaths: [u64; 2]) -> u64 {
    let mut world = World::with_certificates(13, certificates);
    let config = world.config();
    config.heartbeat.interval = SECOND;
    config.heartbeat.misses = 2;
    config.redial.first = SECOND / 2;
    config.redial.cap = SECOND;
    let (server, client) = (world.server(), world.client());
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let mut promises = Vec::new();
    for after in deaths {
        for (from, to) in [(server, client), (client, server)] {
            world.cut_after(from, to, Some(after));
        }
        for round in 0..30_u32 {
            promises.push(world.request(client, session, &round.to_be_bytes()));
            world.run(SECOND / 100, echo);
        }
        world.run(6 * SECOND, echo);
    }
    for (from, to) in [(server, client), (client, server)] {
        world.cut_after(from, to, None);
    }
    world.run(10 * SECOND, echo);
    for promise in promises {
        let outcome = world.outcome(client, promise);
        assert!(outcome.unwrap().starts_with("Replied"), "{deaths:?}");
    }
    let resumed = |(_, event): &(_, Event)| matches!(event, Event::Connected { resumed: true, .. });
    assert!(world.log(client).iter().any(resumed), "{deaths:?}");
    world.fingerprint()
}

#[test]
fn links_that_die_while_a_session_resumes_take_no_randomness_but_their_seeds() {
    let certificates = Certificates::new().unwrap();
    // The later link dies with its first datagram, and further on.
    for deaths in [[5, 0], [20, 2], [20, 4], [40, 6]] {
        let freely = resumed(&certificates, deaths);
        let certificates = certificates.clone();
        let refused = without_randomness(move || resumed(&certificates, deaths)).unwrap();
        assert_eq!(freely, refused, "{deaths:?}");
    }
}

/// A hundred clients whose server crashes, and who all come back.
fn storm(certificates: &Certificates) -> u64 {
    let mut world = World::with_certificates(14, certificates);
    world.config().transport.mtu_discovery = false;
    let server = world.server();
    let clients: Vec<_> = (0..100).map(|_| world.client()).collect();
    for (number, client) in clients.iter().enumerate() {
        world.connect(*client, server, &format!("client-{number}"));
    }
    let connected = |world: &mut World| {
        world.run(40 * SECOND, echo);
        let now = world.now();
        world.node(server).metrics(now).connected
    };
    assert_eq!(connected(&mut world), clients.len());
    world.kill(server);
    world.run(10 * SECOND, echo);
    world.start_process(server);
    assert_eq!(connected(&mut world), clients.len());
    world.fingerprint()
}

#[test]
fn clients_that_come_back_together_take_no_randomness_but_their_seeds() {
    let certificates = Certificates::new().unwrap();
    let freely = storm(&certificates);
    let refused = without_randomness(move || storm(&certificates)).unwrap();
    assert_eq!(freely, refused);
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(uint32, tag = "1")]
    number: u32,
}

impl prost::Name for Number {
    const NAME: &'static str = "Number";
    const PACKAGE: &'static str = "tripwire.v1";
}

/// A server as a process of its own, which doubles numbers: each takes its time.
fn serve(simulation: &Simulation) -> Process {
    let double = async |context: Context<Simulation>, asked: Number| {
        context.state().sleep(SECOND / 100).await;
        let number = asked.number * 2;
        Ok::<_, Status>(Number { number })
    };
    let server = Server::bind("127.0.0.1:4433".parse().unwrap())
        .identity(simulation.certificates().server)
        .persistent_keys(PersistentKeys::new([1; 32], [2; 32]))
        .admission(Admit::open())
        .service(Service::new(simulation.clone()).on_request(double));
    simulation.process(async {
        let _server = server.await.unwrap();
        std::future::pending().await
    })
}

/// Drivers, handles and handlers: requests across losses, a cut and a resume, and a killed server.
fn served(simulation: &Simulation) -> (u64, Duration) {
    simulation.path(|path| {
        path.delay = SECOND / 50;
        path.loss = 0.05;
        path.reorder = 0.05;
    });
    simulation.run(async {
        let mut server = serve(simulation);
        let client = Client::connect("localhost:4433")
            .roots(simulation.certificates().roots)
            .client_id("alice");
        let client = client.await.unwrap();
        for number in 0..30 {
            let asked = client.request::<Number>(&Number { number });
            let asked = asked.timeout(300 * SECOND);
            if number == 10 {
                simulation.path(|path| path.cut = true);
                simulation.spawn({
                    let simulation = simulation.clone();
                    async move {
                        simulation.sleep(100 * SECOND).await;
                        simulation.path(|path| path.cut = false);
                    }
                });
            }
            if number == 20 {
                server.kill();
                server = serve(simulation);
                let lost = asked.await;
                assert!(matches!(lost, Err(PromiseError::Lost { .. })), "{lost:?}");
                continue;
            }
            assert_eq!(asked.await.unwrap().number, number * 2);
        }
        let metrics = client.metrics().await.unwrap();
        assert_eq!(metrics.sessions_resumed, 1, "{metrics:?}");
        client.close().await;
        server.kill();
    });
    (simulation.fingerprint(), simulation.elapsed())
}

#[test]
fn drivers_and_handlers_take_no_randomness_but_their_simulations() {
    let freely = served(&Simulation::new(15));
    let simulation = Simulation::new(15);
    let refused = without_randomness(move || served(&simulation)).unwrap();
    assert_eq!(freely, refused);
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
