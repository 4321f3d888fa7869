//! Several nodes behind one address: whatever breaks, and from wherever a client comes back, it finds
//! the node that keeps its session, and nothing is lost or doubled.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests may"
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use rcgen::{CertificateParams, KeyPair};
use trunkline_core::{
    Admission, ClientRole, Config, Datagram, Dial, Event, Identity, Input, Message, Node, Origin,
    Outcome, PersistentKeys, Roles, Roots, Seed, ServerRole, SessionKey, Shard, Steering, Tag,
};

const SHARDS: u16 = 4;
const MESSAGES: u64 = 12;
/// So many of them wait for their acks at a time.
const WINDOW: u64 = 2;
const DELAY: Duration = Duration::from_millis(10);
const TAG: Tag = Tag::of("test.v1.Number");

/// Whom a datagram is on its way to.
enum To {
    Server,
    Client,
}

/// Some nodes at one address, a client that moves, and what lies between them.
struct Town {
    now: Instant,
    steering: Steering,
    shards: Vec<Node>,
    client: Node,
    session: SessionKey,
    /// Where the client is.
    home: SocketAddr,
    under_way: VecDeque<(Instant, To, SocketAddr, BytesMut)>,
    /// How many datagrams were sent.
    sent: usize,
    /// While this lasts, nothing arrives.
    cut_until: Option<Instant>,
    /// What was delivered at which shard, in order.
    delivered: Vec<(usize, u64)>,
    opened: Vec<usize>,
    outcomes: BTreeMap<u64, Outcome>,
    promised: BTreeMap<trunkline_core::PromiseKey, u64>,
    lost: bool,
}

fn config() -> Config {
    let mut config = Config::default();
    config.heartbeat.interval = Duration::from_millis(200);
    config.redial.first = Duration::from_millis(100);
    config.timeouts.admission = Duration::from_secs(2);
    config
}

impl Town {
    fn new(seed: u8) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, key) = (certificate.pem(), key.serialize_pem());
        let identity = Identity::from_pem(pem.as_bytes(), key.as_bytes(), "server").unwrap();
        let roots = Roots::from_pem(pem.as_bytes(), "roots").unwrap();
        let now = Instant::now();
        let keys = PersistentKeys::new([seed; 32], [9; 32]);
        let origin = |number: u8, keys| Origin {
            now,
            wall: SystemTime::now(),
            seed: Seed::new([seed.wrapping_mul(31).wrapping_add(number); 32]),
            keys,
        };
        let shards = (0..SHARDS).map(|number| {
            let server = Some(ServerRole {
                identity: identity.clone(),
                admission: Admission::Open,
                client_roots: None,
            });
            let mut config = config();
            config.shard = Shard { number, of: SHARDS };
            let roles = Roles {
                server,
                client: None,
            };
            Node::new(config, roles, origin(number as u8, Some(keys.clone()))).unwrap()
        });
        let shards = shards.collect();
        let client = Some(ClientRole {
            roots,
            identity: None,
        });
        let roles = Roles {
            server: None,
            client,
        };
        let mut client = Node::new(config(), roles, origin(200, None)).unwrap();
        let dial = Dial {
            address: "192.0.2.1:4433".parse().unwrap(),
            server_name: "localhost".into(),
            client: "anna".parse().unwrap(),
            credentials: Default::default(),
            agent: "test".into(),
        };
        let session = client.connect(now, dial).unwrap();
        let mut town = Self {
            now,
            steering: keys.steering(SHARDS),
            shards,
            client,
            session,
            home: "198.51.100.1:1000".parse().unwrap(),
            under_way: VecDeque::new(),
            sent: 0,
            cut_until: None,
            delivered: Vec::new(),
            opened: Vec::new(),
            outcomes: BTreeMap::new(),
            promised: BTreeMap::new(),
            lost: false,
        };
        (0..WINDOW).for_each(|_| town.send_next());
        town
    }

    fn send_next(&mut self) {
        let number = self.promised.len() as u64;
        if number == MESSAGES {
            return;
        }
        let message = Message::new(TAG, number.to_be_bytes().to_vec());
        let promise = self
            .client
            .send_acked(self.now, self.session, message, None)
            .unwrap();
        self.promised.insert(promise, number);
    }

    /// From here on, for longer than links live, nothing arrives; and the client is elsewhere.
    fn cut(&mut self) {
        self.under_way.clear();
        self.cut_until = Some(self.now + Duration::from_secs(3));
        self.move_house();
    }

    fn is_done(&self) -> bool {
        self.outcomes.len() as u64 == MESSAGES
    }

    fn move_house(&mut self) {
        self.home.set_port(self.home.port() + 1);
    }

    fn carry(&mut self) {
        while let Some((at, ..)) = self.under_way.front()
            && *at <= self.now
        {
            let (_, to, remote, data) = self.under_way.pop_front().unwrap();
            let named = self.steering.shard_of(&data);
            let datagram = Datagram {
                remote,
                local_ip: None,
                ecn: None,
                data,
            };
            let node = match to {
                To::Client => &mut self.client,
                To::Server => &mut self.shards[usize::from(named.unwrap())],
            };
            node.handle_input(self.now, Input::Datagram(datagram));
        }
    }

    fn transmit(&mut self) {
        let Self {
            now,
            shards,
            client,
            home,
            under_way,
            sent,
            cut_until,
            ..
        } = self;
        let mut buffer = Vec::new();
        for (number, node) in shards.iter_mut().chain([client]).enumerate() {
            let is_client = number == usize::from(SHARDS);
            while let Some(transmit) = node.poll_transmit(*now, NonZeroUsize::MIN, &mut buffer) {
                let data = BytesMut::from(&buffer[..]);
                buffer.clear();
                *sent += 1;
                let (to, remote) = match is_client {
                    true => (To::Server, *home),
                    false => (To::Client, "192.0.2.1:4433".parse().unwrap()),
                };
                // What is sent to where the client no longer is, is gone.
                let is_there = is_client || transmit.destination == *home;
                if is_there && cut_until.is_none_or(|until| until <= *now) {
                    under_way.push_back((*now + DELAY, to, remote, data));
                }
            }
        }
    }

    fn follow(&mut self) {
        for (number, node) in self.shards.iter_mut().enumerate() {
            while let Some(event) = node.poll_event() {
                match event {
                    Event::Message(delivery) => {
                        assert_eq!(delivery.key.session.shard(), number);
                        let body = delivery.body[..].try_into().unwrap();
                        self.delivered.push((number, u64::from_be_bytes(body)));
                        node.ack(self.now, delivery.key).unwrap();
                    }
                    Event::Connected { resumed: false, .. } => self.opened.push(number),
                    _ => {}
                }
            }
        }
        let mut settled = 0;
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Settled {
                    promise, outcome, ..
                } => {
                    let number = self.promised[&promise];
                    let earlier = self.outcomes.insert(number, outcome);
                    assert_eq!(earlier, None, "{number} settled twice");
                    settled += 1;
                }
                Event::SessionLost { .. } => self.lost = true,
                _ => {}
            }
        }
        (0..settled).for_each(|_| self.send_next());
    }

    /// Goes on until all is settled, or until so many datagrams were sent.
    fn run(&mut self, until_sent: usize) {
        for _ in 0..100_000 {
            self.carry();
            for node in self.shards.iter_mut().chain([&mut self.client]) {
                if node.poll_timeout().is_some_and(|due| due <= self.now) {
                    node.handle_input(self.now, Input::Timeout);
                }
            }
            self.follow();
            self.transmit();
            self.follow();
            if self.is_done() || self.sent >= until_sent {
                return;
            }
            let nodes = self.shards.iter().chain([&self.client]);
            let due = nodes.filter_map(Node::poll_timeout).min();
            let arrival = self.under_way.front().map(|(at, ..)| *at);
            self.now = self
                .now
                .max([due, arrival].into_iter().flatten().min().unwrap());
        }
        panic!("this comes to no end: {:?}", self.outcomes);
    }
}

#[test]
fn wherever_it_breaks_a_client_finds_its_session_from_elsewhere() {
    let (mut resumed, mut before) = (0, 0);
    let mut homes = [0; SHARDS as usize];
    for first in 1.. {
        let mut town = Town::new(first as u8);
        town.run(first);
        if town.is_done() {
            break;
        }
        // The second cut falls into the handshake, the resume or its welcome, or behind them.
        for second in [2, 4, 6, 7, 8, 9, 11, 15] {
            // Which shard it is depends on the seed.
            let mut town = Town::new(first as u8);
            town.run(first);
            let known = town.opened.clone();
            town.cut();
            town.run(town.sent + second);
            town.cut();
            town.run(usize::MAX);
            let cuts = format!("cut after {first} and {second} more");
            let mut delivered: Vec<_> = town.delivered.iter().map(|(_, n)| *n).collect();
            assert!(delivered.is_sorted(), "{cuts}: {delivered:?}");
            let all = delivered.len();
            delivered.dedup();
            assert_eq!(delivered.len(), all, "{cuts}: a duplicate");
            for (number, outcome) in &town.outcomes {
                match outcome {
                    Outcome::Acked => assert!(delivered.contains(number), "{cuts}: {number}"),
                    Outcome::Lost { .. } => assert!(town.lost, "{cuts}"),
                    other => panic!("{cuts}: {number}: {other:?}"),
                }
            }
            let [shard] = known[..] else {
                // A hello that never arrived made no session, and what hung on it is reported.
                before += 1;
                continue;
            };
            resumed += 1;
            homes[shard] += 1;
            assert!(!town.lost, "{cuts}");
            assert_eq!(town.opened, known, "{cuts}: a second session");
            assert!(town.delivered.iter().all(|(at, _)| *at == shard), "{cuts}");
            assert_eq!(all as u64, MESSAGES, "{cuts}");
        }
    }
    // The handshake and all that follows were cut, at sessions of every shard.
    assert!(before >= 16 && resumed >= 120, "{before} {resumed}");
    assert!(homes.iter().all(|count| *count > 0), "{homes:?}");
}

#[test]
fn a_client_whose_address_changes_stays_where_it_is() {
    for seed in 0..8 {
        let mut town = Town::new(seed);
        // Under a living link, again and again: no link breaks.
        while !town.is_done() {
            town.run(town.sent + 9);
            town.move_house();
        }
        let [shard] = town.opened[..] else {
            panic!("{:?}", town.opened)
        };
        let expected: Vec<_> = (0..MESSAGES).map(|number| (shard, number)).collect();
        assert_eq!(town.delivered, expected);
        assert!(!town.lost);
    }
}

#[test]
fn new_clients_fall_to_all_shards() {
    let shard_of = |seed| {
        let mut town = Town::new(seed);
        town.run(usize::MAX);
        town.opened[0]
    };
    let mut shards: Vec<_> = (0..24).map(shard_of).collect();
    shards.sort_unstable();
    shards.dedup();
    assert_eq!(shards, [0, 1, 2, 3]);
}

#[test]
fn shards_without_common_keys_are_refused() {
    let mut config = config();
    config.shard = Shard { number: 1, of: 2 };
    let origin = Origin {
        now: Instant::now(),
        wall: SystemTime::now(),
        seed: Seed::new([1; 32]),
        keys: None,
    };
    let error = Node::new(config.clone(), Roles::default(), origin).err();
    assert!(error.unwrap().to_string().contains("origin.keys"));
    config.shard.number = 2;
    let error = config.validate().unwrap_err().to_string();
    assert_eq!(error, "shard.number is 2: below shard.of is allowed");
}
