//! A path between clients and a server that can be cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Passes datagrams on between any number of clients and one server, each client by a socket of
/// its own, as a NAT does. Dropped, it passes nothing more.
pub struct Relay {
    pub address: SocketAddr,
    open: Arc<AtomicBool>,
    /// How often clients have been given other sockets.
    moves: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let outside = Arc::new(UdpSocket::bind(super::loopback()).await.unwrap());
        let address = outside.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let moves = Arc::new(AtomicU64::new(0));
        let mut task = JoinSet::new();
        task.spawn(forward(outside, server, open.clone(), moves.clone()));
        Self {
            address,
            open,
            moves,
            _task: task,
        }
    }

    /// From now on nothing gets through.
    pub fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// From now on each client comes to the server from another address.
    pub fn rebind(&self) {
        self.moves.fetch_add(1, Ordering::SeqCst);
    }

    /// The path is there again.
    pub fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

async fn forward(
    outside: Arc<UdpSocket>,
    server: SocketAddr,
    open: Arc<AtomicBool>,
    moves: Arc<AtomicU64>,
) {
    let mut inside = BTreeMap::new();
    let mut back = JoinSet::new();
    let mut packet = [0; 65_536];
    loop {
        // An error concerns one datagram: somebody's port is closed.
        let Ok((size, client)) = outside.recv_from(&mut packet).await else {
            continue;
        };
        let key = (client, moves.load(Ordering::SeqCst));
        let socket = match inside.get(&key) {
            Some(socket) => socket,
            None => {
                let socket = Arc::new(UdpSocket::bind(super::loopback()).await.unwrap());
                back.spawn(return_to(
                    client,
                    outside.clone(),
                    socket.clone(),
                    open.clone(),
                ));
                inside.entry(key).or_insert(socket)
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
