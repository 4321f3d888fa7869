//! A connection that somebody plays: what its peer does is told to it, and what this side writes is
//! kept. There are no packets, and nothing is lost or late.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Dir, Side, StreamId, Transmit};
use rustls_pki_types::CertificateDer;

use super::connection::{ConnectionEvent, Taken};
use super::streams::stream_ended;
use crate::error::{CloseCode, DisconnectReason, Fault};
use crate::id::LinkKey;
use crate::link::heads::with_length;
use crate::tap::{LinkNote, Marked, PEER_STREAMS_MAX};

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
    /// The peer acknowledges what it was sent. Nothing comes of it unless a heartbeat was sent since the last one.
    Acknowledge,
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
    /// It is another one, and nobody was told yet.
    moved: bool,
    certificates: Vec<CertificateDer<'static>>,
    events: VecDeque<ConnectionEvent>,
    /// Streams that the peer opened and nobody has accepted: bidirectional ones, and lanes.
    opened_by_peer: [VecDeque<StreamId>; 2],
    /// How many streams each side has opened, of either direction.
    peers: [u32; 2],
    own: [u32; 2],
    incoming: BTreeMap<StreamId, VecDeque<Result<Unread, Fault>>>,
    stalled: bool,
    /// Whether an acknowledgement would be a sign of life.
    expects_sign_of_life: bool,
    /// Streams that would have taken more, had they not been full.
    waiting: Vec<StreamId>,
    said: Vec<(LinkKey, Said)>,
    closed: bool,
    dictated: Option<Dictated>,
}

/// What waits in a stream to be read.
enum Unread {
    Bytes(Bytes),
    /// A frame without its body, which is made up when it is read, and not for as long as it waits.
    Bodiless(Bytes, Marked),
}

/// What is left of the answers that a recorded connection gave in one call.
#[derive(Debug, Default)]
struct Dictated {
    /// What comes up while datagrams are made: the next event is that.
    late: bool,
    outlook: VecDeque<Outlook>,
    /// Whether streams can be opened.
    opens: VecDeque<bool>,
    /// How many chunks stay behind, write by write.
    left: VecDeque<u32>,
    /// A stream that takes no more of this write.
    full: Option<StreamId>,
    due: u32,
    deadline: Option<Instant>,
}

/// What comes of asking for datagrams.
#[derive(Debug)]
enum Outlook {
    Sent,
    Event(ConnectionEvent),
    Rests(Option<i64>),
    Drained,
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
            moved: false,
            certificates,
            events: VecDeque::new(),
            opened_by_peer: Default::default(),
            peers: [0; 2],
            own: [0; 2],
            incoming: BTreeMap::new(),
            stalled: false,
            expects_sign_of_life: false,
            waiting: Vec::new(),
            said: Vec::new(),
            closed: false,
            dictated: None,
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
            ScriptEvent::Bytes(stream, bytes) => self.arrive(stream, Ok(Unread::Bytes(bytes))),
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
            ScriptEvent::Acknowledge => {
                if std::mem::take(&mut self.expects_sign_of_life) {
                    self.events.push_back(ConnectionEvent::Acknowledged);
                }
            }
            ScriptEvent::Move(address) => self.moves(address),
            ScriptEvent::Down(reason) => {
                self.closed = true;
                self.events.push_back(ConnectionEvent::Lost(reason));
            }
        }
    }

    /// Something comes in a stream of the peer's, or in the peer's half of one.
    fn arrive(&mut self, stream: ScriptStream, what: Result<Unread, Fault>) {
        let id = self.id(stream, !self.side);
        if id.initiator() != self.side {
            let beyond = u32::try_from(id.index() + 1).unwrap_or(u32::MAX);
            self.peer_opens(id.dir(), beyond);
        }
        self.incoming.entry(id).or_default().push_back(what);
        self.events.push_back(ConnectionEvent::Readable(id));
    }

    /// The peer has opened so many streams by now.
    fn peer_opens(&mut self, dir: Dir, count: u32) {
        let peers = &mut self.peers[dir as usize];
        while *peers < count {
            let opened = StreamId::new(!self.side, dir, u64::from(*peers));
            self.opened_by_peer[dir as usize].push_back(opened);
            *peers += 1;
            self.events.push_back(ConnectionEvent::Opened(dir));
        }
    }

    fn moves(&mut self, address: SocketAddr) {
        self.moved |= self.address != address;
        self.address = address;
    }

    /// What a recorded connection answered is answered again. `flushed` is the stream that it speaks
    /// of, if it does. From the first such call on, everything is dictated.
    pub(crate) fn dictate(&mut self, note: &LinkNote, flushed: Option<StreamId>) {
        let dictated = self.dictated.get_or_insert_default();
        let control = ScriptStream::Bidirectional(0);
        let event = match note {
            LinkNote::Up => ConnectionEvent::Connected,
            LinkNote::Acknowledged => ConnectionEvent::Acknowledged,
            LinkNote::Down(reason) => ConnectionEvent::Lost(reason.clone()),
            LinkNote::Fault(code, reason) => {
                ConnectionEvent::Fault(Fault::new(*code, reason.clone()))
            }
            LinkNote::Moved(address) => {
                return self.moves(*address);
            }
            LinkNote::Certificates(certificates) => {
                self.certificates.clone_from(certificates);
                return;
            }
            LinkNote::Streams(count) => {
                let lanes = self.peers[Dir::Uni as usize].saturating_add(*count);
                // Whatever a damaged or made-up trace says, note by note.
                return self.peer_opens(Dir::Uni, lanes.min(PEER_STREAMS_MAX));
            }
            LinkNote::Control(frame) => {
                return self.arrive(control, Ok(Unread::Bytes(with_length(frame))));
            }
            LinkNote::Lane {
                slot,
                frame,
                marked,
                ..
            } => {
                let arrived = match marked {
                    None => Unread::Bytes(with_length(frame)),
                    Some(marked) => Unread::Bodiless(frame.clone(), *marked),
                };
                return self.arrive(ScriptStream::Lane(*slot), Ok(arrived));
            }
            LinkNote::Broken { slot, code, reason } => {
                let stream = slot.map_or(control, ScriptStream::Lane);
                return self.arrive(stream, Err(Fault::new(*code, reason.clone())));
            }
            LinkNote::Unopened(_) => return dictated.opens.push_back(false),
            LinkNote::Wrote { opening, left, .. } => {
                if *opening {
                    dictated.opens.push_back(true);
                }
                return dictated.left.push_back(*left);
            }
            LinkNote::Flushed { left, .. } => {
                dictated.left.push_back(*left);
                self.events.extend(flushed.map(ConnectionEvent::Writable));
                return;
            }
            LinkNote::Due => {
                dictated.due += 1;
                return;
            }
            LinkNote::Late => {
                dictated.late = true;
                return;
            }
            LinkNote::Sent => return dictated.outlook.push_back(Outlook::Sent),
            LinkNote::Rests(at) => return dictated.outlook.push_back(Outlook::Rests(*at)),
            LinkNote::Drained => return dictated.outlook.push_back(Outlook::Drained),
            LinkNote::Began { .. } | LinkNote::Came | LinkNote::Closed(..) => return,
        };
        if std::mem::take(&mut dictated.late) {
            dictated.outlook.push_back(Outlook::Event(event));
        } else {
            self.events.push_back(event);
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        let outlook = &mut self.dictated.as_mut()?.outlook;
        outlook.pop_front_if(|next| matches!(next, Outlook::Sent))?;
        Some(Transmit {
            destination: self.address,
            ecn: None,
            size: 0,
            segment_size: None,
            src_ip: None,
        })
    }

    pub(crate) fn brought_up(&mut self) -> Option<ConnectionEvent> {
        let Some(dictated) = &mut self.dictated else {
            return self.events.pop_front();
        };
        let event = |next: &mut Outlook| matches!(next, Outlook::Event(_));
        match dictated.outlook.pop_front_if(event)? {
            Outlook::Event(event) => Some(event),
            _ => None,
        }
    }

    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let dictated = self.dictated.as_mut()?;
        let rests = |next: &mut Outlook| matches!(next, Outlook::Rests(_));
        if let Some(Outlook::Rests(deadline)) = dictated.outlook.pop_front_if(rests) {
            dictated.deadline = deadline.and_then(|nanos| {
                let span = Duration::from_nanos(nanos.unsigned_abs());
                if nanos < 0 {
                    now.checked_sub(span)
                } else {
                    now.checked_add(span)
                }
            });
        }
        dictated.deadline
    }

    pub(crate) fn is_due(&mut self) -> bool {
        let Some(dictated) = &mut self.dictated else {
            return false;
        };
        let due = dictated.due > 0;
        dictated.due -= u32::from(due);
        due
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

    pub(crate) fn expect_sign_of_life(&mut self) {
        self.expects_sign_of_life = true;
    }

    pub(crate) fn poll(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    #[cfg(any(feature = "planted", feature = "fuzzing"))]
    pub(crate) fn is_client(&self) -> bool {
        self.side.is_client()
    }

    pub(crate) fn open(&mut self, dir: Dir) -> Option<StreamId> {
        let opens = |dictated: &mut Dictated| dictated.opens.pop_front();
        if self.dictated.as_mut().and_then(opens) == Some(false) {
            return None;
        }
        let own = &mut self.own[dir as usize];
        let id = StreamId::new(self.side, dir, u64::from(*own));
        *own += 1;
        Some(id)
    }

    pub(crate) fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        self.opened_by_peer[dir as usize].pop_front()
    }

    pub(crate) fn write(&mut self, id: StreamId, chunks: &mut [Bytes]) -> Taken {
        if let Some(dictated) = &mut self.dictated {
            return dictated.write(id, chunks.len());
        }
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
        let next = waiting.and_then(VecDeque::pop_front).transpose()?;
        Ok(next.map(|arrived| match arrived {
            Unread::Bytes(bytes) => bytes,
            Unread::Bodiless(frame, marked) => with_length(&marked.made_up(&frame)),
        }))
    }

    pub(crate) fn refuse(&mut self, id: StreamId) {
        self.incoming.remove(&id);
        self.say(Said::Refused(named(id)));
    }

    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        if self.dictated.is_none() && !self.closed {
            self.closed = true;
            self.say(Said::Closed(code, reason.to_owned()));
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing is under way that could come late.
    pub(crate) fn is_drained(&mut self) -> bool {
        if let Some(dictated) = &mut self.dictated {
            let drained = |next: &mut Outlook| matches!(next, Outlook::Drained);
            return dictated.outlook.pop_front_if(drained).is_some();
        }
        self.closed && self.events.is_empty() && self.said.is_empty()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn take_move(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

impl Dictated {
    fn write(&mut self, id: StreamId, chunks: usize) -> Taken {
        if self.full.take() == Some(id) {
            return Taken::Nothing;
        }
        let left = self.left.pop_front().unwrap_or(0) as usize;
        match chunks.saturating_sub(left) {
            0 => Taken::Nothing,
            taken => {
                self.full = (left > 0).then_some(id);
                Taken::Chunks(taken)
            }
        }
    }
}

fn named(id: StreamId) -> ScriptStream {
    let index = u32::try_from(id.index()).unwrap_or(u32::MAX);
    match id.dir() {
        Dir::Bi => ScriptStream::Bidirectional(index),
        Dir::Uni => ScriptStream::Lane(index),
    }
}
