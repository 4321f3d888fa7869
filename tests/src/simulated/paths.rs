//! What the paths of a simulation do: all alike, but for those directions that have settings of
//! their own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::Path;

#[derive(Default)]
pub(super) struct Paths {
    /// What each direction does that has no settings of its own.
    pub(super) default: Path,
    /// By addresses and not by sockets: a server that starts anew finds the network as it was.
    own: BTreeMap<(SocketAddr, SocketAddr), Path>,
}

impl Paths {
    /// What happens to datagrams from one address to another.
    pub(super) fn between(&self, from: SocketAddr, to: SocketAddr) -> &Path {
        self.own.get(&(from, to)).unwrap_or(&self.default)
    }

    /// The settings of one direction, which has its own from the first call on.
    ///
    /// # Panics
    /// If one of the addresses is none that a socket can have.
    pub(super) fn own(&mut self, from: SocketAddr, to: SocketAddr) -> &mut Path {
        for address in [from, to] {
            assert!(
                !address.ip().is_unspecified() && address.port() != 0,
                "no socket has the address {address}, so there is no path to change: take the one that `local_addr` \
                 of a server or client says"
            );
        }
        self.own.entry((from, to)).or_insert(self.default)
    }
}
