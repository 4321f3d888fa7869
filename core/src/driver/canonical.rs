//! An IPv4 address is one, whatever kind of socket has seen it.

use std::net::SocketAddr;

/// An IPv4 address that stands mapped in an IPv6 one (RFC 4291, section 2.5.5.2) as such. Any other stays as it
/// is, a link's own with the number of the link.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V6(v6) = address else {
        return address;
    };
    match v6.ip().to_ipv4_mapped() {
        Some(v4) => (v4, v6.port()).into(),
        None => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    #[test]
    fn an_ipv4_address_is_one_and_a_links_own_keeps_the_link() {
        let parsed = |address: &str| -> SocketAddr { address.parse().unwrap() };
        assert_eq!(
            canonical(parsed("[::ffff:192.0.2.1]:5")),
            parsed("192.0.2.1:5")
        );
        let own: Ipv6Addr = "fe80::1".parse().unwrap();
        let own = SocketAddrV6::new(own, 5, 6, 7).into();
        for other in [own, parsed("192.0.2.1:5"), parsed("[::192.0.2.1]:5")] {
            assert_eq!(canonical(other), other);
        }
    }
}
