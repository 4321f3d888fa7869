//! What adapters take from the operating system: UDP with segmentation offload both ways, name
//! look-up, randomness, a file for keys that outlive the process (feature `system`).
//!
//! It is as free of a runtime as the rest: [`Batches`] never waits, and [`UdpIo`] waits as its
//! [`Reactor`] does. An adapter supplies the latter, `spawn`, and a clock.

mod batches;
mod family;
mod key_file;
mod names;
#[cfg(target_os = "linux")]
mod program;
mod sender;
mod shards;
mod socket;
mod udp;

use std::io;
use std::sync::LazyLock;
use std::thread::available_parallelism;

pub use batches::Batches;
pub use names::look_up;
pub use quinn_udp::UdpSockRef;
pub use shards::bind_shards;
pub use udp::{Direction, Reactor, UdpIo};

use zeroize::Zeroizing;

use crate::{BusyPoll, Seed};

/// How to look for datagrams on this machine: as is the default, with more than one processor, and
/// otherwise never. It counts those that the first caller's thread may use, once.
pub fn default_busy_poll() -> BusyPoll {
    static SEVERAL: LazyLock<bool> =
        LazyLock::new(|| available_parallelism().is_ok_and(|count| count.get() > 1));
    if *SEVERAL {
        BusyPoll::default()
    } else {
        BusyPoll::NEVER
    }
}

/// 256 bits of randomness from the operating system.
pub fn random_seed() -> io::Result<Seed> {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *bytes)
        .map_err(|_| io::Error::other("the system gave no randomness"))?;
    Ok(Seed::from(bytes))
}
