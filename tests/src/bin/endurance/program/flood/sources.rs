//! Many source addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};
use quinn_udp::{UdpSockRef, UdpSocketState};

/// The first of them, less one.
const BEFORE_FIRST: u32 = u32::from_be_bytes([127, 1, 0, 0]);

/// Sockets at as many loopback addresses, which take turns.
pub(super) struct Sources {
    sockets: Vec<UdpSocket>,
    turn: usize,
}

impl Sources {
    pub(super) fn bind(count: u16) -> Result<Self> {
        let sockets = (1..=u32::from(count)).map(|number| {
            let address = Ipv4Addr::from(BEFORE_FIRST + number);
            source(address).with_context(|| format!("{address} cannot be sent from"))
        });
        Ok(Self {
            sockets: sockets.collect::<Result<_>>()?,
            turn: 0,
        })
    }

    pub(super) fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let socket = &self.sockets[self.turn];
        self.turn = (self.turn + 1) % self.sockets.len();
        socket.send_to(datagram, to).map(drop)
    }
}

/// A socket that keeps as few of the answers as the system allows.
fn source(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    state.set_recv_buffer_size(UdpSockRef::from(&socket), 1)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_them_has_its_turn() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = server.local_addr().unwrap();
        let mut sources = Sources::bind(300).unwrap();
        let mut came_from = Vec::new();
        for _ in 0..300 {
            sources.send(b"in", to).unwrap();
            came_from.push(server.recv_from(&mut [0; 8]).unwrap().1.ip());
        }
        assert_eq!(came_from[0], Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(came_from[299], Ipv4Addr::new(127, 1, 1, 44));
        came_from.dedup();
        assert_eq!(came_from.len(), 300);
    }
}
