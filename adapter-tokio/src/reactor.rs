//! A socket and a timer in tokio's reactor.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::unconstrained;
use tokio::time::Sleep;
use trunkline_core::driver::system::{self, Direction, UdpSockRef};

use crate::shard::Hold;

/// A UDP socket and a timer of tokio.
#[derive(Debug)]
pub struct Reactor {
    socket: UdpSocket,
    sleep: Pin<Box<Sleep>>,
    /// The thread that it is on, if that is a shard's.
    _hold: Option<Hold>,
}

impl Reactor {
    /// Hands a socket to the reactor of the runtime that the caller is inside of.
    pub(crate) fn register(socket: std::net::UdpSocket, hold: Option<Hold>) -> io::Result<Self> {
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            sleep: Box::pin(tokio::time::sleep_until(tokio::time::Instant::now())),
            _hold: hold,
        })
    }
}

impl system::Reactor for Reactor {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        let socket = &self.socket;
        // A turn has budgets of its own. tokio's, smaller than that, would end it in the middle, as if the socket
        // were not ready.
        let ready = unconstrained(poll_fn(|cx| match direction {
            Direction::Receive => socket.poll_recv_ready(cx),
            Direction::Send => socket.poll_send_ready(cx),
        }));
        pin!(ready).poll(cx)
    }

    fn attempt(
        &mut self,
        direction: Direction,
        attempt: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let interest = match direction {
            Direction::Receive => Interest::READABLE,
            Direction::Send => Interest::WRITABLE,
        };
        let socket = UdpSockRef::from(&self.socket);
        self.socket.try_io(interest, move || attempt(socket))
    }

    fn socket(&self) -> UdpSockRef<'_> {
        UdpSockRef::from(&self.socket)
    }

    fn step_aside(&mut self, cx: &mut Context<'_>) {
        // Polled once, it has the runtime wake the task when no other is ready and the reactor was asked.
        // (On several threads it then runs before what the reactor has woken.)
        let _ = pin!(tokio::task::yield_now()).poll(cx);
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn set_timer(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline.into());
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use trunkline_core::driver::system::Reactor as _;

    use super::*;

    /// As many as a turn asks for, and more than tokio has for a task's poll.
    #[tokio::test]
    async fn a_socket_that_is_ready_is_so_all_through_a_turn() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut reactor = Reactor::register(socket, None).unwrap();
        poll_fn(|cx| reactor.poll_ready(cx, Direction::Send))
            .await
            .unwrap();
        let ready = poll_fn(|cx| {
            let ask = |_: &usize| reactor.poll_ready(cx, Direction::Send).is_ready();
            Poll::Ready((0..1_000).take_while(ask).count())
        })
        .await;
        assert_eq!(ready, 1_000);
    }

    /// What the runtime polls first on one thread, of a task that steps aside and the main future,
    /// which the task has woken before.
    #[test]
    fn who_steps_aside_lets_all_others_go_first() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        runtime.block_on(async {
            let (wake, woken) = tokio::sync::oneshot::channel();
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut reactor = Reactor::register(socket, None).unwrap();
            let (mut wake, mut aside, polls) = (Some(wake), false, order.clone());
            let task = tokio::spawn(poll_fn(move |cx| {
                if aside {
                    polls.lock().unwrap().push("task");
                    return Poll::Ready(());
                }
                aside = true;
                wake.take().unwrap().send(()).unwrap();
                reactor.step_aside(cx);
                Poll::Pending
            }));
            woken.await.unwrap();
            order.lock().unwrap().push("main");
            task.await.unwrap();
        });
        assert_eq!(*order.lock().unwrap(), ["main", "task"]);
    }
}
