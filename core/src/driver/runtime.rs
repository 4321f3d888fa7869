//! What an adapter supplies: tasks, time, a socket, names. Nothing else differs between runtimes.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use crate::{BusyPoll, Datagram, Seed, Steering, Transmit};

/// A future of its own, to be run to its end by a runtime.
pub type Task<T = ()> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What services and handles need of a runtime.
pub trait Runtime: Send + Sync + 'static {
    /// Runs the task beside the caller. A runtime that is shutting down may drop it instead.
    fn spawn(&self, task: Task);

    /// The time now, by the clock that [`Io::poll_sleep_until`] sleeps by.
    fn now(&self) -> Instant;

    /// The wall clock now: what certificates are judged by.
    fn wall(&self) -> SystemTime;

    /// How many tasks a driver had better wake for events in one turn. After so many it passes on no
    /// further ones; its next turn goes on with them.
    fn wakes_at_once(&self) -> usize {
        usize::MAX
    }

    /// Told of a panic of the application's that was caught and goes no further: who panicked, as in "a handler", and
    /// with what. Nothing is to be done about it; a runtime for tests may make a test fail. If it panics itself, that is
    /// caught too.
    fn panicked(&self, who: &str, panic: &(dyn Any + Send)) {
        let _ = (who, panic);
    }
}

/// Tells a runtime of a caught panic. If that panics in turn, it goes no further either.
pub(crate) fn tell_panic(runtime: &dyn Runtime, who: &str, panic: &(dyn Any + Send)) {
    let _ = catch_unwind(AssertUnwindSafe(|| runtime.panicked(who, panic)));
}

/// What a runtime adapter is: with it, [`super::Server`] and [`super::Client`] are complete.
pub trait Platform: Runtime + Clone {
    /// Its UDP socket and its timer.
    type Io: Io;

    /// The runtime to take where none was handed over: the one that the caller runs in, or the
    /// only one there is; an error if there is none.
    fn current() -> io::Result<Self>;

    /// A socket bound to that address.
    fn bind(&self, address: SocketAddr) -> io::Result<Self::Io>;

    /// The addresses of `host:port`. The task may be polled outside of the runtime.
    fn resolve(&self, host: &str) -> Task<io::Result<Vec<SocketAddr>>>;

    /// Ends after that time. The task may be polled outside of the runtime.
    fn sleep(&self, time: Duration) -> Task;

    /// How its drivers look for datagrams, unless told otherwise.
    fn default_busy_poll() -> BusyPoll {
        BusyPoll::NEVER
    }

    /// 256 bits of randomness from the operating system.
    fn seed() -> io::Result<Seed>;
}

/// A platform whose servers can have several shards.
pub trait Sharded: Platform {
    /// A runtime with a thread of its own and a socket bound to that address, for each shard from
    /// the first to the last: as many as [`Steering::shards`], or the server does not start. The system should choose the socket by [`Steering::shard_of`] if it
    /// can: what comes to another one is handed over.
    ///
    /// Such a runtime ends when its socket and all of its tasks are gone, and with this platform's
    /// own runtime, if that goes earlier.
    fn shards(&self, address: SocketAddr, steering: &Steering)
    -> io::Result<Vec<(Self, Self::Io)>>;
}

/// A UDP socket and one timer, polled by the [`super::Driver`] that owns them. Each `poll`
/// function wakes the task of `cx` when it is worth calling again after [`Poll::Pending`].
///
/// Addresses are those of the wire, whatever family the socket is of: what an IPv6 socket names
/// `[::ffff:192.0.2.1]` is `192.0.2.1` in datagrams that come ([`Datagram::remote`], [`Datagram::local_ip`]), and a
/// transmit for `192.0.2.1` is for this socket to map.
pub trait Io: Send + Unpin + 'static {
    /// The address that the socket is bound to.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Whether it serves IPv4 as well as a socket of IPv4 does. A client that knows of IPv4 addresses alone does not
    /// take one of IPv6 that does not. By default it does.
    fn serves_ipv4(&self) -> bool {
        true
    }

    /// The time now.
    fn now(&self) -> Instant;

    /// How many datagrams of one size [`Io::poll_send`] can send in one call.
    fn max_segments(&self) -> NonZeroUsize;

    /// Hands some datagrams that have arrived to `sink` and says how many they were;
    /// [`Poll::Pending`] if none has. An error concerns one peer, or none: the driver goes on.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(Datagram),
    ) -> Poll<io::Result<usize>>;

    /// Sends all of it or, with [`Poll::Pending`], nothing. An error means that this transmit
    /// cannot be sent; QUIC will find it lost.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>>;

    /// Looks for datagrams without sleeping, for at most so long, and says after how long there were
    /// some for [`Io::poll_receive`] to take, or `interrupted` said to stop. Called only when that was
    /// pending.
    fn look(&mut self, time: Duration, interrupted: &mut dyn FnMut() -> bool) -> Option<Duration> {
        let _ = (time, interrupted);
        None
    }

    /// Has the task of `cx` polled again once others that can run have run.
    fn step_aside(&mut self, cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }

    /// Ready once `deadline` has come; never, if there is none. A later call replaces an earlier
    /// one's deadline.
    fn poll_sleep_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()>;
}
