//! First packets of clients that are none, from one address after the other.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use trunkline_core::{
    Admission, ClientRole, Config, Datagram, Dial, Event, Input, Message, MetricsSnapshot, Node,
    Origin, Roles, Seed, ServerRole, SessionKey, Tag,
};
use trunkline_testkit::{Certificates, INITIAL_BYTES, Initials, NodeIndex, World, echo};

const SECOND: Duration = Duration::from_secs(1);

/// A server that nobody reads the answers of.
struct Flooded {
    node: Node,
    initials: Initials,
    now: Instant,
    sent: u64,
    /// Bytes of answers.
    answered: usize,
}

impl Flooded {
    fn new(config: Config, protocol: &str) -> Self {
        Self::with_certificates(config, protocol, &Certificates::new().unwrap())
    }

    fn with_certificates(config: Config, protocol: &str, certificates: &Certificates) -> Self {
        let server = ServerRole {
            identity: certificates.server.clone(),
            admission: Admission::Open,
            client_roots: None,
        };
        let now = Instant::now();
        let roles = Roles {
            server: Some(server),
            client: None,
        };
        let origin = Origin {
            now,
            wall: SystemTime::now(),
            seed: Seed::new([1; 32]),
            keys: None,
        };
        Self {
            node: Node::new(config, roles, origin).unwrap(),
            initials: Initials::new(protocol, 7).unwrap(),
            now,
            sent: 0,
            answered: 0,
        }
    }

    fn packet(&mut self) {
        let datagram = self.first_packet();
        self.input(Input::Datagram(datagram));
    }

    fn first_packet(&mut self) -> Datagram {
        let mut data = [0; INITIAL_BYTES];
        self.initials.write(&mut data).unwrap();
        let [.., high, low] = self.sent.to_be_bytes();
        self.sent += 1;
        Datagram::new(
            ([127, 0, high, low], 4_433).into(),
            BytesMut::from(&data[..]),
        )
    }

    /// What it has to send now, so many transmits at most.
    fn transmits(&mut self, most: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let node = &mut self.node;
        let next = || {
            let mut buffer = Vec::new();
            let transmit = node.poll_transmit(self.now, NonZeroUsize::MIN, &mut buffer)?;
            Some((transmit.destination, buffer))
        };
        std::iter::from_fn(next).take(most).collect()
    }

    fn input(&mut self, input: Input) {
        self.node.handle_input(self.now, input);
        let mut buffer = Vec::new();
        while let Some(transmit) = self
            .node
            .poll_transmit(self.now, NonZeroUsize::MIN, &mut buffer)
        {
            self.answered += transmit.size;
        }
        assert_eq!(self.node.poll_event(), None);
    }

    /// Moves on to the next packet, by whatever is due in between.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.node.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.input(Input::Timeout);
        }
        self.now = until;
    }

    fn metrics(&self) -> MetricsSnapshot {
        self.node.metrics(self.now)
    }

    /// Links that take memory.
    fn held(&self) -> u64 {
        let metrics = self.metrics();
        metrics.links_opened - metrics.links_closed
    }
}

/// What each is answered with is the server's part of a handshake, and not that it is wrong.
#[test]
fn a_handshake_begins_with_each_of_the_first() {
    let mut flooded = Flooded::new(Config::default(), "trunkline/1");
    for count in 1..=3 {
        flooded.packet();
        assert_eq!((flooded.held(), flooded.metrics().links_closed), (count, 0));
    }
    // A certificate takes more than half a datagram; that something is wrong takes less.
    assert!(flooded.answered > 3 * 600, "{}", flooded.answered);
}

/// Links that nobody was admitted over count until they are forgotten: a moment longer than they
/// live, in which as many could follow them.
#[test]
fn a_flood_holds_no_more_links_than_it_may() {
    let mut config = Config::default();
    config.limits.half_open_unvalidated = 20;
    let mut flooded = Flooded::new(config, "trunkline/1");
    let mut most = 0;
    while flooded.sent < 3_500 {
        flooded.packet();
        flooded.pass(SECOND / 100);
        most = most.max(flooded.held());
    }
    let metrics = flooded.metrics();
    assert_eq!(most, 20);
    // They have made way for others since.
    assert!(metrics.links_opened >= 3 * 20, "{metrics:?}");
    assert_eq!(
        metrics.incoming_retried + metrics.links_opened,
        flooded.sent
    );
}

/// A hello that no handshake comes of costs work as well, and leaves nothing behind to be counted.
#[test]
fn first_packets_that_come_to_nothing_are_looked_into_no_more_often_than_others() {
    let mut config = Config::default();
    config.limits.half_open_unvalidated = 20;
    let admission = config.timeouts.admission;
    let mut flooded = Flooded::new(config, "other/1");
    while flooded.sent < 3_500 {
        flooded.packet();
        flooded.pass(SECOND / 100);
    }
    let metrics = flooded.metrics();
    assert_eq!(metrics.links_opened, 0);
    // As many at once as may be half open, and as many again in each time that these may take.
    assert!(
        (60..=91).contains(&metrics.protocol_mismatches),
        "{metrics:?}"
    );
    let looked_into = metrics.protocol_mismatches;
    assert_eq!(looked_into + metrics.incoming_retried, flooded.sent);
    // It is forgotten in the end.
    flooded.pass(admission);
    for _ in 0..20 {
        flooded.packet();
    }
    assert_eq!(flooded.metrics().protocol_mismatches, looked_into + 20);
}

fn metrics(world: &mut World, index: NodeIndex) -> MetricsSnapshot {
    let now = world.now();
    world.node(index).metrics(now)
}

/// A peer makes QUIC's probe timeouts long by acknowledging late, and ended connections stay for three
/// of them.
#[test]
fn a_slow_peer_holds_the_place_of_others_no_longer_than_a_fast_one() {
    for delay in [5, 1_000, 4_500].map(Duration::from_millis) {
        let mut world = World::new(1);
        let config = world.config();
        config.limits.half_open = 1;
        let admission = config.timeouts.admission;
        world.admission = Admission::Ask;
        let (server, slow, honest) = (world.server(), world.client(), world.client());
        for (from, to) in [(slow, server), (server, slow)] {
            world.direction(from, to).delay = delay;
        }
        world.connect(slow, server, "slow");
        // It goes once its acknowledgement is on its way, and what follows is not.
        world.run(2 * delay + SECOND / 1_000, echo);
        world.kill(slow);
        world.run(delay, echo);
        let held = metrics(&mut world, server);
        assert_eq!((held.links_opened, held.sessions), (1, 0));
        world.connect(honest, server, "honest");
        let connected = |event: &Event| matches!(event, Event::Connected { .. });
        let mut waited = Duration::ZERO;
        while world.count(honest, connected) == 0 {
            world.run(SECOND / 10, |node, now, event| match event {
                Event::Admission(request) if request.client.as_str() == "honest" => {
                    node.admit(now, request.link).unwrap();
                }
                _ => echo(node, now, event),
            });
            waited += SECOND / 10;
            assert!(waited < admission + 3 * SECOND, "{delay:?}: {waited:?}");
        }
        assert!(metrics(&mut world, server).incoming_ignored > 0);
    }
}

#[test]
fn what_a_slow_client_leaves_behind_is_gone_soon() {
    let mut world = World::new(2);
    let (server, slow) = (world.server(), world.client());
    for (from, to) in [(slow, server), (server, slow)] {
        world.direction(from, to).delay = 2 * SECOND;
    }
    world.connect(slow, server, "slow");
    world.run(20 * SECOND, echo);
    world.kill(slow);
    let dead = |event: &Event| matches!(event, Event::HeartbeatTimeout { .. });
    while world.count(server, dead) == 0 {
        world.run(SECOND, echo);
    }
    let held = |world: &mut World| {
        let metrics = metrics(world, server);
        metrics.links_opened - metrics.links_closed
    };
    assert_eq!(held(&mut world), 1);
    world.run(3 * SECOND, echo);
    assert_eq!(held(&mut world), 0);
}

/// A client of a flooded server, and its session there, once it is admitted.
fn admitted(flooded: &mut Flooded, certificates: &Certificates) -> (SocketAddr, SessionKey) {
    let (address, server) = (([10, 0, 0, 1], 5).into(), ([10, 0, 0, 2], 4_433).into());
    let origin = Origin::new(flooded.now, SystemTime::now(), Seed::new([2; 32]));
    let role = ClientRole::new(certificates.roots.clone());
    let mut client = Node::new(Config::default(), role.into(), origin).unwrap();
    let dial = Dial::new(server, "localhost", "anna".parse().unwrap());
    client.connect(flooded.now, dial).unwrap();
    loop {
        let mut buffer = Vec::new();
        while client
            .poll_transmit(flooded.now, NonZeroUsize::MIN, &mut buffer)
            .is_some()
        {
            let data = std::mem::take(&mut buffer)[..].into();
            let datagram = Input::Datagram(Datagram::new(address, data));
            flooded.node.handle_input(flooded.now, datagram);
        }
        if let Some(Event::Connected { session, .. }) = flooded.node.poll_event() {
            return (address, session);
        }
        for (_, data) in flooded.transmits(usize::MAX) {
            let datagram = Input::Datagram(Datagram::new(server, data[..].into()));
            client.handle_input(flooded.now, datagram);
        }
    }
}

/// Whoever floods a server with first packets has as many answers made as a turn sends, and makes that again before the
/// next.
#[test]
fn answers_to_nobody_do_not_keep_links_from_sending() {
    let mut config = Config::default();
    config.limits.half_open_unvalidated = 0;
    let certificates = Certificates::new().unwrap();
    let mut flooded = Flooded::with_certificates(config, "trunkline/1", &certificates);
    let (client, session) = admitted(&mut flooded, &certificates);
    flooded.transmits(usize::MAX);
    for round in 0..10 {
        for _ in 0..300 {
            let datagram = flooded.first_packet();
            flooded
                .node
                .handle_input(flooded.now, Input::Datagram(datagram));
        }
        let message = Message::new(Tag(1), vec![7; 100]);
        flooded.node.send(flooded.now, session, message).unwrap();
        let sent = flooded.transmits(256);
        let to_client = sent.iter().filter(|(to, _)| *to == client).count();
        assert!((1..=128).contains(&to_client), "{round}: {to_client}");
        // Those who are no clients yet are answered as well.
        assert!(sent.len() - to_client >= 128, "{round}: {to_client}");
    }
    assert_eq!(flooded.metrics().incoming_retried, 3_001);
}
