//! A UDP socket that takes and gives many datagrams a system call.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::BytesMut;
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};
use trunkline_core::{Datagram, Ecn, Transmit};

/// What the kernel is asked to buffer, each way; it may give less.
const SOCKET_BUFFER: usize = 2 << 20;

/// What one receive buffer holds: the most that the kernel merges into one.
const RECEIVE_BUFFER: usize = 64 << 10;

/// A UDP socket that never blocks.
pub(super) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    received: Box<[u8]>,
    /// System calls that received something.
    pub(super) receives: u64,
    /// System calls that sent something.
    pub(super) sends: u64,
}

impl Socket {
    /// Opens one at that address.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The kernel's own limit may be lower; then that is what there is.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        Ok(Self {
            socket,
            state,
            received: vec![0; RECEIVE_BUFFER * BATCH_SIZE].into(),
            receives: 0,
            sends: 0,
        })
    }

    /// Where it is.
    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How many datagrams one system call sends at most.
    pub(super) fn max_segments(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.state.max_gso_segments()).unwrap_or(NonZeroUsize::MIN)
    }

    /// Takes what one system call receives; the datagrams are then in `datagrams`. Returns whether
    /// there may be more.
    pub(super) fn receive(&mut self, datagrams: &mut Vec<Datagram>) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut chunks = self.received.chunks_exact_mut(RECEIVE_BUFFER);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let socket = UdpSockRef::from(&self.socket);
        let filled = match self.state.recv(socket, &mut buffers, &mut metas) {
            Ok(filled) => filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.receives += 1;
        let buffers = self.received.chunks_exact(RECEIVE_BUFFER);
        for (meta, buffer) in metas.iter().zip(buffers).take(filled) {
            // The kernel has merged datagrams of one sender and one size: one copy serves all.
            let mut merged = BytesMut::from(&buffer[..meta.len]);
            while !merged.is_empty() {
                datagrams.push(Datagram {
                    remote: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn: meta.ecn.and_then(|ecn| Ecn::from_bits(ecn as u8)),
                    data: merged.split_to(meta.stride.clamp(1, merged.len())),
                });
            }
        }
        Ok(filled == BATCH_SIZE)
    }

    /// Sends datagrams with one system call.
    pub(super) fn send(&mut self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        let ecn = transmit
            .ecn
            .and_then(|ecn| EcnCodepoint::from_bits(ecn.bits()));
        let datagrams = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn,
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.local_ip,
        };
        self.state
            .send(UdpSockRef::from(&self.socket), &datagrams)?;
        self.sends += 1;
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
