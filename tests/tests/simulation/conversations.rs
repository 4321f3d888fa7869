//! Conversations that proptest draws and cuts down, under the oracle that the swarm has: with what
//! applications do in every order, and bad networks, cuts, crashes and pauses between.
//!
//! Where the swarm draws from a seed, and then cuts steps away, proptest also makes sizes, counts,
//! times and rates as small as the failure allows.

use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use trunkline_core::{Bug, plant};
use trunkline_testkit::swarm::{Action, Kind, Plan, Step, commit, try_plan};
use trunkline_testkit::{Certificates, Path, count_by};

const CASES: u32 = 300;
/// Node 0; the clients follow it.
const SERVER: usize = 0;
const CLIENTS: usize = 3;
/// Within this time everything begins.
const LENGTH: u64 = 20_000;

fn milliseconds(range: Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn node() -> Range<usize> {
    SERVER..SERVER + 1 + CLIENTS
}

fn client() -> Range<usize> {
    SERVER + 1..SERVER + 1 + CLIENTS
}

fn kind() -> impl Strategy<Value = Kind> {
    let timeout = || prop::option::of(milliseconds(0..5_000));
    prop_oneof![
        Just(Kind::Told),
        timeout().prop_map(Kind::Acked),
        timeout().prop_map(Kind::Asked),
    ]
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 8..200_usize, 2 => 200..4_000_usize, 1 => 4_000..100_000_usize]
}

fn path() -> impl Strategy<Value = Path> {
    let delay = milliseconds(1..800);
    let jitter = milliseconds(0..1_000);
    let shares = (0.0..0.3, 0.0..0.3, 0.0..0.3, 0.0..0.2);
    let rate = prop::option::of(200_000..4_000_000_u64);
    (delay, jitter, shares, rate).prop_map(
        |(delay, jitter, (loss, duplicate, reorder, corrupt), rate)| Path {
            delay,
            jitter,
            loss,
            duplicate,
            reorder,
            corrupt,
            rate,
            ..Path::default()
        },
    )
}

/// What an application does.
fn operation() -> impl Strategy<Value = Action> {
    let session = || 0..4_usize;
    let lane = prop::option::of(0..3_u8);
    let send = (node(), session(), kind(), lane, size(), 1..20_usize);
    let key = || prop::option::of(1..4_u64);
    let best_effort = (node(), session(), key(), 8..4_000_usize, 1..30_usize);
    let group = prop::option::of(0..3_usize);
    let except = prop::option::of(session());
    let broadcast = (group, except, key(), 8..4_000_usize, 1..30_usize);
    prop_oneof![
        6 => send.prop_map(|(node, session, kind, lane, size, count)| {
            Action::Send { node, session, kind, lane, size, count }
        }),
        1 => best_effort.prop_map(|(node, session, key, size, count)| {
            Action::BestEffort { node, session, key, size, count }
        }),
        1 => broadcast.prop_map(|(group, except, key, size, count)| {
            Action::Broadcast { node: SERVER, group, except, key, size, count }
        }),
        1 => (session(), 0..3_usize).prop_map(|(session, group)| {
            Action::Join { node: SERVER, session, group }
        }),
        1 => (session(), 0..3_usize).prop_map(|(session, group)| {
            Action::Leave { node: SERVER, session, group }
        }),
        2 => (node(), 0..64_usize).prop_map(|(node, promise)| Action::Cancel { node, promise }),
        2 => (node(), 1..8_usize, any::<bool>()).prop_map(|(node, count, rejects)| {
            Action::Answer { node, count, rejects }
        }),
        1 => (node(), any::<bool>()).prop_map(|(node, holds)| Action::Hold { node, holds }),
    ]
}

/// What happens to nodes and to the network; each heals by a later step, or at the end of all.
fn fault() -> impl Strategy<Value = Action> {
    let cut = (client(), any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        3 => path().prop_map(Action::Network),
        3 => cut.prop_map(|(client, up, both, cut)| {
            let (from, to) = if up { (client, SERVER) } else { (SERVER, client) };
            Action::Cut { from, to, both, cut }
        }),
        1 => client().prop_map(|node| Action::Rebind { node }),
        1 => (node(), any::<bool>()).prop_map(|(node, keys_lost)| Action::Kill { node, keys_lost }),
        2 => node().prop_map(|node| Action::Start { node }),
        1 => node().prop_map(|node| Action::Pause { node }),
        2 => node().prop_map(|node| Action::Wake { node }),
        1 => (node(), milliseconds(0..500)).prop_map(|(node, lag)| Action::Lag { node, lag }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let action = prop_oneof![3 => operation(), 1 => fault()];
    let steps = prop::collection::vec((milliseconds(0..LENGTH), action), 0..60);
    (any::<bool>(), steps).prop_map(|(asks, steps)| {
        let dials = client().map(|client| Step {
            at: Duration::ZERO,
            action: Action::Connect {
                client,
                server: SERVER,
            },
        });
        let happens = steps.into_iter().map(|(at, action)| Step { at, action });
        let mut steps: Vec<_> = dials.chain(happens).collect();
        steps.sort_by_key(|step| step.at);
        Plan {
            seed: 0,
            servers: 1,
            clients: CLIENTS,
            server: trunkline_core::Config::default(),
            client: trunkline_core::Config::default(),
            asks,
            converses: true,
            steps,
        }
    })
}

/// Draws from these bytes, the first 32 of them.
fn runner(cases: u32, bytes: &str) -> TestRunner {
    let mut seed = [0; 32];
    for (into, byte) in seed.iter_mut().zip(bytes.bytes()) {
        *into = byte;
    }
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

fn certificates() -> Certificates {
    count_by(|f| allocation_counter::measure(f).bytes_current);
    Certificates::new().unwrap()
}

fn keeps_the_invariants(plan: &Plan, certificates: &Certificates) -> Result<(), TestCaseError> {
    match try_plan(plan, certificates) {
        Ok(_) => Ok(()),
        Err(failure) => Err(TestCaseError::fail(failure.what)),
    }
}

#[test]
fn any_conversation_keeps_the_invariants() {
    let certificates = certificates();
    let mut runner = runner(CASES, &commit());
    let ran = runner.run(&plan(), |plan| keeps_the_invariants(&plan, &certificates));
    if let Err(TestError::Fail(what, plan)) = &ran {
        panic!("{what}\n{plan}");
    }
    ran.unwrap();
}

#[test]
fn a_planted_bug_is_found_and_little_is_left_of_the_conversation() {
    let certificates = certificates();
    plant(Some(Bug::ForgetUndelivered));
    let ran =
        runner(1_000, "planted").run(&plan(), |plan| keeps_the_invariants(&plan, &certificates));
    plant(None);
    let Err(TestError::Fail(what, plan)) = ran else {
        panic!("not found: {ran:?}");
    };
    println!("{what}\n{plan}");
    assert!(what.message().starts_with("invariant 1, "), "{what}");
    let steps = plan.steps.len() - CLIENTS;
    assert!(steps <= 3, "{steps} steps are left:\n{plan}");
    assert!(keeps_the_invariants(&plan, &certificates).is_ok());
}
