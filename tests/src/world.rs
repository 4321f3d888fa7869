//! Nodes, the datagrams between them, and virtual time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use trunkline_core::{
    Admission, ClientId, ClientRole, Config, Datagram, Dial, Event, Expects, Identity, Input,
    Message, Node, Origin, Outcome, PersistentKeys, PromiseKey, Roles, Roots, Seed, ServerRole,
    SessionKey, Tag,
};

use crate::{Certificates, Path, Random};

mod raw;

/// Which node of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(usize);

impl NodeIndex {
    /// Who has an address of the simulated network.
    fn at(address: SocketAddr) -> Self {
        match address.ip() {
            std::net::IpAddr::V4(ip) => {
                let [_, _, high, low] = ip.octets();
                Self(usize::from(u16::from_be_bytes([high, low])))
            }
            std::net::IpAddr::V6(_) => Self(usize::MAX),
        }
    }
}

/// What has happened on a node, and when.
pub type Happened = (Instant, Event);

struct Host {
    /// `None`: its process is not running.
    node: Option<Node>,
    address: SocketAddr,
    log: Vec<Happened>,
    serves: bool,
}

/// A simulated network with its nodes.
pub struct World {
    /// What every path does; change it at any time.
    pub path: Path,
    /// Whom the servers that are started from now on let in.
    pub admission: Admission,
    /// Whose signature on a client's certificate the servers that are started from now on trust.
    pub client_roots: Option<Roots>,
    /// The certificate of the clients that are started from now on.
    pub client_identity: Option<Identity>,
    now: Instant,
    start: Instant,
    hosts: Vec<Host>,
    raw_peers: raw::RawPeers,
    in_flight: BTreeMap<(Instant, u64), (NodeIndex, SocketAddr, BytesMut)>,
    sent: u64,
    random: Random,
    certificates: Certificates,
    config: Config,
    digest: Fnv,
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The wall clock at the start: any fixed time inside the certificates' life.
const WALL: Duration = Duration::from_secs(1_790_000_000);
const SEGMENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9);
/// More steps than this without time advancing: something spins.
const STEPS_WITHOUT_TIME: u32 = 10_000;

/// Answers every delivery: requests with their own body, the rest with an ack.
pub fn echo(node: &mut Node, now: Instant, event: &Event) {
    if let Event::Message(delivery) = event {
        let answered = match delivery.expects {
            Expects::Reply => node.reply(now, delivery.key, delivery.tag, delivery.body.clone()),
            _ => node.ack(now, delivery.key),
        };
        // The session may have ended since; then nobody waits for the answer.
        answered.ok();
    }
}

impl World {
    /// A world in which everything follows from the seed.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a broken fixture ends the test"
    )]
    pub fn new(seed: u64) -> Self {
        let certificates = Certificates::new().expect("throwaway certificates can be made");
        Self::with_certificates(seed, &certificates)
    }

    /// The same with certificates that are given: two worlds of one seed and one set of
    /// certificates are equal to the byte.
    pub fn with_certificates(seed: u64, certificates: &Certificates) -> Self {
        let now = Instant::now();
        Self {
            path: Path::default(),
            admission: Admission::Open,
            client_roots: None,
            client_identity: None,
            now,
            start: now,
            hosts: Vec::new(),
            raw_peers: raw::RawPeers::default(),
            in_flight: BTreeMap::new(),
            sent: 0,
            random: Random::new(seed),
            certificates: certificates.clone(),
            digest: Fnv::default(),
            config: Config::default(),
        }
    }

    /// The configuration of the nodes that are made from now on.
    pub fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Starts a server; it lets in whom `admission` says, at first everybody.
    pub fn server(&mut self) -> NodeIndex {
        self.host(true)
    }

    /// Starts a client.
    pub fn client(&mut self) -> NodeIndex {
        self.host(false)
    }

    fn host(&mut self, serves: bool) -> NodeIndex {
        let index = NodeIndex(self.hosts.len());
        let [high, low] = (index.0 as u16).to_be_bytes();
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, high, low), 4_433));
        self.hosts.push(Host {
            node: None,
            address,
            log: Vec::new(),
            serves,
        });
        self.start_process(index);
        index
    }

    /// Ends a node's process: it sends nothing more and forgets everything.
    pub fn kill(&mut self, index: NodeIndex) {
        self.hosts[index.0].node = None;
    }

    /// Starts a node's process anew, with the keys that outlive it and nothing else.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a wrong configuration ends the test"
    )]
    pub fn start_process(&mut self, index: NodeIndex) {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random.next_u64().to_be_bytes());
        let serves = self.hosts[index.0].serves;
        let roles = Roles {
            server: serves.then(|| ServerRole {
                identity: self.certificates.server.clone(),
                admission: self.admission,
                client_roots: self.client_roots.clone(),
            }),
            client: (!serves).then(|| ClientRole {
                roots: self.certificates.roots.clone(),
                identity: self.client_identity.clone(),
            }),
        };
        let origin = Origin {
            now: self.now,
            wall: SystemTime::UNIX_EPOCH + WALL + self.elapsed(),
            seed: Seed::new(seed),
            keys: Some(PersistentKeys::new(
                [index.0 as u8; 32],
                [!(index.0 as u8); 32],
            )),
        };
        let node =
            Node::new(self.config.clone(), roles, origin).expect("the configuration is valid");
        self.hosts[index.0].node = Some(node);
    }

    /// The node itself.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn node(&mut self, index: NodeIndex) -> &mut Node {
        self.hosts[index.0].node.as_mut().expect("the process runs")
    }

    /// A client's new session with a server.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn connect(&mut self, client: NodeIndex, server: NodeIndex, name: &str) -> SessionKey {
        let dial = Dial {
            address: self.address(server),
            server_name: "localhost".to_owned(),
            client: ClientId::new(name).expect("a usable name"),
            credentials: Bytes::new(),
            agent: "testkit".to_owned(),
        };
        let now = self.now;
        self.node(client)
            .connect(now, dial)
            .expect("the client dials")
    }

    /// Sends a request without a timeout.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn request(&mut self, from: NodeIndex, to: SessionKey, body: &[u8]) -> PromiseKey {
        let message = Message::new(Tag::of("test.Ping"), Bytes::copy_from_slice(body));
        let now = self.now;
        self.node(from)
            .request(now, to, message, Some(Duration::ZERO))
            .expect("there is room")
    }

    /// Sends an acked message without a timeout.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn send_acked(&mut self, from: NodeIndex, to: SessionKey, body: &[u8]) -> PromiseKey {
        let message = Message::new(Tag::of("test.Said"), Bytes::copy_from_slice(body));
        let now = self.now;
        self.node(from)
            .send_acked(now, to, message, Some(Duration::ZERO))
            .expect("there is room")
    }

    /// A digest of every datagram that was sent so far, and when.
    pub fn fingerprint(&self) -> u64 {
        self.digest.0
    }

    /// Everything that has happened on a node.
    pub fn log(&self, index: NodeIndex) -> &[Happened] {
        &self.hosts[index.0].log
    }

    /// Forgets what has happened on a node so far: for long runs.
    pub fn clear_log(&mut self, index: NodeIndex) {
        self.hosts[index.0].log = Vec::new();
    }

    /// Bodies of the messages that a node's application was handed, in order.
    pub fn bodies(&self, index: NodeIndex) -> Vec<Bytes> {
        let body = |(_, event): &Happened| match event {
            Event::Message(delivery) => Some(delivery.body.clone()),
            _ => None,
        };
        self.log(index).iter().filter_map(body).collect()
    }

    /// How a promise has settled, in words; panics if it has settled more than once.
    #[allow(
        clippy::panic,
        reason = "a test helper: a promise that settles twice ends the test"
    )]
    pub fn outcome(&self, index: NodeIndex, promise: PromiseKey) -> Option<String> {
        let mut outcomes = self.log(index).iter().filter_map(|(_, event)| match event {
            Event::Settled {
                promise: settled,
                outcome,
                ..
            } if *settled == promise => Some(outcome),
            _ => None,
        });
        let outcome = outcomes.next()?;
        if let Some(again) = outcomes.next() {
            panic!("{promise:?} settled as {outcome:?} and again as {again:?}");
        }
        Some(match outcome {
            Outcome::Replied { body, .. } => format!("Replied {}", String::from_utf8_lossy(body)),
            other => format!("{other:?}"),
        })
    }

    /// Lets time pass; `application` sees every event and may give commands.
    pub fn run(&mut self, time: Duration, mut application: impl FnMut(&mut Node, Instant, &Event)) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(next) = self.step(&mut application).filter(|next| *next <= end) {
            steps = if next > self.now { 0 } else { steps + 1 };
            assert!(
                steps < STEPS_WITHOUT_TIME,
                "{steps} steps without time advancing"
            );
            self.now = self.now.max(next);
            self.arrive();
        }
        self.now = end;
    }

    /// Drains every node; says when the next thing happens.
    fn step(
        &mut self,
        application: &mut impl FnMut(&mut Node, Instant, &Event),
    ) -> Option<Instant> {
        let mut next = self.step_raw_peers();
        for index in 0..self.hosts.len() {
            let Self {
                hosts,
                now,
                path,
                random,
                in_flight,
                sent,
                digest,
                start,
                ..
            } = self;
            let Host {
                node, address, log, ..
            } = &mut hosts[index];
            let Some(node) = node else { continue };
            let mut buffer = Vec::new();
            loop {
                let mut idle = true;
                while let Some(event) = node.poll_event() {
                    application(node, *now, &event);
                    log.push((*now, event));
                    idle = false;
                }
                buffer.clear();
                while let Some(transmit) = node.poll_transmit(*now, SEGMENTS, &mut buffer) {
                    let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
                    for datagram in buffer.chunks(size) {
                        digest.add(&(*now - *start).as_nanos().to_be_bytes());
                        digest.add(datagram);
                        for delay in path.copies(random) {
                            *sent += 1;
                            let to = NodeIndex::at(transmit.destination);
                            in_flight
                                .insert((*now + delay, *sent), (to, *address, datagram.into()));
                        }
                    }
                    buffer.clear();
                    idle = false;
                }
                if idle {
                    break;
                }
            }
            let timeout = node.poll_timeout();
            // The law of the contract: drained, a node wants nothing at once.
            next = [next, timeout].into_iter().flatten().min();
        }
        let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
        [next, arrival].into_iter().flatten().min()
    }

    /// Hands over what is due: datagrams first, then timeouts.
    fn arrive(&mut self) {
        while let Some(entry) = self
            .in_flight
            .first_entry()
            .filter(|e| e.key().0 <= self.now)
        {
            let (to, remote, data) = entry.remove();
            if let Some(peer) = self.raw_peers.get_mut(to) {
                peer.receive(self.now, remote, data);
                continue;
            }
            let node = self.hosts.get_mut(to.0).and_then(|host| host.node.as_mut());
            if let Some(node) = node {
                let datagram = Datagram {
                    remote,
                    local_ip: None,
                    ecn: None,
                    data,
                };
                node.handle_input(self.now, Input::Datagram(datagram));
            }
        }
        self.time_out_raw_peers();
        for host in &mut self.hosts {
            if let Some(node) = &mut host.node
                && node.poll_timeout().is_some_and(|at| at <= self.now)
            {
                node.handle_input(self.now, Input::Timeout);
            }
        }
    }
}
