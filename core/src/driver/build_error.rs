//! Why a server or client did not start.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::service::ServiceError;
use crate::{CommandError, ConfigError, DisconnectReason, Identity, InvalidName, Roots, TlsError};

/// Why a server or client did not start, in words that say what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A server was not told who is let in.
    #[error(
        "the server was not told who is let in: give .admission(Admit::open()), \
         .admission(Admit::mutual_tls(roots)) or .admission(Admit::ask(function))"
    )]
    NoAdmission,
    /// A server was given no certificate and key.
    #[error(
        "the server has no identity: give .identity(..) or .identity_pem_files(certificates, key)"
    )]
    NoIdentity,
    /// A client was not told whom to trust.
    #[error("the client trusts nobody: give .roots(..) or .roots_pem_file(path)")]
    NoRoots,
    /// A client was given no id.
    #[error("the client has no id: give .client_id(..)")]
    NoClientId,
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The recording cannot be made.
    #[error("cannot record to {}: {error}{}", path.display(), not_overwritten(error))]
    Recording {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The address cannot be bound to.
    #[error("cannot bind to {address}: {error}{}", in_use(error))]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The platform did not return a runtime and a socket for each shard.
    #[error(
        "the platform returned {returned} places for {shards} shards: its Sharded::shards must \
         return one for each"
    )]
    Shards {
        /// How many shards there were to be.
        shards: u16,
        /// For how many of them there was a place.
        returned: usize,
    },
    /// The runtime lacks something: there is none, or no randomness.
    #[error("the runtime cannot run this: {0}")]
    Runtime(io::Error),
    /// The server's name was not found.
    #[error("{target} was not found: {error}")]
    Resolve {
        /// What was looked up.
        target: String,
        /// Why.
        error: io::Error,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A name cannot be used.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The service's handlers cannot stand beside each other.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The client cannot dial so.
    #[error(transparent)]
    Dial(#[from] CommandError),
    /// The server, or the way to it, said no for good.
    #[error("not connected: {0}")]
    Refused(DisconnectReason),
    /// No connection came about in time.
    #[error("not connected to {target} within {after:?}; {}", so_far(*looked_up, last_reason.as_ref()))]
    TimedOut {
        /// Where to.
        target: String,
        /// Whether its addresses were known.
        looked_up: bool,
        /// How long it was tried.
        after: Duration,
        /// How the last attempt failed, if one did.
        last_reason: Option<DisconnectReason>,
    },
}

fn in_use(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "; stop whoever uses it, or choose another port"
    } else {
        ""
    }
}

fn not_overwritten(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AlreadyExists {
        "; it is not overwritten: give another path, or remove it"
    } else {
        ""
    }
}

fn so_far(looked_up: bool, last_reason: Option<&DisconnectReason>) -> String {
    match last_reason {
        _ if !looked_up => "its name was still being looked up".to_owned(),
        None => "it has not answered: see that it runs, and that UDP is let through".to_owned(),
        Some(reason) => format!("the last attempt: {reason}"),
    }
}

/// Reads a certificate chain and its key from PEM files.
pub(crate) fn identity_from(certificates: &Path, key: &Path) -> Result<Identity, StartError> {
    let what = format!("{} with {}", certificates.display(), key.display());
    let (chain, secret) = (read(certificates)?, Zeroizing::new(read(key)?));
    let read = Identity::from_pem(&chain, &secret, &what);
    Ok(read.map_err(|error| of_one_file(error, certificates, key))?)
}

/// Names the one of the two that is meant, where that is clear.
fn of_one_file(error: TlsError, certificates: &Path, key: &Path) -> TlsError {
    let shown = |path: &Path| path.display().to_string();
    match error {
        TlsError::NoCertificate { .. } => TlsError::NoCertificate {
            what: shown(certificates),
        },
        TlsError::NoKey { .. } => TlsError::NoKey { what: shown(key) },
        other => other,
    }
}

/// Reads trusted certificates from a PEM file.
pub(crate) fn roots_from(path: &Path) -> Result<Roots, StartError> {
    Ok(Roots::from_pem(&read(path)?, &path.display().to_string())?)
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|error| StartError::File {
        path: path.to_owned(),
        error,
    })
}

/// Keeps a builder's setting, or the first thing that was wrong with one.
pub(crate) fn keep<T>(
    place: &mut Option<T>,
    value: Result<T, StartError>,
    problem: &mut Option<StartError>,
) {
    match value {
        Ok(value) => *place = Some(value),
        Err(error) => {
            problem.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_lacks_something_is_named_and_not_the_other() {
        let (certificates, key) = (Path::new("a.pem"), Path::new("a.key"));
        let what = "a.pem with a.key".to_owned();
        for (error, begins) in [
            (
                TlsError::NoCertificate { what: what.clone() },
                "a.pem holds",
            ),
            (TlsError::NoKey { what: what.clone() }, "a.key holds"),
            (TlsError::Expired { what }, "a.pem with a.key has"),
        ] {
            let said = of_one_file(error, certificates, key).to_string();
            assert!(said.starts_with(begins), "{said}");
        }
    }
}
