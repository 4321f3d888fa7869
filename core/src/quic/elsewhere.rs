//! What goes to other addresses than the path's. QUIC answers a probe of another path there, with a whole packet
//! however small the probe was (RFC 9000, section 8.2.2), and counts that against nothing: whoever writes somebody
//! else's address on a small one would have it sent thirty times as much.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// So many times as much may go to an address as came from there (RFC 9000, section 8.1).
const TIMES: usize = 3;

/// So many addresses are remembered, as many as QUIC owes an answer at a time.
const ADDRESSES: usize = 16;

/// What answers to probes of one connection may go to other addresses. What QUIC sends there unasked, when the path
/// has moved, is a packet each time, and none of this.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    /// Bytes that may go to each, who was heard last behind.
    credit: VecDeque<(SocketAddr, usize)>,
}

impl Elsewhere {
    /// So many bytes came from an address that is not the path's.
    pub(super) fn came(&mut self, remote: SocketAddr, bytes: usize) {
        let place = self.credit.iter().position(|(from, _)| *from == remote);
        let before = place.and_then(|place| self.credit.remove(place));
        let before = before.map_or(0, |(_, credit)| credit);
        if self.credit.len() == ADDRESSES {
            self.credit.pop_front();
        }
        let credit = before.saturating_add(TIMES.saturating_mul(bytes));
        self.credit.push_back((remote, credit));
    }

    /// Whether somebody there may have asked for an answer.
    pub(super) fn may_ask(&self) -> bool {
        !self.credit.is_empty()
    }

    /// Whether an answer of so many bytes may go to that address.
    pub(super) fn takes(&mut self, to: SocketAddr, bytes: usize) -> bool {
        let credit = self.credit.iter_mut().find(|(from, _)| *from == to);
        match credit {
            Some((_, credit)) if *credit >= bytes => {
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
    fn an_address_is_answered_three_times_what_came_from_there() {
        let mut elsewhere = Elsewhere::default();
        assert!(!elsewhere.takes(at(2), 1));
        elsewhere.came(at(2), 35);
        assert!(!elsewhere.takes(at(2), 1_200));
        elsewhere.came(at(2), 1_200);
        assert!(elsewhere.takes(at(2), 3_600));
        assert!(!elsewhere.takes(at(2), 1_200));
    }

    #[test]
    fn several_paths_may_be_probed_at_a_time() {
        let mut elsewhere = Elsewhere::default();
        for port in 0..20 {
            elsewhere.came(at(port), 1_200);
        }
        let answered = (0..20).filter(|port| elsewhere.takes(at(*port), 1_200));
        assert!(answered.eq(4..20), "those that were heard last");
    }
}
