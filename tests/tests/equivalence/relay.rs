//! A path between client and server that can be cut.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Passes datagrams on between one client and one server; at first it passes nothing.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    open: AtomicBool,
    over: AtomicBool,
}

impl Relay {
    /// A path to that server.
    pub fn to(server: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared::default());
        let thread = Some(thread::spawn({
            let shared = shared.clone();
            move || relay(&socket, server, &shared)
        }));
        Ok(Self {
            address,
            shared,
            thread,
        })
    }

    /// Where the client dials.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on datagrams get through, or none does.
    pub fn open(&self, open: bool) {
        self.shared.open.store(open, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Any datagram wakes it.
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            let _ = socket.send_to(b"over", self.address);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn relay(socket: &UdpSocket, server: SocketAddr, shared: &Shared) {
    let mut client = None;
    let mut packet = [0; 65_536];
    while !shared.over.load(Ordering::SeqCst) {
        let Ok((size, from)) = socket.recv_from(&mut packet) else {
            // Somebody's port is closed: that concerns one datagram.
            continue;
        };
        let to = if from == server {
            client
        } else {
            client = Some(from);
            Some(server)
        };
        if let Some(to) = to.filter(|_| shared.open.load(Ordering::SeqCst)) {
            let _ = socket.send_to(&packet[..size], to);
        }
    }
}
