//! UDP sockets, alike on all systems.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// A socket at that address.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(address)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket for an address of that family.
pub(super) fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Some systems have it otherwise, and a few know nothing else.
        let both_families = socket.set_only_v6(false);
        if let Err(error) = both_families {
            tracing::debug!(%error, "an IPv6 socket does not reach IPv4 here");
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests end by panicking")]

    use super::*;

    #[test]
    fn a_socket_of_ipv6_takes_both_families() {
        let Ok(socket) = bind("[::]:0".parse().unwrap()) else {
            return; // There is no IPv6 here.
        };
        assert!(!socket2::SockRef::from(&socket).only_v6().unwrap());
        let port = socket.local_addr().unwrap().port();
        let sender = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        sender.send_to(b"mapped", ("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 10];
        let (count, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"mapped");
        assert_eq!(from.port(), sender.local_addr().unwrap().port());
    }
}
