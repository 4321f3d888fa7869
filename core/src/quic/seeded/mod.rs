//! Cryptography whose every random draw and clock reading comes from outside, so that the same
//! seed and inputs give the same bytes.
//!
//! Everything a node needs starts at its one [`Sources`]:
//!
//! | source of randomness or time | what would be asked otherwise | injected through | here |
//! |---|---|---|---|
//! | packet number skips, challenges, reserved parameters, retry tokens' nonces (the endpoint's generator, and each connection's, seeded from it) | the operating system | `Endpoint::new(.., Some(seed))`; not `EndpointConfig::rng_seed`, whose `Debug` prints it | [`endpoint_seed`] |
//! | connection ids | the thread's generator, even with `HashedConnectionIdGenerator::from_key` | `EndpointConfig::cid_generator` | [`Sources::connection_ids`] |
//! | a client's first destination connection id | the thread's generator | `ClientConfig::initial_dst_cid_provider` | [`Sources::first_destinations`] |
//! | stateless reset key | the thread's generator | `EndpointConfig::new` | [`PersistentKeys::reset_key`] |
//! | address validation token key | the thread's generator | `quinn_proto::ServerConfig::new` | [`PersistentKeys::token_key`] |
//! | wall clock in tokens | the system's clock | `quinn_proto::ServerConfig::time_source` | [`WallClock`] |
//! | TLS randoms, order of extensions, session tickets | the operating system | rustls `CryptoProvider::secure_random` | [`provider`], within a session's scope |
//! | ephemeral key shares (X25519) | the operating system | rustls `CryptoProvider::kx_groups` | [`provider`], within a session's scope |
//! | ECDSA nonces, RSA-PSS salts | the operating system, inside of aws-lc | cannot be injected: a signature can be recorded and given back instead. Ed25519 keys need none | [`signing::SignatureTap`] |
//! | wall clock in TLS (certificates, tickets) | the system's clock | `builder_with_details(.., TimeProvider)` | [`WallClock`] |
//! | BBR's probing | the thread's generator | cannot be injected: only Cubic and NewReno are offered | |
//!
//! Two more that have to stay as they are: address tokens for later connections are neither given nor kept
//! (`quic::transport`), for a server's log of used ones hashes with a random key; and TLS sessions are stored in maps
//! that are looked up and never iterated.

mod build;
mod chain;
mod checked;
mod compare;
pub(crate) mod der;
mod exchange;
mod ids;
mod keys;
mod provider;
mod scope;
mod session;
mod signing;
mod sources;
mod suites;
pub(crate) mod tls;
mod validity;
mod wall;

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod tap_tests;

pub(crate) use build::{ClientCertificates, client_crypto, server_crypto};
pub(crate) use compare::certificate_names_client;
pub(crate) use ids::SeededCidGenerator;
pub use keys::PersistentKeys;
pub(crate) use provider::provider;
pub(crate) use signing::{SignatureLog, SignatureTap, digest_of_signed};
pub(crate) use sources::{Sources, endpoint_seed};
pub(crate) use validity::certificate_has_expired;
pub(crate) use wall::WallClock;
