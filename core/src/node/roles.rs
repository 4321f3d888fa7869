//! What a node is given at its start: its roles, and where time and randomness begin.

use std::time::{Instant, SystemTime};

use crate::error::ConfigError;
use crate::quic::{ClientCertificates, Identity, PersistentKeys, Roots};
use crate::seed::Seed;

/// What a node does: serve, dial, or both.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Accepts connections.
    pub server: Option<ServerRole>,
    /// Dials servers.
    pub client: Option<ClientRole>,
}

/// What a server needs.
#[derive(Clone, Debug)]
pub struct ServerRole {
    /// Its certificate chain and key.
    pub identity: Identity,
    /// Who is let in. There is no default: admission is never open by accident.
    pub admission: Admission,
    /// Whose signature on a client's certificate is trusted. With it, clients may show a
    /// certificate; with [`Admission::MutualTls`], they must. There are no lists of revoked certificates (CRLs, OCSP): to
    /// revoke one, have the application look at it with [`Admission::Ask`].
    pub client_roots: Option<Roots>,
}

impl ServerRole {
    /// A server that asks for no certificates of its clients; with [`Admission::MutualTls`], `client_roots` are needed too.
    pub fn new(identity: Identity, admission: Admission) -> Self {
        Self {
            identity,
            admission,
            client_roots: None,
        }
    }

    /// What the server asks of its clients' certificates.
    pub(super) fn client_certificates(&self) -> Result<ClientCertificates<'_>, ConfigError> {
        match (self.admission, &self.client_roots) {
            (Admission::MutualTls, None) => Err(ConfigError::OutOfRange {
                field: "server.client_roots",
                given: "none".into(),
                allowed: "with mutual TLS, only the roots that sign clients' certificates",
            }),
            (Admission::MutualTls, Some(roots)) => Ok(ClientCertificates::Required(roots)),
            (_, Some(roots)) => Ok(ClientCertificates::Optional(roots)),
            (_, None) => Ok(ClientCertificates::Ignored),
        }
    }
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Everybody, under the client id that they claim. Who shows a certificate ([`ServerRole::client_roots`]) comes in under
    /// an id that it names as a DNS name, and no other.
    Open,
    /// Whoever has a certificate that names the client id as a DNS name.
    MutualTls,
    /// Whom the application admits, on [`crate::Event::Admission`].
    Ask,
}

/// What a client needs.
#[derive(Clone, Debug)]
pub struct ClientRole {
    /// Whose signature on a server's certificate is trusted.
    pub roots: Roots,
    /// Its own certificate chain and key, for servers that ask for one.
    pub identity: Option<Identity>,
}

impl ClientRole {
    /// A client without a certificate.
    pub fn new(roots: Roots) -> Self {
        Self {
            roots,
            identity: None,
        }
    }
}

impl From<ServerRole> for Roles {
    /// A server alone.
    fn from(server: ServerRole) -> Self {
        Self {
            server: Some(server),
            client: None,
        }
    }
}

impl From<ClientRole> for Roles {
    /// A client alone.
    fn from(client: ClientRole) -> Self {
        Self {
            server: None,
            client: Some(client),
        }
    }
}

/// Where time and randomness begin; a node reads no clock and draws from nothing else.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The monotonic clock now.
    pub now: Instant,
    /// The wall clock now: what certificates are judged by. It advances with the monotonic clock, and
    /// [`Node::set_wall`](super::Node::set_wall) corrects it.
    pub wall: SystemTime,
    /// 32 bytes from the operating system; in tests, any.
    pub seed: Seed,
    /// Keys that outlive the process, so that a client notices a restart within a round trip.
    /// `None`: they are made from the seed.
    pub keys: Option<PersistentKeys>,
}

impl Origin {
    /// Without keys that outlive the process.
    pub fn new(now: Instant, wall: SystemTime, seed: Seed) -> Self {
        Self {
            now,
            wall,
            seed,
            keys: None,
        }
    }
}
