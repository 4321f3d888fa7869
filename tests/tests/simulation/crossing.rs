//! What crosses a Close on its way: it keeps no session that both sides have ended.

use std::time::Duration;

use trunkline_core::{CloseCode, DeliveryKey, DisconnectReason, Event, SessionKey};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::Envelope;
use trunkline_testkit::raw_peer::{RawSettings, hello};
use trunkline_testkit::{NodeIndex, World, silent};

use crate::SECOND;

const DELAY: Duration = Duration::from_millis(50);

/// A server and a client far enough from each other for two words to cross, and their session as either names it.
struct Pair {
    world: World,
    server: NodeIndex,
    client: NodeIndex,
    served: SessionKey,
    dialled: SessionKey,
}

fn pair(seed: u64) -> Pair {
    let (mut world, server, client) = World::pair(seed);
    world.path.delay = DELAY;
    let dialled = world.connect(client, server, "alice");
    world.run(SECOND, silent);
    let served = world.node(server).sessions().next().unwrap().session;
    Pair {
        world,
        server,
        client,
        served,
        dialled,
    }
}

impl Pair {
    /// The server closes the session.
    fn server_closes(&mut self, code: CloseCode) {
        let now = self.world.now();
        let node = self.world.node(self.server);
        node.close(now, self.served, code, "").unwrap();
    }

    /// The client does.
    fn client_closes(&mut self, code: CloseCode) {
        let now = self.world.now();
        let node = self.world.node(self.client);
        node.close(now, self.dialled, code, "").unwrap();
    }
}

fn local(code: CloseCode) -> DisconnectReason {
    DisconnectReason::Local {
        code,
        reason: String::new(),
    }
}

/// A node has no session any more, and did not say that one was kept.
fn has_ended(world: &mut World, node: NodeIndex, session: SessionKey, reason: DisconnectReason) {
    let log = format!("{:#?}", world.log(node));
    assert_eq!(world.node(node).sessions().count(), 0, "{log}");
    let kept = |event: &Event| {
        let kept = matches!(event, Event::Disconnected { retained: true, .. });
        kept || matches!(event, Event::SessionLost { .. })
    };
    assert_eq!(world.count(node, kept), 0, "{log}");
    let closed = Event::Closed { session, reason };
    assert_eq!(world.count(node, |event| *event == closed), 1, "{log}");
}

#[test]
fn a_message_that_crosses_a_servers_close_does_not_keep_the_session() {
    for acked in [false, true] {
        let mut pair = pair(21);
        let (server, client) = (pair.server, pair.client);
        let code = CloseCode(1_001);
        pair.server_closes(code);
        pair.world.send(client, pair.dialled, "late").unwrap();
        pair.world.run(SECOND / 2, silent);
        assert_eq!(pair.world.bodies(server), ["late"]);
        if acked {
            let (now, delivery) = (pair.world.now(), unanswered(&pair));
            let node = pair.world.node(server);
            node.ack(now, delivery).unwrap();
            // Its sender counts on it: it is dealt with before the session ends, and no longer.
            assert_eq!(node.sessions().count(), 0);
        }
        pair.world.run(5 * SECOND, silent);
        has_ended(&mut pair.world, server, pair.served, local(code));
        assert_eq!(pair.world.node(client).sessions().count(), 0);
        let back = |event: &Event| matches!(event, Event::Undelivered { .. });
        assert_eq!(pair.world.count(client, back), 0, "the server holds it");
    }
}

fn unanswered(pair: &Pair) -> DeliveryKey {
    let log = pair.world.log(pair.server).iter();
    let mut deliveries = log.filter_map(|(_, event)| match event {
        Event::Message(delivery) => Some(delivery.key),
        _ => None,
    });
    deliveries.next().unwrap()
}

/// Its code says that a client may ask for its session again; but that one is over.
#[test]
fn a_message_that_crosses_a_clients_close_does_not_bring_it_back() {
    let mut pair = pair(22);
    let (server, client) = (pair.server, pair.client);
    let code = CloseCode::INTERNAL;
    pair.client_closes(code);
    pair.world.send(server, pair.served, "late").unwrap();
    pair.world.run(10 * SECOND, silent);
    assert_eq!(pair.world.bodies(client), ["late"]);
    has_ended(&mut pair.world, client, pair.dialled, local(code));
    assert_eq!(pair.world.node(server).sessions().count(), 0);
    let now = pair.world.now();
    let metrics = pair.world.node(server).metrics(now);
    assert_eq!(metrics.sessions_opened, 1);
}

/// Both have said Close, and the client's names a code that resumes: nobody comes back all the same.
#[test]
fn a_message_that_crosses_both_sides_close_does_not_bring_the_client_back() {
    let mut pair = pair(23);
    let (server, client) = (pair.server, pair.client);
    let code = CloseCode::INTERNAL;
    pair.client_closes(code);
    pair.world.send(server, pair.served, "late").unwrap();
    pair.server_closes(code);
    pair.world.run(10 * SECOND, silent);
    has_ended(&mut pair.world, client, pair.dialled, local(code));
    assert_eq!(pair.world.node(server).sessions().count(), 0);
}

/// What its answer was to say, its sender is told that nobody will.
#[test]
fn a_request_that_crosses_a_close_is_lost_with_a_word() {
    let mut pair = pair(24);
    let (server, client) = (pair.server, pair.client);
    let code = CloseCode(1_001);
    pair.server_closes(code);
    let asked = pair.world.request(client, pair.dialled, b"late");
    pair.world.run(10 * SECOND, silent);
    assert_eq!(pair.world.bodies(server), ["late"]);
    has_ended(&mut pair.world, server, pair.served, local(code));
    let outcome = pair.world.outcome(client, asked);
    let lost = "Lost { maybe_delivered: true }";
    assert_eq!(outcome.as_deref(), Some(lost));
}

/// A client of another make that ends its streams and not the connection, once it has read Close.
#[test]
fn a_client_that_ends_its_streams_after_a_close_does_not_keep_the_session() {
    let (mut world, server, _) = World::pair(26);
    world.path.delay = DELAY;
    let peer = world.raw_client(server, &RawSettings::default());
    world.run(SECOND, silent);
    let link = world.raw(peer).link();
    link.hello(&hello("raw", 9));
    world.run(SECOND, silent);
    let served = world.node(server).sessions().next().unwrap().session;
    let code = CloseCode(1_001);
    let now = world.now();
    world.node(server).close(now, served, code, "").unwrap();
    let link = world.raw(peer).link();
    let lane = link.open_lane(0, 0);
    link.send_envelope(lane, &Envelope::default());
    world.run(SECOND / 2, silent);
    let link = world.raw(peer).link();
    let said = |frame: &Frame| matches!(frame, Frame::Close(_));
    assert!(link.control().iter().any(said));
    link.finish(lane);
    // In which what crossed the Close is not dealt with.
    world.run(6 * SECOND, silent);
    has_ended(&mut world, server, served, local(code));
}

/// The client has not read Close, and ends the link for a reason of its own: the session waits for it.
#[test]
fn a_client_that_has_not_read_the_close_finds_its_session_again() {
    let (mut world, server, _) = World::pair(27);
    world.path.delay = DELAY;
    let peer = world.raw_client(server, &RawSettings::default());
    world.run(SECOND, silent);
    world.raw(peer).link().hello(&hello("raw", 9));
    world.run(SECOND, silent);
    let served = world.node(server).sessions().next().unwrap().session;
    let now = world.now();
    let code = CloseCode(1_001);
    world.node(server).close(now, served, code, "").unwrap();
    let link = world.raw(peer).link();
    let lane = link.open_lane(0, 0);
    link.send_envelope(lane, &Envelope::default());
    world.run(DELAY / 2, silent);
    let code = u64::from(CloseCode::SLOW_CONSUMER.0);
    world.raw(peer).link().close(now, code, b"");
    world.run(SECOND, silent);
    let kept = |event: &Event| matches!(event, Event::Disconnected { retained: true, .. });
    assert_eq!(world.count(server, kept), 1);
    assert_eq!(world.node(server).sessions().count(), 1);
}
