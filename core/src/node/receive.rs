//! One visit of a link: what it has received is read, within a budget, and what its session has to
//! say is written.

use std::time::Instant;

use bytes::Bytes;
use prost::Message as _;
use trunkline_proto as wire;

use crate::error::{CloseCode, DisconnectReason, Fault, Status, StatusCode, from_peer};
use crate::id::{DeliveryKey, Lane, LinkKey, PromiseKey, SessionKey, Tag};
use crate::inbox::Arrival;
use crate::link::Stage;
use crate::link::milliseconds::unless_zero;
use crate::logged::logged;
use crate::message::{Delivery, Expects, OVERHEAD, Outcome};
use crate::metrics::Metrics;
use crate::quic::{CarrierEvent, is_stream_end, peer_streams};
use crate::session::{Answer, Conversation, Owed, Stray, is_answers};

use super::{Event, Node};

/// Control frames and envelopes that one visit reads at most; a link with more waits its turn.
const CONTROL_BUDGET: usize = 64;
/// Of a connection that is over: more than a peer has wait that keeps to PROTOCOL.md's advice (section 9.5).
const LAST_WORDS: usize = 1_024;
const LANE_BUDGET: usize = 256;

impl Node {
    pub(super) fn visit(&mut self, key: LinkKey) {
        let now = self.now;
        let (mut fault, mut down) = (None, None);
        let throttled = loop {
            let Some(entry) = self.links.get_mut(key) else {
                return;
            };
            match entry.carrier.poll(&mut self.endpoint) {
                None => {
                    if entry.carrier.take_move() {
                        self.moves.mark(key);
                    }
                    break entry.is_throttled(now);
                }
                // What the peer has said before explains it, perhaps, and forgives the end of a stream alone.
                Some(CarrierEvent::Fault(found)) => {
                    if fault.as_ref().is_none_or(is_stream_end) {
                        fault = Some(found);
                    }
                }
                Some(CarrierEvent::Down(reason)) => down = Some(reason),
                Some(event) => self.carrier_event(key, event),
            }
        };
        // What was said before the end is read before it.
        let ends = fault.is_some() || down.is_some();
        let read = if throttled && !ends {
            Ok(())
        } else {
            self.read(now, key, down.is_some())
        };
        if let Some(reason) = down {
            self.carrier_is_down(now, key, reason);
        }
        let fault = fault.and_then(|fault| self.stream_fault(key, fault).err());
        if let Some(fault) = fault.or(read.err()) {
            self.link_fault(now, key, &fault);
        }
        self.write(now, key);
        if let Err(fault) = self.check_control_backlog(key) {
            self.link_fault(now, key, &fault);
        }
        self.sending.mark(key);
        self.watch(key);
    }

    /// The end that this side has announced: how the peer then ends its streams is no fault.
    fn said_close(&self, key: LinkKey) -> Option<Fault> {
        let session = self.links.get(key)?.link.session?;
        let closing = self.sessions.get(session)?.closing.as_ref()?;
        closing
            .said
            .then(|| Fault::new(closing.code, closing.reason.clone()))
    }

    pub(super) fn carrier_event(&mut self, key: LinkKey, event: CarrierEvent) {
        match event {
            CarrierEvent::Up => self.link_is_up(key),
            CarrierEvent::Acknowledged => {
                if let Some(entry) = self.links.get_mut(key) {
                    entry.link.heard(self.now);
                }
            }
            CarrierEvent::Fault(fault) => {
                if let Err(fault) = self.stream_fault(key, fault) {
                    self.link_fault(self.now, key, &fault);
                }
            }
            CarrierEvent::Down(reason) => self.carrier_is_down(self.now, key, reason),
        }
    }

    /// A stream cannot be used any more. That is no fault of a peer that has said Close, which reads on and
    /// may be read on, unless it opens others in their place; of one that was refused it is its way to go.
    fn stream_fault(&mut self, key: LinkKey, fault: Fault) -> Result<(), Fault> {
        let Some(entry) = self.links.get(key) else {
            return Ok(());
        };
        let ended = is_stream_end(&fault);
        if ended && let Stage::Refused(code) = entry.link.stage {
            return Err(Fault::new(code, "the client was turned away"));
        }
        let allowed = peer_streams(&self.config) as usize;
        if ended && entry.link.peer_close.is_some() && entry.carrier.streams_of_peer() <= allowed {
            return Ok(());
        }
        Err(fault)
    }

    /// The peer did what no link survives: it is told, and its other links go on.
    pub(super) fn link_fault(&mut self, now: Instant, key: LinkKey, fault: &Fault) {
        logged(|| {
            tracing::debug!(link = ?key, code = %fault.code, reason = &*fault.reason, "link fault");
        });
        let said = self.said_close(key);
        let fault = said.as_ref().unwrap_or(fault);
        let reason = DisconnectReason::local(fault.code, fault.reason.clone());
        self.end_link(now, key, fault.code, &fault.reason, reason);
    }

    /// `down`: the connection is over. What its peer said last explains that, however much stands before it.
    fn read(&mut self, now: Instant, key: LinkKey, down: bool) -> Result<(), Fault> {
        let begun = self.begin_reading();
        let mut has_more = false;
        let budget = if down { LAST_WORDS } else { CONTROL_BUDGET };
        for budget in (0..=budget).rev() {
            if budget == 0 {
                has_more = true;
                break;
            }
            let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
                return Ok(());
            };
            let frame = match entry.carrier.read_control(wire::FRAME_MIN) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(fault) => {
                    self.stream_fault(key, fault)?;
                    continue;
                }
            };
            entry.link.heard(now);
            self.control_frame(now, key, frame)?;
        }
        let promises = self.promises;
        let read = self.read_lanes(now, key).map(|more| has_more |= more);
        if has_more {
            self.read_on(now, key, begun);
        }
        if self.promises < promises
            && let Some(session) = self.links.get(key).and_then(|entry| entry.link.session)
        {
            self.room_again(session);
        }
        read
    }

    /// Says whether there may be more than one visit reads.
    fn read_lanes(&mut self, now: Instant, key: LinkKey) -> Result<bool, Fault> {
        let mut has_more = false;
        for budget in (0..=LANE_BUDGET).rev() {
            if budget == 0 {
                has_more = true;
                break;
            }
            if !self.events.has_room() {
                self.starved.mark(key);
                break;
            }
            let crowd_at = self.answers_crowd_at();
            let limits = &self.config.limits;
            let Some(entry) = self.links.get_mut(key) else {
                return Ok(false);
            };
            // A server reads no lane of a client that it has not admitted.
            let Some(session_key) = entry.link.session.filter(|_| entry.link.carries_messages())
            else {
                return Ok(false);
            };
            let Some(session) = self.sessions.get_mut(session_key) else {
                return Ok(false);
            };
            let lanes = &mut session.conversation.lanes;
            // What it reads makes answers, which the peer has to take at some time. Those lanes
            // and the control stream that let go of answers are read all the same.
            let answers = lanes.answers();
            let crowded = answers.bytes >= crowd_at;
            let answers_full = crowded || answers.is_full(0, limits);
            let allowed = |lane: Option<Lane>| {
                let Some(lane) = lane else { return true };
                let makes_answers = !is_answers(lane) && lane != Lane::BEST_EFFORT;
                let has_room = lanes
                    .inbox_mut(lane)
                    .is_none_or(|inbox| inbox.has_room(limits.deliveries, limits.delivery_bytes));
                has_room && !(makes_answers && answers_full)
            };
            let (slot, lane, frame) = match entry.carrier.read_lane(limits.frame_bytes, allowed) {
                Ok(Some(read)) => read,
                Ok(None) => {
                    if crowded {
                        self.crowded_out.mark(key);
                    }
                    break;
                }
                Err(fault) => {
                    self.stream_fault(key, fault)?;
                    continue;
                }
            };
            self.metrics.frames_in += 1;
            entry.link.heard(now);
            match lane {
                None => self.lane_open(key, slot, frame)?,
                Some(lane) => self.envelope(now, (key, slot), session_key, lane, frame)?,
            }
        }
        if let Some(entry) = self.links.get_mut(key) {
            entry.carrier.pass_turn();
        }
        Ok(has_more)
    }

    fn lane_open(&mut self, key: LinkKey, slot: usize, frame: Bytes) -> Result<(), Fault> {
        let open = wire::LaneOpen::decode(frame).map_err(|error| {
            Fault::new(
                CloseCode::UNDECODABLE,
                format!("a stream's first frame is no LaneOpen: {error}"),
            )
        })?;
        let lane = known_lane(open.lane, self.config.limits.lanes)?;
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        let position = wire::Position::opening(open.next);
        if entry.carrier.name_lane(slot, lane, position) {
            return Ok(());
        }
        Err(Fault::new(
            CloseCode::PROTOCOL_VIOLATION,
            format!("lane {lane} was opened twice in one link"),
        ))
    }

    fn envelope(
        &mut self,
        now: Instant,
        (key, slot): (LinkKey, usize),
        session_key: SessionKey,
        lane: Lane,
        frame: Bytes,
    ) -> Result<(), Fault> {
        let bytes = frame.len();
        let envelope = match wire::Envelope::decode(frame) {
            Ok(envelope) => envelope,
            Err(error) => return Err(Fault::new(error.close_code(), error.to_string())),
        };
        let Some((mut number, tag)) = self
            .links
            .get_mut(key)
            .and_then(|entry| entry.carrier.pass_envelope(slot, envelope.header.tag))
        else {
            return Ok(());
        };
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
        let lanes = &mut session.conversation.lanes;
        let Some(next) = lanes.inbox_mut(lane).map(|inbox| inbox.next()) else {
            return Ok(());
        };
        if lane == Lane::BEST_EFFORT {
            number = next;
        }
        // A duplicate is dropped whatever it holds; what is new is checked before it counts as held.
        if number >= next {
            envelope
                .check_place(lane.number())
                .map_err(|error| Fault::new(error.close_code(), error.to_string()))?;
            if envelope.header.kind == wire::Kind::Acks {
                envelope.acked().map_err(|error| {
                    Fault::new(CloseCode::UNDECODABLE, format!("a list of acks: {error}"))
                })?;
            }
        }
        match lanes.arrived(lane, number, bytes) {
            Some(Arrival::New) => {}
            Some(Arrival::Duplicate) => {
                self.metrics.duplicates_dropped += 1;
                return Ok(());
            }
            Some(Arrival::Gap) => {
                return Err(Fault::new(
                    CloseCode::SEQUENCE_GAP,
                    format!("lane {lane} went on with number {number}, {next} was next"),
                ));
            }
            None => return Ok(()),
        }
        session.received += 1;
        let promise = envelope.header.promise;
        match envelope.header.kind {
            wire::Kind::Acks => {
                // The list was found good above.
                for number in envelope.acked().into_iter().flatten().flatten() {
                    self.answered(session_key, number, Outcome::Acked)?;
                }
            }
            wire::Kind::Reply => {
                let outcome = Outcome::Replied {
                    tag,
                    body: envelope.body,
                };
                self.answered(session_key, promise, outcome)?;
            }
            wire::Kind::Reject => {
                let reason = from_peer(&envelope.reason, wire::REASON_MAX);
                let status = Status::new(envelope.status, reason);
                self.answered(session_key, promise, Outcome::Rejected(status))?;
            }
            wire::Kind::Message | wire::Kind::Request => {
                self.deliver(now, session_key, lane, tag, envelope);
            }
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        now: Instant,
        session_key: SessionKey,
        lane: Lane,
        tag: Tag,
        envelope: wire::Envelope,
    ) {
        let drains_dialled = self.drains_dialled();
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let is_request = envelope.header.kind == wire::Kind::Request;
        let promise = envelope.header.promise;
        let bytes = envelope.body.len() + OVERHEAD;
        let owed = Owed {
            lane,
            promise,
            is_request,
            cancelled: false,
            bytes,
        };
        let Some(number) = session.conversation.deliveries.add(owed) else {
            self.metrics.cancelled_early += 1;
            return;
        };
        if let Some(inbox) = session.conversation.lanes.inbox_mut(lane) {
            inbox.owe(bytes);
        }
        if promise != 0 && drains_dialled == Some(session.is_dialled()) {
            // Whoever waits is told to ask again elsewhere; what nobody waits for is taken still.
            let reason = "this side is going away, and has not started";
            let status = Status::new(StatusCode::UNAVAILABLE, reason);
            session.conversation.answer(number, Answer::Reject(status));
            self.metrics.rejects_sent += 1;
            return;
        }
        match (is_request, lane) {
            (true, _) => self.metrics.requests_received += 1,
            (false, Lane::BEST_EFFORT) => self.metrics.best_effort_received += 1,
            (false, _) => self.metrics.messages_received += 1,
        }
        self.metrics.traffic(now, 1);
        let expects = match (is_request, promise) {
            (true, _) => Expects::Reply,
            (false, 0) => Expects::Nothing,
            (false, _) => Expects::Ack,
        };
        // Without a promise nobody waits, whatever stands there.
        let timeout = unless_zero(envelope.header.timeout_ms).filter(|_| promise != 0);
        self.events.push(Event::Message(Delivery {
            key: DeliveryKey {
                session: session_key,
                number,
            },
            lane,
            tag,
            body: envelope.body,
            expects,
            timeout,
        }));
    }

    /// The peer answered a promise.
    fn answered(
        &mut self,
        session_key: SessionKey,
        number: u64,
        outcome: Outcome,
    ) -> Result<(), Fault> {
        let counter: fn(&mut Metrics) -> &mut u64 = match &outcome {
            Outcome::Acked => |metrics| &mut metrics.acks_received,
            Outcome::Replied { .. } => |metrics| &mut metrics.replies_received,
            _ => |metrics| &mut metrics.rejects_received,
        };
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
        if let Some(promise) = session.conversation.answered(number, &outcome) {
            let key = PromiseKey {
                session: session_key,
                number,
            };
            if matches!(outcome, Outcome::Replied { .. }) {
                self.metrics.traffic(self.now, 1);
            }
            self.report_settled(key, promise, outcome);
            *counter(&mut self.metrics) += 1;
            return Ok(());
        }
        let Conversation {
            promises, strays, ..
        } = &mut session.conversation;
        match strays.came(number < promises.next_number()) {
            Stray::Late => self.metrics.late_answers += 1,
            Stray::Unasked => self.metrics.unasked_answers += 1,
        }
        if strays.are_a_flood() {
            return Err(Fault::new(
                CloseCode::FLOODED,
                format!("too many answers to nothing that was asked, the last to promise {number}"),
            ));
        }
        Ok(())
    }
}

/// The lane of that number, if both sides have it.
pub(super) fn known_lane(number: u32, lanes: u8) -> Result<Lane, Fault> {
    let lane = match u8::try_from(number) {
        Ok(wire::LANE_ANSWERS) => Some(Lane::ANSWERS),
        Ok(wire::LANE_BULK_ANSWERS) => Some(Lane::BULK_ANSWERS),
        Ok(wire::LANE_BEST_EFFORT) => Some(Lane::BEST_EFFORT),
        Ok(number) if number < lanes => Lane::new(number),
        _ => None,
    };
    lane.ok_or_else(|| {
        Fault::new(
            CloseCode::UNKNOWN_LANE,
            format!("there is no lane {number} here: {lanes} are configured"),
        )
    })
}
