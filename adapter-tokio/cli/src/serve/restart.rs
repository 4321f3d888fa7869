//! What a restarted server has in common with the one before: the keys by which its clients
//! notice the restart at once, instead of by silence.

use std::net::SocketAddr;
use std::path::Path;

use aws_lc_rs::hkdf;
use trunkline_tokio::{PersistentKeys, Seed};
use zeroize::Zeroizing;

use crate::cert_files;
use crate::failure::Failure;

/// What names a machine: the id that it was installed with, and its host name, which containers have of their own.
const MACHINE: [&str; 2] = ["/etc/machine-id", "/proc/sys/kernel/hostname"];

/// Keys that follow from the server's private key, its address and the machine, so that nothing else has to be
/// kept, and a second server with the same certificate has keys of its own: two that have the same ones can be
/// asked for resets of each other's connections.
/// `None` for a port that is free at the moment, for a restart takes another; and where nothing names the machine.
pub(crate) fn keys(key_file: &Path, listen: SocketAddr) -> Result<Option<PersistentKeys>, Failure> {
    let Some(machine) = machine().filter(|_| listen.port() != 0) else {
        return Ok(None);
    };
    let secret = cert_files::read_secret(key_file)?;
    let seed = derived(&secret, &machine, listen)
        .map_err(|_| Failure::failed("the keys for restarts cannot be derived"))?;
    Ok(Some(PersistentKeys::from_seed(&seed)))
}

fn machine() -> Option<String> {
    let names = MACHINE.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let named = names.iter().any(|name| !name.trim().is_empty());
    named.then(|| names.concat())
}

/// RFC 5869.
fn derived(
    secret: &[u8],
    machine: &str,
    listen: SocketAddr,
) -> Result<Seed, aws_lc_rs::error::Unspecified> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"trunkline serve: restart v2");
    let listen = listen.to_string();
    let mut seed = Zeroizing::new([0; 32]);
    salt.extract(secret)
        .expand(
            &[listen.as_bytes(), b"\0", machine.as_bytes()],
            hkdf::HKDF_SHA256,
        )?
        .fill(&mut *seed)?;
    Ok(Seed::from(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_restart_finds_its_keys_again_and_nobody_else_does() {
        let keys = |secret: &str, machine, port| {
            let seed = derived(secret.as_bytes(), machine, address(port)).expect("a seed");
            // How packets are steered follows from the keys.
            let steering = PersistentKeys::from_seed(&seed).steering(256);
            let id = |n: u8| [&[0x40][..], &[n; 8]].concat();
            (0..64)
                .map(|n| steering.shard_of(&id(n)))
                .collect::<Vec<_>>()
        };
        let before = keys("secret", "here", 1);
        assert_eq!(keys("secret", "here", 1), before);
        assert_ne!(keys("secret", "here", 2), before);
        assert_ne!(keys("secret", "there", 1), before);
        assert_ne!(keys("other", "here", 1), before);
    }

    #[test]
    fn a_port_that_is_not_fixed_has_nothing_to_keep() {
        let keys = keys(Path::new("not/read"), address(0)).expect("no failure");
        assert!(keys.is_none());
    }
}
