//! Where a peer is, as far as its application is told.

use std::net::SocketAddr;

/// Where a peer has shown that it is: at the address of its handshake, and then at each that it has answered a probe from.
/// QUIC sends to a new one before that, and goes back if no answer comes.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    address: SocketAddr,
    /// Where it was before that.
    before: SocketAddr,
    /// Nobody was told yet.
    moved: bool,
}

impl Whereabouts {
    /// It was there in the handshake.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            before: address,
            moved: false,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has moved since that was last asked.
    pub(super) fn take_move(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Has QUIC handle a datagram that came from there, and looks whether it was the answer.
    pub(super) fn watch(
        &mut self,
        connection: &mut quinn_proto::Connection,
        remote: SocketAddr,
        event: quinn_proto::ConnectionEvent,
    ) {
        let answers =
            |connection: &quinn_proto::Connection| connection.stats().frame_rx.path_response;
        // Few come from anywhere else, and to count takes a while.
        if remote == self.address {
            return connection.handle_event(event);
        }
        let (used, answered) = (connection.remote_address(), answers(connection));
        connection.handle_event(event);
        // An answer that comes with the first datagram from there is none to a probe that went there.
        let answered = used == remote && answers(connection) > answered;
        self.came(remote, connection.remote_address(), answered);
    }

    /// A datagram has come from another address. `used`: where QUIC sends to now; `answered`: it answered a probe.
    fn came(&mut self, remote: SocketAddr, used: SocketAddr, answered: bool) {
        // QUIC has gone back, for the other address did not hold; or the peer has.
        let is_back = remote == self.before;
        if remote == used && (answered || is_back) {
            self.before = std::mem::replace(&mut self.address, remote);
            self.moved = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_where_it_has_answered_from_until_quic_goes_back() {
        let [home, other] = [1, 2].map(|host| SocketAddr::from(([192, 0, 2, host], 4433)));
        let mut peer = Whereabouts::new(home);
        let mut seen = |remote, used, answered| {
            peer.came(remote, used, answered);
            (peer.address(), peer.take_move())
        };
        assert_eq!(seen(other, other, false), (home, false), "it may be forged");
        assert_eq!(seen(other, home, true), (home, false), "not used");
        assert_eq!(seen(other, other, true), (other, true));
        assert_eq!(seen(home, other, false), (other, false), "a late packet");
        assert_eq!(seen(home, home, false), (home, true), "QUIC has gone back");
    }
}
