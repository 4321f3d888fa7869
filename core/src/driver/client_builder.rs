//! Setting up a client.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use super::build_error::{StartError, identity_from, keep, roots_from};
use super::client::Client;
use super::hooks::Hooks;
use super::peer::State;
use super::recording::{self, Recording};
use super::resolve::{Lookup, Resolver, in_reach};
use super::runtime::{Io, Platform, Runtime, Task};
use super::service::{Serve, Service};
use super::shared::Shared;
use super::turn::{Driver, Parts};
use crate::{BusyPoll, ClientId, ClientRole, Config, Dial, Identity, Origin, Roles, Roots, Seed};

/// Sets up a client; awaited, it connects. See [`Client::connect`].
#[must_use = "nothing is dialled before this is awaited"]
pub struct ClientBuilder<P> {
    target: String,
    config: Config,
    roots: Option<Roots>,
    identity: Option<Identity>,
    server_name: Option<String>,
    client: Option<ClientId>,
    credentials: Bytes,
    agent: String,
    service: Option<Arc<dyn Serve>>,
    hooks: Option<Arc<dyn Hooks>>,
    seed: Option<Seed>,
    patience: Duration,
    busy_poll: Option<BusyPoll>,
    recording: Option<Recording>,
    problem: Option<StartError>,
    platform: Option<P>,
}

impl<P: Platform> ClientBuilder<P> {
    pub(crate) fn new(target: String) -> Self {
        Self {
            target,
            config: Config::default(),
            roots: None,
            identity: None,
            server_name: None,
            client: None,
            credentials: Bytes::new(),
            agent: concat!("trunkline/", env!("CARGO_PKG_VERSION")).into(),
            service: None,
            hooks: None,
            seed: None,
            patience: Duration::from_secs(30),
            busy_poll: None,
            recording: None,
            problem: None,
            platform: None,
        }
    }

    /// Whose signature on the server's certificate is trusted. Needed.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// The same from a PEM file, which is read at once.
    pub fn roots_pem_file(mut self, path: impl AsRef<Path>) -> Self {
        keep(
            &mut self.roots,
            roots_from(path.as_ref()),
            &mut self.problem,
        );
        self
    }

    /// Its own certificate chain and key, for servers that ask for one.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Its own certificate chain and key, from PEM files that are read at once.
    pub fn identity_pem_files(
        mut self,
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Self {
        let identity = identity_from(certificates.as_ref(), key.as_ref());
        keep(&mut self.identity, identity, &mut self.problem);
        self
    }

    /// The name that the server's certificate must bear; by default the host of the target.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Who this client is. Needed.
    pub fn client_id(mut self, id: impl AsRef<str>) -> Self {
        keep(
            &mut self.client,
            ClientId::new(id.as_ref()).map_err(Into::into),
            &mut self.problem,
        );
        self
    }

    /// What the server's admission wants to see, at most 2 KiB with the agent's name.
    pub fn credentials(mut self, credentials: impl Into<Bytes>) -> Self {
        self.credentials = credentials.into();
        self
    }

    /// Name and version of this software, for the function that decides about admission at the server.
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// Who handles what the server sends. Without a service it is all rejected.
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

    /// How long to wait for the first connection, the look-up of the server's name included, before
    /// giving up (30 s).
    pub fn connect_timeout(mut self, patience: Duration) -> Self {
        self.patience = patience;
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

    /// Starts dialling and returns at once, whether or not the server is there: messages that are
    /// sent meanwhile wait in the outbox. Waits only for the server's name to be looked up.
    /// Cancel-safe: dropped, nothing is left behind.
    pub async fn start(self) -> Result<Client<P>, StartError> {
        let Self {
            target,
            config,
            roots,
            identity,
            server_name,
            client,
            recording,
            problem,
            platform,
            ..
        } = self;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let roots = roots.ok_or(StartError::NoRoots)?;
        let client = client.ok_or(StartError::NoClientId)?;
        let platform = platform
            .map_or_else(P::current, Ok)
            .map_err(StartError::Runtime)?;
        let platform = Arc::new(platform);
        let found = lookup(&*platform, &target).await?;
        let seed = self
            .seed
            .map_or_else(P::seed, Ok)
            .map_err(StartError::Runtime)?;
        let origin = Origin {
            now: platform.now(),
            wall: platform.wall(),
            seed,
            keys: None,
        };
        let (limits, timeouts) = (config.limits, config.timeouts);
        let roles = Roles {
            server: None,
            client: Some(ClientRole { roots, identity }),
        };
        let (io, bound) = bind(&*platform, &found)?;
        let (mut node, fresh) = recording::start(recording, config, roles, origin)?;
        let ipv6 = bound.is_ipv6();
        let mut addresses = in_reach(&found, ipv6).into_iter();
        let address = addresses
            .next()
            .ok_or_else(|| unresolved(&target, io::ErrorKind::NotFound, "it has no address"))?;
        let server_name = server_name.unwrap_or_else(|| host_of(&target).to_owned());
        let (credentials, agent) = (self.credentials, self.agent);
        let dial = Dial {
            address,
            server_name,
            client: client.clone(),
            credentials,
            agent,
        };
        let session = node.connect(platform.now(), dial)?;
        for other in addresses {
            node.add_address(platform.now(), session, other)?;
        }
        let lookup: Lookup = {
            let platform = platform.clone();
            Arc::new(move |target| platform.resolve(target))
        };
        let runtime: Arc<dyn Runtime> = platform.clone();
        let resolver = Some(Resolver::new(target, lookup, ipv6));
        let shared = Arc::new(Shared::new([runtime.clone()], &runtime, limits, None));
        let (service, hooks) = (self.service, self.hooks);
        let parts = Parts {
            desk: shared.desks[0].clone(),
            shared,
            service,
            hooks,
            ask: None,
            resolver,
            timeouts,
            busy_poll: self.busy_poll.unwrap_or_else(P::default_busy_poll),
        };
        let mut driver = Driver::new(node, io, parts);
        driver.end_with_last_session();
        let peer = driver.lodge(session, &client, State::Connecting, None);
        fresh.keep();
        platform.spawn(Box::pin(driver));
        Ok(Client::new(peer, bound))
    }

    /// Starts, and waits for the first link.
    async fn connect(mut self) -> Result<Client<P>, StartError> {
        let after = self.patience;
        let platform = self
            .platform
            .map_or_else(P::current, Ok)
            .map_err(StartError::Runtime)?;
        let mut patience = platform.sleep(after);
        self.platform = Some(platform);
        let target = self.target.clone();
        let timed_out = |looked_up, last_reason| StartError::TimedOut {
            target,
            looked_up,
            after,
            last_reason,
        };
        let Some(started) = before(&mut patience, self.start()).await else {
            return Err(timed_out(false, None));
        };
        let client = started?;
        match before(&mut patience, client.connected()).await {
            Some(Ok(())) => Ok(client),
            Some(Err(reason)) => Err(StartError::Refused(reason)),
            None => {
                let last_reason = match client.state() {
                    State::Reconnecting { reason, .. } | State::Away(reason) => Some(reason),
                    _ => None,
                };
                Err(timed_out(true, last_reason))
            }
        }
    }
}

/// What comes of the work, unless the time is over before.
async fn before<T>(time: &mut Task, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => time.as_mut().poll(cx).map(|()| None),
    })
    .await
}

impl<P: Platform> IntoFuture for ClientBuilder<P> {
    type Output = Result<Client<P>, StartError>;
    type IntoFuture = Task<Self::Output>;

    /// Connects: waits for the first link, a refusal, or the connect timeout. A certificate that is not accepted, by
    /// either side, is a refusal when that happened three times in a row, for anybody on the way can forge one; one that
    /// has expired or is not valid yet never is. Cancel-safe: dropped, the client closes.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}

impl<P> fmt::Debug for ClientBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

async fn lookup(platform: &impl Platform, target: &str) -> Result<Vec<SocketAddr>, StartError> {
    if let Ok(address) = target.parse() {
        return Ok(vec![address]);
    }
    let complete = target.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(':') && port.parse::<u16>().is_ok()
    });
    if !complete {
        let advice = "give it as host:port, an IPv6 address in brackets";
        return Err(unresolved(target, io::ErrorKind::InvalidInput, advice));
    }
    let found = platform.resolve(target).await;
    found.map_err(|error| StartError::Resolve {
        target: target.to_owned(),
        error,
    })
}

fn unresolved(target: &str, kind: io::ErrorKind, reason: &str) -> StartError {
    StartError::Resolve {
        target: target.to_owned(),
        error: io::Error::new(kind, reason),
    }
}

/// A socket of both families, for what the name leads to later may be of the other one; of IPv4, where there is no
/// IPv6, or where that serves it better and it is all that was found.
fn bind<P: Platform>(
    platform: &P,
    found: &[SocketAddr],
) -> Result<(P::Io, SocketAddr), StartError> {
    let at = |address: SocketAddr| {
        let bound = platform.bind(address).and_then(|io| {
            let bound = io.local_address()?;
            Ok((io, bound))
        });
        bound.map_err(|error| StartError::Bind { address, error })
    };
    let of_ipv4 = |address: &SocketAddr| address.ip().to_canonical().is_ipv4();
    let (has_ipv4, has_ipv6) = (found.iter().any(of_ipv4), !found.iter().all(of_ipv4));
    match at((Ipv6Addr::UNSPECIFIED, 0).into()) {
        Ok((io, bound)) if has_ipv6 || io.serves_ipv4() => Ok((io, bound)),
        Err(error) if has_ipv6 && !has_ipv4 => Err(error),
        other => {
            if let Err(error) = other {
                tracing::debug!(%error, "without IPv6: IPv4 alone can be dialled");
            }
            at((Ipv4Addr::UNSPECIFIED, 0).into())
        }
    }
}

/// The host of `host:port`, without an IPv6 address's brackets.
fn host_of(target: &str) -> &str {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_name_is_the_targets_host() {
        assert_eq!(host_of("example.org:4433"), "example.org");
        assert_eq!(host_of("[::1]:4433"), "::1");
        assert_eq!(host_of("127.0.0.1:4433"), "127.0.0.1");
    }
}
