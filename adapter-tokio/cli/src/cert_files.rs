//! Files of certificates: the names that `trunkline cert` gives them and that `--dev` looks for,
//! and reading them.

use std::io;
use std::path::{Path, PathBuf};

use trunkline_tokio::{Identity, Roots, TlsError};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The authority: the root to trust, and the key that issues more.
pub(crate) const AUTHORITY: Pair = Pair {
    certificate: "ca.pem",
    key: "ca.key",
};

/// The server.
pub(crate) const SERVER: Pair = Pair {
    certificate: "cert.pem",
    key: "key.pem",
};

/// The names of two files that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Pair<Name = &'static str> {
    pub(crate) certificate: Name,
    pub(crate) key: Name,
}

/// The client of that id.
pub(crate) fn client_files(name: &str) -> Pair<String> {
    Pair {
        certificate: format!("client-{name}.pem"),
        key: format!("client-{name}.key"),
    }
}

/// Whose certificate a file of that name is, if it is a client's.
pub(crate) fn client_of(certificate: &str) -> Option<&str> {
    certificate.strip_prefix("client-")?.strip_suffix(".pem")
}

impl<Name: AsRef<str>> Pair<Name> {
    /// Where they are in that directory: certificate, then key.
    pub(crate) fn paths(&self, directory: &Path) -> (PathBuf, PathBuf) {
        (
            directory.join(self.certificate.as_ref()),
            directory.join(self.key.as_ref()),
        )
    }

    /// Whether both are there.
    pub(crate) fn is_in(&self, directory: &Path) -> bool {
        self.are_there(directory) == (true, true)
    }

    /// Which of them are there: certificate, then key.
    fn are_there(&self, directory: &Path) -> (bool, bool) {
        // Whoever reads what cannot be looked at is told why.
        let there = |path: PathBuf| match path.try_exists() {
            Ok(there) => there,
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        };
        let (certificate, key) = self.paths(directory);
        (there(certificate), there(key))
    }

    /// Where they are in a directory that `trunkline cert` has filled, with these options behind its own; `None`: neither
    /// is there.
    fn made_in(
        &self,
        directory: &Path,
        options: &str,
    ) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
        let (certificate, key) = (self.certificate.as_ref(), self.key.as_ref());
        let (there, missing) = match self.are_there(directory) {
            (true, true) => return Ok(Some(self.paths(directory))),
            (false, false) => return Ok(None),
            (true, false) => (certificate, key),
            (false, true) => (key, certificate),
        };
        let directory = directory.display();
        Err(Failure::usage(format!(
            "--dev {directory}: there is {there}, but no {missing}: put it there, or take {there} away and make both \
             with 'trunkline cert --out {directory}{options}'"
        )))
    }
}

/// What is said of a directory that lacks what `trunkline cert` makes.
fn nothing_made(directory: &Path, missing: &str) -> Failure {
    let directory = directory.display();
    Failure::usage(format!(
        "--dev {directory}: there is no {missing}; make it with 'trunkline cert --out {directory}'"
    ))
}

/// The server's certificate and key in a directory that `trunkline cert` has filled.
pub(crate) fn development_server(directory: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    SERVER
        .made_in(directory, "")?
        .ok_or_else(|| nothing_made(directory, SERVER.certificate))
}

/// The client's own certificate and key there, if it has any.
pub(crate) fn development_identity(
    directory: &Path,
    client: &str,
) -> Result<Option<Identity>, Failure> {
    let made = client_files(client).made_in(directory, &format!(" --client {client}"))?;
    made.map(|(certificate, key)| identity(&certificate, &key))
        .transpose()
}

/// The authority there.
pub(crate) fn development_roots(directory: &Path) -> Result<Roots, Failure> {
    let (certificate, _) = AUTHORITY.paths(directory);
    match certificate.try_exists() {
        Ok(false) => Err(nothing_made(directory, AUTHORITY.certificate)),
        _ => roots(&certificate),
    }
}

/// The authorities of a PEM file.
pub(crate) fn roots(file: &Path) -> Result<Roots, Failure> {
    Roots::from_pem(&read(file)?, &file.display().to_string()).map_err(Failure::usage)
}

/// A certificate chain and its key, from PEM files.
pub(crate) fn identity(certificate: &Path, key: &Path) -> Result<Identity, Failure> {
    let what = format!("{} with {}", certificate.display(), key.display());
    let read = Identity::from_pem(&read(certificate)?, &read_secret(key)?, &what);
    read.map_err(|error| {
        Failure::usage(match error {
            TlsError::NoCertificate { .. } => TlsError::NoCertificate {
                what: certificate.display().to_string(),
            },
            TlsError::NoKey { .. } => TlsError::NoKey {
                what: key.display().to_string(),
            },
            other => other,
        })
    })
}

/// The file of a private key, overwritten with zeros once it is not needed any more.
pub(crate) fn read_secret(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    read(file).map(Zeroizing::new)
}

/// A file, or which one it is that cannot be read.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))
}
