//! Datagrams that came to another shard's socket than they name, and how they get to their own.
//!
//! Where the system can, it chooses the socket by the same rule as [`Steering`]; but it cannot
//! always (it lacks the means, a socket has gone and others have taken its place, it merged
//! datagrams of several connections into one), so that each shard looks itself.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::runtime::Io;
use super::watch::lock;
use crate::{Datagram, MetricsSnapshot, Steering, Transmit};

/// How many datagrams a shard's tray holds at most. Beyond that, they are lost, as in a socket's full
/// buffer.
const TRAY: usize = 4_096;

/// How many bytes it holds at most: as many as a socket's buffer is asked to.
const TRAY_BYTES: usize = 2 << 20;

/// How many of them a shard takes at a time, before it looks at its own socket again.
const HANDFUL: usize = 256;

/// Where shards leave datagrams for each other.
#[derive(Debug)]
pub(crate) struct Crossing {
    steering: Steering,
    trays: Box<[Mutex<Tray>]>,
    forwarded: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Tray {
    datagrams: VecDeque<Datagram>,
    /// What they carry, in all.
    bytes: usize,
    /// Its shard, when it waits.
    waker: Option<Waker>,
    /// Its shard has ended.
    closed: bool,
}

impl Tray {
    /// Puts a datagram in; `false`, if there is no room for it.
    fn put(&mut self, datagram: Datagram) -> bool {
        let bytes = self.bytes + datagram.data.len();
        if self.datagrams.len() == TRAY || bytes > TRAY_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.datagrams.push_back(datagram);
        true
    }

    /// Takes the oldest out.
    fn take(&mut self) -> Option<Datagram> {
        let datagram = self.datagrams.pop_front()?;
        self.bytes -= datagram.data.len();
        Some(datagram)
    }
}

impl Crossing {
    pub(crate) fn new(steering: Steering) -> Self {
        Self {
            trays: (0..steering.shards()).map(|_| Mutex::default()).collect(),
            steering,
            forwarded: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Adds what was counted here to what the nodes have counted.
    pub(crate) fn count(&self, metrics: &mut MetricsSnapshot) {
        metrics.datagrams_forwarded += self.forwarded.load(Ordering::Relaxed);
        metrics.forwarded_dropped += self.lost.load(Ordering::Relaxed);
    }

    /// Leaves datagrams for a shard: for the one that they name or, if that has ended, the next one
    /// that has not. Gives them back if that is `own`.
    fn pass(&self, own: usize, named: usize, datagrams: &mut Vec<Datagram>) {
        for number in 0..self.trays.len() {
            let at = (named + number) % self.trays.len();
            if at == own {
                return;
            }
            let mut tray = lock(&self.trays[at]);
            if tray.closed {
                continue;
            }
            let (mut forwarded, mut lost) = (0, 0);
            for datagram in datagrams.drain(..) {
                let held = tray.put(datagram);
                forwarded += u64::from(held);
                lost += u64::from(!held);
            }
            let waker = tray.waker.take();
            drop(tray);
            self.forwarded.fetch_add(forwarded, Ordering::Relaxed);
            self.lost.fetch_add(lost, Ordering::Relaxed);
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
    }

    /// Whether nothing was left for a shard.
    fn is_empty(&self, own: usize) -> bool {
        lock(&self.trays[own]).datagrams.is_empty()
    }

    /// Takes what was left for a shard; if that is all, the next one will wake it.
    fn take(&self, own: usize, taken: &mut Vec<Datagram>, cx: &Context<'_>) {
        let mut tray = lock(&self.trays[own]);
        taken.extend(std::iter::from_fn(|| tray.take()).take(HANDFUL));
        let known = |waker: &Waker| waker.will_wake(cx.waker());
        let old = if tray.datagrams.is_empty() && !tray.waker.as_ref().is_some_and(known) {
            tray.waker.replace(cx.waker().clone())
        } else {
            None
        };
        drop(tray);
        drop(old);
    }

    /// Its shard has ended: from now on others take what is for it.
    fn close(&self, own: usize) {
        let mut tray = lock(&self.trays[own]);
        tray.closed = true;
        let (left, waker) = (std::mem::take(&mut tray.datagrams), tray.waker.take());
        tray.bytes = 0;
        drop(tray);
        self.lost.fetch_add(left.len() as u64, Ordering::Relaxed);
        drop((left, waker));
    }
}

/// The socket of one of several shards: what came to it for another is handed over to that one, and
/// what came to others for this one is received here.
pub(crate) struct Crossed<I> {
    io: I,
    crossing: Arc<Crossing>,
    own: usize,
    taken: Vec<Datagram>,
    /// For each shard.
    away: Vec<Vec<Datagram>>,
}

impl<I: Io> Crossed<I> {
    pub(crate) fn new(io: I, crossing: Arc<Crossing>, own: usize) -> Self {
        let away = crossing.trays.iter().map(|_| Vec::new()).collect();
        Self {
            io,
            crossing,
            own,
            taken: Vec::new(),
            away,
        }
    }
}

impl<I: Io> Io for Crossed<I> {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.io.local_address()
    }

    fn serves_ipv4(&self) -> bool {
        self.io.serves_ipv4()
    }

    fn now(&self) -> Instant {
        self.io.now()
    }

    fn max_segments(&self) -> NonZeroUsize {
        self.io.max_segments()
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(Datagram),
    ) -> Poll<io::Result<usize>> {
        let Self {
            io,
            crossing,
            own,
            taken,
            away,
        } = self;
        crossing.take(*own, taken, cx);
        let brought = taken.len();
        taken.drain(..).for_each(&mut *sink);
        let mut crossers = false;
        let received = io.poll_receive(cx, &mut |datagram| match crossing
            .steering
            .shard_of(&datagram.data)
            .map(usize::from)
        {
            Some(named) if named != *own => {
                away[named].push(datagram);
                crossers = true;
            }
            _ => sink(datagram),
        });
        if crossers {
            for (named, datagrams) in away.iter_mut().enumerate() {
                if !datagrams.is_empty() {
                    crossing.pass(*own, named, datagrams);
                    datagrams.drain(..).for_each(&mut *sink);
                }
            }
        }
        match received {
            Poll::Pending if brought > 0 => Poll::Ready(Ok(brought)),
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(brought.saturating_add(count))),
            other => other,
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        self.io.poll_send(cx, transmit, contents)
    }

    fn look(&mut self, time: Duration, interrupted: &mut dyn FnMut() -> bool) -> Option<Duration> {
        let Self { io, crossing, .. } = self;
        let own = self.own;
        io.look(time, &mut || interrupted() || !crossing.is_empty(own))
    }

    fn step_aside(&mut self, cx: &mut Context<'_>) {
        self.io.step_aside(cx);
    }

    fn poll_sleep_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        self.io.poll_sleep_until(cx, deadline)
    }
}

impl<I> Drop for Crossed<I> {
    fn drop(&mut self) {
        self.crossing.close(self.own);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use bytes::BytesMut;

    use super::*;
    use crate::PersistentKeys;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A socket in memory, and how often it stepped aside.
    #[derive(Default)]
    struct Memory(Vec<Datagram>, usize);

    impl Io for Memory {
        fn local_address(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }

        fn now(&self) -> Instant {
            Instant::now()
        }

        fn max_segments(&self) -> NonZeroUsize {
            NonZeroUsize::MIN
        }

        fn poll_receive(
            &mut self,
            _: &mut Context<'_>,
            sink: &mut dyn FnMut(Datagram),
        ) -> Poll<io::Result<usize>> {
            let count = self.0.len();
            self.0.drain(..).for_each(sink);
            if count == 0 {
                return Poll::Pending;
            }
            Poll::Ready(Ok(count))
        }

        fn poll_send(
            &mut self,
            _: &mut Context<'_>,
            _: &Transmit,
            _: &[u8],
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn look(
            &mut self,
            time: Duration,
            interrupted: &mut dyn FnMut() -> bool,
        ) -> Option<Duration> {
            interrupted().then_some(time)
        }

        fn step_aside(&mut self, _: &mut Context<'_>) {
            self.1 += 1;
        }

        fn poll_sleep_until(&mut self, _: &mut Context<'_>, _: Option<Instant>) -> Poll<()> {
            Poll::Pending
        }
    }

    fn steering() -> Steering {
        PersistentKeys::new([1; 32], [2; 32]).steering(3)
    }

    fn shards() -> (Arc<Crossing>, Vec<Crossed<Memory>>) {
        let crossing = Arc::new(Crossing::new(steering()));
        let shard = |own| Crossed::new(Memory::default(), crossing.clone(), own);
        let shards = (0..3).map(shard).collect();
        (crossing, shards)
    }

    fn datagram(shard: u16, number: u8) -> Datagram {
        let id = steering().name(shard, [number; 8]);
        Datagram {
            remote: ([127, 0, 0, 1], 2).into(),
            local_ip: None,
            ecn: None,
            data: BytesMut::from(&[&[0x40], &id[..], &[number]].concat()[..]),
        }
    }

    /// What a shard receives, by the numbers of its datagrams.
    fn receive(shard: &mut Crossed<Memory>, waker: &Waker) -> Vec<u8> {
        let mut received = Vec::new();
        let mut cx = Context::from_waker(waker);
        while let Poll::Ready(count) =
            shard.poll_receive(&mut cx, &mut |datagram| received.push(datagram.data[9]))
        {
            assert!(count.unwrap() > 0);
        }
        received
    }

    fn counted(crossing: &Crossing) -> (u64, u64) {
        let mut metrics = MetricsSnapshot::default();
        crossing.count(&mut metrics);
        (metrics.datagrams_forwarded, metrics.forwarded_dropped)
    }

    #[test]
    fn what_comes_to_the_wrong_socket_gets_to_the_right_shard() {
        let (crossing, mut shards) = shards();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(woken.clone());
        assert_eq!(receive(&mut shards[2], &waker), []);
        shards[0].io.0 = vec![
            datagram(2, 1),
            datagram(0, 2),
            datagram(1, 3),
            datagram(2, 4),
        ];
        assert_eq!(receive(&mut shards[0], Waker::noop()), [2]);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "once for both");
        assert_eq!(receive(&mut shards[1], Waker::noop()), [3]);
        assert_eq!(receive(&mut shards[2], &waker), [1, 4]);
        assert_eq!(counted(&crossing), (3, 0));
    }

    #[test]
    fn who_polled_last_is_woken() {
        let (_crossing, mut shards) = shards();
        let [first, second] = [(); 2].map(|()| Arc::new(Count::default()));
        let wakers = [&first, &second].map(|count| Waker::from(count.clone()));
        let counts = || [&first, &second].map(|count| count.0.load(Ordering::SeqCst));
        for (polls, expected) in [(&[0, 1, 1][..], [0, 1]), (&[1, 0], [1, 1])] {
            for &poll in polls {
                assert_eq!(receive(&mut shards[1], &wakers[poll]), []);
            }
            shards[0].io.0 = vec![datagram(1, 7)];
            assert_eq!(receive(&mut shards[0], Waker::noop()), []);
            assert_eq!(counts(), expected);
            assert_eq!(receive(&mut shards[1], Waker::noop()), [7]);
        }
    }

    #[test]
    fn what_names_a_shard_that_has_ended_is_everywhere_the_same_one_s() {
        let (crossing, mut shards) = shards();
        drop(shards.remove(1));
        for (place, number) in [(0, 1), (1, 2)] {
            shards[place].io.0 = vec![datagram(1, number)];
        }
        assert_eq!(receive(&mut shards[0], Waker::noop()), []);
        assert_eq!(receive(&mut shards[1], Waker::noop()), [1, 2]);
        // With that one gone too, the last takes it all.
        drop(shards.remove(1));
        shards[0].io.0 = vec![datagram(1, 3), datagram(2, 4), datagram(0, 5)];
        let mut received = receive(&mut shards[0], Waker::noop());
        received.sort_unstable();
        assert_eq!(received, [3, 4, 5]);
        assert_eq!(counted(&crossing), (1, 0));
    }

    #[test]
    fn what_another_shard_leaves_ends_a_look() {
        let (_, mut shards) = shards();
        let found = |shard: &mut Crossed<Memory>, interrupted: bool| {
            let found = shard.look(Duration::MAX, &mut || interrupted);
            found.is_some()
        };
        assert!(!found(&mut shards[1], false));
        assert!(found(&mut shards[1], true));
        shards[0].io.0 = vec![datagram(1, 7)];
        assert_eq!(receive(&mut shards[0], Waker::noop()), []);
        assert!(found(&mut shards[1], false));
        assert!(!found(&mut shards[2], false));
        shards[1].step_aside(&mut Context::from_waker(Waker::noop()));
        assert_eq!(shards[1].io.1, 1, "as its socket does it");
    }

    #[test]
    fn what_waits_for_a_shard_is_bounded_and_taken_a_handful_at_a_time() {
        let (crossing, mut shards) = shards();
        shards[0].io.0 = (0..TRAY + 10).map(|_| datagram(1, 7)).collect();
        assert_eq!(receive(&mut shards[0], Waker::noop()), []);
        assert_eq!(counted(&crossing), (TRAY as u64, 10));
        shards[1].io.0 = vec![datagram(1, 9)];
        let mut first = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let count = shards[1].poll_receive(&mut cx, &mut |datagram| first.push(datagram.data[9]));
        assert!(matches!(count, Poll::Ready(Ok(count)) if count == HANDFUL + 1));
        assert_eq!(first.last(), Some(&9), "its own socket is not forgotten");
        assert_eq!(receive(&mut shards[1], Waker::noop()).len(), TRAY - HANDFUL);
        drop(shards.remove(1));
        assert_eq!(counted(&crossing), (TRAY as u64, 10));
    }

    #[test]
    fn what_waits_for_a_shard_is_bounded_by_its_bytes_too() {
        let (crossing, mut shards) = shards();
        let large = |number| {
            let mut large = datagram(1, number);
            large.data.resize(60_000, 0);
            large
        };
        let fit = TRAY_BYTES / 60_000;
        // Where a large one has no room, a small one may have.
        shards[0].io.0 = (0..fit + 5).map(|_| large(7)).collect();
        shards[0].io.0.push(datagram(1, 8));
        assert_eq!(receive(&mut shards[0], Waker::noop()), []);
        assert_eq!(counted(&crossing), (fit as u64 + 1, 5));
        let mut all = vec![7; fit];
        all.push(8);
        assert_eq!(receive(&mut shards[1], Waker::noop()), all);
        // What was taken makes room again.
        shards[0].io.0 = (0..fit).map(|_| large(9)).collect();
        assert_eq!(receive(&mut shards[0], Waker::noop()), []);
        assert_eq!(receive(&mut shards[1], Waker::noop()), vec![9; fit]);
        assert_eq!(counted(&crossing), (2 * fit as u64 + 1, 5));
    }
}
