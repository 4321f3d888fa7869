//! What goes to other addresses than the path's. QUIC answers a probe of another path there, with a whole packet
//! however small the probe was (RFC 9000, section 8.2.2), and counts that against nothing: whoever writes somebody
//! else's address on a small one would have it sent thirty times as much.

use std::net::SocketAddr;

/// So many times as much may go to an address as came from there (RFC 9000, section 8.1).
const TIMES: usize = 3;

/// What one connection owes to other addresses.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    /// Where the path led before it led where it does: QUIC asks there whether the peer has really gone.
    before: Option<SocketAddr>,
    /// The address that something came from last, and how many bytes may still go there.
    credit: Option<(SocketAddr, usize)>,
}

impl Elsewhere {
    /// So many bytes came from `remote`, and the path led from one address to another one, or stayed.
    pub(super) fn came(&mut self, remote: SocketAddr, bytes: usize, path: [SocketAddr; 2]) {
        let [before, now] = path;
        if before != now {
            self.before = Some(before);
        }
        if remote == now {
            return;
        }
        let earlier = self.credit.filter(|(from, _)| *from == remote);
        let earlier = earlier.map_or(0, |(_, credit)| credit);
        self.credit = Some((remote, earlier.saturating_add(TIMES * bytes)));
    }

    /// Whether so many bytes may go to that address while the path leads to another one.
    pub(super) fn takes(&mut self, to: SocketAddr, bytes: usize, path: SocketAddr) -> bool {
        if to == path || Some(to) == self.before {
            return true;
        }
        match &mut self.credit {
            Some((from, credit)) if *from == to && *credit >= bytes => {
                *credit -= bytes;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn an_address_is_sent_three_times_what_came_from_there() {
        let mut elsewhere = Elsewhere::default();
        let path = [at(1), at(1)];
        assert!(elsewhere.takes(at(1), 1_000_000, at(1)), "the path's own");
        assert!(!elsewhere.takes(at(2), 1, at(1)));
        elsewhere.came(at(2), 35, path);
        assert!(!elsewhere.takes(at(2), 1_200, at(1)));
        elsewhere.came(at(2), 1_200, path);
        assert!(elsewhere.takes(at(2), 3_600, at(1)));
        assert!(!elsewhere.takes(at(2), 1_200, at(1)));
        elsewhere.came(at(3), 1_200, path);
        assert!(!elsewhere.takes(at(2), 1, at(1)), "the latest counts");
        assert!(elsewhere.takes(at(3), 1_200, at(1)));
    }

    #[test]
    fn the_address_before_may_be_asked() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.came(at(2), 100, [at(1), at(2)]);
        assert!(elsewhere.takes(at(1), 1_200, at(2)));
        elsewhere.came(at(1), 100, [at(2), at(1)]);
        assert!(elsewhere.takes(at(2), 1_200, at(1)));
    }
}
