//! What random runs have found, cut down to what it takes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use trunkline_core::{CloseCode, CommandError, Config, Event, Status, StatusCode};
use trunkline_testkit::{World, count_by, echo};

use crate::SECOND;

/// All that a server hears of a dial is its end: it was cut off until its client gave up.
#[test]
fn a_dial_that_is_heard_of_when_it_is_given_up_leaves_nothing_behind() {
    let mut world = World::new(1);
    world.config().timeouts.admission = 3 * SECOND;
    let server = world.server();
    let client = world.client();
    world.path.cut = true;
    world.connect(client, server, "alice");
    // QUIC's probes come after 0.3, 0.9 and 2.1 seconds, and the next would after 4.5.
    world.run(5 * SECOND / 2, echo);
    world.path.cut = false;
    world.run(SECOND, echo);
    world.kill(client);
    world.run(2 * SECOND, echo);
    let now = world.now();
    let metrics = world.node(server).metrics(now);
    assert!(metrics.datagrams_in > 0, "the end came through");
    assert_eq!(metrics.links_opened, metrics.links_closed);
    assert_eq!(world.node(server).poll_timeout(), None);
}

/// One flipped bit had made a server's answer a Version Negotiation, which nothing protects.
#[test]
fn a_version_negotiation_that_anybody_can_make_does_not_end_a_session() {
    let mut world = World::new(2);
    world.path.delay = SECOND / 10;
    let server = world.server();
    let client = world.client();
    let first = Rc::new(RefCell::new(Vec::new()));
    let seen = first.clone();
    world.observe(move |observed| {
        let mut seen = seen.borrow_mut();
        if seen.is_empty() {
            seen.extend_from_slice(observed.payload);
        }
    });
    world.connect(client, server, "alice");
    world.run(SECOND / 20, echo);
    // The answer to the client's Initial (RFC 9000 §17.2.1): its connection ids in reverse, and a
    // version that is not ours.
    let first = first.take();
    let (to, rest) = first[6..].split_at(usize::from(first[5]));
    let from = &rest[1..=usize::from(rest[0])];
    let mut negotiation = vec![0xc0, 0, 0, 0, 0];
    for id in [from, to] {
        negotiation.push(id.len() as u8);
        negotiation.extend_from_slice(id);
    }
    negotiation.extend_from_slice(&[0xff, 0, 0, 29]);
    let address = world.address(server);
    world.inject(address, client, &negotiation);
    world.run(5 * SECOND, echo);
    let log = || world.log(client).iter().map(|(_, event)| event);
    assert!(
        log().any(|event| matches!(event, Event::Disconnected { .. })),
        "the packet was taken for what it says"
    );
    assert!(!log().any(|event| matches!(event, Event::Closed { .. })));
    assert!(matches!(log().last(), Some(Event::Connected { .. })));
}

/// With first datagrams of more than QUIC's first window, nothing was ever sent; and peers take none
/// above what they were configured for.
#[test]
fn first_datagrams_that_no_peer_takes_are_refused_and_the_largest_arrive() {
    let mut config = Config::default();
    for mtu in [1_473, 16_384] {
        config.transport.initial_mtu = mtu;
        let error = config.validate().unwrap_err();
        assert!(error.to_string().contains("transport.initial_mtu"));
    }
    let mut world = World::new(1);
    world.config().transport.initial_mtu = 1_472;
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    let promise = world.request(client, session, b"1");
    world.run(SECOND, echo);
    assert_eq!(world.outcome(client, promise).as_deref(), Some("Replied 1"));
}

/// An interval that no clock can add was no limit at all.
#[test]
fn resets_may_be_an_hour_apart_and_no_more() {
    let mut config = Config::default();
    for interval in [Duration::ZERO, Duration::from_secs(3_600)] {
        config.transport.min_reset_interval = interval;
        config.validate().unwrap();
    }
    for interval in [Duration::from_secs(3_601), Duration::MAX] {
        config.transport.min_reset_interval = interval;
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("transport.min_reset_interval"), "{error}");
    }
}

/// A table keeps its room, and had kept 16 KiB for each of the most links that there ever were.
#[test]
fn a_crowd_that_has_gone_leaves_no_memory_in_use() {
    count_by(|f| allocation_counter::measure(f).bytes_current);
    let mut world = World::new(3);
    let server = world.server();
    let idle = world.held(server).unwrap();
    let clients: Vec<_> = (0..200)
        .map(|number| {
            let client = world.client();
            let session = world.connect(client, server, &format!("client-{number}"));
            (client, session)
        })
        .collect();
    world.run(5 * SECOND, echo);
    let now = world.now();
    assert_eq!(world.node(server).metrics(now).connected, clients.len());
    let busy = world.held(server).unwrap();
    for (client, session) in clients {
        let client = world.node(client);
        client
            .close(now, session, CloseCode::NORMAL, "bye")
            .unwrap();
    }
    world.run(30 * SECOND, echo);
    let left = world.held(server).unwrap() - idle;
    println!(
        "a client costs {} bytes, and leaves {}",
        (busy - idle) / 200,
        left / 200
    );
    assert!(
        busy - idle > 200 * 10_000,
        "{busy} bytes are few for 200 links"
    );
    assert!(left < 200 * 4_000, "{left} bytes are left of 200 clients");
}

/// A delivery is rejected once; what fails is not counted.
#[test]
fn a_rejection_that_is_not_taken_is_not_counted() {
    let mut world = World::new(1);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.send_acked(client, session, b"1");
    let mut came = None;
    world.run(SECOND, |node, now, event| {
        if let Event::Message(delivery) = event {
            let no = || Status::new(StatusCode::UNAVAILABLE, "no");
            node.reject(now, delivery.key, no()).unwrap();
            let again = node.reject(now, delivery.key, no());
            came = Some((again, node.metrics(now).rejects_sent));
        }
    });
    assert_eq!(came, Some((Err(CommandError::UnknownDelivery), 1)));
}
