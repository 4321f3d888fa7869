//! The driver's socket and timer, of whatever runtime.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use quinn_udp::UdpSockRef;

use super::Batches;
use crate::driver::Io;
use crate::{Datagram, Transmit};

/// Whether others can do anything while a thread looks for what they send.
static SEVERAL_PROCESSORS: LazyLock<bool> =
    LazyLock::new(|| available_parallelism().is_ok_and(|count| count.get() > 1));

/// Real time. That of a reactor may be a test's, which stands still while a thread looks for datagrams.
#[allow(
    clippy::disallowed_methods,
    reason = "nothing but when to stop looking follows from it"
)]
fn clock() -> Instant {
    Instant::now()
}

/// Which way datagrams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// In.
    Receive,
    /// Out.
    Send,
}

/// What a runtime adds to a UDP socket: it says when trying is worth it, and when a time has come.
pub trait Reactor: Send + Unpin + 'static {
    /// The address that the socket is bound to.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Ready if the socket may be, that way; otherwise wakes the task of `cx` once it is.
    fn poll_ready(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>>;

    /// Makes one attempt with the socket. If it ends with [`io::ErrorKind::WouldBlock`], the
    /// socket counts as not ready from then on, until something new happens to it.
    fn attempt(
        &mut self,
        direction: Direction,
        attempt: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()>;

    /// The socket, whatever the reactor knows of it.
    fn socket(&self) -> UdpSockRef<'_>;

    /// The time now, by the timer's clock.
    fn now(&self) -> Instant;

    /// Sets the timer to that time, from whatever it was set to.
    fn set_timer(&mut self, deadline: Instant);

    /// Ready, once, when the time has come that the timer was last set to.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A UDP socket and a timer in a runtime's reactor.
pub struct UdpIo<R> {
    reactor: R,
    batches: Batches,
    /// What the timer is set to, unless it has gone off.
    armed: Option<Instant>,
}

impl<R: Reactor> UdpIo<R> {
    /// Binds a socket to that address, and has `register` hand it to a reactor.
    pub fn bind(
        address: SocketAddr,
        register: impl FnOnce(UdpSocket) -> io::Result<R>,
    ) -> io::Result<Self> {
        Self::over(UdpSocket::bind(address)?, register)
    }

    /// Takes a socket that is bound, and has `register` hand it to a reactor.
    pub fn over(
        socket: UdpSocket,
        register: impl FnOnce(UdpSocket) -> io::Result<R>,
    ) -> io::Result<Self> {
        let batches = Batches::new(&socket)?;
        Ok(Self {
            reactor: register(socket)?,
            batches,
            armed: None,
        })
    }
}

impl<R: Reactor> Io for UdpIo<R> {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.reactor.local_address()
    }

    fn now(&self) -> Instant {
        self.reactor.now()
    }

    fn max_segments(&self) -> NonZeroUsize {
        self.batches.max_segments()
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(Datagram),
    ) -> Poll<io::Result<usize>> {
        let Self {
            reactor, batches, ..
        } = self;
        while !batches.is_filled() {
            ready!(reactor.poll_ready(cx, Direction::Receive))?;
            let mut attempt = |socket: UdpSockRef<'_>| match batches.fill(socket) {
                // A batch that is not full has emptied the socket, and the call that would find
                // nothing is saved.
                Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
                result => result.map(drop),
            };
            match reactor.attempt(Direction::Receive, &mut attempt) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                _ => {}
            }
        }
        Poll::Ready(Ok(batches.empty(sink)))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        let Self {
            reactor, batches, ..
        } = self;
        let mut attempt = |socket: UdpSockRef<'_>| batches.send(socket, transmit, contents);
        loop {
            ready!(reactor.poll_ready(cx, Direction::Send))?;
            match reactor.attempt(Direction::Send, &mut attempt) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn busy_poll(&mut self, time: Duration, interrupted: &mut dyn FnMut() -> bool) -> bool {
        if !*SEVERAL_PROCESSORS {
            return false;
        }
        let begin = clock();
        loop {
            match self.batches.fill(self.reactor.socket()) {
                Ok(_) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A socket that fails may do so each time; the reactor is told of that as well.
                Err(_) => return false,
            }
            if interrupted() {
                return true;
            }
            if clock() - begin >= time {
                return false;
            }
        }
    }

    fn poll_sleep_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        loop {
            // Deadlines mostly move back: a timer that goes off too early costs one wake-up, less
            // than setting it anew for each packet.
            if self.armed.is_none_or(|armed| armed > deadline) {
                self.reactor.set_timer(deadline);
                self.armed = Some(deadline);
            }
            ready!(self.reactor.poll_timer(cx));
            self.armed = None;
            if self.now() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}

impl<R> fmt::Debug for UdpIo<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpIo")
            .field("batches", &self.batches)
            .field("armed", &self.armed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// Knows of nothing that happens to its socket.
    struct Blind(UdpSocket);

    impl Reactor for Blind {
        fn local_address(&self) -> io::Result<SocketAddr> {
            self.0.local_addr()
        }

        fn poll_ready(&mut self, _: &mut Context<'_>, _: Direction) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn attempt(
            &mut self,
            _: Direction,
            attempt: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>,
        ) -> io::Result<()> {
            attempt(self.socket())
        }

        fn socket(&self) -> UdpSockRef<'_> {
            (&self.0).into()
        }

        fn now(&self) -> Instant {
            Instant::now()
        }

        fn set_timer(&mut self, _: Instant) {}

        fn poll_timer(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    fn io() -> UdpIo<Blind> {
        let address = ([127, 0, 0, 1], 0).into();
        UdpIo::bind(address, |socket| Ok(Blind(socket))).unwrap()
    }

    const AGES: Duration = Duration::from_secs(3_600);

    #[test]
    fn what_comes_while_it_looks_is_received_though_no_reactor_knows_of_it() {
        let mut io = io();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut received: Vec<BytesMut> = Vec::new();
        let mut sink = |datagram: Datagram| received.push(datagram.data);
        assert!(io.poll_receive(&mut cx, &mut sink).is_pending());
        sender.send_to(b"x", io.local_address().unwrap()).unwrap();
        let found = io.busy_poll(AGES, &mut || false);
        assert_eq!(found, *SEVERAL_PROCESSORS);
        let count = io.poll_receive(&mut cx, &mut sink);
        assert_eq!(matches!(count, Poll::Ready(Ok(1))), found);
        assert_eq!(received.len(), usize::from(found));
    }

    #[test]
    fn it_looks_until_it_is_interrupted_or_the_time_is_over() {
        let mut io = io();
        let mut asked = 0;
        let mut enough = || {
            asked += 1;
            asked == 10
        };
        assert_eq!(io.busy_poll(AGES, &mut enough), *SEVERAL_PROCESSORS);
        let time = Duration::from_micros(10);
        assert!(!io.busy_poll(time, &mut || false));
    }
}
