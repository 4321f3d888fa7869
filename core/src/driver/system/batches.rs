//! Many datagrams a system call, each way.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::BytesMut;
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};

use super::family::Family;
use super::sender::Sender;
use crate::driver::canonical::canonical;
use crate::logged::logged;
use crate::{Datagram, Ecn, Transmit};

/// What the kernel is asked to buffer, each way; it may give less.
const SOCKET_BUFFER: usize = 2 << 20;

/// What one receive buffer holds: the most that the kernel merges into one.
const RECEIVE_BUFFER: usize = 64 << 10;

thread_local! {
    /// Where datagrams arrive before they are handed over: one place for all sockets that a thread
    /// serves, for 2 MiB each would be most of what a client costs.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Receives and sends with one UDP socket, many datagrams a system call where the system can, with
/// ECN marks and local addresses. It never waits, so it serves a loop of your own as well as a
/// runtime.
///
/// IPv4 addresses are such to whoever uses it, in datagrams that come and in transmits, though an IPv6 socket
/// (bound to `[::]`) knows them mapped (`[::ffff:192.0.2.1]`): a node is to dial them as IPv4, too.
pub struct Batches {
    sender: Sender,
    family: Family,
    /// How many datagrams the system takes in one call. The state's own count falls with any refusal, for good.
    segments: NonZeroUsize,
    /// So many calls send one each, for several were refused; and so many will the next time.
    alone: AtomicU32,
    next_pause: AtomicU32,
    /// Empty unless it holds what nobody has taken yet.
    received: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
    /// So many buffers hold what nobody has taken yet.
    filled: usize,
}

impl Batches {
    /// Makes the socket non-blocking, and asks for large buffers and for every offload there is.
    pub fn new(socket: &UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new(UdpSockRef::from(socket))?;
        // The kernel's own limit may be lower; then that is what there is.
        let _ = state.set_send_buffer_size(UdpSockRef::from(socket), SOCKET_BUFFER);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(socket), SOCKET_BUFFER);
        Ok(Self {
            segments: NonZeroUsize::new(state.max_gso_segments()).unwrap_or(NonZeroUsize::MIN),
            alone: AtomicU32::new(0),
            next_pause: AtomicU32::new(PAUSE_MIN),
            sender: Sender::new(state),
            family: Family::of(socket)?,
            received: Box::default(),
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        })
    }

    /// How many datagrams of one size [`Batches::send`] can send in one call.
    pub fn max_segments(&self) -> NonZeroUsize {
        match self.alone.load(Ordering::Relaxed) {
            0 => self.segments,
            _ => NonZeroUsize::MIN,
        }
    }

    /// See [`crate::driver::Io::serves_ipv4`].
    pub(super) fn serves_ipv4(&self) -> bool {
        self.family.serves_ipv4()
    }

    /// Hands one batch of datagrams that have arrived to `sink`; says whether more may be waiting.
    /// If none has arrived, that is an error of kind [`io::ErrorKind::WouldBlock`]. Any other
    /// error concerns one peer, or none, and the socket is as good as before.
    pub fn receive(
        &mut self,
        socket: UdpSockRef<'_>,
        sink: &mut dyn FnMut(Datagram),
    ) -> io::Result<bool> {
        let full = self.fill(socket)?;
        self.empty(sink);
        Ok(full)
    }

    /// Sends all of it, or nothing: [`io::ErrorKind::WouldBlock`] says that the socket takes no
    /// more for now. What the system refuses otherwise is lost, as if on its way. The `socket` is given as a reference
    /// to it.
    pub fn send<'s>(
        &self,
        socket: impl Into<UdpSockRef<'s>> + Copy,
        transmit: &Transmit,
        contents: &[u8],
    ) -> io::Result<()> {
        match self.try_send(transmit, contents, &mut |send| send(socket.into())) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Ok(()),
            sent => sent,
        }
    }

    /// The same, with an error for what the system refuses and is lost; but for packets that are to find out how large they
    /// may be, which are lost and no trouble. `attempt` is to do what it is given with the socket.
    pub(super) fn try_send(
        &self,
        transmit: &Transmit,
        contents: &[u8],
        attempt: &mut dyn FnMut(&mut Sending<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let ecn = transmit.ecn.map(Ecn::bits);
        let datagrams = quinn_udp::Transmit {
            destination: self.family.destination(transmit.destination),
            ecn: ecn.and_then(EcnCodepoint::from_bits),
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.local_ip.map(|ip| self.family.source(ip)),
        };
        let several = transmit
            .segment_size
            .is_some_and(|size| size < contents.len());
        match self.sender.try_send(&datagrams, attempt) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(mut error) => {
                let (to, size) = (transmit.destination, contents.len());
                logged(|| tracing::debug!(%to, size, several, %error, "not sent"));
                let mut is_the_source = true;
                let invalid = error.kind() == io::ErrorKind::InvalidInput;
                if several && (invalid || error.raw_os_error() == Some(EIO)) {
                    let first = first_of(&datagrams);
                    match self.sender.try_send(&first, attempt) {
                        // Nor is the rest sent: all of it counts as lost.
                        Ok(()) => {
                            is_the_source = false;
                            self.several_were(false);
                        }
                        // That says nothing, but that there is no room.
                        Err(alone) if alone.kind() == io::ErrorKind::WouldBlock => {
                            is_the_source = false;
                        }
                        Err(alone) => error = alone,
                    }
                }
                if let Some(ip) = datagrams.src_ip
                    && error.kind() == io::ErrorKind::InvalidInput
                    && is_the_source
                {
                    self.sender.has_left(ip, attempt);
                }
                let largest = transmit.segment_size.unwrap_or(size).min(size);
                if error.raw_os_error() == Some(EMSGSIZE) && largest > ALWAYS_FITS {
                    return Ok(());
                }
                Err(error)
            }
            Ok(()) if several => {
                self.several_were(true);
                Ok(())
            }
            Ok(()) => {
                let left = self.alone.load(Ordering::Relaxed);
                self.alone.store(left.saturating_sub(1), Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// The system takes several at a time, or not. One refusal says little: the cards are rare that cannot cut
    /// datagrams apart, and it may be one way out of several that does not take them. So it is tried again, after a
    /// longer while each time, until it works.
    fn several_were(&self, taken: bool) {
        let pause = self.next_pause.load(Ordering::Relaxed);
        let next = if taken {
            // Not at once: it may work with some and not with others.
            (pause - 1).max(PAUSE_MIN)
        } else {
            self.alone.store(pause, Ordering::Relaxed);
            (2 * pause).min(PAUSE_MAX)
        };
        self.next_pause.store(next, Ordering::Relaxed);
    }

    /// Receives one batch; says whether it is full, so that more may be waiting.
    pub(super) fn fill(&mut self, socket: UdpSockRef<'_>) -> io::Result<bool> {
        let mut received = SPARE
            .take()
            .unwrap_or_else(|| vec![0; RECEIVE_BUFFER * BATCH_SIZE].into());
        let mut chunks = received.chunks_exact_mut(RECEIVE_BUFFER);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let receiver = self.sender.receiver();
        match receiver.recv(socket, &mut buffers, &mut self.metas) {
            Ok(filled) => {
                self.filled = filled;
                self.received = received;
                Ok(filled == BATCH_SIZE)
            }
            Err(error) => {
                SPARE.set(Some(received));
                Err(error)
            }
        }
    }

    /// Hands over what was received, apart again where the kernel has merged it; says how many
    /// datagrams that were.
    pub(super) fn empty(&mut self, sink: &mut dyn FnMut(Datagram)) -> usize {
        let filled = std::mem::take(&mut self.filled);
        let received = std::mem::take(&mut self.received);
        let mut count = 0;
        for (meta, buffer) in self
            .metas
            .iter()
            .zip(received.chunks_exact(RECEIVE_BUFFER))
            .take(filled)
        {
            if !is_one_to_one(meta) {
                continue;
            }
            // Each gets memory of its own: whoever keeps a small message keeps its datagram with
            // it, and must not keep the other forty too.
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                sink(Datagram {
                    remote: canonical(meta.addr),
                    local_ip: meta.dst_ip.map(|ip| ip.to_canonical()),
                    ecn: meta.ecn.and_then(|ecn| Ecn::from_bits(ecn as u8)),
                    data: BytesMut::from(datagram),
                });
                count += 1;
            }
        }
        SPARE.set(Some(received));
        count
    }

    /// Whether a batch is there that nobody has taken.
    pub(super) fn is_filled(&self) -> bool {
        self.filled > 0
    }
}

/// Sends with a socket.
pub(super) type Sending<'a> = dyn FnMut(UdpSockRef<'_>) -> io::Result<()> + 'a;

/// What tells, sent alone, why several were refused. If it is refused too, that was not for how many they were, but for
/// where to, how large or where from: an address that this machine had until a moment ago.
fn first_of<'a>(several: &quinn_udp::Transmit<'a>) -> quinn_udp::Transmit<'a> {
    let size = several.segment_size.unwrap_or(several.contents.len());
    quinn_udp::Transmit {
        destination: several.destination,
        ecn: several.ecn,
        contents: several.contents.get(..size).unwrap_or(several.contents),
        segment_size: None,
        src_ip: several.src_ip,
    }
}

/// How many calls send one datagram each after several were refused.
const PAUSE_MIN: u32 = 64;
const PAUSE_MAX: u32 = 1 << 20;

/// What a network card says that cannot cut datagrams apart (EIO), on Unix.
const EIO: i32 = 5;

/// What the system says of a datagram that is too long for the way out.
const EMSGSIZE: i32 = if cfg!(windows) {
    10_040
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    90
} else {
    40
};

/// QUIC needs paths that carry datagrams of this size, and tries others (RFC 9000, section 14.1).
const ALWAYS_FITS: usize = 1_200;

/// Whether a datagram came from somewhere, and to this socket alone: an answer to any other one is nothing that the
/// system sends.
fn is_one_to_one(meta: &RecvMeta) -> bool {
    let is_everybodys = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    meta.addr.port() != 0 && !meta.dst_ip.is_some_and(is_everybodys)
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("max_segments", &self.max_segments())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> (UdpSocket, Batches) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let batches = Batches::new(&socket).unwrap();
        (socket, batches)
    }

    fn try_send(
        batches: &Batches,
        socket: &UdpSocket,
        transmit: &Transmit,
        contents: &[u8],
    ) -> io::Result<()> {
        batches.try_send(transmit, contents, &mut |send| send(socket.into()))
    }

    /// What arrives until `count` datagrams have.
    fn receive(socket: &UdpSocket, batches: &mut Batches, count: usize) -> Vec<Datagram> {
        let mut received = Vec::new();
        while received.len() < count {
            match batches.receive(socket.into(), &mut |datagram| received.push(datagram)) {
                Ok(_) => {}
                // Loopback delivers within the sending call, or soon after it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        received
    }

    #[test]
    fn several_at_a_time_are_tried_again_after_longer_and_longer() {
        let (_socket, batches) = socket();
        let most = batches.max_segments();
        if most == NonZeroUsize::MIN {
            return; // This system never takes several.
        }
        let alone = || batches.alone.load(Ordering::Relaxed);
        for pause in [64, 128, 256] {
            batches.several_were(false);
            assert_eq!((batches.max_segments().get(), alone()), (1, pause));
        }
        batches.alone.store(0, Ordering::Relaxed);
        assert_eq!(batches.max_segments(), most);
        for _ in 0..1_000 {
            batches.several_were(true);
        }
        batches.several_were(false);
        assert_eq!(alone(), 64);
        for _ in 0..30 {
            batches.several_were(false);
        }
        assert_eq!(alone(), PAUSE_MAX);
    }

    /// As a card that cannot cut datagrams apart, the system refuses more of them than it takes at a time.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_refused_alone_too_was_not_refused_for_being_several() {
        let ((from, sender), (to, mut receiver)) = (socket(), socket());
        let most = sender.max_segments();
        if most == NonZeroUsize::MIN {
            return; // This system never takes several.
        }
        let transmit = |local_ip: Option<IpAddr>| Transmit {
            destination: to.local_addr().unwrap(),
            local_ip,
            ecn: None,
            size: 1_000,
            segment_size: Some(1),
        };
        // It is for examples (RFC 5737), and no machine's.
        let gone = transmit(Some([203, 0, 113, 77].into()));
        let few = &[1; 2];
        for _ in 0..3 {
            try_send(&sender, &from, &gone, few).unwrap_err();
            assert_eq!(sender.max_segments(), most);
        }
        try_send(&sender, &from, &transmit(None), few).unwrap();
        assert_eq!(receive(&to, &mut receiver, 2).len(), 2);
        let too_many = &[2; 1_000];
        try_send(&sender, &from, &transmit(None), too_many).unwrap_err();
        assert_eq!(sender.max_segments(), NonZeroUsize::MIN);
        // The one that has told so has gone.
        assert_eq!(&receive(&to, &mut receiver, 1)[0].data[..], [2]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_that_has_left_takes_nobodys_congestion_marks_away() {
        let ((from, sender), (to, mut receiver)) = (socket(), socket());
        let transmit = |local_ip: [u8; 4]| Transmit {
            destination: to.local_addr().unwrap(),
            local_ip: Some(local_ip.into()),
            ecn: Some(Ecn::Ect0),
            size: 1,
            segment_size: None,
        };
        let mut marks = || {
            try_send(&sender, &from, &transmit([127, 0, 0, 1]), b"x").unwrap();
            receive(&to, &mut receiver, 1)[0].ecn
        };
        assert_eq!(marks(), Some(Ecn::Ect0));
        // No machine has these. Linux calls them invalid, and older ones all others that they do not have, too.
        for n in 0..20 {
            for _ in 0..3 {
                let error = try_send(&sender, &from, &transmit([224, 0, 0, n]), b"x");
                assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
            // So many are looked after at once, and further ones by and by.
            let expected = (n < 16).then_some(Ecn::Ect0);
            assert_eq!(marks(), expected, "after {n}");
        }
        for _ in 0..256 {
            let refused = try_send(&sender, &from, &transmit([224, 0, 0, 19]), b"x");
            assert!(refused.is_err());
        }
        assert_eq!(marks(), Some(Ecn::Ect0));
    }

    /// Nobody is there to be answered, or everybody is: the system sends nothing to port 0, nor from a broadcast
    /// address.
    #[test]
    fn what_cannot_be_answered_is_dropped_and_what_is_refused_changes_nothing_for_others() {
        let ((from, sender), (to, mut receiver)) = (socket(), socket());
        let meta = |addr: &str, dst_ip: &str| RecvMeta {
            addr: addr.parse().unwrap(),
            dst_ip: Some(dst_ip.parse().unwrap()),
            ..RecvMeta::default()
        };
        assert!(is_one_to_one(&meta("192.0.2.1:1", "127.0.0.1")));
        assert!(!is_one_to_one(&meta("192.0.2.1:0", "127.0.0.1")));
        for everybody in [
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "::ffff:224.0.0.1",
        ] {
            assert!(!is_one_to_one(&meta("192.0.2.1:1", everybody)));
        }
        let before = sender.max_segments();
        let transmit = |destination| Transmit {
            destination,
            local_ip: None,
            ecn: None,
            size: 1,
            segment_size: None,
        };
        let nowhere = transmit("127.0.0.1:0".parse().unwrap());
        sender.send(&from, &nowhere, b"x").unwrap();
        // Whoever counts hears of it.
        try_send(&sender, &from, &nowhere, b"x").unwrap_err();
        assert_eq!(sender.max_segments(), before);
        let somewhere = transmit(to.local_addr().unwrap());
        sender.send(&from, &somewhere, b"y").unwrap();
        assert_eq!(&receive(&to, &mut receiver, 1)[0].data[..], b"y");
    }

    #[test]
    fn merged_datagrams_come_apart_again() {
        let ((from, sender), (to, mut receiver)) = (socket(), socket());
        let segments = sender.max_segments().get().min(3);
        let mut contents = vec![7; 100 * (segments - 1)];
        contents.extend([8; 30]);
        let transmit = Transmit {
            destination: to.local_addr().unwrap(),
            local_ip: None,
            ecn: Ecn::from_bits(2),
            size: contents.len(),
            segment_size: (segments > 1).then_some(100),
        };
        sender.send(&from, &transmit, &contents).unwrap();
        let received = receive(&to, &mut receiver, segments);
        let joined: Vec<_> = received.iter().flat_map(|d| d.data.to_vec()).collect();
        assert_eq!(joined, contents);
        assert_eq!(received.len(), segments);
        for datagram in received {
            assert_eq!(datagram.remote, from.local_addr().unwrap());
        }
    }

    #[test]
    fn an_empty_datagram_is_nobodys_and_stops_nothing() {
        let ((from, _), (to, mut receiver)) = (socket(), socket());
        let address = to.local_addr().unwrap();
        from.send_to(b"", address).unwrap();
        from.send_to(b"x", address).unwrap();
        let received = receive(&to, &mut receiver, 1);
        assert_eq!(&received[0].data[..], b"x");
    }

    #[test]
    fn a_socket_that_nothing_came_to_says_so() {
        let (socket, mut batches) = socket();
        let error = batches
            .receive(UdpSockRef::from(&socket), &mut |_| {
                panic!("nothing was sent")
            })
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
