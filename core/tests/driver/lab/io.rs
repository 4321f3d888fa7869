//! A socket of the lab's network, and the timer that its owner has.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use trunkline_core::driver::Io;
use trunkline_core::{Datagram, Ecn, Transmit};

use super::{Lab, Later};

/// How long a datagram takes.
const DELAY: Duration = Duration::from_millis(1);

/// One socket, and how it misbehaves.
#[derive(Default)]
pub struct Socket {
    pub(super) arrived: VecDeque<Datagram>,
    pub(super) reader: Option<Waker>,
    /// Nothing comes in or goes out.
    pub cut: bool,
    /// Receiving fails each time.
    pub fails: bool,
    /// Sending fails each time.
    pub refuses: bool,
    /// Whoever receives from it panics.
    pub broken: bool,
    /// So many calls of `poll_receive` were made.
    pub receives: u64,
    /// So many transmits were sent.
    pub sends: u64,
    /// Whoever floods it sends as much as it can take.
    pub flooded: bool,
    /// Time passes while its owner looks for datagrams without sleeping.
    pub sees: bool,
    /// What another thread does as soon as its owner looks so.
    pub meanwhile: Option<Box<dyn FnMut() + Send>>,
    /// So many times its owner has looked so, and when it found something.
    pub looks: u64,
    pub found_at: Vec<Instant>,
    /// So many of those looks held up a task that could have run.
    pub holdups: u64,
}

/// A socket and a timer of the lab.
pub struct LabIo {
    lab: Lab,
    pub(super) address: SocketAddr,
    /// Its own name among those that share the address.
    key: SocketAddr,
    /// Deadlines that stand on the agenda already.
    wakes: BTreeSet<Instant>,
}

impl LabIo {
    pub(super) fn new(lab: Lab, address: SocketAddr, key: SocketAddr) -> Self {
        Self {
            lab,
            address,
            key,
            wakes: BTreeSet::new(),
        }
    }
}

impl LabIo {
    fn on_socket<T>(&self, act: impl FnOnce(&mut Socket) -> T) -> T {
        let mut inner = self.lab.lock();
        act(inner.sockets.get_mut(&self.key).expect("it is bound"))
    }
}

impl Io for LabIo {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn serves_ipv4(&self) -> bool {
        self.address.is_ipv4() || self.lab.lock().serves_both
    }

    fn now(&self) -> Instant {
        self.lab.now()
    }

    fn max_segments(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(Datagram),
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.lab.lock();
        let socket = inner.sockets.get_mut(&self.key).expect("it is bound");
        socket.receives += 1;
        if socket.broken {
            drop(inner);
            panic!("on purpose");
        }
        if socket.fails {
            return Poll::Ready(Err(io::Error::other("on purpose")));
        }
        let arrived: Vec<_> = socket.arrived.drain(..).collect();
        if socket.flooded {
            // What it carries is nobody's, and each turn takes time.
            inner.now += Duration::from_millis(1);
            drop(inner);
            arrived.into_iter().for_each(sink);
            return Poll::Ready(Ok(usize::MAX / 2));
        }
        if arrived.is_empty() {
            socket.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(inner);
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
        let mut inner = self.lab.lock();
        let socket = inner.sockets.get_mut(&self.key).expect("it is bound");
        socket.sends += 1;
        if socket.refuses {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        let cut = socket.cut;
        if !cut {
            let to = transmit.destination;
            let own: IpAddr = match to {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            let home = SocketAddr::new(own, self.address.port());
            let remote = inner.moved.get(&home).copied().unwrap_or(home);
            drop(inner);
            let datagram = Datagram {
                remote,
                local_ip: Some(to.ip()),
                ecn: transmit.ecn.and_then(|ecn| Ecn::from_bits(ecn.bits())),
                data: BytesMut::from(contents),
            };
            let at = self.lab.now() + DELAY;
            self.lab.later(at, Later::Arrive(to, datagram));
        }
        Poll::Ready(Ok(()))
    }

    fn look(&mut self, time: Duration, interrupted: &mut dyn FnMut() -> bool) -> Option<Duration> {
        let begin = self.lab.now();
        let holds_up = !self.lab.ready.is_empty();
        let (sees, mut meanwhile, reader) = self.on_socket(|socket| {
            socket.looks += 1;
            socket.holdups += u64::from(holds_up);
            (socket.sees, socket.meanwhile.take(), socket.reader.take())
        });
        if let Some(act) = &mut meanwhile {
            act();
        }
        // Nobody is told of what comes meanwhile: who looks finds it.
        let mut something = || self.on_socket(|socket| !socket.arrived.is_empty()) || interrupted();
        let mut found = something();
        while sees && !found && self.lab.take_step(begin + time) {
            found = something();
        }
        let now = self.lab.now();
        self.on_socket(|socket| {
            socket.meanwhile = meanwhile;
            socket.reader = reader;
            socket.found_at.extend(found.then_some(now));
        });
        found.then(|| now - begin)
    }

    fn poll_sleep_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let now = self.lab.now();
        if now >= deadline {
            return Poll::Ready(());
        }
        self.wakes.retain(|at| *at > now);
        if self.wakes.insert(deadline) {
            let waker = Later::Wake(cx.waker().clone());
            self.lab.later(deadline, waker);
        }
        Poll::Pending
    }
}

impl Drop for LabIo {
    fn drop(&mut self) {
        let mut inner = self.lab.lock();
        inner.sockets.remove(&self.key);
        if let Some(group) = inner.groups.get_mut(&self.address) {
            // The last one takes its place, as on Linux.
            let place = group.iter().position(|key| *key == self.key);
            place.map(|place| group.swap_remove(place));
            if group.is_empty() {
                inner.groups.remove(&self.address);
            }
        }
    }
}
