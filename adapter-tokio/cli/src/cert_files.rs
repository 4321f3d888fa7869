//! Files of certificates: the names that `trunkline cert` gives them and that `--dev` looks for,
//! and reading them.

use std::path::{Path, PathBuf};

use trunkline_tokio::{Identity, Roots};
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
        let (certificate, key) = self.paths(directory);
        certificate.exists() && key.exists()
    }
}

/// What is said of a directory that lacks what `trunkline cert` makes.
pub(crate) fn nothing_made(directory: &Path, missing: &str) -> Failure {
    let directory = directory.display();
    Failure::usage(format!(
        "--dev {directory}: there is no {missing}; make it with 'trunkline cert --out {directory}'"
    ))
}

/// The authority of a directory that `trunkline cert` has filled.
pub(crate) fn development_roots(directory: &Path) -> Result<Roots, Failure> {
    let (certificate, _) = AUTHORITY.paths(directory);
    if certificate.exists() {
        roots(&certificate)
    } else {
        Err(nothing_made(directory, AUTHORITY.certificate))
    }
}

/// The authorities of a PEM file.
pub(crate) fn roots(file: &Path) -> Result<Roots, Failure> {
    Roots::from_pem(&read(file)?, &file.display().to_string()).map_err(Failure::usage)
}

/// A certificate chain and its key, from PEM files.
pub(crate) fn identity(certificate: &Path, key: &Path) -> Result<Identity, Failure> {
    let what = format!("{} with {}", certificate.display(), key.display());
    Identity::from_pem(&read(certificate)?, &read_secret(key)?, &what).map_err(Failure::usage)
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
