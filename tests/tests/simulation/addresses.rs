//! A server of several addresses, of which some do not answer, or not in time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::trace::replay;
use trunkline_core::{
    ADDRESSES_MAX, Admission, ClientId, CloseCode, CommandError, Dial, DisconnectReason, DrainPlan,
    Event, Refusal, SessionKey,
};
use trunkline_testkit::{NodeIndex, Recording, World, echo};

use crate::SECOND;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Addresses at which nobody is.
fn nowhere(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 4433).into()
}

/// A client's session with a server of these addresses.
fn dial(world: &mut World, client: NodeIndex, addresses: &[SocketAddr]) -> SessionKey {
    dial_as(world, client, "localhost", addresses)
}

/// The same with a server that is to have this name.
fn dial_as(
    world: &mut World,
    client: NodeIndex,
    server_name: &str,
    addresses: &[SocketAddr],
) -> SessionKey {
    let now = world.now();
    let dial = Dial {
        address: addresses[0],
        server_name: server_name.to_owned(),
        client: ClientId::new("anna").unwrap(),
        credentials: Bytes::new(),
        agent: "test".to_owned(),
    };
    let node = world.node(client);
    let session = node.connect(now, dial).unwrap();
    for other in &addresses[1..] {
        node.add_address(now, session, *other).unwrap();
    }
    session
}

/// When a node was connected first, and how often.
fn connected(world: &World, client: NodeIndex) -> (Duration, usize) {
    let start = world.now() - world.elapsed();
    let log = world.log(client).iter();
    let up = log.filter(|(_, event)| matches!(event, Event::Connected { .. }));
    let times: Vec<_> = up.map(|(at, _)| *at - start).collect();
    (times[0], times.len())
}

fn redials(world: &World, client: NodeIndex) -> usize {
    world.count(client, |event| matches!(event, Event::Reconnecting { .. }))
}

#[test]
fn a_dead_address_costs_a_quarter_of_a_second() {
    for recording in [Recording::Wire, Recording::Link] {
        let mut world = World::new(1);
        world.record_at(recording);
        let [server, client] = [world.server(), world.client()];
        let alive = world.address(server);
        dial(&mut world, client, &[nowhere(1), nowhere(2), alive]);
        world.run(20 * SECOND, echo);
        let (after, times) = connected(&world, client);
        assert!(500 * MILLISECOND < after, "{after:?}");
        assert!(after < 600 * MILLISECOND, "{after:?}");
        assert_eq!((times, redials(&world, client)), (1, 0));
        let vain = world.traffic().unreachable;
        world.run(20 * SECOND, echo);
        assert_eq!(world.traffic().unreachable, vain, "no dial is left over");
        for trace in world.traces(client) {
            let report = replay(&*trace, Instant::now()).unwrap();
            assert!(report.is_identical(), "{report}");
        }
    }
}

#[test]
fn a_slow_address_may_still_answer_when_the_next_is_dead() {
    let (mut world, server, client) = World::pair(2);
    for (from, to) in [(server, client), (client, server)] {
        world.direction(from, to).delay = 200 * MILLISECOND;
    }
    let alive = world.address(server);
    dial(&mut world, client, &[alive, nowhere(1), nowhere(2)]);
    world.run(20 * SECOND, echo);
    let (after, times) = connected(&world, client);
    assert_eq!((after, times), (800 * MILLISECOND, 1), "two round trips");
    assert_eq!(redials(&world, client), 0);
}

/// It is the server that has spoken, not an address.
#[test]
fn who_is_turned_away_does_not_ask_at_the_next_address() {
    for retry_after in [None, Some(7 * SECOND)] {
        let mut world = World::new(4);
        world.admission = Admission::Ask;
        let [server, client] = [world.server(), world.client()];
        let alive = world.address(server);
        let session = dial(&mut world, client, &[alive, nowhere(1), nowhere(2)]);
        let mut asked = Vec::new();
        world.run(20 * SECOND, |node, now, event| {
            if let Event::Admission(request) = event {
                asked.push(now);
                let refusal = Refusal {
                    reason: "not on the list".into(),
                    retry_after,
                };
                node.refuse(now, request.link, refusal).unwrap();
            }
        });
        let reason = DisconnectReason::Peer {
            code: CloseCode::REFUSED,
            reason: "not on the list".into(),
            retry_after,
        };
        let told = |event: &Event| matches!(event, Event::Disconnected { reason: told, .. } if *told == reason);
        assert_eq!(world.count(client, told), asked.len());
        let gaps = asked.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(
            gaps.clone().all(|gap| gap >= 7 * SECOND),
            "{:?}",
            gaps.collect::<Vec<_>>()
        );
        let is_kept = world.node(client).session_info(session).is_some();
        assert_eq!(
            (is_kept, asked.len() > 1),
            (retry_after.is_some(), retry_after.is_some())
        );
    }
}

#[test]
fn who_hears_that_a_server_goes_away_does_not_ask_at_its_next_address() {
    let mut world = World::new(5);
    world.admission = Admission::Ask;
    let [server, client] = [world.server(), world.client()];
    let alive = world.address(server);
    dial(&mut world, client, &[alive, nowhere(1), nowhere(2)]);
    world.run(SECOND, |_, _, _| {});
    let now = world.now();
    let plan = DrainPlan {
        deadline: SECOND,
        retry_after: Some(7 * SECOND),
        alternative: None,
    };
    world.node(server).drain(now, plan).unwrap();
    let vain = world.traffic().unreachable;
    world.run(SECOND, |_, _, _| {});
    let away = |event: &Event| match event {
        Event::Disconnected {
            reason: DisconnectReason::Peer { code, .. },
            ..
        } => *code == CloseCode::GOING_AWAY,
        _ => false,
    };
    assert_eq!(world.count(client, away), 1, "{:?}", world.log(client));
    let waits =
        |event: &Event| matches!(event, Event::Reconnecting { delay, .. } if *delay >= 7 * SECOND);
    assert_eq!(world.count(client, waits), 1, "{:?}", world.log(client));
    assert_eq!(world.traffic().unreachable, vain);
}

#[test]
fn of_two_that_answer_one_has_the_session_and_the_other_no_hello() {
    let mut world = World::new(3);
    let [slow, fast] = [(); 2].map(|()| world.server());
    let client = world.client();
    for (from, to) in [(slow, client), (client, slow)] {
        world.direction(from, to).delay = 150 * MILLISECOND;
    }
    let addresses = [world.address(slow), world.address(fast)];
    let session = dial(&mut world, client, &addresses);
    world.run(20 * SECOND, echo);
    let promise = world.request(client, session, b"ping");
    world.run(SECOND, echo);
    assert_eq!(
        world.outcome(client, promise).as_deref(),
        Some("Replied ping")
    );
    let (after, times) = connected(&world, client);
    assert!(after < 260 * MILLISECOND, "{after:?}");
    assert_eq!(times, 1);
    let sessions = [slow, fast].map(|server| world.node(server).sessions().count());
    assert_eq!(sessions, [0, 1]);
    let before = world.sent(client, slow);
    world.run(60 * SECOND, echo);
    assert_eq!(world.sent(client, slow), before, "that dial was given up");
}

#[test]
fn where_no_address_answers_all_are_dialled_again_after_the_delay() {
    let (mut world, server, client) = World::pair(4);
    let alive = world.address(server);
    let cut = |world: &mut World, cut| {
        world.direction(client, server).cut = cut;
    };
    cut(&mut world, true);
    dial(&mut world, client, &[nowhere(1), alive]);
    world.run(11 * SECOND, echo);
    assert_eq!(redials(&world, client), 1, "one for all addresses");
    cut(&mut world, false);
    world.run(20 * SECOND, echo);
    assert_eq!(
        (connected(&world, client).1, redials(&world, client)),
        (1, 1)
    );
}

#[test]
fn a_session_that_is_closed_while_it_dials_leaves_nothing_behind() {
    let (mut world, _, client) = World::pair(5);
    let session = dial(&mut world, client, &[nowhere(1), nowhere(2), nowhere(3)]);
    world.run(400 * MILLISECOND, echo);
    let now = world.now();
    let node = world.node(client);
    node.close(now, session, CloseCode::NORMAL, "enough")
        .unwrap();
    world.run(60 * SECOND, echo);
    assert_eq!(
        world.count(client, |event| matches!(event, Event::Closed { .. })),
        1
    );
    let vain = world.traffic().unreachable;
    assert!(vain >= 2);
    world.run(20 * SECOND, echo);
    assert_eq!(world.traffic().unreachable, vain, "no dial is left over");
}

#[test]
fn a_session_has_at_most_eight_addresses() {
    let (mut world, _, client) = World::pair(6);
    let most: Vec<_> = (1..=ADDRESSES_MAX as u8).map(nowhere).collect();
    let session = dial(&mut world, client, &most);
    let now = world.now();
    let node = world.node(client);
    let refused = node.add_address(now, session, nowhere(100));
    assert_eq!(refused, Err(CommandError::TooManyAddresses));
    node.add_address(now, session, most[3]).unwrap();
    let unusable = node.add_address(now, session, ([0, 0, 0, 0], 1).into());
    assert!(matches!(unusable, Err(CommandError::UndialableAddress(_))));
}

#[test]
fn a_session_that_is_redirected_while_it_dials_goes_there_next() {
    let mut world = World::new(7);
    let [first, second] = [(); 2].map(|()| world.server());
    let client = world.client();
    let [one, other] = [first, second].map(|server| world.address(server));
    let session = dial(&mut world, client, &[one]);
    let now = world.now();
    world.node(client).redirect(now, session, other).unwrap();
    world.run(SECOND, echo);
    assert_eq!(world.node(first).sessions().count(), 1, "this dial goes on");
    world.kill(first);
    world.run(100 * SECOND, echo);
    assert_eq!(world.node(second).sessions().count(), 1);
}

/// Of two addresses of a name the second answers, which is forgotten while it does, and found again or not. Then its
/// server is started anew, and the first answers too.
#[test]
fn an_address_that_is_forgotten_while_it_is_dialled_is_not_dialled_again() {
    for (found_again, recording) in [
        (false, Recording::Wire),
        (false, Recording::Link),
        (true, Recording::Wire),
    ] {
        let mut world = World::new(10);
        world.record_at(recording);
        world.path.delay = 100 * MILLISECOND;
        let [first, second] = [(); 2].map(|()| world.server());
        let client = world.client();
        world.direction(client, first).cut = true;
        let [one, other] = [first, second].map(|server| world.address(server));
        let session = dial(&mut world, client, &[one, other]);
        world.run(300 * MILLISECOND, echo);
        let now = world.now();
        let node = world.node(client);
        node.forget_addresses(now, session).unwrap();
        if found_again {
            node.add_address(now, session, other).unwrap();
        }
        world.run(SECOND, echo);
        assert_eq!(
            world.node(second).sessions().count(),
            1,
            "this dial goes on"
        );
        world.direction(client, first).cut = false;
        world.kill(second);
        world.start_process(second);
        world.run(100 * SECOND, echo);
        let sessions = [first, second].map(|server| world.node(server).sessions().count());
        let expected = if found_again { [0, 1] } else { [1, 0] };
        assert_eq!(sessions, expected, "{recording:?}");
        for trace in world.traces(client) {
            let report = replay(&*trace, Instant::now()).unwrap();
            assert!(report.is_identical(), "{report}");
        }
    }
}

#[test]
fn a_server_of_another_name_is_told_of_though_another_address_is_dead() {
    for dead_first in [true, false] {
        let (mut world, server, client) = World::pair(8);
        let mut addresses = [world.address(server), nowhere(1)];
        if dead_first {
            addresses.reverse();
        }
        dial_as(&mut world, client, "elsewhere", &addresses);
        world.run(100 * SECOND, echo);
        let told = world.count(client, |event| {
            let Event::Closed { reason, .. } = event else {
                return false;
            };
            matches!(reason, DisconnectReason::Certificate(_))
        });
        assert_eq!((told, redials(&world, client)), (1, 2));
    }
}
