//! What a restarted server has in common with the one before: the keys by which its clients
//! notice the restart at once, instead of by silence.

use std::net::SocketAddr;
use std::path::Path;

use aws_lc_rs::hkdf;
use trunkline_tokio::{PersistentKeys, Seed};

use crate::cert_files;
use crate::failure::Failure;

/// Keys that follow from the server's private key and its address, so that nothing else has to be
/// kept: another address, as of a second server with the same certificate, has keys of its own.
/// `None` for a port that is free at the moment: a restart takes another.
pub(crate) fn keys(key_file: &Path, listen: SocketAddr) -> Result<Option<PersistentKeys>, Failure> {
    if listen.port() == 0 {
        return Ok(None);
    }
    let secret = cert_files::read(key_file)?;
    let seed = derived(&secret, listen)
        .map_err(|_| Failure::failed("the keys for restarts cannot be derived"))?;
    Ok(Some(PersistentKeys::from_seed(&Seed::new(seed))))
}

/// RFC 5869.
fn derived(secret: &[u8], listen: SocketAddr) -> Result<[u8; 32], aws_lc_rs::error::Unspecified> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"trunkline serve: restart v1");
    let listen = listen.to_string();
    let mut seed = [0; 32];
    salt.extract(secret)
        .expand(&[listen.as_bytes()], hkdf::HKDF_SHA256)?
        .fill(&mut seed)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_restart_finds_its_keys_again_and_nobody_else_does() {
        let seed = derived(b"secret", address(1)).expect("a seed");
        assert_eq!(derived(b"secret", address(1)).ok(), Some(seed));
        assert_ne!(derived(b"secret", address(2)).ok(), Some(seed));
        assert_ne!(derived(b"other", address(1)).ok(), Some(seed));
    }

    #[test]
    fn a_port_that_is_not_fixed_has_nothing_to_keep() {
        let keys = keys(Path::new("not/read"), address(0)).expect("no failure");
        assert!(keys.is_none());
    }
}
