//! The driver's socket and timer, of whatever runtime.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use quinn_udp::UdpSockRef;

use super::Batches;
use super::batches::Sending;
use super::socket::bind;
use crate::driver::Io;
use crate::{Datagram, Transmit};

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

    /// Has the task of `cx` polled again once others that can run have run, those included, if possible,
    /// that the reactor finds able to.
    fn step_aside(&mut self, cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }

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
    /// More may be waiting than a look has received, though the reactor need not know of it.
    unread: bool,
    /// What the timer is set to, unless it has gone off.
    armed: Option<Instant>,
}

impl<R: Reactor> UdpIo<R> {
    /// Binds a socket to that address, and has `register` hand it to a reactor.
    pub fn bind(
        address: SocketAddr,
        register: impl FnOnce(UdpSocket) -> io::Result<R>,
    ) -> io::Result<Self> {
        Self::over(bind(address)?, register)
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
            unread: false,
            armed: None,
        })
    }
}

impl<R: Reactor> Io for UdpIo<R> {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.reactor.local_address()
    }

    fn serves_ipv4(&self) -> bool {
        self.batches.serves_ipv4()
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
            reactor,
            batches,
            unread,
            ..
        } = self;
        while !batches.is_filled() {
            if *unread {
                match batches.fill(reactor.socket()) {
                    Ok(full) => *unread = full,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => *unread = false,
                    Err(error) => return Poll::Ready(Err(error)),
                }
                continue;
            }
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
        loop {
            ready!(reactor.poll_ready(cx, Direction::Send))?;
            let mut attempt = |send: &mut Sending<'_>| reactor.attempt(Direction::Send, send);
            match batches.try_send(transmit, contents, &mut attempt) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn look(&mut self, time: Duration, interrupted: &mut dyn FnMut() -> bool) -> Option<Duration> {
        let begin = clock();
        loop {
            // An error concerns one datagram. If it stays, the reactor tells of it as of any other.
            if let Ok(full) = self.batches.fill(self.reactor.socket()) {
                self.unread = full;
                return Some(clock() - begin);
            }
            let passed = clock() - begin;
            if interrupted() {
                return Some(passed);
            }
            if passed >= time {
                return None;
            }
        }
    }

    fn step_aside(&mut self, cx: &mut Context<'_>) {
        self.reactor.step_aside(cx);
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
    use std::task::Waker;

    use quinn_udp::BATCH_SIZE;

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

    const LONG: Duration = Duration::from_secs(10);

    /// What one look and all receiving after it have brought.
    fn look(io: &mut UdpIo<Blind>) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut received = 0;
        assert!(io.look(LONG, &mut || false).is_some());
        while io.poll_receive(&mut cx, &mut |_| received += 1).is_ready() {}
        received
    }

    #[test]
    fn what_comes_while_it_looks_is_received_though_no_reactor_knows_of_it() {
        const BURST: usize = 2 * BATCH_SIZE + 1;
        let mut io = io();
        let to = io.local_address().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(io.poll_receive(&mut cx, &mut |_| ()).is_pending());
        // Loopback delivers within the sending call, or soon after it: mostly, the first look sees all.
        let saw_all = (0..1_000).any(|_| {
            for _ in 0..BURST {
                sender.send_to(b"x", to).unwrap();
            }
            let first = look(&mut io);
            let mut received = first;
            while received < BURST {
                received += look(&mut io);
            }
            first == BURST
        });
        assert!(saw_all);
    }

    #[test]
    fn it_looks_until_it_is_interrupted_or_the_time_is_over() {
        let mut io = io();
        let mut asked = 0;
        let mut enough = || {
            asked += 1;
            asked == 10
        };
        assert!(io.look(LONG, &mut enough).is_some());
        let time = Duration::from_micros(10);
        assert!(io.look(time, &mut || false).is_none());
    }
}
