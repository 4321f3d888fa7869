//! What adapters take from the operating system: UDP with segmentation offload both ways, name
//! look-up, randomness (feature `system`).
//!
//! It is as free of a runtime as the rest: [`Batches`] never waits, and [`UdpIo`] waits as its
//! [`Reactor`] does. An adapter supplies the latter, `spawn`, and a clock.

mod batches;
#[cfg(target_os = "linux")]
mod program;
mod shards;
mod udp;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

pub use batches::Batches;
pub use quinn_udp::UdpSockRef;
pub use shards::bind_shards;
pub use udp::{Direction, Reactor, UdpIo};

use crate::Seed;

/// The addresses of `host:port`. Blocks while it looks them up.
pub fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(host.to_socket_addrs()?.collect())
}

/// 256 bits of randomness from the operating system.
pub fn random_seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gave no randomness"))?;
    Ok(Seed::new(bytes))
}
