//! Links that nobody has been admitted over, ended ones until they are forgotten, and which networks have
//! them.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Counts a node's half-open links, in all and by the network that they began in, so that one network
/// cannot have all the places there are.
///
/// A network may have no more of them than there are places free: the dynamic threshold of Choudhury
/// and Hahne ("Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998). Alone it gets
/// half of all places, beside another a third, and while it has any it cannot take the last one.
#[derive(Debug)]
pub(super) struct HalfOpen {
    /// As many as there may be.
    places: usize,
    all: usize,
    /// Networks that have none are not in it.
    networks: BTreeMap<Network, usize>,
}

/// Where a link began: whatever address it moves to, its place is that network's.
///
/// Addresses that were not validated are counted apart from those of the same prefix that were:
/// anybody can write them, and could keep a network out with its own addresses otherwise. So whoever
/// uses both has two shares, the second of them of what the first has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network {
    prefix: Prefix,
    validated: bool,
}

/// What the addresses of one subscriber have in common, or of one site, as far as that can be seen
/// from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Prefix {
    /// A /24, the longest that is commonly routed.
    V4([u8; 3]),
    /// A /56: the size that is commonly delegated to a home (RFC 6177).
    V6([u8; 7]),
}

impl Network {
    pub(super) fn of(address: IpAddr, validated: bool) -> Self {
        // Whoever hands on what an IPv6 socket sees has IPv4 addresses mapped (RFC 4291, section 2.5.5.2).
        let prefix = match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Prefix::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, ..] = address.octets();
                Prefix::V6([a, b, c, d, e, f, g])
            }
        };
        Self { prefix, validated }
    }
}

impl HalfOpen {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places,
            all: 0,
            networks: BTreeMap::new(),
        }
    }

    /// How many there are.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// How many more there may be.
    pub(super) fn free(&self) -> usize {
        self.places.saturating_sub(self.all)
    }

    /// Whether one more may begin in a network.
    pub(super) fn has_room_for(&self, network: &Network) -> bool {
        let count = self.networks.get(network).copied().unwrap_or_default();
        count < self.free()
    }

    /// One began.
    pub(super) fn add(&mut self, network: Network) {
        self.all += 1;
        *self.networks.entry(network).or_default() += 1;
    }

    /// One that began there is admitted, or forgotten.
    pub(super) fn remove(&mut self, network: &Network) {
        self.all -= 1;
        if let Some(count) = self.networks.get_mut(network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap(), true)
    }

    /// Fills all that a network may have, and says how many that is.
    fn fill(half_open: &mut HalfOpen, network: Network) -> usize {
        let before = half_open.all();
        while half_open.has_room_for(&network) {
            half_open.add(network);
        }
        half_open.all() - before
    }

    #[test]
    fn addresses_of_one_prefix_are_one_network() {
        for (one, other) in [
            ("192.0.2.0", "192.0.2.255"),
            ("192.0.2.7", "::ffff:192.0.2.8"),
            ("2001:db8:0:1200::", "2001:db8:0:12ff:ffff::1"),
        ] {
            assert_eq!(network(one), network(other), "{one} {other}");
        }
        for (one, other) in [
            ("192.0.2.255", "192.0.3.0"),
            ("2001:db8:0:12ff::", "2001:db8:0:1300::"),
            ("::ffff:192.0.2.7", "::fffe:192.0.2.7"),
            ("::192.0.2.7", "192.0.2.7"),
        ] {
            assert_ne!(network(one), network(other), "{one} {other}");
        }
    }

    #[test]
    fn one_network_gets_half_of_the_places_at_most() {
        for (places, share) in [(4_096, 2_048), (20, 10), (5, 3), (2, 1), (1, 1)] {
            let mut half_open = HalfOpen::new(places);
            assert_eq!(fill(&mut half_open, network("192.0.2.1")), share);
        }
    }

    #[test]
    fn networks_that_fill_up_side_by_side_get_equal_shares_and_leave_one() {
        let mut half_open = HalfOpen::new(400);
        let networks = ["192.0.2.1", "198.51.100.1", "2001:db8::1"].map(network);
        let mut counts = [0; 3];
        for _ in 0..400 {
            for (network, count) in networks.iter().zip(&mut counts) {
                if half_open.has_room_for(network) {
                    half_open.add(*network);
                    *count += 1;
                }
            }
        }
        assert_eq!((counts, half_open.free()), ([100; 3], 100));
    }

    /// Whoever was there first gives way as soon as its links are gone.
    #[test]
    fn a_network_that_has_more_than_its_share_gets_no_more() {
        let [first, second] = ["192.0.2.1", "198.51.100.1"].map(network);
        let mut half_open = HalfOpen::new(300);
        assert_eq!(fill(&mut half_open, first), 150);
        assert_eq!(fill(&mut half_open, second), 75);
        let mut has = [150, 75];
        // Both take whatever becomes free, the first before the second.
        for _ in 0..300 {
            half_open.remove(&first);
            has[0] -= 1;
            for (network, count) in [first, second].iter().zip(&mut has) {
                *count += fill(&mut half_open, *network);
            }
        }
        assert_eq!((has, half_open.free()), ([100; 2], 100));
    }

    #[test]
    fn a_network_without_any_gets_the_last_place_and_one_with_some_does_not() {
        let [first, second] = ["192.0.2.1", "198.51.100.1"].map(network);
        let mut half_open = HalfOpen::new(3);
        assert_eq!(fill(&mut half_open, first), 2);
        assert_eq!(fill(&mut half_open, second), 1);
        half_open.remove(&second);
        assert!(!half_open.has_room_for(&first));
        assert!(half_open.has_room_for(&second));
    }

    #[test]
    fn what_anybody_can_write_is_not_held_against_those_who_have_shown_it() {
        let address = "192.0.2.1".parse().unwrap();
        let [written, shown] = [false, true].map(|validated| Network::of(address, validated));
        let mut half_open = HalfOpen::new(20);
        assert_eq!(fill(&mut half_open, written), 10);
        assert!(half_open.has_room_for(&shown));
    }

    #[test]
    fn networks_are_forgotten_with_their_last_link() {
        let mut half_open = HalfOpen::new(100);
        let networks = ["192.0.2.1", "2001:db8::1"].map(network);
        for network in networks {
            half_open.add(network);
            half_open.add(network);
        }
        half_open.remove(&networks[0]);
        assert_eq!((half_open.all(), half_open.networks.len()), (3, 2));
        half_open.remove(&networks[0]);
        half_open.remove(&networks[1]);
        half_open.remove(&networks[1]);
        assert_eq!((half_open.all(), half_open.networks.len()), (0, 0));
    }
}
