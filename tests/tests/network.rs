//! The simulated network itself: it is the same run for the same seed, it does what its paths are
//! told, and a conversation survives all of it.

#![allow(clippy::unwrap_used, reason = "tests end by panicking")]

use std::cell::Cell;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use trunkline_core::{Event, SessionKey};
use trunkline_testkit::{NodeIndex, Path, Traffic, World, echo};

const SECOND: Duration = Duration::from_secs(1);

/// Everything that a path can do at once.
fn bad() -> Path {
    Path {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(10),
        loss: 0.05,
        burst: Some(3.0),
        duplicate: 0.05,
        reorder: 0.1,
        corrupt: 0.05,
        rate: Some(5_000_000),
        queue: Some(8_000),
        mtu: Some(1_400),
        cut: false,
    }
}

fn connected(seed: u64) -> (World, NodeIndex, NodeIndex, SessionKey) {
    let mut world = World::new(seed);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(SECOND, echo);
    (world, server, client, session)
}

/// The numbers that the messages begin with which a node's application was handed, in order.
fn numbers(world: &World, node: NodeIndex) -> Vec<u32> {
    let bodies = world.bodies(node);
    let number = |body: &bytes::Bytes| u32::from_be_bytes(body[..4].try_into().unwrap());
    bodies.iter().map(number).collect()
}

/// Sends numbered messages of `size` bytes both ways for a while, with `each` before each of them;
/// then lets all of it arrive, and looks.
fn converse(
    (mut world, server, client, session): (World, NodeIndex, NodeIndex, SessionKey),
    size: usize,
    mut each: impl FnMut(&mut World, u32),
) -> World {
    let on_server = world.node(server).sessions().next().unwrap().session;
    let mut promises = Vec::new();
    for n in 0..300_u32 {
        each(&mut world, n);
        let mut body = n.to_be_bytes().to_vec();
        body.resize(size, 0);
        promises.push((client, world.send_acked(client, session, &body)));
        promises.push((server, world.send_acked(server, on_server, &body)));
        world.run(SECOND / 10, echo);
    }
    world.run(120 * SECOND, echo);
    for (node, promise) in promises {
        assert_eq!(world.outcome(node, promise).as_deref(), Some("Acked"));
    }
    for node in [server, client] {
        assert_eq!(numbers(&world, node), (0..300).collect::<Vec<_>>());
    }
    let lost = |event: &Event| matches!(event, Event::SessionLost { .. });
    assert!(!world.log(client).iter().any(|(_, event)| lost(event)));
    world
}

/// One run in which everything happens that can.
fn eventful(seed: u64) -> (u64, Traffic) {
    let mut world = World::new(seed);
    world.path = bad();
    let server = world.server();
    let clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    let sessions: Vec<_> = clients
        .iter()
        .map(|client| world.connect(*client, server, "alice"))
        .collect();
    for n in 0..100_u32 {
        for (client, session) in clients.iter().zip(&sessions) {
            // Every tenth message is more than a bottleneck's queue holds.
            let size = if n % 10 == 0 { 50_000 } else { 10 };
            world.send_acked(*client, *session, &vec![0; size]);
        }
        match n {
            20 => world.rebind(clients[0]),
            40 => world.direction(server, clients[1]).cut = true,
            60 => world.pause(clients[2]),
            80 => world.wake(clients[2]),
            _ => {}
        }
        world.run(SECOND / 5, echo);
    }
    (world.fingerprint(), world.traffic())
}

#[test]
fn the_same_seed_gives_the_same_run_whatever_the_path_does() {
    let (first, traffic) = eventful(1);
    for (what, count) in [
        ("lost", traffic.lost),
        ("cut", traffic.cut),
        ("queue_full", traffic.queue_full),
        ("too_large", traffic.too_large),
        ("reordered", traffic.reordered),
        ("duplicated", traffic.duplicated),
        ("corrupted", traffic.corrupted),
    ] {
        assert!(count > 0, "{what} never happened: {traffic:?}");
    }
    assert_eq!(eventful(1), (first, traffic));
    assert_ne!(eventful(2).0, first);
}

#[test]
fn the_same_seed_gives_the_same_run_in_another_process() {
    const ASKED: &str = "TRUNKLINE_PRINT_FINGERPRINT";
    let own = format!("fingerprint {:016x}", eventful(3).0);
    if std::env::var_os(ASKED).is_some() {
        println!("{own}");
        return;
    }
    let other = Command::new(std::env::current_exe().unwrap())
        .env(ASKED, "1")
        .args(["--exact", "--nocapture"])
        .arg("the_same_seed_gives_the_same_run_in_another_process")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(said.contains(&own), "{own} here, and there:\n{said}");
}

#[test]
fn a_client_that_moves_every_second_loses_nothing() {
    let mut conversation = connected(2);
    let (world, _, client, _) = &mut conversation;
    world.path = Path {
        corrupt: 0.0,
        mtu: None,
        rate: None,
        ..bad()
    };
    let client = *client;
    let mut world = converse(conversation, 4, |world, n| {
        if n % 10 == 5 {
            world.rebind(client);
        }
    });
    assert!(world.traffic().unreachable > 0, "it never moved");
    let now = world.now();
    let metrics = world.node(client).metrics(now);
    assert_eq!(
        metrics.redials, 0,
        "the link has moved with it: no redial was needed"
    );
}

#[test]
fn a_tenth_of_all_datagrams_damaged_and_more_reordered_costs_nothing() {
    let mut conversation = connected(3);
    conversation.0.path = Path {
        corrupt: 0.1,
        reorder: 0.2,
        duplicate: 0.1,
        ..Path::default()
    };
    let traffic = converse(conversation, 4, |_, _| {}).traffic();
    assert!(traffic.corrupted > 100 && traffic.reordered > 200 && traffic.duplicated > 100);
}

#[test]
fn everything_at_once_costs_nothing() {
    let mut conversation = connected(4);
    let client = conversation.2;
    conversation.0.path = bad();
    converse(conversation, 4, |world, n| {
        if n % 30 == 5 {
            world.rebind(client);
        }
    });
}

#[test]
fn a_path_that_carries_smaller_datagrams_than_before_is_noticed() {
    let world = converse(connected(5), 20_000, |world, n| {
        if n == 100 {
            // Discovery has found that the path carries more by now, and it does no longer.
            world.path.mtu = Some(1_252);
        }
    });
    assert!(world.traffic().too_large > 0, "nothing was too large");
}

#[test]
fn packets_are_as_large_as_both_ends_and_the_path_between_them_take() {
    for (servers, clients, path, expected) in [
        (8_952, 8_952, None, 8_850..=8_952),
        (8_952, 8_952, Some(9_000), 8_850..=8_952),
        (8_952, 8_952, Some(1_452), 1_380..=1_452),
        (8_952, 8_952, Some(1_252), 1_200..=1_252),
        (1_452, 8_952, None, 1_400..=1_472),
        (8_952, 1_452, None, 1_380..=1_452),
    ] {
        let mut world = World::new(7);
        world.path.delay = Duration::from_millis(5);
        world.path.mtu = path;
        world.config().transport.max_mtu = servers;
        let server = world.server();
        world.config().transport.max_mtu = clients;
        let client = world.client();
        let session = world.connect(client, server, "alice");
        let largest = Rc::new(Cell::new(0));
        let seen = largest.clone();
        world.observe(move |observed| {
            if observed.from == client {
                seen.set(seen.get().max(observed.payload.len()));
            }
        });
        for _ in 0..100 {
            let promise = world.send_acked(client, session, &[0; 20_000]);
            world.run(SECOND / 10, echo);
            assert_eq!(world.outcome(client, promise).as_deref(), Some("Acked"));
        }
        // The search is over.
        largest.set(0);
        world.send_acked(client, session, &[0; 20_000]);
        world.run(SECOND, echo);
        let sizes = (servers, clients, path);
        assert!(expected.contains(&largest.get()), "{sizes:?}: {largest:?}");
    }
}

#[test]
fn a_cut_in_one_direction_ends_the_link_and_not_the_session() {
    for server_is_heard in [false, true] {
        let conversation = connected(6);
        let (_, server, client, _) = conversation;
        let (from, to) = if server_is_heard {
            (client, server)
        } else {
            (server, client)
        };
        let mut world = converse(conversation, 4, |world, n| match n {
            50 => world.direction(from, to).cut = true,
            290 => world.direction(from, to).cut = false,
            100 => world.run(60 * SECOND, echo),
            _ => {}
        });
        let now = world.now();
        assert!(world.node(client).metrics(now).sessions_resumed > 0);
    }
}

/// The server has something in flight to the client's old address, and its timer for that is due
/// when it learns of the new one: both in the same turn, after a pause.
#[test]
fn a_client_that_moves_while_its_server_is_paused_is_followed() {
    let (mut world, server, client, session) = connected(7);
    let on_server = world.node(server).sessions().next().unwrap().session;
    let told = world.send_acked(server, on_server, b"told");
    world.run(Duration::ZERO, echo);
    world.pause(server);
    world.rebind(client);
    let asked = world.request(client, session, b"asked");
    world.run(2 * SECOND, echo);
    world.wake(server);
    world.run(5 * SECOND, echo);
    assert_eq!(world.outcome(server, told).as_deref(), Some("Acked"));
    assert_eq!(
        world.outcome(client, asked).as_deref(),
        Some("Replied asked")
    );
}

/// The server hears once from a new address, which then does not answer: it goes back to the one
/// before, and follows the client when that is heard again.
#[test]
fn a_new_address_that_does_not_answer_is_given_up() {
    let (mut world, server, client, session) = connected(8);
    world.rebind(client);
    // So much that the server may send more than its challenge before the address is confirmed.
    let body = [b'x'; 3_000];
    let asked = world.request(client, session, &body);
    world.run(Duration::ZERO, echo);
    world.pause(client);
    world.run(20 * SECOND, echo);
    assert_eq!(world.bodies(server), [body.as_slice()]);
    world.wake(client);
    world.run(20 * SECOND, echo);
    let replied = format!("Replied {}", String::from_utf8_lossy(&body));
    assert_eq!(world.outcome(client, asked), Some(replied));
}

/// Neither side's socket takes more than one datagram after the other, and then the server's none for a
/// while.
#[test]
fn what_a_full_send_buffer_holds_back_goes_once_there_is_room() {
    let (mut world, server, client, session) = connected(4);
    for node in [server, client] {
        world.fill_send_buffer(node, Some(1));
    }
    let world = converse(
        (world, server, client, session),
        20_000,
        |world, n| match n {
            100 => world.fill_send_buffer(server, Some(0)),
            200 => world.fill_send_buffer(server, None),
            _ => {}
        },
    );
    assert!(world.traffic().withheld > 100, "{:?}", world.traffic());
    assert_eq!(world.traffic().lost, 0);
}

/// The server has finished the handshake and its client does not know: what that says again of it
/// goes into one datagram with something new, and comes from another address.
#[test]
fn a_clogged_path_gives_everything_at_once_and_an_unclogged_one_holds_nothing() {
    let (mut world, server, client, session) = connected(10);
    let start = world.now();
    world.clog(client, server, 5 * SECOND);
    for n in 0..3_u32 {
        world.send_acked(client, session, &n.to_be_bytes());
        world.run(SECOND, echo);
    }
    assert!(numbers(&world, server).is_empty(), "all of it is held");
    assert!(world.traffic().held >= 3);
    world.run(5 * SECOND, echo);
    let times = world.log(server).iter();
    let messages = times.filter(|(_, event)| matches!(event, Event::Message(_)));
    let times: Vec<_> = messages.map(|(at, _)| *at - start).collect();
    assert_eq!(times, [5 * SECOND; 3]);
    // One that would outlast any patience.
    world.clog(client, server, 3_600 * SECOND);
    world.send_acked(client, session, &3_u32.to_be_bytes());
    world.run(SECOND, echo);
    let held = world.traffic().held;
    world.unclog();
    // What was sent before is held still, and is sent again.
    world.run(5 * SECOND, echo);
    assert_eq!(world.traffic().held, held);
    assert_eq!(numbers(&world, server), [0, 1, 2, 3]);
}

#[test]
fn a_client_that_moves_before_it_knows_that_it_is_connected_gets_through() {
    let mut world = World::new(9);
    world.path.delay = Duration::from_millis(10);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let first = world.request(client, session, b"first");
    world.run(Duration::from_millis(25), echo);
    world.direction(server, client).cut = true;
    world.pause(client);
    world.rebind(client);
    world.run(SECOND / 2, echo);
    let second = world.request(client, session, &[b'x'; 500]);
    // That one datagram arrives and no other, and the server can send nothing on its account.
    world.direction(client, server).rate = Some(1_000_000);
    world.direction(client, server).queue = Some(1);
    world.wake(client);
    world.run(SECOND / 50, echo);
    world.pause(client);
    world.run(5 * SECOND, echo);
    *world.direction(client, server) = Path::default();
    *world.direction(server, client) = Path::default();
    world.wake(client);
    world.run(30 * SECOND, echo);
    for asked in [first, second] {
        assert!(
            world
                .outcome(client, asked)
                .is_some_and(|o| o.starts_with("Replied"))
        );
    }
}
