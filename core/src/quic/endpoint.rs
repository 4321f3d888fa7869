//! The node's QUIC endpoint: which connection a datagram is for, and who may begin one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, ConnectError, ConnectionError, ConnectionEvent, ConnectionHandle, ConnectionId,
    DatagramEvent, EcnCodepoint, EndpointConfig, EndpointEvent, Event, NoneTokenStore,
    ServerConfig, Side, Transmit, VarInt, crypto,
};
use rustls_pki_types::CertificateDer;

use super::acks::AckMoments;
use super::carrier::Carrier;
use super::connection::Connection;
use super::copies::Copies;
use super::foreign::foreign_crypto;
use super::pace::Pace;
use super::reasons;
use super::script::{Said, Script};
use super::seeded::tls::{Identity, Roots};
use super::seeded::{
    self, ClientCertificates, PersistentKeys, SeededCidGenerator, SignatureTap, Sources, WallClock,
};
use super::transport::{client_transport, no_later_tokens, receive_window, server_transport};
use crate::config::Config;
use crate::error::{CommandError, ConfigError, DisconnectReason, TlsError};
use crate::id::LinkKey;
use crate::moments::Moments;
use crate::seed::Seed;
use crate::steering::NAMING;

/// What the endpoint's cryptography is made from.
pub(crate) struct Keys<'a> {
    pub(crate) seed: &'a Seed,
    pub(crate) now: Instant,
    pub(crate) wall: SystemTime,
    pub(crate) persistent: Option<PersistentKeys>,
    /// A server's identity, and what it asks of its clients' certificates.
    pub(crate) server: Option<(&'a Identity, ClientCertificates<'a>)>,
    pub(crate) client: Option<(&'a Roots, Option<&'a Identity>)>,
    /// Stands between TLS and the private keys.
    pub(crate) signatures: Option<Arc<dyn SignatureTap>>,
}

/// What a datagram brought.
pub(crate) enum Arrived {
    /// It is for a connection.
    For(ConnectionHandle, ConnectionEvent),
    /// Somebody began a connection, and it was accepted.
    New(Box<Carrier>),
    /// It was answered without state, or there is nothing to do; whether it was turned away.
    Handled(TurnedAway),
    /// Somebody began a connection, and TLS or QUIC ended it with the first packet.
    Failed(DisconnectReason),
}

/// Why the beginning of a connection was not accepted, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    No,
    Retried,
    Ignored,
    Refused,
}

/// QUIC's endpoint.
pub(crate) struct Endpoint {
    inner: quinn_proto::Endpoint,
    server: Option<ServerConfig>,
    client: Option<ClientConfig>,
    sources: Sources,
    /// Draws the destination ids of first packets.
    first_destinations: Arc<dyn Fn() -> ConnectionId + Send + Sync>,
    /// Makes ids that name this shard, if there are several.
    redial_ids: Option<SeededCidGenerator>,
    wall: WallClock,
    receive_window: VarInt,
    /// What each connection begins with.
    acks: AckMoments,
    /// Connections say things twice where that helps.
    copies_on_loss: bool,
    /// In place of QUIC.
    scripts: Option<Scripts>,
    /// Of stateless resets.
    resets: Pace,
    /// Datagrams that are no connection's: Retry, stateless reset, refusals.
    pub(crate) responses: Vec<(Transmit, Vec<u8>)>,
    /// How many of those were not made, for too many waited, since that was counted last.
    pub(crate) responses_dropped: u64,
}

/// What stands in place of QUIC where connections are scripted.
struct Scripts {
    dials: bool,
    begun: usize,
    said: Vec<(LinkKey, Said)>,
}

/// What QUIC may keep of datagrams that come for a connection before it is decided whether that begins, and
/// for all of those together, in bytes. It is decided at once.
const UNDECIDED: u64 = 64 << 10;
const UNDECIDED_TOTAL: u64 = 16 << 20;

/// Datagrams that wait to be sent outside of connections; beyond it they are not made (RFC 9000
/// asks for none of them to be reliable).
const RESPONSES_MAX: usize = 1_024;

impl Endpoint {
    pub(crate) fn new(config: &Config, keys: &Keys<'_>) -> Result<Self, ConfigError> {
        let wall = WallClock::new(keys.now, keys.wall);
        let sources = Sources::new(keys.seed, wall.clone(), keys.signatures.clone());
        let persistent = keys
            .persistent
            .clone()
            .unwrap_or_else(|| PersistentKeys::from_seed(keys.seed));
        let mut endpoint = EndpointConfig::new(persistent.reset_key());
        let shard = config.shard;
        let shard = (shard.of > 1).then(|| (persistent.steering(shard.of), shard.number));
        endpoint.cid_generator(sources.connection_ids(shard.clone()));
        // QUIC takes any size that a configuration may have.
        let _ = endpoint.max_udp_payload_size(config.transport.largest_taken());
        // It would let one reset through for each reading of the clock, which serves many datagrams.
        endpoint.min_reset_interval(Duration::ZERO);
        let server = match keys.server {
            None => None,
            Some((identity, clients)) => {
                identity.put_to_use(keys.wall)?;
                let tls = server_tls(config, identity, clients, &sources)?;
                let mut server = ServerConfig::new(tls, persistent.token_key());
                server
                    .time_source(Arc::new(wall.clone()))
                    .migration(config.transport.migration)
                    .validation_token_config(no_later_tokens())
                    .max_incoming(config.limits.half_open)
                    .incoming_buffer_size(UNDECIDED)
                    .incoming_buffer_size_total(UNDECIDED_TOTAL)
                    .transport_config(server_transport(config));
                Some(server)
            }
        };
        let client = match keys.client {
            None => None,
            Some((roots, identity)) => {
                if let Some(identity) = identity {
                    identity.put_to_use(keys.wall)?;
                }
                Some(client_config(config, roots, identity, &sources)?)
            }
        };
        let inner = quinn_proto::Endpoint::new(
            Arc::new(endpoint),
            server.clone().map(Arc::new),
            true,
            Some(seeded::endpoint_seed(keys.seed)),
        );
        Ok(Self {
            inner,
            server,
            client,
            first_destinations: sources.first_destinations(),
            redial_ids: shard.map(|shard| sources.connection_id_generator(Some(shard))),
            sources,
            wall,
            receive_window: receive_window(config),
            acks: AckMoments::new(Moments::new(keys.now)),
            copies_on_loss: config.transport.copies_on_loss,
            scripts: None,
            // All shards of a server together keep to it.
            resets: Pace::new(
                config
                    .transport
                    .min_reset_interval
                    .saturating_mul(u32::from(config.shard.of)),
            ),
            responses: Vec::new(),
            responses_dropped: 0,
        })
    }

    /// Connections that are accepted from now on are shown this identity, and asked for this. None of them
    /// resumes a TLS session from before: whom it was made with may not be trusted any more.
    pub(crate) fn set_server_tls(
        &mut self,
        config: &Config,
        identity: &Identity,
        clients: ClientCertificates<'_>,
    ) -> Result<(), TlsError> {
        if let Some(server) = &mut self.server {
            server.crypto = server_tls(config, identity, clients, &self.sources)?;
            let server = Arc::new(server.clone());
            self.inner.set_server_config(Some(server));
        }
        Ok(())
    }

    /// Servers that are dialled from now on are trusted by these roots, and shown this identity. None of them
    /// has its TLS session from before resumed, as [`Self::set_server_tls`] says.
    pub(crate) fn set_client_tls(
        &mut self,
        config: &Config,
        roots: &Roots,
        identity: Option<&Identity>,
    ) -> Result<(), TlsError> {
        self.client = Some(client_config(config, roots, identity, &self.sources)?);
        Ok(())
    }

    /// From here on all connections are scripted, also those that it dials, if it does.
    pub(crate) fn scripted(self, dials: bool) -> Self {
        Self {
            scripts: Some(Scripts {
                dials,
                begun: 0,
                said: Vec::new(),
            }),
            ..self
        }
    }

    /// A peer begins a scripted connection; `None`: none are.
    pub(crate) fn accept_scripted(
        &mut self,
        address: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Option<Carrier> {
        let script = Script::new(Side::Server, address, certificates);
        self.scripts.as_mut().map(|scripts| scripts.begin(script))
    }

    /// Scripted connections have said this.
    pub(crate) fn hear(&mut self, said: Vec<(LinkKey, Said)>) {
        if let Some(scripts) = &mut self.scripts {
            scripts.said.extend(said);
        }
    }

    /// What scripted connections have said since this was asked last.
    pub(crate) fn take_said(&mut self) -> Vec<(LinkKey, Said)> {
        let scripts = self.scripts.as_mut();
        scripts.map_or_else(Vec::new, |scripts| std::mem::take(&mut scripts.said))
    }

    /// The time of day that certificates and tokens are judged by.
    pub(crate) fn wall(&self) -> &WallClock {
        &self.wall
    }

    /// Moves the wall clock that certificates and tokens are judged by.
    pub(crate) fn set_time(&mut self, now: Instant) {
        self.wall.set(now);
    }

    /// Routes a datagram. `may_begin` says whether a new connection is welcome, given whether its
    /// address is validated.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: Option<EcnCodepoint>,
        data: BytesMut,
        may_begin: impl FnOnce(bool) -> MayBegin,
    ) -> Arrived {
        if self.scripts.is_some() {
            return Arrived::Handled(TurnedAway::No);
        }
        let mut buffer = Vec::new();
        match self
            .inner
            .handle(now, remote, local_ip, ecn, data, &mut buffer)
        {
            None => Arrived::Handled(TurnedAway::No),
            Some(DatagramEvent::ConnectionEvent(handle, event)) => Arrived::For(handle, event),
            Some(DatagramEvent::Response(transmit)) => {
                // All others have long headers (RFC 9000, section 17.2).
                let is_reset = buffer.first().is_some_and(|first| first & 0x80 == 0);
                if !is_reset || self.resets.may(now) {
                    self.respond(transmit, buffer);
                }
                Arrived::Handled(TurnedAway::No)
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                buffer.clear();
                match may_begin(incoming.remote_address_validated()) {
                    MayBegin::Yes => match self.inner.accept(incoming, now, &mut buffer, None) {
                        Ok((handle, connection)) if connection.is_closed() => {
                            // Its first packet was its last: a client that gave up before it was
                            // heard. QUIC would keep it until its idle timeout, for the time that
                            // connections drain in is not started by a first packet.
                            self.inner.handle_event(handle, EndpointEvent::drained());
                            Arrived::Failed(ended(connection))
                        }
                        Ok((handle, connection)) => {
                            let connection =
                                Connection::of_quic(connection, self.acks, self.copies());
                            Arrived::New(Box::new(Carrier::new(handle, connection)))
                        }
                        Err(error) => {
                            if let Some(transmit) = error.response {
                                self.respond(transmit, buffer);
                            }
                            Arrived::Failed(reasons::reason(error.cause))
                        }
                    },
                    MayBegin::IfValidated if incoming.may_retry() => {
                        if let Ok(transmit) = self.inner.retry(incoming, &mut buffer) {
                            self.respond(transmit, buffer);
                        }
                        Arrived::Handled(TurnedAway::Retried)
                    }
                    MayBegin::IfValidated | MayBegin::No => {
                        self.inner.ignore(incoming);
                        Arrived::Handled(TurnedAway::Ignored)
                    }
                    MayBegin::Refused => {
                        let transmit = self.inner.refuse(incoming, &mut buffer);
                        self.respond(transmit, buffer);
                        Arrived::Handled(TurnedAway::Refused)
                    }
                }
            }
        }
    }

    /// Begins a connection. The destination id of its first packets begins with `route`, and is
    /// random otherwise; says what it begins with.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        address: SocketAddr,
        server_name: &str,
        route: Option<[u8; NAMING]>,
    ) -> Result<(Carrier, Option<[u8; NAMING]>), CommandError> {
        if let Some(scripts) = &mut self.scripts {
            let script = Script::new(Side::Client, address, Vec::new());
            return Ok((scripts.begin(script), None));
        }
        let mut config = self
            .client
            .clone()
            .ok_or(CommandError::NotConfigured("client role"))?;
        let mut first = (self.first_destinations)();
        if let (Some(begin), Some(route)) = (first.first_chunk_mut(), route) {
            *begin = route;
        }
        let begins = first.first_chunk().copied();
        config.initial_dst_cid_provider(Arc::new(move || first));
        match self.inner.connect(now, config, address, server_name) {
            Ok((handle, connection)) => {
                let carrier = Carrier::new(
                    handle,
                    Connection::of_quic(connection, self.acks, self.copies()),
                );
                Ok((carrier, begins))
            }
            Err(ConnectError::InvalidServerName(_)) => Err(CommandError::InvalidServerName),
            Err(ConnectError::InvalidRemoteAddress(address)) => {
                Err(CommandError::UndialableAddress(address))
            }
            Err(_) => Err(CommandError::TableFull {
                what: "the connection table",
                field: "nothing: restart",
            }),
        }
    }

    /// What the next connection of a client is to begin with that is to find this node among those
    /// at its address, if there are several.
    pub(crate) fn redial_id(&mut self) -> Bytes {
        let ids = self.redial_ids.as_mut();
        ids.map_or_else(Bytes::new, |ids| Bytes::copy_from_slice(&ids.generate()))
    }

    /// Second copies for a connection, if they are wanted.
    fn copies(&self) -> Option<Box<Copies>> {
        self.copies_on_loss.then(Box::default)
    }

    /// What a connection may receive ahead once its client is admitted, in bytes.
    pub(crate) fn receive_window(&self) -> VarInt {
        self.receive_window
    }

    pub(crate) fn has_client_role(&self) -> bool {
        match &self.scripts {
            Some(scripts) => scripts.dials,
            None => self.client.is_some(),
        }
    }

    pub(crate) fn check_server_name(server_name: &str) -> Result<(), CommandError> {
        rustls_pki_types::ServerName::try_from(server_name)
            .map(drop)
            .map_err(|_| CommandError::InvalidServerName)
    }

    /// Connections that QUIC has not forgotten.
    #[cfg(test)]
    pub(crate) fn open_connections(&self) -> usize {
        self.inner.open_connections()
    }

    pub(crate) fn handle_event(
        &mut self,
        handle: ConnectionHandle,
        event: EndpointEvent,
    ) -> Option<ConnectionEvent> {
        self.inner.handle_event(handle, event)
    }

    fn respond(&mut self, transmit: Transmit, buffer: Vec<u8>) {
        if self.responses.len() < RESPONSES_MAX {
            self.responses.push((transmit, buffer));
        } else {
            self.responses_dropped += 1;
        }
    }
}

impl Scripts {
    fn begin(&mut self, script: Script) -> Carrier {
        let handle = ConnectionHandle(self.begun);
        self.begun += 1;
        Carrier::new(handle, Connection::Scripted(Box::new(script)))
    }
}

fn server_tls(
    config: &Config,
    identity: &Identity,
    clients: ClientCertificates<'_>,
    sources: &Sources,
) -> Result<Arc<dyn crypto::ServerConfig>, TlsError> {
    match foreign_crypto() {
        Some(foreign) => Ok(foreign.server),
        None => {
            let tickets = config.transport.tls_resumption;
            seeded::server_crypto(identity, clients, tickets, sources)
        }
    }
}

fn client_config(
    config: &Config,
    roots: &Roots,
    identity: Option<&Identity>,
    sources: &Sources,
) -> Result<ClientConfig, TlsError> {
    let tls = match foreign_crypto() {
        Some(foreign) => foreign.client,
        None => {
            let tickets = config.transport.tls_resumption;
            seeded::client_crypto(roots, identity, tickets, sources)?
        }
    };
    let mut client = ClientConfig::new(tls);
    client
        .transport_config(client_transport(config))
        .token_store(Arc::new(NoneTokenStore));
    Ok(client)
}

/// Why a connection is over that never was one of a link's.
fn ended(mut connection: quinn_proto::Connection) -> DisconnectReason {
    while let Some(event) = connection.poll() {
        if let Event::ConnectionLost { reason } = event {
            return match reason {
                // It stood in a packet that anybody can make.
                ConnectionError::ApplicationClosed(_) => DisconnectReason::ConnectTimeout,
                reason => reasons::reason(reason),
            };
        }
    }
    DisconnectReason::ConnectTimeout
}

/// Whether a connection may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayBegin {
    Yes,
    /// Only from an address that has shown that it is its own.
    IfValidated,
    /// Not now; without a word, since words cost as much as work.
    No,
    /// Not here, and it is told so.
    Refused,
}
