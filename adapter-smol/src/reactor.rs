//! A socket and a timer in smol's reactor.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use smol::{Async, Timer};
use trunkline_core::driver::system::{self, Direction, UdpSockRef};

use crate::shard::Hold;

/// A UDP socket and a timer of smol.
#[derive(Debug)]
pub struct Reactor {
    socket: Async<UdpSocket>,
    receive: Readiness,
    send: Readiness,
    timer: Timer,
    /// The thread that it is on, if that is a shard's.
    _hold: Option<Hold>,
}

/// Whether trying is worth it. smol's reactor tells of a change once, and asking it costs a system
/// call: what it said holds until an attempt shows otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    Unknown,
}

impl Reactor {
    pub(crate) fn register(socket: UdpSocket, hold: Option<Hold>) -> io::Result<Self> {
        Ok(Self {
            socket: Async::new_nonblocking(socket)?,
            receive: Readiness::Ready,
            send: Readiness::Ready,
            timer: Timer::never(),
            _hold: hold,
        })
    }

    fn readiness(&mut self, direction: Direction) -> &mut Readiness {
        match direction {
            Direction::Receive => &mut self.receive,
            Direction::Send => &mut self.send,
        }
    }
}

impl system::Reactor for Reactor {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        if *self.readiness(direction) == Readiness::Unknown {
            ready!(match direction {
                Direction::Receive => self.socket.poll_readable(cx),
                Direction::Send => self.socket.poll_writable(cx),
            })?;
            *self.readiness(direction) = Readiness::Ready;
        }
        Poll::Ready(Ok(()))
    }

    fn attempt(
        &mut self,
        direction: Direction,
        attempt: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let result = attempt(UdpSockRef::from(&self.socket));
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            *self.readiness(direction) = Readiness::Unknown;
        }
        result
    }

    fn socket(&self) -> UdpSockRef<'_> {
        UdpSockRef::from(&self.socket)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn set_timer(&mut self, deadline: Instant) {
        self.timer.set_at(deadline);
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.timer).poll(cx).map(drop)
    }
}
