//! Sockets of a simulation.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use trunkline_core::driver::Io;
use trunkline_core::{Datagram, Transmit};

use super::timers::Timer;
use super::{Simulation, State};
use crate::NodeIndex;
use crate::host::SOCKET_BYTES;
use crate::network::Outgoing;

/// Datagrams that are handed over in one go at most.
const BATCH: usize = 64;
const SEGMENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9);
/// The first of the ports that a socket gets that asked for none.
const FIRST_PORT: u16 = 49_152;

/// All sockets of a simulation, by their place on its network.
#[derive(Default)]
pub(super) struct Sockets {
    bound: usize,
    sockets: BTreeMap<NodeIndex, Inner>,
}

#[derive(Default)]
struct Inner {
    arrived: VecDeque<Datagram>,
    bytes: usize,
    reader: Option<Waker>,
}

impl Sockets {
    /// A datagram has come. `false`: there was no room for it.
    pub(super) fn receive(&mut self, to: NodeIndex, datagram: Datagram) -> bool {
        let Some(socket) = self.sockets.get_mut(&to) else {
            return true;
        };
        if socket.bytes + datagram.data.len() > SOCKET_BYTES {
            return false;
        }
        socket.bytes += datagram.data.len();
        socket.arrived.push_back(datagram);
        if let Some(reader) = socket.reader.take() {
            reader.wake();
        }
        true
    }
}

/// A UDP socket and a timer of a [`Simulation`].
pub struct SimulatedSocket {
    simulation: Simulation,
    node: NodeIndex,
    address: SocketAddr,
    timer: Timer,
}

impl SimulatedSocket {
    pub(super) fn bind(simulation: &Simulation, wanted: SocketAddr) -> io::Result<Self> {
        let mut state = simulation.state();
        let State {
            network, sockets, ..
        } = &mut *state;
        let node = NodeIndex(sockets.bound);
        let mut address = wanted;
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, wanted.port()));
        let unspecified = wanted.ip().is_unspecified();
        if unspecified && wanted.port() != 0 && network.owner(local).is_none() {
            // Names lead there.
            address = local;
        } else if unspecified {
            // Each other such socket is a machine of its own.
            let [_, _, high, low] = (sockets.bound as u32).to_be_bytes();
            address.set_ip(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)));
        }
        if address.port() == 0 {
            let free = |port: &u16| network.owner((address.ip(), *port).into()).is_none();
            let port = (FIRST_PORT..=u16::MAX).find(free);
            address.set_port(port.ok_or(io::ErrorKind::AddrInUse)?);
        } else if network.owner(address).is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        sockets.bound += 1;
        sockets.sockets.insert(node, Inner::default());
        network.assign(address, node);
        drop(state);
        Ok(Self {
            simulation: simulation.clone(),
            node,
            address,
            timer: Timer::of_socket(simulation.clone()),
        })
    }
}

impl Drop for SimulatedSocket {
    fn drop(&mut self) {
        let mut state = self.simulation.state();
        state.network.release(self.address);
        state.sockets.sockets.remove(&self.node);
    }
}

impl Io for SimulatedSocket {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn now(&self) -> Instant {
        self.simulation.state().now
    }

    fn max_segments(&self) -> NonZeroUsize {
        SEGMENTS
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(Datagram),
    ) -> Poll<io::Result<usize>> {
        let arrived: Vec<_> = {
            let mut state = self.simulation.state();
            let Some(socket) = state.sockets.sockets.get_mut(&self.node) else {
                return Poll::Pending;
            };
            if socket.arrived.is_empty() {
                socket.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let batch = socket.arrived.len().min(BATCH);
            let arrived: Vec<_> = socket.arrived.drain(..batch).collect();
            socket.bytes -= arrived.iter().map(|d| d.data.len()).sum::<usize>();
            arrived
        };
        let count = arrived.len();
        arrived.into_iter().for_each(sink);
        Poll::Ready(Ok(count))
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        let mut state = self.simulation.state();
        let State {
            now,
            paths,
            network,
            ..
        } = &mut *state;
        let path = paths.between(self.address, transmit.destination);
        let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
        for payload in contents.chunks(size) {
            let outgoing = Outgoing {
                from: self.node,
                process: 0,
                source: self.address,
                destination: transmit.destination,
                ecn: transmit.ecn,
                payload,
            };
            network.send(*now, path, &outgoing);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_sleep_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        self.timer.poll(cx, deadline)
    }
}
