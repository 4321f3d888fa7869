//! Setting up a server.

use std::fmt;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::admission::{Admit, Policy};
use super::build_error::{StartError, identity_from, keep};
use super::hooks::Hooks;
use super::recording::{self, Recording};
use super::runtime::{Io, Platform, Runtime, Task};
use super::server::Server;
use super::service::{Serve, Service};
use super::shared::Shared;
use super::turn::{Driver, Parts};
use crate::{Admission, Config, Identity, Origin, PersistentKeys, Roles, Seed, ServerRole};

/// Sets up a server; awaited, it starts. See [`Server::bind`].
#[must_use = "nothing starts before this is awaited"]
pub struct ServerBuilder<P> {
    address: SocketAddr,
    config: Config,
    identity: Option<Identity>,
    admission: Option<Admit>,
    service: Option<Arc<dyn Serve>>,
    hooks: Option<Arc<dyn Hooks>>,
    seed: Option<Seed>,
    keys: Option<PersistentKeys>,
    recording: Option<Recording>,
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

    /// Keys that outlive the process, so that clients notice a restart within a round trip.
    pub fn persistent_keys(mut self, keys: PersistentKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Records everything that happens to it into a new file, to be replayed with
    /// `trunkline replay` or [`crate::trace::replay`]: a path, or a [`Recording`].
    ///
    /// By a path alone, every datagram: **who has the file can decrypt everything that it recorded**,
    /// and reads credentials and messages in it; the private key is not in it. With
    /// [`Recording::link`], what comes and goes above QUIC, without any of that. Only its owner can
    /// read the file. A disk that is too slow, or full, ends the recording, with a warning in the
    /// log, and nothing else.
    pub fn record(mut self, recording: impl Into<Recording>) -> Self {
        self.recording = Some(recording.into());
        self
    }

    /// Starts it.
    fn start(self) -> Result<Server<P>, StartError> {
        let Self {
            address,
            config,
            identity,
            admission,
            service,
            hooks,
            seed,
            keys,
            recording,
            problem,
            platform,
        } = self;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let Admit(policy) = admission.ok_or(StartError::NoAdmission)?;
        let identity = identity.ok_or(StartError::NoIdentity)?;
        let (admission, client_roots, ask) = match policy {
            Policy::Open => (Admission::Open, None, None),
            Policy::MutualTls(roots) => (Admission::MutualTls, Some(roots), None),
            Policy::Ask(ask, roots) => (Admission::Ask, roots, Some(ask)),
        };
        let platform = platform
            .map_or_else(P::current, Ok)
            .map_err(StartError::Runtime)?;
        let seed = seed.map_or_else(P::seed, Ok).map_err(StartError::Runtime)?;
        let origin = Origin {
            now: platform.now(),
            wall: platform.wall(),
            seed,
            keys,
        };
        let server = Some(ServerRole {
            identity,
            admission,
            client_roots,
        });
        let (limits, timeouts) = (config.limits, config.timeouts);
        let (node, fresh) = recording::start(
            recording,
            config,
            Roles {
                server,
                client: None,
            },
            origin,
        )?;
        let bind = |error| StartError::Bind { address, error };
        let io = platform.bind(address).map_err(bind)?;
        let bound = io.local_address().map_err(bind)?;
        let platform: Arc<dyn Runtime> = Arc::new(platform);
        let shared = Arc::new(Shared::new([platform.clone()], limits));
        let parts = Parts {
            shared: shared.clone(),
            desk: shared.desks[0].clone(),
            service,
            hooks,
            ask,
            resolver: None,
            timeouts,
        };
        fresh.keep();
        platform.spawn(Box::pin(Driver::new(node, io, parts)));
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

impl<P> fmt::Debug for ServerBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
