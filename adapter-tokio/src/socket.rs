//! The UDP socket, with segmentation offload both ways, and the driver's timer.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Sleep;
use trunkline_core::driver::Io;
use trunkline_core::{Datagram, Ecn, Transmit};

/// What the kernel is asked to buffer, each way; it may give less.
const SOCKET_BUFFER: usize = 2 << 20;

/// What one receive buffer holds: the most that the kernel merges into one.
const RECEIVE_BUFFER: usize = 64 << 10;

/// A UDP socket and a timer of tokio.
pub struct UdpIo {
    socket: UdpSocket,
    state: UdpSocketState,
    received: Box<[u8]>,
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends, unless it has.
    armed: Option<Instant>,
}

impl UdpIo {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The kernel's own limit may be lower; then that is what there is.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            state,
            received: vec![0; RECEIVE_BUFFER * BATCH_SIZE].into(),
            sleep: Box::pin(tokio::time::sleep_until(tokio::time::Instant::now())),
            armed: None,
        })
    }
}

impl Io for UdpIo {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn max_segments(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.state.max_gso_segments()).unwrap_or(NonZeroUsize::MIN)
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(Datagram),
    ) -> Poll<io::Result<usize>> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut filled = 0;
        while filled == 0 {
            ready!(self.socket.poll_recv_ready(cx))?;
            let mut chunks = self.received.chunks_exact_mut(RECEIVE_BUFFER);
            let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let result = self.socket.try_io(Interest::READABLE, || {
                filled =
                    self.state
                        .recv(UdpSockRef::from(&self.socket), &mut buffers, &mut metas)?;
                // A batch that is not full has emptied the socket: it counts as not ready, and
                // the call that would find nothing is saved.
                if filled == BATCH_SIZE {
                    Ok(())
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                }
            });
            match result {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                _ => {}
            }
        }
        let mut count = 0;
        for (meta, buffer) in metas
            .iter()
            .zip(self.received.chunks_exact(RECEIVE_BUFFER))
            .take(filled)
        {
            let mut merged = BytesMut::from(&buffer[..meta.len]);
            while !merged.is_empty() {
                let data = merged.split_to(meta.stride.clamp(1, merged.len()));
                let ecn = meta.ecn.and_then(|ecn| Ecn::from_bits(ecn as u8));
                sink(Datagram {
                    remote: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn,
                    data,
                });
                count += 1;
            }
        }
        Poll::Ready(Ok(count))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        let datagrams = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit
                .ecn
                .and_then(|ecn| EcnCodepoint::from_bits(ecn.bits())),
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.local_ip,
        };
        loop {
            ready!(self.socket.poll_send_ready(cx))?;
            let send = || self.state.send(UdpSockRef::from(&self.socket), &datagrams);
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_sleep_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        loop {
            // Deadlines mostly move back: a timer that ends too early costs one wake-up, less than
            // setting it anew for each packet.
            if self.armed.is_none_or(|armed| armed > deadline) {
                self.sleep.as_mut().reset(deadline.into());
                self.armed = Some(deadline);
            }
            ready!(self.sleep.as_mut().poll(cx));
            self.armed = None;
            if self.now() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}
