//! The header: what a node was made of, and what made it.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::codec::{Decoder, Encoder};
use super::settings::settings;
use super::{Build, TraceError};
use crate::config::Config;
use crate::error::TlsError;
use crate::node::{Admission, ClientRole, Roles, ScriptedRoles, ServerRole};
use crate::quic::{Identity, PersistentKeys, Roots};
use crate::seed::{DrawKey, Seed};
use crate::tap::Level;

/// What a node was made of, and what made it. The private keys are not in it.
#[derive(Clone, Debug)]
pub struct Header {
    /// What the recorded program was built from.
    pub build: Build,
    /// The node's configuration.
    pub config: Config,
    /// The wall clock at the node's origin.
    pub wall: SystemTime,
    /// Where in the node's life the trace begins.
    pub beginning: Beginning,
    /// The level of the recording, and what that needs.
    pub recorded: Recorded,
}

/// Where in a node's life a trace begins: of one that keeps only the last seconds, later than with
/// the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The number of the first record: 1, if none were let go.
    pub first: u64,
    /// The time of the last record before it, in nanoseconds since the node's origin.
    pub clock: i64,
}

impl Default for Beginning {
    /// With the node.
    fn default() -> Self {
        Self { first: 1, clock: 0 }
    }
}

/// How much was recorded, and what a replay of that begins with.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// Every datagram. **Its seed decrypts them.**
    Wire {
        /// Where the node's randomness came from.
        seed: Seed,
        /// Keys that outlive the process, if it was given any.
        keys: Option<PersistentKeys>,
        /// Its certificates, without their keys, and whom it trusts.
        roles: Box<Roles>,
    },
    /// What came and went above QUIC, with nothing that decrypts anything.
    Link {
        /// What the node draws its sessions' names and tokens from, and its jitter. A trace that does
        /// not begin with its node cannot be replayed, and is written without it.
        draws: Option<Draws>,
        /// What it does.
        roles: ScriptedRoles,
        /// Whether bodies and credentials stand in it, and not only that they were there.
        bodies: bool,
    },
}

/// What a node draws its sessions' names and tokens from, and its jitter: a key of its own, derived
/// from the node's seed, from which that cannot be found. Who knows it knows the tokens of its
/// sessions, also of those that begin later, for as long as the node runs.
#[derive(Clone, Debug)]
pub struct Draws(pub(in crate::trace) DrawKey);

/// Names of entries. Those of the configuration are the fields' names behind `config.`.
mod name {
    pub(super) const LEVEL: &str = "level";
    pub(super) const CRATE: &str = "build.crate";
    pub(super) const RUSTC: &str = "build.rustc";
    pub(super) const TARGET: &str = "build.target";
    pub(super) const LOCK: &str = "build.lock";
    pub(super) const WALL: &str = "wall";
    pub(super) const SEED: &str = "seed";
    pub(super) const KEYS: &str = "keys";
    pub(super) const FIRST: &str = "first";
    pub(super) const CLOCK: &str = "clock";
    pub(super) const DRAWS: &str = "draws";
    pub(super) const BODIES: &str = "bodies";
    pub(super) const CLIENT: &str = "client";
    pub(super) const ADMISSION: &str = "server.admission";
    pub(super) const SERVER_CERTIFICATE: &str = "server.certificate";
    pub(super) const CLIENT_ROOT: &str = "server.client_root";
    pub(super) const ROOT: &str = "client.root";
    pub(super) const CLIENT_CERTIFICATE: &str = "client.certificate";
    pub(super) const CONFIG: &str = "config.";
}

const WIRE: &str = "wire";
const LINK: &str = "link";
const KEPT: &str = "kept";
const MARKED: &str = "marked";
const ADMISSIONS: [(Admission, &str); 3] = [
    (Admission::Open, "open"),
    (Admission::MutualTls, "mutual-tls"),
    (Admission::Ask, "ask"),
];

impl Header {
    /// Writes the header's body: entries of a name and a value, each with its length before it.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut body = Zeroizing::new(Vec::with_capacity(16 << 10));
        let mut out = Encoder::new(&mut body);
        let mut entry = |name: &str, value: &[u8]| {
            out.text(name);
            out.bytes(value);
        };
        let level = match self.level() {
            Level::Wire => WIRE,
            Level::Link => LINK,
        };
        entry(name::LEVEL, level.as_bytes());
        entry(name::CRATE, self.build.version.as_bytes());
        entry(name::RUSTC, self.build.rustc.as_bytes());
        entry(name::TARGET, self.build.target.as_bytes());
        entry(name::LOCK, self.build.lock.as_bytes());
        let wall = self.wall.duration_since(SystemTime::UNIX_EPOCH);
        let wall = wall.unwrap_or_default().as_nanos().to_string();
        entry(name::WALL, wall.as_bytes());
        if let Recorded::Wire { roles, .. } = &self.recorded {
            encode_certificates(roles, &mut out);
        }
        let (admission, dials) = match &self.recorded {
            Recorded::Wire { roles, .. } => (roles.server.as_ref().map(|s| s.admission), false),
            Recorded::Link { roles, .. } => (roles.admission, roles.client),
        };
        let mut entry = |name: &str, value: &[u8]| {
            out.text(name);
            out.bytes(value);
        };
        if let Some(admission) = admission {
            let text = ADMISSIONS.iter().find(|(kind, _)| *kind == admission);
            entry(
                name::ADMISSION,
                text.map_or("", |(_, text)| text).as_bytes(),
            );
        }
        if dials {
            entry(name::CLIENT, b"true");
        }
        if self.beginning != Beginning::default() {
            entry(name::FIRST, self.beginning.first.to_string().as_bytes());
            entry(name::CLOCK, self.beginning.clock.to_string().as_bytes());
        }
        for (field, setting) in settings(&mut self.config.clone()) {
            let field = format!("{}{field}", name::CONFIG);
            entry(&field, setting.text().as_bytes());
        }
        // Last, and with room for them, so that no copy of them stays where the body was before.
        out.reserve(512);
        let mut entry = |name: &str, value: &[u8]| {
            out.text(name);
            out.bytes(value);
        };
        match &self.recorded {
            Recorded::Wire { seed, keys, .. } => {
                entry(name::SEED, seed.bytes());
                if let Some(keys) = keys {
                    entry(name::KEYS, &*keys.to_bytes());
                }
            }
            Recorded::Link { draws, bodies, .. } => {
                entry(name::BODIES, if *bodies { KEPT } else { MARKED }.as_bytes());
                if let Some(draws) = draws
                    && self.beginning.first == 1
                {
                    entry(name::DRAWS, draws.0.bytes());
                }
            }
        }
        body
    }

    /// How much was recorded.
    pub fn level(&self) -> Level {
        match self.recorded {
            Recorded::Wire { .. } => Level::Wire,
            Recorded::Link { .. } => Level::Link,
        }
    }

    /// What the node was: a server's admission, and whether it was a client.
    pub fn role(&self) -> ScriptedRoles {
        match &self.recorded {
            Recorded::Wire { roles, .. } => ScriptedRoles {
                admission: roles.server.as_ref().map(|server| server.admission),
                client: roles.client.is_some(),
            },
            Recorded::Link { roles, .. } => *roles,
        }
    }

    /// Reads a header's body.
    pub(super) fn decode(body: &[u8]) -> Result<Self, TraceError> {
        let mut parts = Parts::default();
        let mut from = Decoder(body);
        while !from.is_empty() {
            let entry = from.text().and_then(|name| Some((name, from.bytes()?)));
            let (name, value) = entry.ok_or_else(|| bad("entries", "they are not complete"))?;
            parts.take(name, value)?;
        }
        parts.into_header()
    }
}

fn encode_certificates(roles: &Roles, out: &mut Encoder<'_>) {
    let mut certificates = |name: &str, chain: &[CertificateDer<'static>]| {
        for certificate in chain {
            out.text(name);
            out.bytes(certificate);
        }
    };
    let Roles { server, client } = roles;
    if let Some(server) = server {
        certificates(name::SERVER_CERTIFICATE, server.identity.chain());
        if let Some(roots) = &server.client_roots {
            certificates(name::CLIENT_ROOT, roots.certificates());
        }
    }
    if let Some(client) = client {
        certificates(name::ROOT, client.roots.certificates());
        if let Some(identity) = &client.identity {
            certificates(name::CLIENT_CERTIFICATE, identity.chain());
        }
    }
}

fn bad(entry: &str, why: impl ToString) -> TraceError {
    TraceError::Header {
        entry: entry.to_owned(),
        why: why.to_string(),
    }
}

#[derive(Default)]
struct Parts {
    level: String,
    build: Build,
    config: Config,
    wall: Option<SystemTime>,
    seed: Option<Seed>,
    keys: Option<PersistentKeys>,
    draws: Option<DrawKey>,
    bodies: Option<bool>,
    dials: bool,
    beginning: Beginning,
    admission: Option<Admission>,
    server_chain: Vec<CertificateDer<'static>>,
    client_roots: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    client_chain: Vec<CertificateDer<'static>>,
}

impl Parts {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), TraceError> {
        let text = || std::str::from_utf8(value).map_err(|error| bad(name, error));
        let certificate = || CertificateDer::from(value.to_vec());
        match name {
            name::LEVEL => self.level = text()?.to_owned(),
            name::CRATE => self.build.version = text()?.to_owned(),
            name::RUSTC => self.build.rustc = text()?.to_owned(),
            name::TARGET => self.build.target = text()?.to_owned(),
            name::LOCK => self.build.lock = text()?.to_owned(),
            name::WALL => {
                let nanos: u64 = text()?.parse().map_err(|error| bad(name, error))?;
                self.wall = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos));
            }
            name::SEED => {
                let bytes = value
                    .try_into()
                    .map_err(|_| bad(name, "32 bytes are needed"))?;
                self.seed = Some(Seed::new(bytes));
            }
            name::KEYS => {
                let bytes: &[u8; 64] = value
                    .try_into()
                    .map_err(|_| bad(name, "64 bytes are needed"))?;
                self.keys = Some(PersistentKeys::from_bytes(bytes));
            }
            name::DRAWS => {
                let bytes = value
                    .try_into()
                    .map_err(|_| bad(name, "32 bytes are needed"))?;
                self.draws = Some(DrawKey::new(bytes));
            }
            name::FIRST => {
                let first: u64 = text()?.parse().map_err(|error| bad(name, error))?;
                if first == 0 || first > u64::MAX / 2 {
                    return Err(bad(name, "it is out of range"));
                }
                self.beginning.first = first;
            }
            name::CLOCK => {
                self.beginning.clock = text()?.parse().map_err(|error| bad(name, error))?;
            }
            name::BODIES => {
                self.bodies = Some(match text()? {
                    KEPT => true,
                    MARKED => false,
                    other => return Err(bad(name, format!("'{other}' is not known"))),
                });
            }
            name::CLIENT => match text()? {
                "true" => self.dials = true,
                other => return Err(bad(name, format!("'{other}' is not known"))),
            },
            name::ADMISSION => {
                let text = text()?;
                let known = ADMISSIONS.iter().find(|(_, known)| *known == text);
                let (admission, _) =
                    known.ok_or_else(|| bad(name, format!("'{text}' is not known")))?;
                self.admission = Some(*admission);
            }
            name::SERVER_CERTIFICATE => self.server_chain.push(certificate()),
            name::CLIENT_ROOT => self.client_roots.push(certificate()),
            name::ROOT => self.roots.push(certificate()),
            name::CLIENT_CERTIFICATE => self.client_chain.push(certificate()),
            _ => {
                // What this version has no name for, it cannot do: a replay would differ.
                let field = name.strip_prefix(name::CONFIG);
                let field = field.ok_or_else(|| bad(name, "this version does not know it"))?;
                let mut all = settings(&mut self.config);
                let setting = all.iter_mut().find(|(known, _)| *known == field);
                let (_, setting) =
                    setting.ok_or_else(|| bad(name, "this version has no such setting"))?;
                let text = text()?;
                let set = setting.set(text);
                set.ok_or_else(|| bad(name, format!("'{text}' is no value of it")))?;
            }
        }
        Ok(())
    }

    fn into_header(self) -> Result<Header, TraceError> {
        let missing = |name| bad(name, "it is missing");
        let wall = self.wall.ok_or_else(|| missing(name::WALL))?;
        let (build, config) = (self.build.clone(), self.config.clone());
        let beginning = self.beginning;
        let recorded = match &*self.level {
            WIRE => self.into_wire()?,
            LINK => Recorded::Link {
                draws: match self.draws {
                    None if beginning.first == 1 => return Err(missing(name::DRAWS)),
                    draws => draws.map(Draws),
                },
                roles: ScriptedRoles {
                    admission: self.admission,
                    client: self.dials,
                },
                bodies: self.bodies.ok_or_else(|| missing(name::BODIES))?,
            },
            other => {
                return Err(bad(
                    name::LEVEL,
                    format!("'{other}' is not known, only '{WIRE}' and '{LINK}' are"),
                ));
            }
        };
        Ok(Header {
            build,
            config,
            wall,
            beginning,
            recorded,
        })
    }

    fn into_wire(self) -> Result<Recorded, TraceError> {
        let missing = |name| bad(name, "it is missing");
        let tls = |name: &'static str| move |error: TlsError| bad(name, error);
        let trusted = |name, certificates: Vec<_>| {
            (!certificates.is_empty())
                .then(|| Roots::from_der(certificates, "the trace").map_err(tls(name)))
                .transpose()
        };
        let known = |name, chain: Vec<_>| {
            (!chain.is_empty())
                .then(|| Identity::without_key(chain, "the trace").map_err(tls(name)))
                .transpose()
        };
        let server = match self.admission {
            None => None,
            Some(admission) => Some(ServerRole {
                identity: known(name::SERVER_CERTIFICATE, self.server_chain)?
                    .ok_or_else(|| missing(name::SERVER_CERTIFICATE))?,
                admission,
                client_roots: trusted(name::CLIENT_ROOT, self.client_roots)?,
            }),
        };
        let identity = known(name::CLIENT_CERTIFICATE, self.client_chain)?;
        let client = trusted(name::ROOT, self.roots)?.map(|roots| ClientRole { roots, identity });
        Ok(Recorded::Wire {
            seed: self.seed.ok_or_else(|| missing(name::SEED))?,
            keys: self.keys,
            roles: Box::new(Roles { server, client }),
        })
    }
}
