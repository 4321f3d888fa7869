//! Inputs: datagrams and timeouts.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;

use crate::error::{CloseCode, DisconnectReason};
use crate::heartbeat::HeartbeatAction;
use crate::id::{LinkKey, SessionKey};
use crate::link::{Link, Stage};
use crate::planted::{Bug, planted};
use crate::quic::{Arrived, Carrier, EcnCodepoint, MayBegin, TurnedAway};
use crate::tap::Call;
use crate::timers::TimerSlot;

use super::half_open::Network;
use super::tables::LinkEntry;
use super::tapped::Tapped;
use super::{Event, Node, TimeoutReason};

/// What a node is driven by, commands aside.
#[derive(Debug)]
pub enum Input {
    /// A UDP datagram came.
    Datagram(Datagram),
    /// [`Node::poll_timeout`]'s instant has come. Harmless at any other time.
    Timeout,
}

/// A UDP datagram that came.
#[derive(Debug)]
pub struct Datagram {
    /// Where it came from: IPv4 as such, [whatever the socket](crate#a-socket-of-both-families).
    pub remote: SocketAddr,
    /// Which of this machine's addresses it came to, if known. It matters on a machine with several and a socket that is
    /// bound to all of them (`0.0.0.0`, `[::]`): answers have to come from that one ([`Transmit::local_ip`](crate::Transmit)),
    /// or the peer, and whatever NAT is between, does not take them. Where the socket does not tell, bind one to each
    /// address. `Batches` (feature `system`) tell, and obey.
    pub local_ip: Option<IpAddr>,
    /// The congestion mark that it bears (RFC 3168).
    pub ecn: Option<Ecn>,
    /// Its payload; one datagram, not several coalesced by the kernel.
    pub data: BytesMut,
}

impl Datagram {
    /// One of which no more is known: enough with a socket that is bound to a single address.
    pub fn new(remote: SocketAddr, data: BytesMut) -> Self {
        Self {
            remote,
            local_ip: None,
            ecn: None,
            data,
        }
    }
}

/// Explicit congestion notification codepoints (RFC 3168 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECT(0).
    Ect0,
    /// ECT(1).
    Ect1,
    /// Congestion experienced.
    Ce,
}

impl Ecn {
    /// The codepoint's two bits, as they stand in the IP header.
    pub fn bits(self) -> u8 {
        match self {
            Self::Ect1 => 0b01,
            Self::Ect0 => 0b10,
            Self::Ce => 0b11,
        }
    }

    /// The codepoint of the two low bits; `None` for "not ECN-capable".
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits & 0b11 {
            0b01 => Some(Self::Ect1),
            0b10 => Some(Self::Ect0),
            0b11 => Some(Self::Ce),
            _ => None,
        }
    }
}

impl Node {
    /// Takes a datagram or a timeout. It cannot fail: bad bytes are the peer's fault, and end, at
    /// worst, that peer's link with a numbered code.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let call = || match &input {
            Input::Datagram(datagram) => Call::Datagram {
                remote: datagram.remote,
                local_ip: datagram.local_ip,
                ecn: datagram.ecn.map(Ecn::bits),
                data: &datagram.data,
            },
            Input::Timeout => Call::Timeout,
        };
        let now = self.enter(now, call);
        match input {
            Input::Datagram(datagram) => self.datagram(now, datagram),
            Input::Timeout => self.timeout(now),
        }
        self.strangers.tell_left_out(now);
    }

    fn datagram(&mut self, now: Instant, datagram: Datagram) {
        let Datagram {
            remote,
            local_ip,
            ecn,
            data,
        } = datagram;
        self.metrics.datagrams_in += 1;
        let bytes = data.len();
        self.metrics.bytes_in += bytes as u64;
        let limits = &self.config.limits;
        let (half_open, draining) = (&self.half_open, self.draining.is_some());
        let failures = &self.failures;
        let looked_into = || half_open.all().saturating_add(failures.count(now));
        let mut network = None;
        let may_begin = |validated: bool| {
            let has_room =
                half_open.has_room_for(network.insert(Network::of(remote.ip(), validated)));
            if draining {
                MayBegin::Refused
            } else if half_open.free() == 0 || (validated && !has_room) {
                MayBegin::No
            } else if !validated && (!has_room || looked_into() >= limits.half_open_unvalidated) {
                MayBegin::IfValidated
            } else {
                MayBegin::Yes
            }
        };
        let ecn = ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn.bits()));
        let arrived = self
            .endpoint
            .handle(now, remote, local_ip, ecn, data, may_begin);
        self.metrics.responses_dropped += std::mem::take(&mut self.endpoint.responses_dropped);
        match arrived {
            Arrived::For(handle, event) => {
                let key = self.by_handle.get(handle.0).copied().flatten();
                // Until it is admitted a client stays where its handshake was: that address is shown to the
                // application, and nothing that is not one's own is to be had with it.
                if let Some(key) = key
                    && let Some(entry) = self.links.get_mut(key)
                    && (entry.half_open.is_none() || entry.carrier.address() == remote)
                {
                    let endpoint = &mut self.endpoint;
                    entry
                        .carrier
                        .handle_datagram(now, remote, bytes, event, endpoint);
                    self.mark(key);
                }
            }
            Arrived::New(carrier) => {
                let link = Link::new(now, self.config.timeouts.admission, None);
                self.add_link(link, carrier, network);
            }
            Arrived::Failed(reason) => {
                self.failures.add(now);
                self.metrics.ended(&reason);
                self.not_let_in(now, remote, &reason);
            }
            Arrived::Handled(TurnedAway::No) => {}
            Arrived::Handled(TurnedAway::Retried) => self.metrics.incoming_retried += 1,
            Arrived::Handled(TurnedAway::Ignored) => self.metrics.incoming_ignored += 1,
            Arrived::Handled(TurnedAway::Refused) => self.metrics.incoming_refused += 1,
        }
    }

    pub(super) fn add_link(
        &mut self,
        link: Link,
        carrier: Box<Carrier>,
        half_open: Option<Network>,
    ) -> LinkKey {
        let handle = carrier.handle;
        let mut entry = LinkEntry {
            link,
            carrier,
            timer: TimerSlot::default(),
            half_open,
            forget_at: None,
            throttled_until: None,
        };
        let key = self.links.insert_with(|key| {
            if let Some(script) = entry.carrier.script() {
                script.name(key);
            }
            entry
        });
        if let Some(log) = self.tap.as_ref().and_then(Tapped::links)
            && let Some(entry) = self.links.get_mut(key)
        {
            entry.carrier.note(key, log);
        }
        if self.by_handle.len() <= handle.0 {
            self.by_handle.resize(handle.0 + 1, None);
        }
        self.by_handle[handle.0] = Some(key);
        if let Some(network) = half_open {
            self.half_open.add(network);
        }
        self.metrics.links_opened += 1;
        self.mark(key);
        key
    }

    fn timeout(&mut self, now: Instant) {
        // What has come is read before anybody is judged by it: after a pause of the process, a
        // peer's frames and its deadline wait side by side. One visit of each link, so that work
        // stays bounded.
        for _ in 0..self.dirty.len() {
            let Some(key) = self.dirty.pop() else {
                break;
            };
            self.metrics.links_visited += 1;
            self.visit(key);
            // Its timer was set before this, if at all.
            let entry = self.links.get_mut(key);
            if entry.is_some_and(|entry| entry.is_due(now)) {
                self.link_timeout(now, key);
            }
        }
        while let Some(owner) = self.timers.pop_due(now) {
            match owner {
                TimeoutReason::Link(key) => self.link_timeout(now, key),
                TimeoutReason::Session(key) => self.session_timeout(now, key),
                TimeoutReason::Close(key) => self.close_timeout(now, key),
                TimeoutReason::Receipt(key) => {
                    if let Some(session) = self.sessions.get_mut(key) {
                        session.receipt_due = true;
                        self.mark_session(key);
                    }
                }
                TimeoutReason::Promises(_) if planted(Bug::KeepExpiredPromise) => {}
                TimeoutReason::Promises(timeout) => self.promise_timeout(now, timeout),
                TimeoutReason::Room => self.room_for_others(),
                TimeoutReason::Drain => self.drain_is_over(now),
                TimeoutReason::Undrained => {}
            }
        }
    }

    fn link_timeout(&mut self, now: Instant, key: LinkKey) {
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        let waits = entry.throttled_until.is_some_and(|until| until <= now);
        if waits && !entry.link.is_closed() {
            // What has come is read before its peer is judged by it.
            self.work(key);
        }
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        if !planted(Bug::SkipQuicTimeout) {
            entry.carrier.handle_timeout(now);
        }
        self.mark(key);
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        if entry.link.is_closed() {
            self.forget_in_time(now, key);
            return;
        }
        if entry.link.peer_close.is_some() {
            self.follow_peer_close(now, key);
        }
        let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
            return;
        };
        if entry.link.stage_deadline.is_some_and(|at| at <= now) {
            if let Stage::Refused(code) = entry.link.stage {
                let text = "the client was turned away, and has not closed the connection";
                self.end_link(now, key, code, text, DisconnectReason::local(code, text));
                return;
            }
            let awaited = matches!(entry.link.stage, Stage::AwaitsAdmission(_));
            let reason = DisconnectReason::ConnectTimeout;
            let (code, text) = (CloseCode::ADMISSION_TIMEOUT, "no admission in time");
            self.end_link(now, key, code, text, reason);
            self.metrics.admissions_refused += u64::from(awaited);
            return;
        }
        match entry
            .link
            .heartbeat
            .as_mut()
            .and_then(|heartbeat| heartbeat.poll(now))
        {
            Some(HeartbeatAction::Beat(number)) if entry.link.is_up() => {
                let session = entry.link.session;
                // What was put off goes with it.
                if let Some(session) = session.and_then(|key| self.sessions.get_mut(key)) {
                    session.receipt_due = true;
                }
                self.send_heartbeat(key, number);
            }
            Some(HeartbeatAction::Dead) => {
                let session = entry.link.session;
                self.peer_is_dead(session);
                let code = CloseCode::HEARTBEAT_TIMEOUT;
                let text = "nothing was heard for too long";
                self.end_link(now, key, code, text, DisconnectReason::HeartbeatTimeout);
            }
            Some(HeartbeatAction::Beat(_)) | None => {}
        }
    }

    /// A peer was silent for too long.
    pub(super) fn peer_is_dead(&mut self, session: Option<SessionKey>) {
        self.metrics.heartbeat_timeouts += 1;
        if let Some(session) = session {
            self.events.push(Event::HeartbeatTimeout { session });
        }
    }
}
