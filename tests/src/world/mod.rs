//! Nodes, the network between them, and virtual time.

mod adversity;
mod shortcuts;

pub use shortcuts::{echo, silent};

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use trunkline_core::{
    Admission, ClientRole, Config, Event, Identity, Node, Origin, Roles, Roots, Seed, ServerRole,
    Transmit,
};

use crate::amplification::Sender;
use crate::host::{Host, segment};
use crate::memory;
use crate::network::{Arrival, Network, Observed, Outgoing};
use crate::recordings::{Recording, Recordings};
use crate::{Certificates, Path, Random, Traffic};

mod raw;

/// Which node of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub(crate) usize);

/// What has happened on a node, and when.
pub type Happened = (Instant, Event);

/// A simulated network with its nodes.
///
/// Everything follows from the seed, the nodes' configuration and what the test does: the same
/// test makes the same run, in any process. While it runs, a world checks of each node what
/// [`World::run`] lists.
pub struct World {
    /// What every path does, those aside that [`World::direction`] has taken out; change it at any
    /// time.
    pub path: Path,
    /// Whom the servers that are started from now on let in.
    pub admission: Admission,
    /// Whose signature on a client's certificate the servers that are started from now on trust.
    pub client_roots: Option<Roots>,
    /// The certificate of the clients that are started from now on.
    pub client_identity: Option<Identity>,
    /// What the wall clock showed, or would have, at the start of the world: processes that are
    /// started from now on go by it. It is inside the certificates' life, as is a day more or less.
    pub wall: SystemTime,
    now: Instant,
    start: Instant,
    hosts: Vec<Host>,
    /// Processes that were started or ended so far.
    processes: u64,
    raw_peers: raw::RawPeers,
    /// Hosts that may have something to give.
    touched: BTreeSet<usize>,
    /// When which host wants its timeout.
    deadlines: BTreeSet<(Instant, usize)>,
    network: Network,
    observer: Option<Observer>,
    /// Servers may amplify.
    amplifies: bool,
    random: Random,
    certificates: Certificates,
    config: Config,
    recordings: Recordings,
}

type Observer = Box<dyn FnMut(Observed<'_>)>;

/// The wall clock at the start: any fixed time inside the certificates' life.
pub(crate) const WALL: Duration = Duration::from_secs(1_790_000_000);
/// More steps than this without time advancing: something spins.
const STEPS_WITHOUT_TIME: u32 = 64;

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

    /// The same with certificates of the test's own.
    pub fn with_certificates(seed: u64, certificates: &Certificates) -> Self {
        let now = Instant::now();
        Self {
            path: Path::default(),
            admission: Admission::Open,
            client_roots: None,
            client_identity: None,
            wall: SystemTime::UNIX_EPOCH + WALL,
            now,
            start: now,
            hosts: Vec::new(),
            processes: 0,
            raw_peers: raw::RawPeers::default(),
            touched: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            network: Network::new(!seed, now),
            observer: None,
            amplifies: false,
            random: Random::new(seed),
            certificates: certificates.clone(),
            recordings: Recordings::default(),
            config: Config::default(),
        }
    }

    /// The configuration of the nodes that are made from now on.
    pub fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    /// Records the nodes that are started from now on.
    pub fn record(&mut self) {
        self.record_at(Recording::Wire);
    }

    /// Nodes that start from now on are recorded so.
    pub fn record_at(&mut self, recording: Recording) {
        self.recordings.on = Some(recording);
    }

    /// What was recorded of a node so far: a trace for each of its processes, the latest last.
    pub fn traces(&self, index: NodeIndex) -> Vec<Vec<u8>> {
        self.recordings.of(index.0)
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
        self.hosts.push(Host::new(serves, address));
        self.network.assign(address, index);
        self.start_process(index);
        index
    }

    /// Who answers a node's events from now on, in place of what [`World::run`] is given.
    pub fn attach(
        &mut self,
        index: NodeIndex,
        application: impl FnMut(&mut Node, Instant, &Event) + 'static,
    ) {
        self.hosts[index.0].application = Some(Box::new(application));
    }

    /// Ends a node's process: it sends nothing more and forgets everything. Says how many bytes it has
    /// left behind, where they are counted as [`World::held`] says.
    pub fn kill(&mut self, index: NodeIndex) -> i64 {
        self.replace(index, None)
    }

    /// Gives a node commands, or looks at it; in them `counted` are those that take memory.
    pub(crate) fn command<T>(
        &mut self,
        index: NodeIndex,
        command: impl FnOnce(&mut Node) -> T,
    ) -> T {
        let returned = command(self.node(index));
        self.hosts[index.0].memory += memory::take();
        returned
    }

    /// How many bytes a node's process holds, if they are counted ([`crate::count_by`]). A node that is
    /// recorded writes the recording's memory too.
    pub fn held(&self, index: NodeIndex) -> Option<i64> {
        let host = &self.hosts[index.0];
        let counts = memory::is_counted() && self.recordings.on.is_none();
        counts.then_some(host.memory)
    }

    /// Another certificate that servers here may show.
    pub(crate) fn renewed(&self) -> Identity {
        self.certificates.renewed.clone()
    }

    /// Starts a node's process anew, with the keys that outlive it and nothing else.
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
            wall: self.wall + self.elapsed(),
            seed: Seed::new(seed),
            keys: Some(self.hosts[index.0].keys(index.0 as u8)),
        };
        let config = self.config.clone();
        let node = self.recordings.start(index.0, config, roles, origin);
        self.replace(index, Some(node));
    }

    /// Says how much memory the process before has left behind, as [`World::held`] counts it.
    fn replace(&mut self, index: NodeIndex, node: Option<Node>) -> i64 {
        if let Some(deadline) = self.hosts[index.0].deadline {
            self.deadlines.remove(&(deadline, index.0));
        }
        self.processes += 1;
        self.touched.insert(index.0);
        self.hosts[index.0].replace(node, self.processes)
    }

    /// What happens to datagrams from one node to another, apart from what every other path does:
    /// from the first call on, changes of [`World::path`] do not reach this direction any more.
    pub fn direction(&mut self, from: NodeIndex, to: NodeIndex) -> &mut Path {
        let path = self.path;
        let direction = self.network.direction(self.now, from, to);
        direction.own.get_or_insert(path)
    }

    /// From here on that direction does what every other path does, and changes of [`World::path`] reach
    /// it again.
    pub fn follow(&mut self, from: NodeIndex, to: NodeIndex) {
        self.network.direction(self.now, from, to).own = None;
    }

    /// Calls `observer` with every datagram that a node sends to another, before the path does
    /// anything to it. There is one observer; a new one takes the place of the old one.
    pub fn observe(&mut self, observer: impl FnMut(Observed<'_>) + 'static) {
        self.observer = Some(Box::new(observer));
    }

    /// From here on nobody minds what servers send to addresses that are not validated: an
    /// authenticated peer has quinn-proto challenge any address, again and again.
    #[cfg(feature = "fuzz")]
    pub(crate) fn let_amplify(&mut self) {
        self.amplifies = true;
    }

    /// Decides about every datagram that gets through, in place of its path.
    #[cfg(feature = "fuzz")]
    pub(crate) fn steer(
        &mut self,
        steering: impl FnMut(Instant, Instant) -> crate::direction::Fate + Send + 'static,
    ) {
        self.network.steering = Some(Box::new(steering));
    }

    /// Paths decide again.
    pub(crate) fn let_go(&mut self) {
        self.network.steering = None;
    }

    /// What became of the datagrams so far.
    pub fn traffic(&self) -> Traffic {
        self.network.traffic
    }

    /// A digest of every datagram that was sent so far: when, from where, where to, and what. Equal
    /// digests mean equal runs. That of a world with raw peers is another one each time: they draw from the operating
    /// system.
    pub fn fingerprint(&self) -> u64 {
        self.network.fingerprint()
    }

    /// The node itself, to give it commands or look at it.
    ///
    /// # Panics
    /// If its process was killed and not started again, or the index is no node's of this world.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn node(&mut self, index: NodeIndex) -> &mut Node {
        let host = self.hosts.get_mut(index.0);
        let host =
            host.expect("no node of this world has the index; a raw peer's is for `World::raw`");
        self.touched.insert(index.0);
        let node = host.node();
        node.expect("the node's process was killed: start it anew with `World::start_process`")
    }

    /// Everything that has happened on a node, in all its processes.
    pub fn log(&self, index: NodeIndex) -> &[Happened] {
        &self.hosts[index.0].log
    }

    /// Forgets what has happened on a node so far: for long runs.
    pub fn clear_log(&mut self, index: NodeIndex) {
        self.hosts[index.0].log = Vec::new();
    }

    /// Lets time pass; `application` sees every event, of all nodes that nothing is attached to,
    /// and may give commands.
    ///
    /// # Panics
    /// If a node breaks its contract, at any step:
    ///
    /// * it had something to give, and its timeout did not say so: it would stall;
    /// * drained after a timeout, it wants another one at once; or more than 64 steps go by without
    ///   time advancing, or as many timeouts of one owner that bring nothing: it would spin;
    /// * it has a session, and no timer;
    /// * it settles a promise twice;
    /// * it sends more than three times what came from an address to there, before that was shown to
    ///   be its peer's (RFC 9000 §8).
    pub fn run(&mut self, time: Duration, mut application: impl FnMut(&mut Node, Instant, &Event)) {
        let end = self.now + time;
        let mut steps = 0;
        loop {
            self.drain(&mut application);
            let raw = self.drain_raw_peers();
            let timeout = self.deadlines.first().map(|(at, _)| *at);
            let arrival = self.network.next_arrival();
            let Some(next) = [timeout, arrival, raw].into_iter().flatten().min() else {
                break;
            };
            if next > end {
                break;
            }
            steps = if next > self.now { 0 } else { steps + 1 };
            assert!(
                steps <= STEPS_WITHOUT_TIME,
                "{steps} steps without time advancing"
            );
            self.now = self.now.max(next);
            self.arrive();
            self.fire();
        }
        self.now = end;
    }

    /// Drains every node that may have something to give.
    fn drain(&mut self, application: &mut dyn FnMut(&mut Node, Instant, &Event)) {
        let Self {
            path,
            now,
            hosts,
            deadlines,
            network,
            observer,
            amplifies,
            ..
        } = self;
        for index in std::mem::take(&mut self.touched) {
            let host = &mut hosts[index];
            let (source, process) = (host.address, host.process);
            let mut amplification = std::mem::take(&mut host.amplification);
            let (serves, amplifies) = (host.serves, *amplifies);
            let mut send = |transmit: &Transmit, bytes: &[u8]| {
                for payload in bytes.chunks(segment(transmit)) {
                    let to = network.owner(transmit.destination);
                    if let (Some(observer), Some(to)) = (observer.as_mut(), to) {
                        let (at, from) = (*now, NodeIndex(index));
                        observer(Observed {
                            at,
                            from,
                            to,
                            payload,
                        });
                    }
                    if serves && !amplifies {
                        let fits = amplification.sent(transmit.destination, payload);
                        assert!(fits.is_ok(), "node {index} amplifies: {fits:?}");
                    }
                    let outgoing = Outgoing {
                        from: NodeIndex(index),
                        process,
                        source,
                        destination: transmit.destination,
                        ecn: transmit.ecn,
                        payload,
                    };
                    network.send(*now, path, &outgoing);
                }
            };
            let before = host.deadline;
            let withheld = host.drain(*now, application, &mut send);
            network.traffic.withheld += withheld as u64;
            host.amplification = amplification;
            if before != host.deadline {
                if let Some(at) = before {
                    deadlines.remove(&(at, index));
                }
                if let Some(at) = host.deadline {
                    deadlines.insert((at, index));
                }
            }
        }
    }

    /// Hands over the datagrams that are due.
    fn arrive(&mut self) {
        while let Some(arrival) = self.network.arrived(self.now) {
            let Arrival {
                to,
                sender,
                answers,
                datagram,
            } = arrival;
            if let Some(peer) = self.raw_peers.get_mut(to) {
                peer.receive(self.now, datagram.remote, datagram.data);
                continue;
            }
            let host = &mut self.hosts[to.0];
            if host.serves {
                let from = datagram.remote;
                let answers = answers == host.process;
                let sender = sender.map_or(Sender::At(from), |sender| Sender::Peer(sender.0));
                let amplification = &mut host.amplification;
                amplification.received(sender, from, &datagram.data, answers);
            }
            let taken = host.receive(self.now, datagram);
            self.network.traffic.socket_full += u64::from(!taken);
            self.touched.insert(to.0);
        }
    }

    /// Fires the timeouts that are due: after the datagrams, for who has spoken is not dead.
    fn fire(&mut self) {
        self.time_out_raw_peers();
        while let Some((at, index)) = self.deadlines.first().copied()
            && at <= self.now
        {
            self.deadlines.pop_first();
            let host = &mut self.hosts[index];
            // It says anew what it wants when it is drained.
            host.deadline = None;
            host.fire(self.now);
            self.touched.insert(index);
        }
    }
}
