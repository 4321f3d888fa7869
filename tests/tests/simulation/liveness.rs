//! When a peer counts as dead: after three silent intervals, not a moment earlier, and not much
//! later.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use trunkline_core::{Audience, DisconnectReason, Event, Message, SessionKey, Tag};
use trunkline_testkit::{NodeIndex, World, echo, silent};

use crate::SECOND;

/// Three intervals of 15 s.
const PATIENCE: Duration = Duration::from_secs(45);
/// QUIC's timers count in these.
const TICK: Duration = Duration::from_millis(1);

fn connected(seed: u64, delay: Duration) -> (World, NodeIndex, NodeIndex, SessionKey) {
    let mut world = World::new(seed);
    world.path.delay = delay;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    (world, server, client, session)
}

/// When a node found its peer dead.
fn found_dead(world: &World, node: NodeIndex) -> Vec<Instant> {
    let dead = |(at, event): &(Instant, Event)| {
        matches!(event, Event::HeartbeatTimeout { .. }).then_some(*at)
    };
    world.log(node).iter().filter_map(dead).collect()
}

/// One side speaks and dies; the other finds it dead after its patience, counted from that frame.
#[test]
fn a_dead_peer_is_found_after_three_silent_intervals_by_either_side() {
    let delay = SECOND / 10;
    for seed in 0..20 {
        for server_dies in [false, true] {
            let (mut world, server, client, session) = connected(seed, delay);
            // At another phase of the heartbeats each time.
            world.run(20 * SECOND + SECOND * seed as u32 * 3 / 4, echo);
            let on_server = world.node(server).sessions().next().unwrap().session;
            let (dies, finds, to) = if server_dies {
                (server, client, on_server)
            } else {
                (client, server, session)
            };
            let now = world.now();
            let last = Message::new(Tag::of("test.Said"), "my last words");
            world.node(dies).send(now, to, last).unwrap();
            world.run(Duration::ZERO, echo);
            world.kill(dies);
            let said = world.now();
            world.run(100 * SECOND, silent);
            assert_eq!(world.bodies(finds), ["my last words"]);
            let found = found_dead(&world, finds);
            assert_eq!(found.len(), 1, "it dies once");
            let silence = found[0] - said;
            assert!(
                silence >= PATIENCE + delay && silence <= PATIENCE + 2 * delay + TICK,
                "seed {seed}: found dead {silence:?} after its last frame was sent"
            );
        }
    }
}

/// Whoever stands on the path sends a dead server's datagrams again, as they were and changed.
#[test]
fn only_the_server_itself_can_answer_for_its_life() {
    let (mut world, server, client, _) = connected(5, SECOND / 100);
    let last = Rc::new(RefCell::new((world.now(), Vec::new())));
    let seen = last.clone();
    world.observe(move |observed| {
        if observed.from == server {
            *seen.borrow_mut() = (observed.at, observed.payload.to_vec());
        }
    });
    world.run(40 * SECOND, silent);
    let address = world.address(server);
    world.kill(server);
    let (said, copy) = last.borrow().clone();
    let mut changed = copy.clone();
    *changed.last_mut().unwrap() ^= 1;
    for _ in 0..500 {
        world.inject(address, client, &copy);
        world.inject(address, client, &changed);
        world.run(SECOND / 10, silent);
    }
    let found = found_dead(&world, client);
    let silence = found.first().map(|at| *at - said);
    assert!(
        silence.is_some_and(|it| it >= PATIENCE && it <= PATIENCE + SECOND / 10),
        "{silence:?}"
    );
}

/// A full send buffer keeps nobody from looking at the clock.
#[test]
fn a_dead_peer_is_found_in_time_by_a_node_that_cannot_send() {
    for server_dies in [false, true] {
        let (mut world, server, client, session) = connected(3, SECOND / 100);
        let on_server = world.node(server).sessions().next().unwrap().session;
        let (dies, finds, to) = if server_dies {
            (server, client, on_server)
        } else {
            (client, server, session)
        };
        world.run(SECOND, echo);
        world.fill_send_buffer(finds, Some(0));
        // What comes asks for an acknowledgement, which waits.
        world.send(dies, to, "my last words").unwrap();
        world.run(SECOND / 10, silent);
        assert_eq!(world.bodies(finds), ["my last words"]);
        world.kill(dies);
        let heard = world.now() - SECOND / 10 + SECOND / 100;
        world.run(100 * SECOND, silent);
        let found = found_dead(&world, finds);
        assert_eq!(found.len(), 1, "server dies: {server_dies}");
        let silence = found[0] - heard;
        assert!(
            silence >= PATIENCE && silence <= PATIENCE + TICK,
            "server dies: {server_dies}: found dead after {silence:?}"
        );
    }
}

/// What a process missed while it was paused is read before anybody is judged by it: README's loop
/// and the adapters hand over all that has come, and then the timeout.
#[test]
fn a_process_that_was_paused_reads_before_it_finds_anybody_dead() {
    for phase in 0..15 {
        let (mut world, server, client, _) = connected(phase, SECOND / 100);
        world.run(SECOND * phase as u32, echo);
        let tell = |world: &mut World| {
            let now = world.now();
            let message = Message::new(Tag::of("test.Said"), "still here");
            let told = world
                .node(server)
                .broadcast(now, &Audience::Everyone, message, None);
            assert_eq!(told.unwrap().queued, 1);
        };
        // The client has heard the server until just now. The server has heard no more than the
        // client's last beat, up to 15 s ago: best effort brings no frame back.
        for _ in 0..15 {
            tell(&mut world);
            world.run(SECOND, echo);
        }
        world.pause(server);
        world.run(43 * SECOND, echo);
        world.wake(server);
        tell(&mut world);
        world.run(60 * SECOND, echo);
        for node in [server, client] {
            assert!(found_dead(&world, node).is_empty(), "phase {phase}");
        }
        assert_eq!(world.bodies(client).len(), 16);
    }
}

#[test]
fn a_reply_that_came_during_a_pause_is_a_reply_and_no_timeout() {
    let (mut world, _, client, session) = connected(3, SECOND / 100);
    let now = world.now();
    let question = Message::new(Tag::of("test.Ping"), "ping");
    let promise = world
        .node(client)
        .request(now, session, question, Some(5 * SECOND))
        .unwrap();
    world.run(Duration::ZERO, echo);
    world.pause(client);
    world.run(10 * SECOND, echo);
    world.wake(client);
    world.run(SECOND, echo);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied ping")
    );
}

#[test]
fn an_idle_session_on_a_bad_network_lives_for_an_hour() {
    for (loss, burst) in [(0.02, Some(3.0)), (0.2, None)] {
        let (mut world, server, client, _) = connected(1, SECOND / 20);
        world.path.loss = loss;
        world.path.burst = burst;
        world.path.jitter = SECOND / 10;
        world.run(3_600 * SECOND, silent);
        for node in [server, client] {
            assert!(found_dead(&world, node).is_empty(), "loss {loss}");
        }
        let now = world.now();
        assert_eq!(world.node(client).metrics(now).redials, 0);
    }
}

#[test]
fn a_peer_whose_application_has_stopped_answering_is_not_dead() {
    let (mut world, server, client, session) = connected(2, SECOND / 100);
    let now = world.now();
    for _ in 0..5_000 {
        let message = Message::new(Tag::of("test.Said"), vec![0; 1_000]);
        world.node(client).send(now, session, message).unwrap();
    }
    world.run(600 * SECOND, silent);
    for node in [server, client] {
        assert!(found_dead(&world, node).is_empty());
    }
    let held = world.bodies(server).len();
    assert!(held < 5_000, "{held}: the lane was never held back");
}

/// A dial that was begun just before its process was paused is out of time when it goes on. The
/// world checks that this takes one timeout and no second one at the same instant.
#[test]
fn a_dial_that_a_pause_made_too_late_is_given_up_at_once() {
    let mut world = World::new(4);
    let server = world.server();
    let client = world.client();
    world.connect(client, server, "alice");
    world.pause(client);
    world.run(30 * SECOND, echo);
    world.wake(client);
    world.run(10 * SECOND, echo);
    let log = world.log(client);
    let given_up = |event: &Event| matches!(event, Event::Disconnected { .. });
    let connected = |event: &Event| matches!(event, Event::Connected { .. });
    assert!(given_up(&log[0].1), "{log:?}");
    assert!(connected(&log.last().unwrap().1), "{log:?}");
}

/// QUIC goes by the shorter of both sides' idle timeouts, which follow from their heartbeats.
#[test]
fn who_says_to_beat_more_often_and_is_silent_is_found_dead_sooner() {
    let mut world = World::new(40);
    let server = world.server();
    world.config().heartbeat.interval = 2 * SECOND;
    let client = world.client();
    world.connect(client, server, "alice");
    world.run(SECOND, echo);
    world.kill(client);
    let killed = world.now();
    world.run(PATIENCE, silent);
    let found = found_dead(&world, server);
    assert!(
        matches!(found[..], [at] if at - killed < PATIENCE - SECOND),
        "{found:?}"
    );
    let now = world.now();
    assert_eq!(world.node(server).metrics(now).heartbeat_timeouts, 1);
    let reasons = world.disconnects(server);
    assert_eq!(reasons, [DisconnectReason::HeartbeatTimeout]);
}
