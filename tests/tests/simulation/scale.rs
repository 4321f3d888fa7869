//! Ten thousand sessions in one node: the work of a turn follows the sessions that have some.

use trunkline_core::{MetricsSnapshot, SessionKey};
use trunkline_testkit::{NodeIndex, World, echo};

use crate::SECOND;

const SESSIONS: usize = 10_000;

/// Visits of a link for one request and its reply at most, at either end: the command, the
/// packets that come, the application's answer, the acknowledgements.
const VISITS_OF_A_REQUEST: u64 = 10;
/// Visits for heartbeats that fall into the time that is looked at.
const VISITS_OF_OTHERS: u64 = 60;

fn connected() -> (World, NodeIndex, NodeIndex, Vec<SessionKey>) {
    let mut world = World::new(9);
    let config = world.config();
    config.limits.sessions_per_client = SESSIONS;
    // All at once, from one network: it gets half of the places.
    config.limits.half_open = 2 * SESSIONS;
    config.limits.half_open_unvalidated = SESSIONS;
    // The fewest beats there can be, so that what is seen is what the sessions in work cause.
    config.heartbeat.interval = 300 * SECOND;
    config.transport.mtu_discovery = false;
    let server = world.server();
    let client = world.client();
    let dial = |_| world.connect(client, server, "many");
    let sessions: Vec<_> = (0..SESSIONS).map(dial).collect();
    world.run(5 * SECOND, echo);
    (world, server, client, sessions)
}

fn metrics(world: &mut World, node: NodeIndex) -> MetricsSnapshot {
    let now = world.now();
    world.node(node).metrics(now)
}

#[test]
fn the_work_of_ten_thousand_sessions_is_that_of_those_that_have_some() {
    let (mut world, server, client, sessions) = connected();
    assert_eq!(metrics(&mut world, server).connected, SESSIONS);
    for busy in [0, 1, 10, 100, 1_000] {
        let before = [server, client].map(|node| metrics(&mut world, node));
        let step = SESSIONS / busy.max(1);
        let promises: Vec<_> = (0..busy)
            .map(|n| world.request(client, sessions[n * step], b"ping"))
            .collect();
        world.run(SECOND / 10, echo);
        for promise in promises {
            let outcome = world.outcome(client, promise);
            assert_eq!(outcome.as_deref(), Some("Replied ping"));
        }
        for (node, before) in [server, client].into_iter().zip(before) {
            let after = metrics(&mut world, node);
            let visits = after.links_visited - before.links_visited;
            assert!(
                visits >= busy as u64
                    && visits <= busy as u64 * VISITS_OF_A_REQUEST + VISITS_OF_OTHERS,
                "{visits} visits for {busy} requests among {SESSIONS} sessions"
            );
        }
    }
    // What was put off of the last answers' receipts.
    world.run(21 * SECOND, echo);
    // Idle, the node is called for nobody but those that beat: a step for each deadline, and
    // a visit or some for each step.
    let before = metrics(&mut world, server);
    world.run(30 * SECOND, echo);
    let after = metrics(&mut world, server);
    let beats = (after.frames_in - before.frames_in).max(1);
    let visits = after.links_visited - before.links_visited;
    assert!(
        (800..1_200).contains(&beats),
        "{beats} beats in 30 s of 300"
    );
    assert!(visits <= beats * 5, "{visits} visits for {beats} beats");
}
