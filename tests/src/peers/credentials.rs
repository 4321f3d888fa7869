//! Certificates, from the folder that `PEERS_CERT_DIR` names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use trunkline_core::{Identity, Roots};

/// The name that the server's certificate bears.
pub const SERVER_NAME: &str = "localhost";

/// The server's certificate chain and key: `cert.pem` and `key.pem`.
pub fn identity() -> Result<Identity> {
    let folder = folder()?;
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let shown = certificate.display().to_string();
    Ok(Identity::from_pem(
        &read(&certificate)?,
        &read(&key)?,
        &shown,
    )?)
}

/// Whom clients trust: `ca.pem`.
pub fn roots() -> Result<Roots> {
    let authority = folder()?.join("ca.pem");
    let shown = authority.display().to_string();
    Ok(Roots::from_pem(&read(&authority)?, &shown)?)
}

fn folder() -> Result<PathBuf> {
    std::env::var_os("PEERS_CERT_DIR").map(PathBuf::from).context(
        "PEERS_CERT_DIR is not set: set it to the folder that holds ca.pem, cert.pem and key.pem",
    )
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}
