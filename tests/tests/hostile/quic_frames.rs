//! What an admitted peer can make QUIC itself keep, and a node with it, by frames that are legal one by one.

use std::time::Duration;

use bytes::BytesMut;
use trunkline_core::{CloseCode, Datagram, Event, Input, SessionKey};
use trunkline_testkit::fuzz::{Forged, ack, retire, use_null_crypto};
use trunkline_testkit::{NodeIndex, World, echo};

const MS: Duration = Duration::from_millis(1);
const KIB: i64 = 1 << 10;

/// In which both sides forget a link that was ended.
const CLOSING: Duration = Duration::from_secs(4);

/// The frames' own packet is no more than a path carries, and the rest of it is header.
const PAYLOAD: usize = 1_200;

/// A server, and a client whose packets are forged.
struct Scene {
    world: World,
    server: NodeIndex,
    client: NodeIndex,
    session: SessionKey,
    forged: Forged,
}

impl Scene {
    fn new(seed: u64) -> Self {
        use_null_crypto();
        let mut world = World::new(seed);
        let config = world.config();
        config.transport.mtu_discovery = false;
        // Long silence is none of what is looked at.
        config.heartbeat.interval = Duration::from_secs(300);
        let server = world.server();
        let client = world.client();
        let forged = Forged::of(&mut world, client);
        let session = world.connect(client, server, "alice");
        world.run(100 * MS, echo);
        world.request(client, session, b"a request");
        world.run(100 * MS, echo);
        Self {
            world,
            server,
            client,
            session,
            forged,
        }
    }

    fn run(&mut self, time: Duration) {
        self.world.run(time, echo);
    }

    /// The frames come to the server in a packet of the client's.
    fn comes(&mut self, frames: &[u8]) {
        let datagram = self.forged.datagram(frames);
        let from = self.world.address(self.client);
        self.world.inject(from, self.server, &datagram);
    }

    /// As many datagrams of these frames as a driver hands over in a turn, before any link is looked at.
    fn burst(&mut self, frames: &[u8]) {
        let (now, from) = (self.world.now(), self.world.address(self.client));
        for _ in 0..1_024 {
            let datagram = self.forged.datagram(frames);
            let datagram = Datagram::new(from, BytesMut::from(&datagram[..]));
            let node = self.world.node(self.server);
            node.handle_input(now, Input::Datagram(datagram));
        }
    }

    fn closed(&mut self, code: CloseCode) -> bool {
        let now = self.world.now();
        let metrics = self.world.node(self.server).metrics(now);
        metrics.closed_by_code.contains_key(&code)
    }

    /// How many links the server has had.
    fn links(&mut self) -> u64 {
        let now = self.world.now();
        self.world.node(self.server).metrics(now).links_opened
    }

    fn is_up(&self) -> bool {
        let ended = |event: &Event| matches!(event, Event::Disconnected { .. });
        self.world.count(self.server, ended) == 0
    }

    /// Why the server has ended the link.
    #[track_caller]
    fn end(&mut self) -> String {
        let reasons = self.world.disconnects(self.server);
        assert!(self.closed(CloseCode::FLOODED), "{reasons:?}");
        format!("{reasons:?}")
    }

    /// Does something, and says how much more memory is in use after it.
    fn grown(&mut self, attack: impl FnOnce(&mut Self)) -> i64 {
        allocation_counter::measure(|| attack(self)).bytes_current
    }
}

/// As many ids at a time as the server gives, by the numbers that they would have; and nothing is acknowledged.
#[test]
fn ids_that_were_never_sent_are_not_retired_for_long() {
    let mut scene = Scene::new(1);
    scene.world.kill(scene.client);
    let grown = scene.grown(|scene| {
        let given = scene.forged.ids() - 1;
        let mut next = 1;
        for _ in 0..10_000 {
            if !scene.is_up() {
                break;
            }
            let frames: Vec<u8> = (next..next + given).flat_map(retire).collect();
            next += given;
            scene.comes(&frames);
            scene.run(10 * MS);
        }
        scene.run(CLOSING);
    });
    assert!(grown < 64 * KIB, "{grown} bytes");
    let end = scene.end();
    assert!(end.contains("never sent"), "{end}");
}

/// Every id is retired when it has come, and all packets are acknowledged but for those that it came with, so that they
/// are sent again and again.
#[test]
fn ids_whose_receipt_nobody_acknowledges_are_not_given_for_ever() {
    let mut scene = Scene::new(2);
    scene.world.kill(scene.client);
    let grown = scene.grown(|scene| {
        let mut next = 1;
        for _ in 0..5_000 {
            if !scene.is_up() {
                break;
            }
            let given = scene.forged.ids();
            let frames: Vec<u8> = (next..given).flat_map(retire).collect();
            next = given;
            scene.comes(&frames);
            scene.run(4 * MS);
            for _ in 0..4 {
                scene.comes(&[0x01]);
                scene.run(MS);
            }
            scene.comes(&ack(scene.forged.sent_without_ids()));
            scene.run(4 * MS);
        }
        scene.run(CLOSING);
    });
    assert!(grown < 64 * KIB, "{grown} bytes");
    let end = scene.end();
    assert!(end.contains("not acknowledged"), "{end}");
}

/// A client that uses each id for a short while, and does so for a long time.
#[test]
fn ids_that_are_retired_in_order_are_given_for_ever() {
    let mut scene = Scene::new(7);
    scene.world.kill(scene.client);
    let mut next = 1;
    let grown = scene.grown(|scene| {
        for _ in 0..10_000 {
            let given = scene.forged.ids();
            let mut frames: Vec<u8> = (next..given).flat_map(retire).collect();
            next = given;
            frames.extend(scene.forged.sent(3).into_iter().flat_map(ack));
            scene.comes(&frames);
            scene.run(10 * MS);
        }
    });
    assert!(scene.is_up(), "{:?}", scene.world.disconnects(scene.server));
    assert!(next > 30_000, "{next} ids");
    // What has gone over the wire is written down.
    assert!(grown < 8 << 20, "{grown} bytes");
}

/// One id is retired again and again, which changes nothing.
#[test]
fn a_burst_of_retired_ids_leaves_nothing_behind() {
    let mut scene = Scene::new(3);
    scene.world.kill(scene.client);
    let frames = retire(1).repeat(PAYLOAD / 2);
    let grown = scene.grown(|scene| scene.burst(&frames));
    assert!(grown < 64 * KIB, "{grown} bytes");
    let grown = scene.grown(|scene| scene.run(CLOSING));
    assert!(grown < 0, "{grown} bytes more");
    let end = scene.end();
    assert!(end.contains("again and again"), "{end}");
}

/// Frames of no data on the control stream, each of which says that there is something to read.
#[test]
fn a_burst_of_empty_frames_leaves_nothing_behind() {
    let mut scene = Scene::new(4);
    scene.world.kill(scene.client);
    // Stream 0, with a length, and that is zero.
    let frames = [0x0a, 0, 0].repeat(PAYLOAD / 3);
    let grown = scene.grown(|scene| {
        scene.burst(&frames);
        scene.run(100 * MS);
    });
    assert!(grown < 64 * KIB, "{grown} bytes");
    assert!(scene.is_up(), "they are no fault");
}

/// Its server retires an id of its for each place that it was at.
#[test]
fn a_client_that_moves_on_and_on_keeps_its_link() {
    for (seed, loss) in [(5, 0.0), (6, 0.2)] {
        let mut scene = Scene::new(seed);
        for _ in 0..1_000 {
            scene.world.path.loss = loss;
            scene.world.rebind(scene.client);
            scene
                .world
                .request(scene.client, scene.session, b"here I am");
            scene.run(500 * MS);
        }
        scene.world.path.loss = 0.0;
        scene.run(Duration::from_secs(10));
        assert_eq!(scene.links(), 1);
        assert_eq!(scene.world.bodies(scene.server).len(), 1_001);
        let ids = scene.forged.ids_of_client();
        assert!(ids > 500, "{ids} ids");
    }
}
