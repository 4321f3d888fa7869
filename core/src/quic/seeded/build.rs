//! TLS as this protocol wants it: 1.3 only, ALPN `trunkline/1`, no early data.

use std::sync::Arc;

use quinn_proto::crypto;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};

use super::chain::Bounded;
use super::session::{SeededClient, SeededServer};
use super::signing::TappedKey;
use super::tls::{Identity, Roots};
use super::{Sources, provider};
use crate::error::TlsError;

/// How many TLS sessions a client remembers, where it remembers any.
const REMEMBERED_SESSIONS: usize = 256;

/// How many a server remembers, each of them good for one connection.
const REMEMBERED_CLIENTS: usize = 10_000;

/// What a server wants of its clients' certificates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientCertificates<'a> {
    /// It asks for none.
    Ignored,
    /// It asks for one that these authorities issued; a client may come without, but not with
    /// another.
    Optional(&'a Roots),
    /// It takes nobody without one that these authorities issued.
    Required(&'a Roots),
}

/// TLS for accepted connections: goes into `quinn_proto::ServerConfig::new`.
///
/// With `tickets`, a client may resume a TLS session, which saves both sides a signature, and
/// then counts as the client whose certificate was checked at first; that it has not expired meanwhile
/// is for the node to look at. Sessions of this protocol do not depend on it. What can be resumed is kept in what
/// is returned, so that with another one, by other roots, every handshake is whole at first.
///
/// Whether it is the time for the identity is not looked at.
///
/// # Errors
/// [`TlsError::NoKey`] (no key and no tap), or [`TlsError::Rejected`] for what rustls does not accept.
pub(crate) fn server_crypto(
    identity: &Identity,
    clients: ClientCertificates<'_>,
    tickets: bool,
    sources: &Sources,
) -> Result<Arc<dyn crypto::ServerConfig>, TlsError> {
    let config = server_tls(identity, clients, tickets, sources)?;
    let inner = Arc::new(QuicServerConfig::try_from(config).map_err(rejected)?);
    Ok(Arc::new(SeededServer {
        inner,
        sources: sources.clone(),
    }))
}

/// What [`server_crypto`] gives to rustls.
pub(super) fn server_tls(
    identity: &Identity,
    clients: ClientCertificates<'_>,
    tickets: bool,
    sources: &Sources,
) -> Result<ServerConfig, TlsError> {
    let of = |roots: &Roots| WebPkiClientVerifier::builder_with_provider(roots.store(), provider());
    let verifier = match clients {
        ClientCertificates::Ignored => None,
        ClientCertificates::Optional(roots) => Some(of(roots).allow_unauthenticated()),
        ClientCertificates::Required(roots) => Some(of(roots)),
    };
    let verifier: Arc<dyn ClientCertVerifier> = match verifier {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(builder) => Arc::new(Bounded(builder.build().map_err(rejected)?)),
    };
    let mut config =
        ServerConfig::builder_with_details(provider(), Arc::new(sources.wall().clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(rejected)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver(identity, sources)?);
    config.alpn_protocols = vec![trunkline_proto::ALPN.to_vec()];
    // Early data can be replayed by anybody who saw it.
    config.max_early_data_size = 0;
    // Half a round trip earlier than the handshake's end, a client has not proven who it is.
    config.send_half_rtt_data = false;
    if tickets {
        config.session_storage = ServerSessionMemoryCache::new(REMEMBERED_CLIENTS);
        config.send_tls13_tickets = 1;
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// TLS for dialled connections: goes into `quinn_proto::ClientConfig::new`. `identity` is what the
/// client shows to a server that asks. `tickets` as in [`server_crypto`].
///
/// # Errors
/// As [`server_crypto`].
pub(crate) fn client_crypto(
    roots: &Roots,
    identity: Option<&Identity>,
    tickets: bool,
    sources: &Sources,
) -> Result<Arc<dyn crypto::ClientConfig>, TlsError> {
    let config = client_tls(roots, identity, tickets, sources)?;
    let inner = Arc::new(QuicClientConfig::try_from(config).map_err(rejected)?);
    Ok(Arc::new(SeededClient {
        inner,
        sources: sources.clone(),
    }))
}

/// What [`client_crypto`] gives to rustls.
pub(super) fn client_tls(
    roots: &Roots,
    identity: Option<&Identity>,
    tickets: bool,
    sources: &Sources,
) -> Result<ClientConfig, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.store(), provider())
        .build()
        .map_err(rejected)?;
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(sources.wall().clone()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(rejected)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Bounded(verifier)));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(resolver(identity, sources)?),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![trunkline_proto::ALPN.to_vec()];
    config.enable_early_data = false;
    config.resumption = if tickets {
        Resumption::in_memory_sessions(REMEMBERED_SESSIONS)
    } else {
        Resumption::disabled()
    };
    Ok(config)
}

/// The identity as rustls takes it, behind the tap if there is one.
fn resolver(identity: &Identity, sources: &Sources) -> Result<Arc<SingleCertAndKey>, TlsError> {
    let key = match (sources.tap(), identity.key()) {
        (Some(tap), key) => Arc::new(TappedKey {
            key: key.cloned(),
            tap: Arc::clone(tap),
        }),
        (None, Some(key)) => Arc::clone(key),
        (None, None) => {
            return Err(TlsError::NoKey {
                what: identity.what().to_owned(),
            });
        }
    };
    Ok(Arc::new(
        CertifiedKey::new(identity.chain().to_vec(), key).into(),
    ))
}

fn rejected(error: impl std::fmt::Display) -> TlsError {
    TlsError::Rejected(error.to_string())
}
