//! The proxy's clients, each with a socket of its own towards the server, as a NAT does it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The largest UDP payload there can be.
pub(super) const DATAGRAM_MAX: usize = 65_535;

/// A datagram that the server sent, and the client that it is for.
pub(super) type Answer = (SocketAddr, Bytes);

/// The clients that have been heard of lately.
#[derive(Debug)]
pub(super) struct Clients {
    server: SocketAddr,
    most: usize,
    idle: Duration,
    by_address: BTreeMap<SocketAddr, Client>,
    answers: mpsc::Sender<Answer>,
}

#[derive(Debug)]
struct Client {
    upstream: Upstream,
    last_heard: Instant,
}

/// A socket towards the server, and the task that reads it.
#[derive(Debug)]
struct Upstream {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Clients {
    /// No clients yet, and never more than `most`; one is forgotten when nothing has come from it
    /// for `idle`. What the server answers goes to `answers`.
    pub(super) fn new(
        server: SocketAddr,
        most: usize,
        idle: Duration,
        answers: mpsc::Sender<Answer>,
    ) -> Self {
        Self {
            server,
            most,
            idle,
            by_address: BTreeMap::new(),
            answers,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Notes that a client is there. True: it is a new one.
    pub(super) async fn heard(&mut self, client: SocketAddr, now: Instant) -> io::Result<bool> {
        if let Some(known) = self.by_address.get_mut(&client) {
            known.last_heard = now;
            return Ok(false);
        }
        if self.by_address.len() >= self.most {
            return Err(io::Error::other("there are too many clients"));
        }
        let upstream = Upstream::open(client, self.server, self.answers.clone()).await?;
        self.by_address.insert(
            client,
            Client {
                upstream,
                last_heard: now,
            },
        );
        Ok(true)
    }

    /// The socket that a client's packets leave by at present.
    pub(super) fn upstream_of(&self, client: SocketAddr) -> Option<Arc<UdpSocket>> {
        self.by_address
            .get(&client)
            .map(|client| Arc::clone(&client.upstream.socket))
    }

    /// Gives every client a new socket, and with it a new port: what a NAT does when it has
    /// forgotten. What still comes to the old ones is lost.
    pub(super) async fn rebind(&mut self) -> io::Result<()> {
        for (&address, client) in &mut self.by_address {
            // The old socket is still open, so the new one cannot get its port.
            client.upstream = Upstream::open(address, self.server, self.answers.clone()).await?;
        }
        Ok(())
    }

    /// Forgets who has not been heard for too long; says how many they were.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.by_address.len();
        let idle = self.idle;
        self.by_address
            .retain(|_, client| now.saturating_duration_since(client.last_heard) < idle);
        before - self.by_address.len()
    }
}

impl Upstream {
    async fn open(
        client: SocketAddr,
        server: SocketAddr,
        answers: mpsc::Sender<Answer>,
    ) -> io::Result<Self> {
        let any = match server.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = Arc::new(open_socket(SocketAddr::new(any, 0))?);
        socket.connect(server).await?;
        let reader = tokio::spawn(read(Arc::clone(&socket), client, answers));
        Ok(Self { socket, reader })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Hands on what the server sends, until nobody takes it.
async fn read(socket: Arc<UdpSocket>, client: SocketAddr, answers: mpsc::Sender<Answer>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                if answers
                    .send((client, Bytes::copy_from_slice(&buffer[..length])))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// A UDP socket with room for a burst, as far as the system grants it.
pub(super) fn open_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    const BURST: usize = 4 << 20;
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    // Less room than asked for is no reason to fail.
    let _ = socket.set_recv_buffer_size(BURST);
    let _ = socket.set_send_buffer_size(BURST);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Lets a failing socket fail no faster than it can be borne. A peer that is not there (ICMP port
/// unreachable, once for each packet sent to it) is nothing to wait for: it may come back.
pub(super) async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, WouldBlock};
    if !matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | Interrupted | WouldBlock
    ) {
        tracing::debug!(%error, "a socket of the proxy cannot be read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
