//! One QUIC connection in our terms: a control stream, lanes, and an end.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{ConnectionHandle, Dir, Side, StreamId, Transmit};
use rustls_pki_types::CertificateDer;
use trunkline_proto::Position;

use super::connection::{Connection, ConnectionEvent};
use super::endpoint::Endpoint;
use super::log::{LinkLog, Notes, broken, count, nanoseconds};
use super::priority;
use super::script::Script;
use super::streams::{Incoming, Outgoing, stream_ended};
use crate::error::{CloseCode, DisconnectReason, Fault};
use crate::id::{Lane, LinkKey, Tag};
use crate::link::heads;
use crate::tap::{LinkNote, LinkStream};

/// What happened to a connection.
#[derive(Debug)]
pub(crate) enum CarrierEvent {
    /// The handshake is done.
    Up,
    /// The peer did what no link survives.
    Fault(Fault),
    /// The connection is over.
    Down(DisconnectReason),
    /// The peer has acknowledged something since [`Carrier::expect_sign_of_life`].
    Acknowledged,
}

/// What there is of a connection that has no datagrams to send.
#[derive(Debug)]
pub(crate) enum Rest {
    /// Making them has brought something up: look at it before the link rests.
    Event(CarrierEvent),
    /// It is over, and may be forgotten.
    Drained,
    /// It rests until it wants its timeout.
    Until(Option<Instant>),
}

/// One QUIC connection.
pub(crate) struct Carrier {
    pub(crate) handle: ConnectionHandle,
    connection: Connection,
    notes: Notes,
    control: Option<(Outgoing, Incoming)>,
    lanes_out: Vec<LaneOut>,
    lanes_in: Vec<Incoming>,
    /// Where the next round over `lanes_in` begins, so that none is favoured.
    turn: usize,
    /// How many pings had been sent when QUIC took another path to the peer, until one more has.
    moved: Option<u64>,
}

/// The stream of a lane that this side writes.
struct LaneOut {
    lane: Lane,
    out: Outgoing,
    /// The tag of the last envelope in it that has one.
    tag: Tag,
}

impl Carrier {
    pub(crate) fn new(handle: ConnectionHandle, connection: Connection) -> Self {
        Self {
            handle,
            connection,
            notes: Notes::default(),
            control: None,
            lanes_out: Vec::new(),
            // Most peers write on one lane.
            lanes_in: Vec::with_capacity(1),
            turn: 0,
            moved: None,
        }
    }

    /// From here on the connection's answers are noted, as those of the link of that key.
    pub(crate) fn note(&mut self, link: LinkKey, log: &Arc<LinkLog>) {
        self.notes = Notes::of(link, log);
        self.notes.note(|| LinkNote::Began {
            address: self.connection.address(),
            dialled: self.connection.side().is_client(),
        });
    }

    /// Something that was noted comes again.
    pub(crate) fn dictate(&mut self, note: &LinkNote) {
        let stream = match note {
            LinkNote::Flushed { stream, .. } => self.outgoing(*stream),
            _ => None,
        };
        if let LinkNote::Came = note {
            self.notes.note(|| LinkNote::Came);
        }
        if let Some(script) = self.script() {
            script.dictate(note, stream);
        }
    }

    fn outgoing(&self, stream: LinkStream) -> Option<StreamId> {
        let out = match stream {
            LinkStream::Control => self.control.as_ref().map(|(out, _)| out),
            LinkStream::Lane(lane) => {
                let mut lanes = self.lanes_out.iter();
                lanes.find(|own| own.lane == lane).map(|own| &own.out)
            }
        };
        out.map(|out| out.id)
    }

    /// The connection's script, if it is no connection of QUIC's.
    pub(crate) fn script(&mut self) -> Option<&mut Script> {
        match &mut self.connection {
            Connection::Quic { .. } => None,
            Connection::Scripted(script) => Some(script),
        }
    }

    /// Carries events between connection and endpoint, and says what happened.
    pub(crate) fn poll(&mut self, endpoint: &mut Endpoint) -> Option<CarrierEvent> {
        self.connection.exchange(self.handle, endpoint);
        while let Some(event) = self.connection.poll() {
            if let Some(event) = self.take(event) {
                self.notes.note(|| note_of(&event));
                return Some(event);
            }
        }
        None
    }

    /// Does what a connection's event asks for, unless that is the node's to do.
    fn take(&mut self, event: ConnectionEvent) -> Option<CarrierEvent> {
        match event {
            ConnectionEvent::Connected => return Some(CarrierEvent::Up),
            ConnectionEvent::Acknowledged => return Some(CarrierEvent::Acknowledged),
            ConnectionEvent::Lost(reason) => return Some(CarrierEvent::Down(reason)),
            ConnectionEvent::Fault(fault) => return Some(CarrierEvent::Fault(fault)),
            ConnectionEvent::Stopped(id, code) if self.writes(id) => {
                let how = format!("stopped by its reader (code {code})");
                return Some(CarrierEvent::Fault(stream_ended(&how)));
            }
            ConnectionEvent::Stopped(..) => {}
            ConnectionEvent::Opened(Dir::Bi) => self.accept_control(),
            ConnectionEvent::Opened(Dir::Uni) => self.accept_lanes(),
            ConnectionEvent::Readable(id) => {
                mark_readable(&mut self.control, &mut self.lanes_in, id);
            }
            ConnectionEvent::Writable(id) => self.flush(id),
        }
        None
    }

    /// There are no datagrams to send: what there is besides.
    pub(crate) fn rest(&mut self, now: Instant, endpoint: &mut Endpoint) -> Rest {
        self.connection.exchange(self.handle, endpoint);
        while let Some(event) = self.connection.brought_up() {
            if let Some(event) = self.take(event) {
                self.notes.note(|| LinkNote::Late);
                self.notes.note(|| note_of(&event));
                return Rest::Event(event);
            }
        }
        if self.connection.is_drained() {
            self.notes.note(|| LinkNote::Drained);
            return Rest::Drained;
        }
        let deadline = if self.timers_rest() {
            None
        } else {
            self.connection.poll_timeout(now)
        };
        self.notes
            .note(|| LinkNote::Rests(deadline.map(|at| nanoseconds(now, at))));
        Rest::Until(deadline)
    }

    /// Has the endpoint forget the connection before its time.
    pub(crate) fn abandon(&mut self, endpoint: &mut Endpoint) {
        self.connection.abandon(self.handle, endpoint);
    }

    fn flush(&mut self, id: StreamId) {
        let Self {
            connection,
            control,
            lanes_out,
            notes,
            ..
        } = self;
        let control = control
            .iter_mut()
            .map(|(out, _)| (LinkStream::Control, out));
        let lanes = lanes_out
            .iter_mut()
            .map(|own| (LinkStream::Lane(own.lane), &mut own.out));
        if let Some((stream, out)) = control.chain(lanes).find(|(_, out)| out.id == id)
            && !out.is_idle()
        {
            out.flush(connection);
            notes.note(|| LinkNote::Flushed {
                stream,
                left: count(out.backlog()),
            });
        }
    }

    /// Whether this side writes the stream.
    fn writes(&self, id: StreamId) -> bool {
        let control = self.control.iter().map(|(out, _)| out);
        control
            .chain(self.lanes_out.iter().map(|own| &own.out))
            .any(|out| out.id == id)
    }

    fn accept_control(&mut self) {
        while let Some(id) = self.connection.accept(Dir::Bi) {
            if self.control.is_some() {
                self.connection.refuse(id);
                continue;
            }
            self.connection.prioritize(id, priority::CONTROL);
            self.control = Some((Outgoing::new(id), Incoming::new(id)));
        }
    }

    fn accept_lanes(&mut self) {
        let before = self.lanes_in.len();
        while let Some(id) = self.connection.accept(Dir::Uni) {
            self.lanes_in.push(Incoming::new(id));
        }
        let opened = self.lanes_in.len() - before;
        if opened > 0 {
            self.notes.note(|| LinkNote::Streams(count(opened)));
        }
    }

    /// How many streams the peer has opened for lanes, ended ones included.
    pub(crate) fn streams_of_peer(&self) -> usize {
        self.lanes_in.len()
    }

    /// Writes to the control stream; a client opens it with its first frame.
    pub(crate) fn write_control(&mut self, frames: Bytes) {
        let mut opening = false;
        if self.control.is_none() && self.connection.side() == Side::Client {
            let Some(id) = self.connection.open(Dir::Bi, priority::CONTROL) else {
                self.notes.note(|| LinkNote::Unopened(LinkStream::Control));
                return;
            };
            opening = true;
            self.control = Some((Outgoing::new(id), Incoming::new(id)));
        }
        if let Some((out, _)) = &mut self.control {
            let digest = self.notes.on().then(|| heads::control_digest(&frames));
            out.write(&mut self.connection, [frames]);
            self.notes.note(|| LinkNote::Wrote {
                stream: LinkStream::Control,
                opening,
                digest: digest.unwrap_or_default(),
                left: count(out.backlog()),
            });
        }
    }

    /// The peer's next acknowledgement says that it lives: see [`CarrierEvent::Acknowledged`].
    pub(crate) fn expect_sign_of_life(&mut self) {
        self.connection.expect_sign_of_life();
    }

    /// A server acknowledges at once what has come: its client waits for that.
    pub(crate) fn acknowledge(&mut self) {
        if self.connection.side().is_server() {
            self.fire(Connection::acknowledge);
        }
    }

    /// How many control frames wait for the peer to take them.
    pub(crate) fn control_backlog(&self) -> usize {
        self.control.as_ref().map_or(0, |(out, _)| out.backlog())
    }

    /// The next frame of the control stream.
    pub(crate) fn read_control(&mut self, limit: usize) -> Result<Option<Bytes>, Fault> {
        let Some((_, incoming)) = &mut self.control else {
            return Ok(None);
        };
        let read = incoming.next(&mut self.connection, limit);
        match &read {
            Ok(None) => {}
            Ok(Some(frame)) => self.notes.note(|| LinkNote::Control(frame.clone())),
            Err(fault) => self.notes.note(|| broken(None, fault)),
        }
        read
    }

    /// If the lane's stream takes more, the tag of the last envelope in it that has one, 0 before the first;
    /// opens it with `opening` on first use.
    pub(crate) fn idle_lane(&mut self, lane: Lane, opening: impl FnOnce() -> Bytes) -> Option<Tag> {
        if let Some(own) = self.lanes_out.iter().find(|own| own.lane == lane) {
            return own.out.is_idle().then_some(own.tag);
        }
        let Some(id) = self.connection.open(Dir::Uni, priority::of_lane(lane)) else {
            self.notes
                .note(|| LinkNote::Unopened(LinkStream::Lane(lane)));
            return None;
        };
        let mut out = Outgoing::new(id);
        let opening = opening();
        let digest = self.notes.on().then(|| heads::lane_digest([&opening]));
        out.write(&mut self.connection, [opening]);
        let idle = out.is_idle();
        self.notes.note(|| LinkNote::Wrote {
            stream: LinkStream::Lane(lane),
            opening: true,
            digest: digest.unwrap_or_default(),
            left: count(out.backlog()),
        });
        let tag = Tag(0);
        self.lanes_out.push(LaneOut { lane, out, tag });
        idle.then_some(tag)
    }

    /// Writes to an idle lane; `tag` is that of the last envelope then that has one.
    pub(crate) fn write_lane(&mut self, lane: Lane, chunks: Vec<Bytes>, tag: Tag) {
        if let Some(own) = self.lanes_out.iter_mut().find(|own| own.lane == lane) {
            own.tag = tag;
            let out = &mut own.out;
            let digest = self.notes.on().then(|| heads::lane_digest(&chunks));
            out.write(&mut self.connection, chunks);
            self.notes.note(|| LinkNote::Wrote {
                stream: LinkStream::Lane(lane),
                opening: false,
                digest: digest.unwrap_or_default(),
                left: count(out.backlog()),
            });
        }
    }

    /// The next frame of any lane that `allowed` lets be read, fairly: its stream's lane (`None`
    /// before the first frame has named it) and the slot to name it by.
    pub(crate) fn read_lane(
        &mut self,
        limit: usize,
        mut allowed: impl FnMut(Option<Lane>) -> bool,
    ) -> Result<Option<(usize, Option<Lane>, Bytes)>, Fault> {
        let slots = self.lanes_in.len();
        for slot in (self.turn..slots).chain(0..self.turn) {
            let Some(stream) = self.lanes_in.get_mut(slot) else {
                continue;
            };
            if !allowed(stream.lane()) {
                continue;
            }
            let read = stream.next(&mut self.connection, limit);
            if let Err(fault) = &read {
                self.notes.note(|| broken(Some(count(slot)), fault));
            }
            if let Some(frame) = read? {
                self.notes.note(|| LinkNote::Lane {
                    slot: count(slot),
                    opening: stream.place.is_none(),
                    frame: frame.clone(),
                    marked: None,
                });
                // Stay with a lane while it has frames; others get theirs when it runs dry or is
                // no longer allowed.
                self.turn = slot;
                return Ok(Some((slot, stream.lane(), frame)));
            }
        }
        Ok(None)
    }

    /// The lane of the stream in `slot` is known, and where in it the stream begins; `false` if another
    /// stream of this link is it.
    pub(crate) fn name_lane(&mut self, slot: usize, lane: Lane, position: Position) -> bool {
        let mut streams = self.lanes_in.iter();
        if streams.any(|stream| stream.lane() == Some(lane)) {
            return false;
        }
        if let Some(stream) = self.lanes_in.get_mut(slot) {
            stream.place = Some((lane, position));
        }
        true
    }

    /// An envelope of the stream in `slot` in which that tag stands: its number, and its tag.
    pub(crate) fn pass_envelope(&mut self, slot: usize, tag: Option<u64>) -> Option<(u64, Tag)> {
        let (_, position) = self.lanes_in.get_mut(slot)?.place.as_mut()?;
        let (number, tag) = position.pass(tag);
        Some((number, Tag(tag)))
    }

    /// Gives the turn to the next lane.
    pub(crate) fn pass_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1) % self.lanes_in.len().max(1);
    }

    /// A datagram of so many bytes has come from there.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        bytes: usize,
        event: quinn_proto::ConnectionEvent,
        endpoint: &mut Endpoint,
    ) {
        let before = (self.connection.path(), self.address());
        self.notes.note(|| LinkNote::Came);
        self.connection.handle_datagram(now, remote, bytes, event);
        self.look_at_path(before);
        self.connection.exchange(self.handle, endpoint);
        let Self {
            connection,
            control,
            lanes_in,
            ..
        } = self;
        connection.take_over(|id| mark_readable(control, lanes_in, id));
    }

    /// Whether QUIC has another path to the peer than before, if only to the same address.
    fn look_at_path(&mut self, (path, address): (Option<usize>, SocketAddr)) {
        if self.address() != address {
            self.notes.note(|| LinkNote::Moved(self.address()));
        }
        if self.connection.path() != path {
            self.moved = self.connection.pings_sent();
            self.connection.ping();
        }
    }

    /// QUIC's timers rest until a ping has gone on the peer's other path: its loss timer is still that of
    /// the path before, and must not fire with nothing in flight (quinn issue 2658). A ping sets it anew;
    /// challenges of the path before do not. A ping leaves at once, but where QUIC has not heard enough
    /// from there, which waits for the peer anyway, or where that path's window is full: then the link
    /// lasts until something is acknowledged there, or the peer gives it up.
    fn timers_rest(&self) -> bool {
        self.moved.is_some() && !self.connection.is_closed()
    }

    /// Whether it wants its timeout by now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = !self.timers_rest() && self.connection.is_due(now);
        if due {
            self.notes.note(|| LinkNote::Due);
        }
        due
    }

    /// Does what is due by now.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.fire(|connection| connection.handle_timeout(now));
    }

    /// Fires timers, unless they rest.
    fn fire(&mut self, timers: impl FnOnce(&mut Connection)) {
        if self.timers_rest() {
            return;
        }
        let before = (self.connection.path(), self.address());
        timers(&mut self.connection);
        // If the peer's new path did not answer, it is back on the one before.
        self.look_at_path(before);
    }

    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: NonZeroUsize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let transmit = self.connection.poll_transmit(now, max_segments, buffer);
        if transmit.is_some() {
            self.notes.note(|| LinkNote::Sent);
        }
        let pings = self.moved.and_then(|_| self.connection.pings_sent());
        self.moved = self.moved.filter(|before| pings == Some(*before));
        transmit
    }

    pub(crate) fn close(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.connection.close(now, code, reason);
        self.notes
            .note(|| LinkNote::Closed(code, reason.to_owned()));
    }

    /// The client is admitted: it may send ahead as much as anybody.
    pub(crate) fn admit(&mut self, endpoint: &Endpoint) {
        self.connection.widen(endpoint);
    }

    pub(crate) fn round_trip_time(&self) -> Duration {
        self.connection.round_trip_time()
    }

    /// Whether the peer has shown since that was last asked that it is at another address.
    pub(crate) fn take_move(&mut self) -> bool {
        self.connection.take_move()
    }

    /// Where the peer has shown that it is.
    pub(crate) fn shown_address(&self) -> SocketAddr {
        self.connection.shown_address()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.connection.address()
    }

    /// The peer's certificates, verified during the handshake.
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let certificates = self.connection.certificates();
        if !certificates.is_empty() {
            self.notes
                .note(|| LinkNote::Certificates(certificates.clone()));
        }
        certificates
    }
}

fn note_of(event: &CarrierEvent) -> LinkNote {
    match event {
        CarrierEvent::Up => LinkNote::Up,
        CarrierEvent::Acknowledged => LinkNote::Acknowledged,
        CarrierEvent::Down(reason) => LinkNote::Down(reason.clone()),
        CarrierEvent::Fault(fault) => LinkNote::Fault(fault.code, fault.reason.clone()),
    }
}

/// There is something to read in a stream; one that was not accepted yet is read then anyway.
fn mark_readable(
    control: &mut Option<(Outgoing, Incoming)>,
    lanes_in: &mut [Incoming],
    id: StreamId,
) {
    let control = control.iter_mut().map(|(_, incoming)| incoming);
    if let Some(stream) = control.chain(lanes_in).find(|stream| stream.id == id) {
        stream.readable = true;
    }
}
