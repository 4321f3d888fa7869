//! One visit of a link: what it has received is read, within a budget, and what its session has to
//! say is written.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::error::{CloseCode, DisconnectReason, Status, from_peer};
use crate::id::{DeliveryKey, Lane, LinkKey, SessionKey, Tag};
use crate::inbox::Arrival;
use crate::link::Stage;
use crate::message::{Delivery, Expects, Outcome};
use crate::metrics::Metrics;
use crate::quic::{CarrierEvent, Fault};
use crate::session::{Conversation, Owed, Stray};

use super::{Event, Node};

/// Control frames and envelopes that one visit reads at most; a link with more waits its turn.
const CONTROL_BUDGET: usize = 64;
const LANE_BUDGET: usize = 256;

impl Node {
    pub(super) fn visit(&mut self, key: LinkKey) {
        let now = self.now;
        loop {
            let Some(entry) = self.links.get_mut(key) else {
                return;
            };
            match entry.carrier.poll(&mut self.endpoint) {
                None => break,
                Some(event) => self.carrier_event(key, event),
            }
        }
        if let Err(fault) = self.read(now, key) {
            tracing::debug!(link = ?key, code = %fault.code, reason = %fault.reason, "link fault");
            let fault = self.said_close(key).unwrap_or(fault);
            let reason = DisconnectReason::Local {
                code: fault.code,
                reason: fault.reason.clone(),
            };
            self.end_link(now, key, Some((fault.code, &fault.reason)), reason);
        }
        self.write(now, key);
        self.sending.mark(key.0);
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
            CarrierEvent::Down(reason) => self.link_is_down(self.now, key, reason),
        }
    }

    fn read(&mut self, now: Instant, key: LinkKey) -> Result<(), Fault> {
        for budget in (0..=CONTROL_BUDGET).rev() {
            if budget == 0 {
                self.mark(key);
                break;
            }
            let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
                return Ok(());
            };
            let Some(frame) = entry.carrier.read_control(wire::FRAME_MIN)? else {
                break;
            };
            self.heard(now, key);
            self.control_frame(now, key, frame)?;
        }
        for budget in (0..=LANE_BUDGET).rev() {
            if budget == 0 {
                self.mark(key);
                break;
            }
            if !self.events.has_room() {
                self.starved.mark(key.0);
                break;
            }
            let limits = self.config.limits;
            let Some(entry) = self.links.get_mut(key) else {
                return Ok(());
            };
            // A server reads no lane of a client that it has not admitted.
            let Some(session_key) = entry.link.session.filter(|_| entry.link.carries_messages())
            else {
                return Ok(());
            };
            let Some(session) = self.sessions.get_mut(session_key) else {
                return Ok(());
            };
            let conversation = &mut session.conversation;
            let allowed = |lane: Option<Lane>| {
                let inbox = lane.and_then(|lane| conversation.lanes.inbox_mut(lane));
                inbox.is_none_or(|inbox| inbox.has_room(limits.deliveries, limits.delivery_bytes))
            };
            let Some((slot, lane, frame)) = entry.carrier.read_lane(limits.frame_bytes, allowed)?
            else {
                break;
            };
            self.metrics.frames_in += 1;
            self.heard(now, key);
            match lane {
                None => self.lane_open(key, slot, frame)?,
                Some(lane) => self.envelope(now, session_key, lane, frame)?,
            }
        }
        if let Some(entry) = self.links.get_mut(key) {
            entry.carrier.pass_turn();
        }
        Ok(())
    }

    fn heard(&mut self, now: Instant, key: LinkKey) {
        if let Some(heartbeat) = self
            .links
            .get_mut(key)
            .and_then(|e| e.link.heartbeat.as_mut())
        {
            heartbeat.heard(now);
        }
    }

    fn control_frame(&mut self, now: Instant, key: LinkKey, frame: Bytes) -> Result<(), Fault> {
        self.metrics.frames_in += 1;
        let control = wire::Control::decode(frame).map_err(|error| {
            Fault::new(
                CloseCode::UNDECODABLE,
                format!("a control frame is not protobuf: {error}"),
            )
        })?;
        let Some(frame) = control.frame else {
            return Ok(());
        };
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        let session = entry.link.session;
        match (&entry.link.stage, frame) {
            (Stage::AwaitsHello, Frame::Hello(hello)) => self.hello(now, key, hello),
            (Stage::AwaitsWelcome { resuming }, Frame::Welcome(welcome)) => {
                let resuming = *resuming;
                self.welcome(now, key, welcome, resuming)
            }
            (Stage::Up, Frame::Ready(ready)) => {
                if let Some(session) = session.and_then(|s| self.sessions.get_mut(s)) {
                    session.tokens.confirmed(ready.epoch);
                }
                Ok(())
            }
            (Stage::Up | Stage::AwaitsWelcome { .. }, Frame::Heartbeat(beat)) => {
                let is_client = session
                    .and_then(|s| self.sessions.get(s))
                    .is_some_and(|s| s.dialing.is_some());
                if !beat.echo && !is_client {
                    self.send_heartbeat(key, beat.number, true);
                }
                Ok(())
            }
            (Stage::Up, Frame::Receipts(receipts)) => {
                session.map_or(Ok(()), |session| self.receipts(session, &receipts.receipts))
            }
            (Stage::Up, Frame::Cancel(cancel)) => {
                let Some(session_key) = session else {
                    return Ok(());
                };
                let found = self
                    .sessions
                    .get_mut(session_key)
                    .and_then(|s| s.conversation.deliveries.cancel(cancel.promise));
                if let Some(number) = found {
                    let delivery = DeliveryKey {
                        session: session_key,
                        number,
                    };
                    self.events.push(Event::Cancelled { delivery });
                }
                Ok(())
            }
            (Stage::Up, Frame::Drain(drain)) => self.peer_drains(key, drain),
            (Stage::Up | Stage::AwaitsWelcome { .. }, Frame::Close(close)) => {
                self.peer_closes(now, key, close);
                Ok(())
            }
            (stage, frame) => Err(Fault::new(
                CloseCode::PROTOCOL_VIOLATION,
                format!(
                    "{} is not expected while the link is in {}",
                    frame_name(&frame),
                    stage_name(stage)
                ),
            )),
        }
    }

    pub(super) fn receipts(
        &mut self,
        session_key: SessionKey,
        receipts: &[wire::Receipt],
    ) -> Result<(), Fault> {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
        for receipt in receipts {
            let lane = known_lane(receipt.lane, self.config.limits.lanes)?;
            let held = if lane == Lane::BEST_EFFORT {
                session.conversation.best_effort.received(receipt.next)
            } else {
                session
                    .conversation
                    .lanes
                    .held_by_peer(lane, receipt.next)
                    .is_ok()
            };
            if !held {
                return Err(Fault::new(
                    CloseCode::BAD_RECEIPT,
                    format!(
                        "lane {lane} was reported as received up to {}: so much was never sent",
                        receipt.next
                    ),
                ));
            }
        }
        self.room_again(session_key);
        Ok(())
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
        if entry.carrier.name_lane(slot, lane) {
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
        session_key: SessionKey,
        lane: Lane,
        frame: Bytes,
    ) -> Result<(), Fault> {
        let bytes = frame.len();
        let envelope = wire::Envelope::decode(frame)
            .map_err(|error| Fault::new(error.close_code(), error.to_string()))?;
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
        let Some(inbox) = session.conversation.lanes.inbox_mut(lane) else {
            return Ok(());
        };
        let seq = if lane == Lane::BEST_EFFORT {
            inbox.next()
        } else {
            envelope.header.seq
        };
        // A duplicate is dropped whatever it holds; what is new is checked before it counts as held.
        if seq >= inbox.next() {
            envelope
                .check_place(lane.number())
                .map_err(|error| Fault::new(error.close_code(), error.to_string()))?;
            if envelope.header.kind == wire::Kind::Acks {
                envelope.acked().map_err(|error| {
                    Fault::new(CloseCode::UNDECODABLE, format!("a list of acks: {error}"))
                })?;
            }
        }
        match inbox.arrived(seq, bytes) {
            Arrival::New => {}
            Arrival::Duplicate => {
                self.metrics.duplicates_dropped += 1;
                return Ok(());
            }
            Arrival::Gap => {
                return Err(Fault::new(
                    CloseCode::SEQUENCE_GAP,
                    format!(
                        "lane {lane} went on with number {seq}, {} was next",
                        inbox.next()
                    ),
                ));
            }
        }
        session.received += 1;
        let promise = envelope.header.promise;
        match envelope.header.kind {
            wire::Kind::Acks => {
                // The list was found good above.
                for number in envelope.acked().into_iter().flatten().flatten() {
                    self.answered(now, session_key, number, Outcome::Acked)?;
                }
                self.room_again(session_key);
            }
            wire::Kind::Reply => {
                let outcome = Outcome::Replied {
                    tag: Tag(envelope.header.tag),
                    body: envelope.body,
                };
                self.answered(now, session_key, promise, outcome)?;
                self.room_again(session_key);
            }
            wire::Kind::Reject => {
                let reason = from_peer(&envelope.reason, wire::REASON_MAX);
                let status = Status::new(envelope.status, reason);
                self.answered(now, session_key, promise, Outcome::Rejected(status))?;
                self.room_again(session_key);
            }
            kind @ (wire::Kind::Message | wire::Kind::Request) => {
                self.deliver(now, session_key, lane, seq, kind, envelope);
            }
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        now: Instant,
        session_key: SessionKey,
        lane: Lane,
        seq: u64,
        kind: wire::Kind,
        envelope: wire::Envelope,
    ) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let is_request = kind == wire::Kind::Request;
        let promise = envelope.header.promise;
        let bytes = envelope.body.len() + 64;
        let owed = Owed {
            lane,
            seq,
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
        let timeout = envelope.header.timeout_ms;
        self.events.push(Event::Message(Delivery {
            key: DeliveryKey {
                session: session_key,
                number,
            },
            lane,
            tag: Tag(envelope.header.tag),
            body: envelope.body,
            expects,
            timeout: (timeout > 0).then(|| Duration::from_millis(u64::from(timeout))),
        }));
    }

    /// The peer answered a promise.
    fn answered(
        &mut self,
        now: Instant,
        session_key: SessionKey,
        number: u64,
        outcome: Outcome,
    ) -> Result<(), Fault> {
        let counter: fn(&mut Metrics) -> &mut u64 = match &outcome {
            Outcome::Acked => |metrics| &mut metrics.acks_received,
            Outcome::Replied { .. } => |metrics| &mut metrics.replies_received,
            _ => |metrics| &mut metrics.rejects_received,
        };
        if self.settle(now, session_key, number, outcome) {
            *counter(&mut self.metrics) += 1;
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
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
fn known_lane(number: u32, lanes: u8) -> Result<Lane, Fault> {
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

fn frame_name(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello(_) => "Hello",
        Frame::Welcome(_) => "Welcome",
        Frame::Ready(_) => "Ready",
        Frame::Heartbeat(_) => "Heartbeat",
        Frame::Receipts(_) => "Receipts",
        Frame::Cancel(_) => "Cancel",
        Frame::Drain(_) => "Drain",
        Frame::Close(_) => "Close",
    }
}

fn stage_name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Handshake => "its handshake",
        Stage::AwaitsHello => "wait for Hello",
        Stage::AwaitsAdmission(_) => "wait for its admission",
        Stage::Refused => "its refusal",
        Stage::AwaitsWelcome { .. } => "wait for Welcome",
        Stage::Up => "use",
        Stage::Closed => "its end",
    }
}
