//! Setting up a server.

use std::fmt;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::admission::{Admit, Ask, Policy};
use super::build_error::{StartError, identity_from, keep};
use super::crossing::{Crossed, Crossing};
use super::hooks::Hooks;
use super::recording::{self, Fresh, Recording};
use super::runtime::{Io, Platform, Runtime, Sharded, Task};
use super::server::Server;
use super::service::{Serve, Service};
use super::shared::Shared;
use super::turn::{Driver, Parts};
use crate::{
    Admission, BusyPoll, Config, Identity, Limits, Node, Origin, PersistentKeys, Roles, Seed,
    ServerRole, Steering, Timeouts,
};

/// Sets up a server; awaited, it starts. See [`Server::bind`].
#[must_use = "nothing starts before this is awaited"]
pub struct ServerBuilder<P: Platform> {
    address: SocketAddr,
    config: Config,
    identity: Option<Identity>,
    admission: Option<Admit>,
    service: Option<Arc<dyn Serve>>,
    hooks: Option<Arc<dyn Hooks>>,
    seed: Option<Seed>,
    keys: Option<PersistentKeys>,
    recording: Option<Recording>,
    busy_poll: Option<BusyPoll>,
    /// How many, and how they come about.
    shards: Option<(u16, Open<P>)>,
    problem: Option<StartError>,
    platform: Option<P>,
}

impl<P: Platform> ServerBuilder<P> {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            config: Config::default(),
            identity: None,
            admission: None,
            service: None,
            hooks: None,
            seed: None,
            keys: None,
            recording: None,
            busy_poll: None,
            shards: None,
            problem: None,
            platform: None,
        }
    }

    /// Its certificate chain and key. Needed.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Its certificate chain and key, from PEM files that are read at once.
    pub fn identity_pem_files(
        mut self,
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Self {
        let identity = identity_from(certificates.as_ref(), key.as_ref());
        keep(&mut self.identity, identity, &mut self.problem);
        self
    }

    /// Who is let in. Needed.
    pub fn admission(mut self, admission: Admit) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Who handles messages. Without a service every message is rejected.
    pub fn service<S: Send + Sync + 'static>(mut self, service: Service<S>) -> Self {
        keep(
            &mut self.service,
            service.build().map_err(Into::into),
            &mut self.problem,
        );
        self
    }

    /// Functions to call as things happen.
    pub fn hooks(mut self, hooks: impl Hooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// Limits, timeouts and all else that has a default.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The runtime to run in; by default the one that the caller runs in, or the only one there is.
    pub fn runtime(mut self, runtime: impl Into<P>) -> Self {
        self.platform = Some(runtime.into());
        self
    }

    /// Where all randomness comes from; by default the operating system. For tests and replays:
    /// who knows the seed can decrypt everything.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How long to look for datagrams before sleeping, where that pays: see [`BusyPoll`]. Nothing else on
    /// its thread runs meanwhile. By default up to 100 µs on tokio, if there is more than one processor,
    /// and never on smol, whose executors look after nothing but their tasks as long as one of them is
    /// always ready: set it for drivers that have a thread to themselves.
    pub fn busy_poll(mut self, busy_poll: BusyPoll) -> Self {
        self.busy_poll = Some(busy_poll);
        self
    }

    /// Keys that outlive the process, so that clients notice a restart within a round trip: those of a file, by
    /// `PersistentKeys::load_or_create`, which makes it at the first start. Each server has its own.
    pub fn persistent_keys(mut self, keys: PersistentKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Records everything that happens to it into a new file, to be replayed with
    /// `trunkline replay` or [`crate::trace::replay`]: a path, or a [`Recording`].
    ///
    /// By a path alone, what comes and goes above QUIC, as [`Recording::link`] says: nothing decrypts by it; but
    /// tokens of sessions stand in it, so keep it to yourself until those are over. With [`Recording::wire`], every
    /// datagram: **who has that file can decrypt everything that it recorded**, and reads credentials and messages
    /// in it; the private key is not in it. Only its owner can read the
    /// file. A disk that is too slow, or full, ends the recording, with a warning in the log, and
    /// nothing else; [`Recording::watched_by`] tells of it.
    pub fn record(mut self, recording: impl Into<Recording>) -> Self {
        self.recording = Some(recording.into());
        self
    }

    /// Starts it.
    fn start(self) -> Result<Server<P>, StartError> {
        let Self {
            address,
            mut config,
            identity,
            admission,
            service,
            hooks,
            seed,
            mut keys,
            recording,
            busy_poll,
            shards,
            problem,
            platform,
        } = self;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let Admit(policy) = admission.ok_or(StartError::NoAdmission)?;
        let identity = identity.ok_or(StartError::NoIdentity)?;
        let (admission, client_roots, ask) = match policy {
            Policy::Open(roots) => (Admission::Open, roots, None),
            Policy::MutualTls(roots) => (Admission::MutualTls, Some(roots), None),
            Policy::Ask(ask, roots) => (Admission::Ask, roots, Some(ask)),
        };
        let platform = platform
            .map_or_else(P::current, Ok)
            .map_err(StartError::Runtime)?;
        let seed = seed.map_or_else(P::seed, Ok).map_err(StartError::Runtime)?;
        let server = Some(ServerRole {
            identity,
            admission,
            client_roots,
        });
        let roles = Roles {
            server,
            client: None,
        };
        let crew = Crew {
            service,
            hooks,
            ask,
            limits: config.limits,
            timeouts: config.timeouts,
            pool: Arc::new(platform.clone()),
            busy_poll: busy_poll.unwrap_or_else(P::default_busy_poll),
        };
        let (now, wall) = (platform.now(), platform.wall());
        let bind = |error| StartError::Bind { address, error };
        let Some((count, open)) = shards.filter(|(count, _)| *count != 1) else {
            let origin = Origin {
                now,
                wall,
                seed,
                keys,
            };
            let node = recording::start(recording, config, roles, origin)?;
            let io = platform.bind(address).map_err(bind)?;
            return crew
                .work(vec![node], vec![(platform, io)], None)
                .map_err(bind);
        };
        config.shard.of = count;
        let keys = keys.get_or_insert_with(|| PersistentKeys::from_seed(&seed));
        let mut nodes = Vec::new();
        for number in 0..count.max(1) {
            config.shard.number = number;
            let origin = Origin {
                now,
                wall,
                // No two nodes may have the same.
                seed: Seed::from(seed.derive("shard", number.into())),
                keys: Some(keys.clone()),
            };
            let recording = recording.as_ref().map(|all| all.of_shard(number));
            let (config, roles) = (config.clone(), roles.clone());
            nodes.push(recording::start(recording, config, roles, origin)?);
        }
        let steering = keys.steering(count);
        let places = open(&platform, address, &steering).map_err(bind)?;
        if places.len() != nodes.len() {
            return Err(StartError::Shards {
                shards: count,
                returned: places.len(),
            });
        }
        let crossing = Arc::new(Crossing::new(steering));
        let cross = |(own, (platform, io))| (platform, Crossed::new(io, crossing.clone(), own));
        let places = places.into_iter().enumerate().map(cross).collect();
        crew.work(nodes, places, Some(crossing)).map_err(bind)
    }
}

impl<P: Sharded> ServerBuilder<P> {
    /// Runs so many shards, from 1 (the default) to 256: each is a node of its own with a socket of
    /// its own, on a thread of its own, which its sessions' handlers run on too (those of a
    /// [parallel](Service::parallel) service run in the runtime that starts the server). More than the
    /// machine has cores make it slower.
    ///
    /// A session stays with the shard that the client's first connection fell to, by chance, whatever
    /// becomes of the client's address and however often its link breaks; a client whose session was
    /// lost may come to another shard. Handles do not show shards: they list, broadcast, count, drain
    /// and close across all of them. What does show:
    ///
    /// * [`Admit`] functions run on their shard's thread as well: while one of them, or a handler,
    ///   blocks its thread, that shard's socket is not served.
    /// * On tokio, that thread's runtime is a `current_thread` one: `block_in_place` panics in a
    ///   handler, and what a handler gives to `tokio::spawn` ends with the shard, not with the runtime
    ///   that started the server.
    /// * [`crate::Limits`] are each shard's: sessions of one client too ([`crate::SessionsFull`]).
    /// * Hooks and handlers are called by several threads at once.
    /// * A recording has a file for each shard: `server.0.tlt`, `server.1.tlt`, …
    /// * [`crate::Event::Drained`] is told by each of them.
    /// * If one of them ends before the others, by a panic in its thread, its sessions are lost as if
    ///   the server had been started again, and its clients go to another one. What it had counted stays in
    ///   [`crate::MetricsSnapshot`].
    ///
    /// Datagrams reach their shard by their connection ids ([`crate::Steering`] says how, and what
    /// an observer learns of it). On Linux the kernel chooses the socket so; where it does not,
    /// shards hand over to each other what is not theirs, which costs a wake-up, and is counted
    /// ([`crate::MetricsSnapshot::datagrams_forwarded`]). A client that is no Trunkline client of
    /// ours has to follow the protocol's section about a server in several places to find its
    /// session again.
    pub fn shards(mut self, count: usize) -> Self {
        // What is too many stays so.
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        self.shards = Some((count, P::shards));
        self
    }
}

/// How a platform makes runtimes and sockets for shards.
type Open<P> = fn(&P, SocketAddr, &Steering) -> io::Result<Vec<(P, <P as Platform>::Io)>>;

/// What all nodes of a server have.
struct Crew {
    service: Option<Arc<dyn Serve>>,
    hooks: Option<Arc<dyn Hooks>>,
    ask: Option<Ask>,
    limits: Limits,
    timeouts: Timeouts,
    pool: Arc<dyn Runtime>,
    busy_poll: BusyPoll,
}

impl Crew {
    /// Starts a driver for each node, each in its place, of which there are as many.
    fn work<P: Platform, I: Io>(
        self,
        nodes: Vec<(Node, Fresh)>,
        places: Vec<(P, I)>,
        crossing: Option<Arc<Crossing>>,
    ) -> io::Result<Server<P>> {
        let Self {
            service,
            hooks,
            ask,
            limits,
            timeouts,
            pool,
            busy_poll,
        } = self;
        let bound = match places.first() {
            Some((_, io)) => io.local_address()?,
            None => return Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        let runtime = |(platform, _): &(P, I)| Arc::new(platform.clone()) as Arc<dyn Runtime>;
        let runtimes = places.iter().map(runtime);
        let shared = Arc::new(Shared::new(runtimes, &pool, limits, crossing));
        for (((node, fresh), (platform, io)), desk) in
            nodes.into_iter().zip(places).zip(&shared.desks)
        {
            let parts = Parts {
                shared: shared.clone(),
                desk: desk.clone(),
                service: service.clone(),
                hooks: hooks.clone(),
                ask: ask.clone(),
                resolver: None,
                timeouts,
                busy_poll: busy_poll.clone(),
            };
            fresh.keep();
            platform.spawn(Box::pin(Driver::new(node, io, parts)));
        }
        Ok(Server::new(shared, bound))
    }
}

impl<P: Platform> IntoFuture for ServerBuilder<P> {
    type Output = Result<Server<P>, StartError>;
    type IntoFuture = Task<Self::Output>;

    /// Starts it. Cancel-safe.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.start() })
    }
}

impl<P: Platform> fmt::Debug for ServerBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
