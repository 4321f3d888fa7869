//! A node and its socket: what goes in, what comes out, and when it wants to be looked at again.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use trunkline_core::{Datagram, Input, Node, Origin, Roles, Seed, Transmit};
use trunkline_testkit::peers::{Report, config};

use super::socket::Socket;

/// System calls of each kind that one turn makes at most, before the other endpoints get theirs.
const RECEIVES: usize = 4;
const TRANSMITS: usize = 256;

/// A node and its socket.
pub(crate) struct Endpoint {
    pub(crate) node: Node,
    socket: Socket,
    /// The time that the node was last told.
    pub(crate) told: Instant,
    /// Something may have arrived.
    pub(crate) readable: Cell<bool>,
    datagrams: Vec<Datagram>,
    buffer: Vec<u8>,
    /// What the socket did not take yet; its bytes stand in `buffer`.
    unsent: Option<Transmit>,
}

impl Endpoint {
    pub(crate) fn bind(address: SocketAddr, roles: Roles) -> Result<Self> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| anyhow!("the system gave no randomness"))?;
        let now = Instant::now();
        let origin = Origin {
            now,
            wall: SystemTime::now(),
            seed: Seed::new(seed),
            keys: None,
        };
        let socket =
            Socket::bind(address).with_context(|| format!("{address} cannot be listened at"))?;
        Ok(Self {
            node: Node::new(config(), roles, origin)?,
            socket,
            told: now,
            readable: Cell::new(true),
            datagrams: Vec::new(),
            buffer: Vec::new(),
            unsent: None,
        })
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_address()
    }

    /// Gives the node what has arrived, then the timers that are due: a peer that has spoken is
    /// not to be timed out.
    pub(crate) fn receive(&mut self) -> Result<()> {
        for _ in 0..RECEIVES {
            if !self.readable.get() {
                break;
            }
            self.readable.set(self.socket.receive(&mut self.datagrams)?);
            self.told = Instant::now();
            for datagram in self.datagrams.drain(..) {
                self.node.handle_input(self.told, Input::Datagram(datagram));
            }
        }
        if self.node.poll_timeout().is_some_and(|due| due <= self.told) {
            self.node.handle_input(self.told, Input::Timeout);
        }
        Ok(())
    }

    /// Sends what the node has to say.
    pub(crate) fn transmit(&mut self) {
        for _ in 0..TRANSMITS {
            let transmit = match self.unsent.take() {
                Some(transmit) => transmit,
                None => {
                    self.buffer.clear();
                    let segments = self.socket.max_segments();
                    match self
                        .node
                        .poll_transmit(self.told, segments, &mut self.buffer)
                    {
                        Some(transmit) => transmit,
                        None => return,
                    }
                }
            };
            match self.socket.send(&transmit, &self.buffer[..transmit.size]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent = Some(transmit);
                    return;
                }
                // What the socket does not take is lost, and QUIC sends its contents again.
                _ => {}
            }
        }
    }

    /// Whether it waits for the socket to take more.
    pub(crate) fn is_blocked(&self) -> bool {
        self.unsent.is_some()
    }

    /// When it wants its next turn, unless something arrives before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.node.poll_timeout();
        if self.is_blocked() {
            // The node is due because it has more to send: the socket says when it can.
            due.map(|due| due.max(self.told + Duration::from_millis(1)))
        } else {
            due
        }
    }

    /// Adds what has crossed the socket so far.
    pub(crate) fn counted(&self, report: Report) -> Report {
        let metrics = self.node.metrics(self.told);
        report
            .with("tx_datagrams", metrics.datagrams_out)
            .with("tx_ios", self.socket.sends)
            .with("rx_datagrams", metrics.datagrams_in)
            .with("rx_ios", self.socket.receives)
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
