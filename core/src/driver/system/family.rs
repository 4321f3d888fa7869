//! The addresses that a socket reaches, and what the system calls them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::SockRef;

use crate::driver::canonical::canonical;

/// The family of a socket's addresses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    Ipv4,
    /// And of IPv4 by mapped ones (RFC 4291, section 2.5.5.2), if the system has the socket take `both`.
    Ipv6 {
        both: bool,
    },
}

/// Whether all that a socket of IPv4 can do is to be had of one of IPv6, too. Elsewhere what it sends to IPv4 may be
/// cut to pieces on the way, which QUIC forbids (RFC 9000, section 14), or congestion marks are not seen.
const AS_GOOD: bool = cfg!(any(target_os = "linux", target_os = "android", windows));

impl Family {
    pub(super) fn of(socket: &UdpSocket) -> io::Result<Self> {
        Ok(match socket.local_addr()? {
            SocketAddr::V4(_) => Self::Ipv4,
            SocketAddr::V6(_) => Self::Ipv6 {
                both: SockRef::from(socket).only_v6().is_ok_and(|only| !only),
            },
        })
    }

    /// Whether such a socket serves IPv4 as well as one of IPv4 does.
    pub(super) fn serves_ipv4(self) -> bool {
        match self {
            Self::Ipv4 => true,
            Self::Ipv6 { both } => both && AS_GOOD,
        }
    }

    /// What the system calls the address where such a socket sends to.
    pub(super) fn destination(self, address: SocketAddr) -> SocketAddr {
        match (self, canonical(address)) {
            (Self::Ipv6 { .. }, SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            (_, own) => own,
        }
    }

    /// What it calls the one of this machine's where such a socket sends from.
    pub(super) fn source(self, ip: IpAddr) -> IpAddr {
        match (self, ip.to_canonical()) {
            // Windows names it as it is, either way.
            (Self::Ipv6 { .. }, IpAddr::V4(v4)) if !cfg!(windows) => v4.to_ipv6_mapped().into(),
            (_, own) => own,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests end by panicking")]

    use std::net::Ipv6Addr;

    use super::super::Batches;
    use super::super::batches::Sending;
    use super::super::socket::{bind, unbound};
    use crate::{Datagram, Transmit};

    use super::*;

    /// A socket of both families; none, if this machine has no IPv6.
    fn of_both() -> Option<(UdpSocket, Batches)> {
        let socket = bind("[::]:0".parse().unwrap()).ok()?;
        let batches = Batches::new(&socket).unwrap();
        Some((socket, batches))
    }

    fn at(ip: impl Into<IpAddr>, socket: &UdpSocket) -> SocketAddr {
        SocketAddr::new(ip.into(), socket.local_addr().unwrap().port())
    }

    /// The next datagram that comes.
    fn next(socket: &UdpSocket, batches: &mut Batches) -> Datagram {
        let mut came = None;
        while came.is_none() {
            // Loopback delivers within the sending call, or soon after it.
            let _ = batches.receive(socket.into(), &mut |datagram| came = Some(datagram));
        }
        came.unwrap()
    }

    fn send(socket: &UdpSocket, batches: &Batches, transmit: &Transmit, contents: &[u8]) {
        let mut attempt = |send: &mut Sending<'_>| send(socket.into());
        let sent = batches.try_send(transmit, contents, &mut attempt);
        sent.unwrap();
    }

    fn answer(to: &Datagram, contents: &[u8], segment_size: usize) -> Transmit {
        Transmit {
            destination: to.remote,
            ecn: to.ecn,
            size: contents.len(),
            segment_size: Some(segment_size),
            local_ip: to.local_ip,
        }
    }

    /// Whom the client asks is 127.0.0.2, which only Linux has without being told.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_client_of_ipv4_is_one_and_is_answered_from_where_it_has_asked() {
        let Some((socket, mut batches)) = of_both() else {
            return;
        };
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let asked = at([127, 0, 0, 2], &socket);
        client.send_to(b"what", asked).unwrap();
        let question = next(&socket, &mut batches);
        assert_eq!(question.remote, client.local_addr().unwrap());
        assert_eq!(question.local_ip, Some(asked.ip()));
        let count = batches.max_segments().get().min(3);
        let contents = vec![7; 100 * count];
        let answer = answer(&question, &contents, 100);
        send(&socket, &batches, &answer, &contents);
        let mut received = [0; 200];
        for _ in 0..count {
            let (size, from) = client.recv_from(&mut received).unwrap();
            assert_eq!((size, from), (100, asked));
        }
    }

    /// The whole of a link-local address is the link, too.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_client_of_ipv6_is_answered_by_the_link_that_it_is_on() {
        let Some((socket, mut batches)) = of_both() else {
            return;
        };
        if UdpSocket::bind("[::1]:0").is_err() {
            return; // It has no addresses of IPv6.
        }
        let (client, mut answers) = of_both().unwrap();
        let mut asked = vec![at(Ipv6Addr::LOCALHOST, &socket)];
        asked.extend(link_local(socket.local_addr().unwrap().port()));
        for asked in asked {
            let question = Transmit {
                destination: asked,
                ecn: None,
                size: 4,
                segment_size: None,
                local_ip: None,
            };
            send(&client, &answers, &question, b"what");
            let question = next(&socket, &mut batches);
            let mut from = asked;
            from.set_port(client.local_addr().unwrap().port());
            assert_eq!(
                (question.remote, question.local_ip),
                (from, Some(asked.ip()))
            );
            let answer = answer(&question, b"that", 4);
            send(&socket, &batches, &answer, b"that");
            assert_eq!(next(&client, &mut answers).remote, asked);
        }
    }

    /// An address of this machine's that is one of a link alone, if there is one.
    #[cfg(target_os = "linux")]
    fn link_local(port: u16) -> Option<SocketAddr> {
        let all = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
        all.lines().find_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let ip = Ipv6Addr::from(u128::from_str_radix(words[0], 16).unwrap());
            let link = u32::from_str_radix(words[1], 16).unwrap();
            // Not one that is still being tried.
            (ip.is_unicast_link_local() && words[4] == "80")
                .then(|| std::net::SocketAddrV6::new(ip, port, 0, link).into())
        })
    }

    #[test]
    fn a_socket_of_ipv6_alone_serves_no_ipv4() {
        for (address, serves) in [("[::]:0", AS_GOOD), ("127.0.0.1:0", true)] {
            if let Ok(socket) = bind(address.parse().unwrap()) {
                assert_eq!(Family::of(&socket).unwrap().serves_ipv4(), serves);
            }
        }
        let address: SocketAddr = "[::]:0".parse().unwrap();
        if let Ok(socket) = unbound(address) {
            socket.set_only_v6(true).unwrap();
            socket.bind(&address.into()).unwrap();
            assert!(!Family::of(&socket.into()).unwrap().serves_ipv4());
        }
    }

    #[test]
    fn a_mapped_destination_is_ipv4s_to_a_socket_of_ipv4() {
        let (mapped, v4) = ("[::ffff:192.0.2.1]:5", "192.0.2.1:5");
        let [mapped, v4]: [SocketAddr; 2] = [mapped, v4].map(|address| address.parse().unwrap());
        for address in [mapped, v4] {
            assert_eq!(Family::Ipv4.destination(address), v4);
            assert_eq!(Family::Ipv4.source(address.ip()), v4.ip());
            let ipv6 = Family::Ipv6 { both: true };
            assert_eq!(ipv6.destination(address), mapped);
        }
    }
}
