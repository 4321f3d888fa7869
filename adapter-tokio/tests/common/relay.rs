//! A path between clients and a server that can be cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Passes datagrams on between any number of clients and one server, each client by a socket of
/// its own, as a NAT does. Dropped, it passes nothing more.
pub struct Relay {
    pub address: SocketAddr,
    open: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let outside = Arc::new(UdpSocket::bind(super::loopback()).await.unwrap());
        let address = outside.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let mut task = JoinSet::new();
        task.spawn(forward(outside, server, open.clone()));
        Self {
            address,
            open,
            _task: task,
        }
    }

    /// From now on nothing gets through.
    pub fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// The path is there again.
    pub fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

async fn forward(outside: Arc<UdpSocket>, server: SocketAddr, open: Arc<AtomicBool>) {
    let mut inside = BTreeMap::new();
    let mut back = JoinSet::new();
    let mut packet = [0; 65_536];
    loop {
        // An error concerns one datagram: somebody's port is closed.
        let Ok((size, client)) = outside.recv_from(&mut packet).await else {
            continue;
        };
        let socket = match inside.get(&client) {
            Some(socket) => socket,
            None => {
                let socket = Arc::new(UdpSocket::bind(super::loopback()).await.unwrap());
                back.spawn(return_to(
                    client,
                    outside.clone(),
                    socket.clone(),
                    open.clone(),
                ));
                inside.entry(client).or_insert(socket)
            }
        };
        if open.load(Ordering::SeqCst) {
            let _ = socket.send_to(&packet[..size], server).await;
        }
    }
}

async fn return_to(
    client: SocketAddr,
    outside: Arc<UdpSocket>,
    inside: Arc<UdpSocket>,
    open: Arc<AtomicBool>,
) {
    let mut packet = [0; 65_536];
    loop {
        if let Ok((size, _)) = inside.recv_from(&mut packet).await
            && open.load(Ordering::SeqCst)
        {
            let _ = outside.send_to(&packet[..size], client).await;
        }
    }
}
