//! One connection of a raw peer: any bytes on any stream.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use quinn_proto::{
    Connection, ConnectionError, ConnectionHandle, Dir, Endpoint, Event, ReadError, StreamEvent,
    VarInt, WriteError,
};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::Envelope;
use trunkline_proto::{Control, Hello, LaneOpen};

use super::frames;

pub use quinn_proto::StreamId;

/// How a raw peer's connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The other side's protocol closed it.
    Application {
        /// The close code.
        code: u64,
        /// The reason phrase.
        reason: String,
    },
    /// The other side's QUIC or TLS did.
    Transport {
        /// QUIC's error code; a TLS alert is 0x100 and its number.
        code: u64,
        /// The reason phrase.
        reason: String,
    },
    /// This side's QUIC or TLS found a fault.
    Fault {
        /// QUIC's error code.
        code: u64,
        /// What was wrong.
        reason: String,
    },
    /// The other side does not know the connection.
    Reset,
    /// This side closed it, or it timed out.
    Otherwise(String),
}

impl From<ConnectionError> for Ended {
    fn from(error: ConnectionError) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Application {
                code: close.error_code.into_inner(),
                reason: text(&close.reason),
            },
            ConnectionError::ConnectionClosed(close) => Self::Transport {
                code: close.error_code.into(),
                reason: text(&close.reason),
            },
            ConnectionError::TransportError(error) => Self::Fault {
                code: error.code.into(),
                reason: error.reason,
            },
            ConnectionError::Reset => Self::Reset,
            other => Self::Otherwise(other.to_string()),
        }
    }
}

/// What came on one stream.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// The bytes, from the first.
    pub bytes: Vec<u8>,
    /// The other side has finished the stream.
    pub finished: bool,
    /// The other side has reset it, with this code.
    pub reset: Option<u64>,
}

/// One connection of a raw peer. What is written takes effect when time passes in the world.
pub struct RawLink {
    handle: ConnectionHandle,
    connection: Connection,
    up: bool,
    ended: Option<Ended>,
    reads: bool,
    readable: BTreeSet<StreamId>,
    received: BTreeMap<StreamId, Received>,
    control: Option<StreamId>,
}

impl RawLink {
    pub(super) fn new(handle: ConnectionHandle, connection: Connection) -> Self {
        Self {
            handle,
            connection,
            up: false,
            ended: None,
            reads: true,
            readable: BTreeSet::new(),
            received: BTreeMap::new(),
            control: None,
        }
    }

    /// Whether the handshake is done. A client cannot know whether the server has accepted its
    /// certificate until the server says something.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// How the connection ended, if it has.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// How many tokens for later connections its peer has given it (NEW_TOKEN).
    pub fn address_tokens(&self) -> u64 {
        self.connection.stats().frame_rx.new_token
    }

    /// Ends the connection with an application close.
    pub fn close(&mut self, now: Instant, code: u64, reason: &[u8]) {
        let reason = Bytes::copy_from_slice(reason);
        self.connection.close(now, var_int(code), reason);
    }

    /// Opens a bidirectional stream; `None`: the other side allows no further one.
    pub fn open_bidirectional(&mut self) -> Option<StreamId> {
        let id = self.connection.streams().open(Dir::Bi)?;
        self.received.entry(id).or_default();
        Some(id)
    }

    /// Opens a unidirectional stream; `None`: the other side allows no further one.
    pub fn open_unidirectional(&mut self) -> Option<StreamId> {
        self.connection.streams().open(Dir::Uni)
    }

    /// Writes as much as flow control takes now, and says how much that was. Nothing is taken once
    /// the other side has stopped the stream, or the connection is over.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.connection.send_stream(stream).write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    break;
                }
            }
        }
        written
    }

    /// Writes all of it; panics if flow control does not take it.
    pub fn send(&mut self, stream: StreamId, bytes: &[u8]) {
        let written = self.write(stream, bytes);
        assert_eq!(written, bytes.len(), "{stream} takes no more");
    }

    /// Ends a stream in order.
    pub fn finish(&mut self, stream: StreamId) {
        self.connection.send_stream(stream).finish().ok();
    }

    /// Breaks a stream off.
    pub fn reset(&mut self, stream: StreamId, code: u64) {
        self.connection
            .send_stream(stream)
            .reset(var_int(code))
            .ok();
    }

    /// Says that a stream of the other side is not wanted.
    pub fn stop(&mut self, stream: StreamId, code: u64) {
        self.connection.recv_stream(stream).stop(var_int(code)).ok();
    }

    /// Whether this side reads what comes; if not, QUIC's flow control fills up.
    pub fn set_reads(&mut self, reads: bool) {
        self.reads = reads;
        self.read();
    }

    /// What came on each stream.
    pub fn received(&self) -> &BTreeMap<StreamId, Received> {
        &self.received
    }

    /// Takes the whole frames that came on a stream out of what was received, so that a flood does
    /// not fill the test's own memory.
    pub fn take_frames(&mut self, stream: StreamId) -> Vec<Vec<u8>> {
        let Some(received) = self.received.get_mut(&stream) else {
            return Vec::new();
        };
        let (frames, rest) = frames::cut_whole(&received.bytes);
        let frames = frames.into_iter().map(<[u8]>::to_vec).collect();
        received.bytes = rest.to_vec();
        frames
    }

    /// The control stream: the first bidirectional one. A client opens it with this; panics on a
    /// server whose client has not, and if the connection is not up.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn control_stream(&mut self) -> StreamId {
        if self.control.is_none() {
            self.control = self.open_bidirectional();
        }
        self.control
            .expect("the connection is up and the stream not yet open")
    }

    /// Writes a frame to the control stream.
    pub fn send_control(&mut self, frame: Frame) {
        let stream = self.control_stream();
        self.send(stream, &frames::control(frame));
    }

    /// Says hello.
    pub fn hello(&mut self, hello: &Hello) {
        self.send_control(Frame::Hello(hello.clone()));
    }

    /// Opens a lane; panics if the other side allows no further stream.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn open_lane(&mut self, lane: u32, next: u64) -> StreamId {
        let stream = self
            .open_unidirectional()
            .expect("the other side allows a stream");
        self.send(stream, &frames::lane_open(lane, next));
        stream
    }

    /// Writes an envelope.
    pub fn send_envelope(&mut self, stream: StreamId, envelope: &Envelope) {
        self.send(stream, &frames::envelope(envelope));
    }

    /// The frames of the control stream that came, without their unknown members.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a broken node ends the test"
    )]
    pub fn control(&self) -> Vec<Frame> {
        let bytes = self.control.and_then(|id| self.received.get(&id));
        let frames = bytes.map_or_else(Vec::new, |received| frames::cut(&received.bytes));
        frames
            .into_iter()
            .filter_map(|frame| Control::decode(frame).expect("a control frame").frame)
            .collect()
    }

    /// The lanes that the other side has opened, each with the stream that it is on.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a broken node ends the test"
    )]
    pub fn lanes(&self) -> Vec<(LaneOpen, StreamId)> {
        let unidirectional = self.received.iter().filter(|(id, _)| id.dir() == Dir::Uni);
        unidirectional
            .filter_map(|(id, received)| {
                let first = *frames::cut(&received.bytes).first()?;
                Some((LaneOpen::decode(first).expect("a LaneOpen"), *id))
            })
            .collect()
    }

    /// The envelopes that came in a lane, each with its tag.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a broken node ends the test"
    )]
    pub fn envelopes(&self, lane: u32) -> Vec<Envelope> {
        let stream = self.lanes().into_iter().find(|(open, _)| open.lane == lane);
        let received = stream.and_then(|(_, id)| self.received.get(&id));
        let frames = received.map_or_else(Vec::new, |received| frames::cut(&received.bytes));
        let mut tag = 0;
        let envelopes = frames.into_iter().skip(1).map(|frame| {
            let mut envelope = Envelope::decode(frame).expect("an envelope");
            tag = *envelope.tag.get_or_insert(tag);
            envelope
        });
        envelopes.collect()
    }

    /// The number of the first envelope of a lane that came.
    pub fn first_number(&self, lane: u32) -> Option<u64> {
        let mut lanes = self.lanes().into_iter();
        lanes.find_map(|(open, _)| (open.lane == lane).then_some(open.next))
    }

    /// Whether it is over for so long that its endpoint has forgotten it.
    pub(super) fn is_forgotten(&self) -> bool {
        self.connection.is_drained()
    }

    pub(super) fn is(&self, handle: ConnectionHandle) -> bool {
        self.handle == handle
    }

    pub(super) fn handle_event(&mut self, event: quinn_proto::ConnectionEvent) {
        self.connection.handle_event(event);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        self.connection.poll_timeout()
    }

    /// Carries events between connection and endpoint, and reads what came.
    pub(super) fn pump(&mut self, endpoint: &mut Endpoint) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => self.up = true,
                Event::ConnectionLost { reason } => self.ended = Some(reason.into()),
                Event::Stream(StreamEvent::Opened { dir }) => self.accept(dir),
                Event::Stream(StreamEvent::Readable { id }) => {
                    self.readable.insert(id);
                }
                _ => {}
            }
        }
        self.read();
    }

    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Option<(SocketAddr, usize)> {
        let transmit = self.connection.poll_transmit(now, 1, buffer)?;
        Some((transmit.destination, transmit.size))
    }

    fn accept(&mut self, dir: Dir) {
        while let Some(id) = self.connection.streams().accept(dir) {
            if dir == Dir::Bi && self.control.is_none() {
                self.control = Some(id);
            }
            self.received.entry(id).or_default();
            self.readable.insert(id);
        }
    }

    fn read(&mut self) {
        if !self.reads {
            return;
        }
        for id in std::mem::take(&mut self.readable) {
            let received = self.received.entry(id).or_default();
            let mut stream = self.connection.recv_stream(id);
            let Ok(mut chunks) = stream.read(true) else {
                continue;
            };
            loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => received.bytes.extend_from_slice(&chunk.bytes),
                    Ok(None) => {
                        received.finished = true;
                        break;
                    }
                    Err(ReadError::Blocked) => break,
                    Err(ReadError::Reset(code)) => {
                        received.reset = Some(code.into_inner());
                        break;
                    }
                }
            }
            // Credit goes out with the next packets.
            let _ = chunks.finalize();
        }
    }
}

fn var_int(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}
