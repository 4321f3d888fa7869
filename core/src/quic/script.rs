//! A connection that somebody plays: what its peer does is told to it, and what this side writes is
//! kept. There are no packets, and nothing is lost or late.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use quinn_proto::{Dir, Side, StreamId};
use rustls_pki_types::CertificateDer;

use super::connection::{ConnectionEvent, Taken};
use super::streams::{Fault, stream_ended};
use crate::error::{CloseCode, DisconnectReason};
use crate::id::LinkKey;

/// A stream of a scripted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScriptStream {
    /// A bidirectional one of the client's, from 0: 0 is the control stream.
    Bidirectional(u32),
    /// A unidirectional one, from 0, of the side that writes it: a lane each.
    Lane(u32),
}

/// What a scripted peer, or the network before it, does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptEvent {
    /// The handshake is done.
    Up,
    /// Bytes come in a stream, which is opened by them, and so are those before it.
    Bytes(ScriptStream, Bytes),
    /// The peer ends a stream that it writes.
    Finish(ScriptStream),
    /// The peer resets a stream that it writes.
    Reset(ScriptStream, u64),
    /// The peer stops reading a stream that this side writes.
    Stop(ScriptStream, u64),
    /// Streams take nothing from now on, as with a peer that reads nothing.
    Stall,
    /// They take everything again.
    Flow,
    /// The peer has another address.
    Move(SocketAddr),
    /// The connection is over.
    Down(DisconnectReason),
}

/// What this side has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It wrote bytes.
    Bytes(ScriptStream, Bytes),
    /// It refused to read a stream.
    Refused(ScriptStream),
    /// It closed the connection.
    Closed(CloseCode, String),
}

/// A connection that somebody plays.
pub(crate) struct Script {
    side: Side,
    key: Option<LinkKey>,
    address: SocketAddr,
    certificates: Vec<CertificateDer<'static>>,
    events: VecDeque<ConnectionEvent>,
    /// Streams that the peer opened and nobody has accepted: bidirectional ones, and lanes.
    opened_by_peer: [VecDeque<StreamId>; 2],
    /// How many streams each side has opened, of either direction.
    peers: [u32; 2],
    own: [u32; 2],
    incoming: BTreeMap<StreamId, VecDeque<Result<Bytes, Fault>>>,
    stalled: bool,
    /// Streams that would have taken more, had they not been full.
    waiting: Vec<StreamId>,
    said: Vec<(LinkKey, Said)>,
    closed: bool,
}

impl Script {
    pub(crate) fn new(
        side: Side,
        address: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self {
            side,
            key: None,
            address,
            certificates,
            events: VecDeque::new(),
            opened_by_peer: Default::default(),
            peers: [0; 2],
            own: [0; 2],
            incoming: BTreeMap::new(),
            stalled: false,
            waiting: Vec::new(),
            said: Vec::new(),
            closed: false,
        }
    }

    pub(crate) fn name(&mut self, key: LinkKey) {
        self.key = Some(key);
    }

    /// The peer, or the network, does something.
    pub(crate) fn play(&mut self, event: ScriptEvent) {
        if self.closed {
            return;
        }
        match event {
            ScriptEvent::Up => self.events.push_back(ConnectionEvent::Connected),
            ScriptEvent::Bytes(stream, bytes) => self.arrive(stream, Ok(bytes)),
            ScriptEvent::Finish(stream) => self.arrive(stream, Err(stream_ended("finished"))),
            ScriptEvent::Reset(stream, code) => {
                let how = format!("reset (code {code})");
                self.arrive(stream, Err(stream_ended(&how)));
            }
            ScriptEvent::Stop(stream, code) => {
                let id = self.id(stream, self.side);
                self.events.push_back(ConnectionEvent::Stopped(id, code));
            }
            ScriptEvent::Stall => self.stalled = true,
            ScriptEvent::Flow => {
                self.stalled = false;
                let writable = self.waiting.drain(..).map(ConnectionEvent::Writable);
                self.events.extend(writable);
            }
            ScriptEvent::Move(address) => self.address = address,
            ScriptEvent::Down(reason) => {
                self.closed = true;
                self.events.push_back(ConnectionEvent::Lost(reason));
            }
        }
    }

    /// Something comes in a stream of the peer's, or in the peer's half of one.
    fn arrive(&mut self, stream: ScriptStream, what: Result<Bytes, Fault>) {
        let id = self.id(stream, !self.side);
        if id.initiator() != self.side {
            let peers = &mut self.peers[id.dir() as usize];
            while u64::from(*peers) <= id.index() {
                let opened = StreamId::new(!self.side, id.dir(), u64::from(*peers));
                self.opened_by_peer[id.dir() as usize].push_back(opened);
                *peers += 1;
                self.events.push_back(ConnectionEvent::Opened(id.dir()));
            }
        }
        self.incoming.entry(id).or_default().push_back(what);
        self.events.push_back(ConnectionEvent::Readable(id));
    }

    fn id(&self, stream: ScriptStream, writer: Side) -> StreamId {
        match stream {
            ScriptStream::Bidirectional(index) => {
                StreamId::new(Side::Client, Dir::Bi, u64::from(index))
            }
            ScriptStream::Lane(index) => StreamId::new(writer, Dir::Uni, u64::from(index)),
        }
    }

    pub(crate) fn take_said(&mut self) -> Vec<(LinkKey, Said)> {
        std::mem::take(&mut self.said)
    }

    fn say(&mut self, said: Said) {
        if let Some(key) = self.key {
            self.said.push((key, said));
        }
    }

    pub(crate) fn poll(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    #[cfg(feature = "planted")]
    pub(crate) fn is_client(&self) -> bool {
        self.side.is_client()
    }

    pub(crate) fn open(&mut self, dir: Dir) -> Option<StreamId> {
        let own = &mut self.own[dir as usize];
        let id = StreamId::new(self.side, dir, u64::from(*own));
        *own += 1;
        Some(id)
    }

    pub(crate) fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        self.opened_by_peer[dir as usize].pop_front()
    }

    pub(crate) fn write(&mut self, id: StreamId, chunks: &mut [Bytes]) -> Taken {
        if self.closed {
            return Taken::Ended;
        }
        if self.stalled {
            if !self.waiting.contains(&id) {
                self.waiting.push(id);
            }
            return Taken::Nothing;
        }
        for chunk in chunks.iter_mut() {
            let chunk = std::mem::take(chunk);
            self.say(Said::Bytes(named(id), chunk));
        }
        Taken::Chunks(chunks.len())
    }

    pub(crate) fn read(&mut self, id: StreamId) -> Result<Option<Bytes>, Fault> {
        let waiting = self.incoming.get_mut(&id);
        waiting.and_then(VecDeque::pop_front).transpose()
    }

    pub(crate) fn refuse(&mut self, id: StreamId) {
        self.incoming.remove(&id);
        self.say(Said::Refused(named(id)));
    }

    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        if !self.closed {
            self.closed = true;
            self.say(Said::Closed(code, reason.to_owned()));
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing is under way that could come late.
    pub(crate) fn is_drained(&self) -> bool {
        self.closed && self.events.is_empty() && self.said.is_empty()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

fn named(id: StreamId) -> ScriptStream {
    let index = u32::try_from(id.index()).unwrap_or(u32::MAX);
    match id.dir() {
        Dir::Bi => ScriptStream::Bidirectional(index),
        Dir::Uni => ScriptStream::Lane(index),
    }
}
