//! A node and its socket: what goes in, what comes out, and when it wants to be looked at again.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use trunkline_core::{
    Config, Datagram, Input, Node, Origin, PersistentKeys, Roles, Seed, Transmit,
};

use super::bad_path::BadPath;
use super::socket::Socket;
use crate::Path;
use crate::peers::Report;

/// System calls of each kind that one turn makes at most, before the other endpoints get theirs.
const RECEIVES: usize = 4;
const TRANSMITS: usize = 256;

/// What a node is made of.
#[derive(Debug)]
pub struct Setup {
    /// How it behaves.
    pub config: Config,
    /// What it is.
    pub roles: Roles,
    /// What it has in common with the one before it.
    pub keys: Option<PersistentKeys>,
    /// When it begins. The clients of nodes that began at the same time beat at the same moments.
    pub origin: Instant,
}

/// A node and its socket.
pub struct Endpoint {
    /// The node.
    pub node: Node,
    socket: Socket,
    /// The time that the node was last told.
    pub told: Instant,
    /// Something may have arrived.
    pub readable: Cell<bool>,
    datagrams: Vec<Datagram>,
    buffer: Vec<u8>,
    /// What the socket did not take yet; its bytes stand in `buffer`.
    unsent: Option<Transmit>,
    /// What happens to datagrams on their way, if anything does.
    bad_path: Option<BadPath>,
}

impl Endpoint {
    /// Opens a socket at that address for a new node.
    pub fn bind(address: SocketAddr, setup: Setup) -> Result<Self> {
        let Setup {
            config,
            roles,
            keys,
            origin: now,
        } = setup;
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| anyhow!("the system gave no randomness"))?;
        let origin = Origin {
            now,
            wall: SystemTime::now(),
            seed: Seed::new(seed),
            keys,
        };
        let socket =
            Socket::bind(address).with_context(|| format!("{address} cannot be listened at"))?;
        Ok(Self {
            node: Node::new(config, roles, origin)?,
            socket,
            told: now,
            readable: Cell::new(true),
            datagrams: Vec::new(),
            buffer: Vec::new(),
            unsent: None,
            bad_path: None,
        })
    }

    /// From now on datagrams get lost in both directions as `path` says, the same ones with the same
    /// seed; what else it says is not done.
    pub fn impair(&mut self, path: Path, seed: u64) {
        self.bad_path = Some(BadPath::new(path, seed, self.told));
    }

    /// Cuts the path in both directions, or ends that.
    pub fn cut(&mut self, cut: bool) {
        let now = self.told;
        let path = || BadPath::new(Path::default(), 0, now);
        self.bad_path.get_or_insert_with(path).path.cut = cut;
    }

    /// How many datagrams did not arrive by what [`Endpoint::impair`] and [`Endpoint::cut`] did.
    pub fn lost(&self) -> u64 {
        self.bad_path.as_ref().map_or(0, |path| path.lost)
    }

    /// How many datagrams have met what [`Endpoint::impair`] and [`Endpoint::cut`] do, lost or not.
    pub fn met(&self) -> u64 {
        self.bad_path.as_ref().map_or(0, BadPath::met)
    }

    /// Where it is.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_address()
    }

    /// Gives the node what has arrived, then the timers that are due: a peer that has spoken is
    /// not to be timed out.
    pub fn receive(&mut self) -> Result<()> {
        for _ in 0..RECEIVES {
            if !self.readable.get() {
                break;
            }
            self.readable.set(self.socket.receive(&mut self.datagrams)?);
            self.told = Instant::now();
            for datagram in self.datagrams.drain(..) {
                if let Some(path) = &mut self.bad_path
                    && path.loses_incoming(self.told, datagram.data.len())
                {
                    continue;
                }
                self.node.handle_input(self.told, Input::Datagram(datagram));
            }
        }
        if self.node.poll_timeout().is_some_and(|due| due <= self.told) {
            self.node.handle_input(self.told, Input::Timeout);
        }
        Ok(())
    }

    /// Sends what the node has to say.
    pub fn transmit(&mut self) {
        for _ in 0..TRANSMITS {
            let transmit = match self.unsent.take() {
                Some(transmit) => transmit,
                None => {
                    self.buffer.clear();
                    let segments = match self.bad_path {
                        // Each is lost, or not, on its own.
                        Some(_) => NonZeroUsize::MIN,
                        None => self.socket.max_segments(),
                    };
                    match self
                        .node
                        .poll_transmit(self.told, segments, &mut self.buffer)
                    {
                        Some(transmit) => transmit,
                        None => return,
                    }
                }
            };
            if let Some(path) = &mut self.bad_path
                && path.loses_outgoing(self.told, transmit.size)
            {
                continue;
            }
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
    pub fn is_blocked(&self) -> bool {
        self.unsent.is_some()
    }

    /// When it wants its next turn, unless something arrives before.
    pub fn deadline(&self) -> Option<Instant> {
        let due = self.node.poll_timeout();
        if self.is_blocked() {
            // The node is due because it has more to send: the socket says when it can.
            due.map(|due| due.max(self.told + Duration::from_millis(1)))
        } else {
            due
        }
    }

    /// Adds what has crossed the socket so far.
    pub fn counted(&self, report: Report) -> Report {
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
