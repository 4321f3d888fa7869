//! Writing: what sessions have to say goes into streams, and what QUIC makes of it into packets.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::frame::encode_frame;
use crate::id::{Lane, LinkKey, SessionKey};
use crate::link::lanes::{BATCH, Batch};
use crate::outbox::{Entry, Kind};
use crate::planted::{Bug, planted};
use crate::quic::{QuicTransmit, Rest};
use crate::session::Conversation;

use super::messages::ENVELOPE;
use super::tables::{LinkEntry, Session};
use super::{Ecn, Event, Node, TimeoutReason};

/// One or more datagrams to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// The congestion mark to set (RFC 3168).
    pub ecn: Option<Ecn>,
    /// How many bytes were appended to the buffer.
    pub size: usize,
    /// If set, the bytes are several datagrams of this size each, the last one at most so long.
    pub segment_size: Option<usize>,
    /// The address to send from, if it matters: the one that [`Datagram::local_ip`](crate::Datagram) has told of this peer.
    /// A socket that is bound to all of a machine's addresses would choose one by itself, and the peer expects this one.
    pub local_ip: Option<IpAddr>,
}

/// Best-effort bytes that are on their way to a peer and not reported as received. Receivers report
/// every quarter of it, whatever either side has configured, for there is no timer behind that.
pub(super) const BEST_EFFORT_WINDOW: usize = 256 << 10;

/// How far off QUIC's next deadline is at least when a link has said all.
const SOONEST: Duration = Duration::from_micros(1);

impl Node {
    /// Appends the next datagrams to `buffer`: up to `max_segments` of one size, to one address,
    /// and no more bytes than one UDP send takes (65,507).
    /// Call until it says `None`.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: NonZeroUsize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if now == self.now && !self.has_output() {
            self.turn_may_be_over();
            return None;
        }
        if let Some(tapped) = &mut self.tap {
            tapped.before_poll();
        }
        let start = buffer.len();
        let transmit = self.next_transmit(now, max_segments, buffer);
        if let Some(tapped) = &mut self.tap {
            let bytes = buffer.get(start..).unwrap_or_default();
            tapped.transmit(now, max_segments, transmit.as_ref().map(|t| (t, bytes)));
        }
        transmit
    }

    fn next_transmit(
        &mut self,
        now: Instant,
        max_segments: NonZeroUsize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let now = self.set_time(now);
        if !self.links_turn
            && let Some(transmit) = self.next_response(buffer)
        {
            return Some(transmit);
        }
        loop {
            // One link after the other: what its visit has touched is at hand when it sends, and the first of
            // many need not wait until all were visited.
            let Some(key) = self.sending.pop() else {
                if self.work_once() {
                    continue;
                }
                self.alike.forget();
                return self.next_response(buffer);
            };
            // If it has more to say by now, that goes into the same packet.
            if self.dirty.remove(key) {
                self.work(key);
                continue;
            }
            let Some(entry) = self.links.get_mut(key) else {
                continue;
            };
            let start = buffer.len();
            if start == 0 {
                if let Some(transmit) = entry.carrier.poll_transmit(now, max_segments, buffer) {
                    return Some(self.sent_by_link(key, transmit));
                }
            } else {
                let mut own = Vec::new();
                if let Some(transmit) = entry.carrier.poll_transmit(now, max_segments, &mut own) {
                    buffer.extend_from_slice(&own);
                    return Some(self.sent_by_link(key, transmit));
                }
            }
            self.rest_link(key);
        }
    }

    /// The next datagram that is no link's. If more of them wait, a link is asked next: whoever floods this node with first
    /// packets has as many of them made as can be sent.
    fn next_response(&mut self, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let (transmit, bytes) = self.endpoint.responses.pop()?;
        self.links_turn = !self.endpoint.responses.is_empty();
        buffer.extend_from_slice(&bytes[..transmit.size]);
        Some(self.sent(transmit))
    }

    fn sent_by_link(&mut self, key: LinkKey, transmit: QuicTransmit) -> Transmit {
        self.links_turn = false;
        self.sending.mark(key);
        self.sent(transmit)
    }

    fn sent(&mut self, transmit: QuicTransmit) -> Transmit {
        let segments = transmit
            .segment_size
            .map_or(1, |s| transmit.size.div_ceil(s.max(1)));
        self.metrics.datagrams_out += segments as u64;
        self.metrics.bytes_out += transmit.size as u64;
        Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| Ecn::from_bits(ecn as u8)),
            size: transmit.size,
            segment_size: transmit.segment_size,
            local_ip: transmit.src_ip,
        }
    }

    /// The link has said all: its deadline is set, or, if its connection is over, it is forgotten.
    fn rest_link(&mut self, key: LinkKey) {
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        let quic = match entry.carrier.rest(self.now, &mut self.endpoint) {
            Rest::Until(deadline) => deadline,
            Rest::Event(event) => {
                self.carrier_event(key, event);
                self.mark(key);
                return;
            }
            Rest::Drained => {
                self.forget_link(key);
                return;
            }
        };
        // Its datagrams may have waited for a socket for longer than it was to be kept.
        if self.forget_in_time(self.now, key) {
            return;
        }
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        // What QUIC finds overdue by now (probes that waited for a handshake's end) or due at once
        // (its pacer) comes with the next timeout, for one that is due when it is set would make
        // the owner of the node spin.
        let soonest = if planted(Bug::WakeAtOnce) {
            self.now
        } else {
            self.now + SOONEST
        };
        let quic = quic.map(|at| at.max(soonest));
        let own = entry.deadline();
        let timer = &mut entry.timer;
        match [quic, own].into_iter().flatten().min() {
            Some(deadline) => self.timers.set(timer, TimeoutReason::Link(key), deadline),
            None => self.timers.cancel(timer),
        }
    }

    /// What is due of the link's own is not put off while nobody takes its datagrams. Once they are
    /// taken, its timer is set to whatever is due first, of QUIC's too.
    pub(super) fn watch(&mut self, key: LinkKey) {
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        let armed = self.timers.deadline(&entry.timer);
        let is_sooner = |own: &Instant| armed.is_none_or(|armed| *own < armed);
        if let Some(own) = entry.deadline().filter(is_sooner) {
            self.timers
                .set(&mut entry.timer, TimeoutReason::Link(key), own);
        }
    }

    /// Writes what the link's session has to say into its streams.
    pub(super) fn write(&mut self, now: Instant, key: LinkKey) {
        let Some(entry) = self
            .links
            .get_mut(key)
            .filter(|e| e.link.carries_messages())
        else {
            return;
        };
        let Some(session_key) = entry.link.session else {
            return;
        };
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let welcomed = entry.link.is_up();
        session.conversation.gather_acks();
        let mut sent = Vec::new();
        let mut written = 0;
        for lane in session.conversation.lanes.with_unwritten() {
            // Before Welcome only the lanes that every server has are sure to exist.
            if welcomed || lane == Lane::DEFAULT || lane == Lane::BULK {
                let bounds = Bounds {
                    window: self.config.limits.lane_window_bytes,
                    frame: if welcomed {
                        usize::MAX
                    } else {
                        wire::FRAME_MIN
                    },
                };
                let report = self.config.report_sent.then_some(&mut sent);
                let frames = write_lane(now, entry, session, lane, bounds, report);
                written += frames;
            }
        }
        self.metrics.frames_out += written;
        for (lane, tag) in sent {
            self.events.push(Event::Sent {
                session: session_key,
                lane,
                tag,
            });
        }
        self.write_best_effort(key, session_key);
        self.report_dropped(session_key);
        self.write_receipts(now, key, session_key, written > 0);
        self.ask_for_receipts(key, session_key);
        self.say_close(key, session_key);
        self.follow_peer_close(now, key);
        self.account(session_key);
    }

    fn write_best_effort(&mut self, key: LinkKey, session_key: SessionKey) {
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let queue = &mut session.conversation.best_effort;
        if !entry.link.is_up() || !queue.has_waiting() {
            return;
        }
        let window = BEST_EFFORT_WINDOW;
        let opening = || lane_open(Lane::BEST_EFFORT, 0);
        // Frames that many links share have their tags.
        while let Some(tag) = entry.carrier.idle_lane(Lane::BEST_EFFORT, opening) {
            let mut bytes = 0;
            while bytes < BATCH
                && let Some(frame) = queue.write_next(window)
            {
                bytes += frame.len();
                self.alike.add(frame);
                self.metrics.frames_out += 1;
            }
            if bytes == 0 {
                break;
            }
            let pieces = self.alike.pieces();
            entry.carrier.write_lane(Lane::BEST_EFFORT, pieces, tag);
        }
        queue.wrote();
    }

    pub(super) fn send_control(&mut self, key: LinkKey, frame: Frame) {
        let Some(entry) = self.links.get_mut(key).filter(|e| !e.link.is_closed()) else {
            return;
        };
        let mut out = BytesMut::new();
        encode_frame(&wire::Control { frame: Some(frame) }, &mut out);
        entry.carrier.write_control(out.freeze());
        self.metrics.frames_out += 1;
        self.sending.mark(key);
    }

    /// Sends a heartbeat; what the peer acknowledges next says that it lives.
    pub(super) fn send_heartbeat(&mut self, key: LinkKey, number: u64) {
        self.send_control(key, Frame::Heartbeat(wire::Heartbeat { number }));
        if let Some(entry) = self.links.get_mut(key) {
            entry.carrier.expect_sign_of_life();
        }
    }
}

/// What a lane's writing keeps to, in bytes.
#[derive(Clone, Copy)]
struct Bounds {
    /// What may be under way.
    window: usize,
    /// The largest frame. Before Welcome it is what every server takes; a larger one waits, and so
    /// does what is behind it.
    frame: usize,
}

/// Writes as much of a lane as its stream and its bounds take. Returns the number of frames.
fn write_lane(
    now: Instant,
    entry: &mut LinkEntry,
    session: &mut Session,
    lane: Lane,
    bounds: Bounds,
    mut report: Option<&mut Vec<(Lane, crate::id::Tag)>>,
) -> u64 {
    let Conversation {
        lanes, promises, ..
    } = &mut session.conversation;
    let mut frames = 0;
    let Some(outbox) = lanes.outbox_mut(lane) else {
        return frames;
    };
    loop {
        let Some((first, count)) = outbox.unwritten() else {
            return frames;
        };
        if outbox.in_flight() >= bounds.window {
            return frames;
        }
        let next = outbox.next_seq();
        let Some(tag) = entry.carrier.idle_lane(lane, || lane_open(lane, next)) else {
            return frames;
        };
        let mut batch = Batch::with_room(first, count, tag);
        while batch.bytes() < BATCH && outbox.in_flight() < bounds.window {
            let wanted = |entry: &Entry| {
                !is_own(entry) || entry.promise == 0 || promises.contains(entry.promise)
            };
            let fits = |entry: &Entry| entry.body.len() + ENVELOPE <= bounds.frame;
            let Some(writing) = outbox.write_next(wanted, fits) else {
                break;
            };
            // Only the latest cancels are told again: of the others, the peer need not begin with what was cancelled.
            let given_up = !writing.first_time
                && matches!(writing.entry.kind, Kind::Request)
                && !promises.contains(writing.entry.promise);
            let deadline = if given_up {
                Some(now)
            } else {
                writing.entry.deadline
            };
            batch.entry(now, deadline, writing.entry);
            frames += 1;
            if writing.first_time && is_own(writing.entry) {
                session.sent += 1;
                if let Some(report) = report.as_deref_mut() {
                    report.push((lane, writing.entry.tag));
                }
                if let Some(promise) = promises.get_mut(writing.entry.promise) {
                    promise.seq = Some(writing.seq);
                }
            }
        }
        if batch.bytes() == 0 {
            return frames;
        }
        let tag = batch.tag();
        entry.carrier.write_lane(lane, batch.into_pieces(), tag);
    }
}

/// Whether the entry's promise is this side's: answers bear the peer's.
fn is_own(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::Message | Kind::Request)
}

fn lane_open(lane: Lane, next: u64) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(
        &wire::LaneOpen {
            lane: u32::from(lane.number()),
            next,
        },
        &mut out,
    );
    out.freeze()
}
