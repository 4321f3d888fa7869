//! What a carrier runs over: a connection of QUIC's, or a script that stands in its place.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{
    ConnectionHandle, Dir, EndpointEvent, Event, ReadError, Side, StreamEvent, StreamId, Transmit,
    WriteError,
};
use rustls_pki_types::CertificateDer;

use super::acks::AckMoments;
use super::copies::Copies;
use super::elsewhere::Elsewhere;
use super::endpoint::Endpoint;
use super::given_ids::GivenIds;
use super::reasons;
use super::script::Script;
use super::sign_of_life::SignOfLife;
use super::streams::stream_ended;
use super::told::Told;
use super::whereabouts::Whereabouts;
use crate::error::{CloseCode, DisconnectReason, Fault};

/// How much is taken out of QUIC at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// What one UDP send takes at most, cut into segments or not: what an IPv4 packet has room for.
/// Kernels refuse more, and commonly without a word. Bytes.
const SEND_MAX: usize = 65_507;

/// What happened to a connection, or to one of its streams.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// The handshake is done.
    Connected,
    /// It is over.
    Lost(DisconnectReason),
    /// The peer has opened streams.
    Opened(Dir),
    /// There is something to read.
    Readable(StreamId),
    /// A stream that was full takes more.
    Writable(StreamId),
    /// The peer has acknowledged something since that was waited for.
    Acknowledged,
    /// The peer does not read it any more, and says a code.
    Stopped(StreamId, u64),
    /// The peer did what no link survives.
    Fault(Fault),
}

/// What a stream took of what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many chunks, of which the last may be one that was given in parts.
    Chunks(usize),
    /// Nothing: it is full.
    Nothing,
    /// Nothing ever again.
    Ended,
}

/// A connection of QUIC's, or a script in its place.
#[expect(
    clippy::large_enum_variant,
    reason = "all of a node's are of the same kind, and a box would cost the common one"
)]
pub(crate) enum Connection {
    Quic {
        connection: quinn_proto::Connection,
        /// When its acknowledgements go out.
        acks: AckMoments,
        sign_of_life: SignOfLife,
        /// Second copies of what it sends, if those are wanted.
        copies: Option<Box<Copies>>,
        elsewhere: Elsewhere,
        whereabouts: Whereabouts,
        given_ids: GivenIds,
        told: Told,
    },
    Scripted(Box<Script>),
}

/// How many answers to probes of paths QUIC has sent.
fn answers_sent(connection: &quinn_proto::Connection) -> u64 {
    connection.stats().frame_tx.path_response
}

/// What QUIC tells next that concerns us.
fn next_event(connection: &mut quinn_proto::Connection) -> Option<ConnectionEvent> {
    loop {
        return Some(match connection.poll()? {
            Event::Connected => ConnectionEvent::Connected,
            Event::ConnectionLost { reason } => ConnectionEvent::Lost(reasons::reason(reason)),
            Event::Stream(StreamEvent::Opened { dir }) => ConnectionEvent::Opened(dir),
            Event::Stream(StreamEvent::Readable { id }) => ConnectionEvent::Readable(id),
            Event::Stream(StreamEvent::Writable { id }) => ConnectionEvent::Writable(id),
            Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                ConnectionEvent::Stopped(id, error_code.into_inner())
            }
            Event::Stream(StreamEvent::Finished { .. } | StreamEvent::Available { .. })
            | Event::HandshakeDataReady
            | Event::DatagramReceived
            | Event::DatagramsUnblocked => continue,
        });
    }
}

impl Connection {
    pub(crate) fn of_quic(
        connection: quinn_proto::Connection,
        acks: AckMoments,
        copies: Option<Box<Copies>>,
    ) -> Self {
        let whereabouts = Whereabouts::new(connection.remote_address());
        Self::Quic {
            connection,
            acks,
            sign_of_life: SignOfLife::default(),
            copies,
            elsewhere: Elsewhere::default(),
            whereabouts,
            given_ids: GivenIds::default(),
            told: Told::default(),
        }
    }

    /// Carries events between the connection and its endpoint.
    pub(crate) fn exchange(&mut self, handle: ConnectionHandle, endpoint: &mut Endpoint) {
        match self {
            Self::Quic {
                connection,
                given_ids,
                told,
                ..
            } => {
                let mut any = false;
                while let Some(event) = connection.poll_endpoint_events() {
                    any = true;
                    if let Some(event) = endpoint.handle_event(handle, event) {
                        given_ids.gave();
                        connection.handle_event(event);
                    }
                }
                if any && let Err(fault) = given_ids.check(connection) {
                    told.found(fault);
                }
            }
            Self::Scripted(script) => endpoint.hear(script.take_said()),
        }
    }

    pub(crate) fn poll(&mut self) -> Option<ConnectionEvent> {
        match self {
            Self::Quic {
                connection,
                sign_of_life,
                told,
                ..
            } => {
                if sign_of_life.take() {
                    return Some(ConnectionEvent::Acknowledged);
                }
                told.take().or_else(|| next_event(connection))
            }
            Self::Scripted(script) => script.poll(),
        }
    }

    /// Takes over what a datagram has made QUIC tell, which would keep for good whatever room that takes until it is
    /// polled: the smallest frames make it tell something each, and very many datagrams may come before that. What there
    /// is to read is said to `readable`, and the rest by [`Self::poll`], in its order.
    pub(crate) fn take_over(&mut self, mut readable: impl FnMut(StreamId)) {
        if let Self::Quic {
            connection, told, ..
        } = self
        {
            while let Some(event) = next_event(connection) {
                match event {
                    ConnectionEvent::Readable(id) => readable(id),
                    event => told.add(event),
                }
            }
        }
    }

    pub(crate) fn side(&self) -> Side {
        match self {
            Self::Quic { connection, .. } => connection.side(),
            Self::Scripted(script) => script.side(),
        }
    }

    /// Opens a stream of that priority; `None`: the peer allows no more.
    pub(crate) fn open(&mut self, dir: Dir, priority: i32) -> Option<StreamId> {
        match self {
            Self::Quic { connection, .. } => {
                let id = connection.streams().open(dir)?;
                connection.send_stream(id).set_priority(priority).ok();
                Some(id)
            }
            Self::Scripted(script) => script.open(dir),
        }
    }

    /// The next stream that the peer has opened.
    pub(crate) fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        match self {
            Self::Quic { connection, .. } => connection.streams().accept(dir),
            Self::Scripted(script) => script.accept(dir),
        }
    }

    /// In which order QUIC sends what streams hold; higher goes first.
    pub(crate) fn prioritize(&mut self, id: StreamId, priority: i32) {
        if let Self::Quic { connection, .. } = self {
            connection.send_stream(id).set_priority(priority).ok();
        }
    }

    /// Gives a stream chunks to send. What it has taken is left empty, or without its beginning.
    pub(crate) fn write(&mut self, id: StreamId, chunks: &mut [Bytes]) -> Taken {
        match self {
            Self::Quic { connection, .. } => {
                match connection.send_stream(id).write_chunks(chunks) {
                    Ok(written) => Taken::Chunks(written.chunks),
                    Err(WriteError::Blocked) => Taken::Nothing,
                    Err(WriteError::Stopped(_) | WriteError::ClosedStream) => Taken::Ended,
                }
            }
            Self::Scripted(script) => script.write(id, chunks),
        }
    }

    /// What came next in a stream; `None`: nothing yet.
    pub(crate) fn read(&mut self, id: StreamId) -> Result<Option<Bytes>, Fault> {
        let connection = match self {
            Self::Quic { connection, .. } => connection,
            Self::Scripted(script) => return script.read(id),
        };
        let mut stream = connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else {
            return Ok(None);
        };
        let read = chunks.next(CHUNK);
        // Whether credit is sent is seen when packets are made; nothing to do for us.
        let _ = chunks.finalize();
        match read {
            Ok(Some(chunk)) => Ok(Some(chunk.bytes)),
            Err(ReadError::Blocked) => Ok(None),
            Ok(None) => Err(stream_ended("finished")),
            Err(ReadError::Reset(code)) => Err(stream_ended(&format!("reset (code {code})"))),
        }
    }

    /// Tells the peer that a stream is not wanted.
    pub(crate) fn refuse(&mut self, id: StreamId) {
        match self {
            Self::Quic { connection, .. } => {
                let code = reasons::var_int(CloseCode::PROTOCOL_VIOLATION);
                connection.recv_stream(id).stop(code).ok();
            }
            Self::Scripted(script) => script.refuse(id),
        }
    }

    /// A datagram of so many bytes has come for it from there. Behind a fault, none counts until that was told.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        bytes: usize,
        event: quinn_proto::ConnectionEvent,
    ) {
        if let Self::Quic {
            connection,
            acks,
            sign_of_life,
            elsewhere,
            whereabouts,
            told,
            ..
        } = self
            && !told.has_fault()
        {
            whereabouts.watch(connection, remote, event);
            if remote != connection.remote_address() {
                elsewhere.came(remote, bytes);
            }
            acks.came(now, connection.poll_timeout());
            sign_of_life.look(connection);
        }
    }

    /// When it wants its timeout.
    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        match self {
            Self::Quic {
                connection,
                acks,
                copies,
                ..
            } => {
                let copy = copies.as_ref().and_then(|copies| copies.next());
                let own = connection.poll_timeout().map(|at| acks.moment(at));
                own.into_iter().chain(copy).min()
            }
            Self::Scripted(script) => script.poll_timeout(now),
        }
    }

    /// Whether it wants its timeout by now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        match self {
            Self::Quic { .. } => self.poll_timeout(now).is_some_and(|at| at <= now),
            Self::Scripted(script) => script.is_due(),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Self::Quic {
            connection, acks, ..
        } = self
            && let Some(deadline) = connection.poll_timeout()
            && acks.moment(deadline) <= now
        {
            // That may be before its time. It is the next deadline, so that no other has come by then, but for one
            // of the same instant.
            connection.handle_timeout(deadline.max(now));
        }
    }

    /// Acknowledges now what has come, not up to 25 ms later, which would be a timer and a wake-up of its own. QUIC
    /// has no call for that, so its timer is fired early; but only if the acknowledgement is what it does next: with
    /// another timer before it, it goes at its usual time. A loss timer that is due at the very same instant fires
    /// with it: QUIC then probes early, which does no harm.
    pub(crate) fn acknowledge(&mut self) {
        if let Self::Quic {
            connection, acks, ..
        } = self
            && let Some(deadline) = connection.poll_timeout()
            && acks.is_due_by(deadline)
        {
            connection.handle_timeout(deadline);
        }
    }

    /// The peer's next acknowledgement is an event.
    pub(crate) fn expect_sign_of_life(&mut self) {
        match self {
            Self::Quic {
                connection,
                sign_of_life,
                ..
            } => sign_of_life.expect(connection),
            Self::Scripted(script) => script.expect_sign_of_life(),
        }
    }

    /// Which of its paths QUIC sends on, by where that one's congestion controller is: each has its own.
    /// A path's address says less, for there may be two to the same one.
    pub(crate) fn path(&self) -> Option<usize> {
        match self {
            Self::Quic { connection, .. } => {
                let controller = std::ptr::from_ref(connection.congestion_state());
                Some(controller.cast::<()>().addr())
            }
            Self::Scripted(_) => None,
        }
    }

    /// How many pings were sent, if QUIC sends them.
    pub(crate) fn pings_sent(&self) -> Option<u64> {
        match self {
            Self::Quic { connection, .. } => Some(connection.stats().frame_tx.ping),
            Self::Scripted(_) => None,
        }
    }

    /// Has the peer answer.
    pub(crate) fn ping(&mut self) {
        if let Self::Quic { connection, .. } = self {
            connection.ping();
        }
    }

    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: NonZeroUsize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let (connection, copies, elsewhere) = match self {
            Self::Quic {
                connection,
                copies,
                elsewhere,
                ..
            } => (connection, copies, elsewhere),
            Self::Scripted(script) => return script.poll_transmit(),
        };
        let peer = connection.remote_address();
        if let Some((transmit, bytes)) = copies
            .as_mut()
            .and_then(|copies| copies.take(now, peer, max_segments.get()))
        {
            buffer.extend_from_slice(&bytes);
            return Some(transmit);
        }
        let fitting = SEND_MAX / usize::from(connection.current_mtu()).max(1);
        let segments = max_segments.get().min(fitting.max(1));
        let start = buffer.len();
        let (transmit, on_path) = loop {
            let answers = elsewhere.may_ask().then(|| answers_sent(connection));
            let transmit = connection.poll_transmit(now, segments, buffer)?;
            let on_path = transmit.destination == connection.remote_address();
            let is_answer = answers.is_some_and(|before| before != answers_sent(connection));
            if on_path || !is_answer || elsewhere.takes(transmit.destination, transmit.size) {
                break (transmit, on_path);
            }
            // As if it were lost on the way.
            buffer.truncate(start);
        };
        if let Some(copies) = copies.as_mut().filter(|_| on_path) {
            copies.sent(now, connection, &transmit, &buffer[start..]);
        }
        Some(transmit)
    }

    pub(crate) fn close(&mut self, now: Instant, code: CloseCode, reason: &str) {
        match self {
            Self::Quic {
                connection, copies, ..
            } => {
                *copies = None;
                let reason = Bytes::copy_from_slice(reason.as_bytes());
                connection.close(now, reasons::var_int(code), reason);
            }
            Self::Scripted(script) => script.close(code, reason),
        }
    }

    /// It may receive so much ahead, as its endpoint has it for peers that are known.
    pub(crate) fn widen(&mut self, endpoint: &Endpoint) {
        if let Self::Quic { connection, .. } = self {
            connection.set_receive_window(endpoint.receive_window());
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Quic { connection, .. } => connection.is_closed(),
            Self::Scripted(script) => script.is_closed(),
        }
    }

    /// What making datagrams has brought up.
    pub(crate) fn brought_up(&mut self) -> Option<ConnectionEvent> {
        match self {
            Self::Quic { .. } => self.poll(),
            Self::Scripted(script) => script.brought_up(),
        }
    }

    /// Has the endpoint forget the connection, unless it was told by the connection: by then its handle
    /// may be another's.
    pub(crate) fn abandon(&mut self, handle: ConnectionHandle, endpoint: &mut Endpoint) {
        self.exchange(handle, endpoint);
        if let Self::Quic { connection, .. } = self
            && !connection.is_drained()
        {
            endpoint.handle_event(handle, EndpointEvent::drained());
        }
    }

    pub(crate) fn is_drained(&mut self) -> bool {
        match self {
            Self::Quic { connection, .. } => connection.is_drained(),
            Self::Scripted(script) => script.is_drained(),
        }
    }

    pub(crate) fn round_trip_time(&self) -> Duration {
        match self {
            Self::Quic { connection, .. } => connection.rtt(),
            Self::Scripted(_) => Duration::ZERO,
        }
    }

    /// Whether the peer has shown since that was last asked that it is at another address.
    pub(crate) fn take_move(&mut self) -> bool {
        match self {
            Self::Quic { whereabouts, .. } => whereabouts.take_move(),
            Self::Scripted(script) => script.take_move(),
        }
    }

    /// Where the peer has shown that it is.
    pub(crate) fn shown_address(&self) -> SocketAddr {
        match self {
            Self::Quic { whereabouts, .. } => whereabouts.address(),
            Self::Scripted(script) => script.address(),
        }
    }

    /// Where QUIC sends to.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Quic { connection, .. } => connection.remote_address(),
            Self::Scripted(script) => script.address(),
        }
    }

    /// The peer's certificates, verified during the handshake.
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::Quic { connection, .. } => connection
                .crypto_session()
                .peer_identity()
                .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
                .map_or_else(Vec::new, |certificates| *certificates),
            Self::Scripted(script) => script.certificates().to_vec(),
        }
    }
}
