//! Receipts: what each side tells the other that it holds, so that it need not be kept there any longer.

use std::time::{Duration, Instant};

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::error::{CloseCode, Fault};
use crate::id::{Lane, LinkKey, SessionKey};
use crate::moments::Moments;
use crate::session::{Conversation, is_answers};

use super::receive::known_lane;
use super::transmit::BEST_EFFORT_WINDOW;
use super::{Node, TimeoutReason};

/// Who has something else to say, or whose peer waits, tells what it holds as often as this, however long it
/// may be kept for itself.
const OFTEN: Duration = Duration::from_millis(25);

/// How long few small answers may go unreported. The peer keeps them as long, but its application does not wait
/// for that: they are reported with the next request, or with a heartbeat or its answer, which come sooner by default.
const PATIENCE: Duration = Duration::from_secs(20);

impl Node {
    /// Reports what was received: if it is urgent, if it has waited long enough, if it is the last there will be,
    /// or if there is something to go with and nothing was reported for 25 ms, for a packet of its own costs as
    /// much as a message. Otherwise a timer is started.
    pub(super) fn write_receipts(
        &mut self,
        now: Instant,
        key: LinkKey,
        session_key: SessionKey,
        with_others: bool,
    ) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let Some(entry) = self.links.get(key) else {
            return;
        };
        let link = &entry.link;
        if !link.is_up() {
            return;
        }
        let interval = self.config.timeouts.receipt;
        let in_a_hurry =
            link.peer_awaits_receipts || link.peer_close.is_some() || session.closing.is_some();
        let rides = with_others
            && session
                .reported
                .is_none_or(|at| now.saturating_duration_since(at) >= interval.min(OFTEN));
        // Close is said next, and the peer can follow only once it knows what this side holds.
        let closes = session.closing.as_ref().is_some_and(|c| !c.said);
        let last = closes && session.conversation.is_quiet();
        let due = std::mem::take(&mut session.receipt_due) || rides || last;
        let window = self.config.limits.lane_window_bytes;
        let lanes = &mut session.conversation.lanes;
        let mut receipts = Vec::new();
        let mut waits: Option<Duration> = None;
        for lane in lanes.with_unreported().chain([Lane::BEST_EFFORT]) {
            let Some(inbox) = lanes.inbox_mut(lane) else {
                continue;
            };
            let Some(next) = inbox.unreported() else {
                continue;
            };
            let window = if lane == Lane::BEST_EFFORT {
                BEST_EFFORT_WINDOW
            } else {
                window
            };
            // Best effort needs receipts for its window alone, never in time.
            if inbox.report_is_urgent(window) || (due && lane != Lane::BEST_EFFORT) {
                inbox.reported(next);
                receipts.push(wire::Receipt {
                    lane: u32::from(lane.number()),
                    next,
                });
            } else if lane != Lane::BEST_EFFORT {
                let can_wait = is_answers(lane) && inbox.report_can_wait();
                let time = may_wait(interval, in_a_hurry, can_wait);
                waits = Some(waits.map_or(time, |waits| waits.min(time)));
            }
        }
        let timer = &mut session.receipt_timer;
        match waits {
            None => self.timers.cancel(timer),
            Some(time) => {
                // At a moment at which acknowledgements go out, too: one packet for both.
                let deadline = Moments::new(self.origin).last_between(now, now + time);
                if self.timers.deadline(timer).is_none_or(|at| deadline < at) {
                    let owner = TimeoutReason::Receipt(session_key);
                    self.timers.set(timer, owner, deadline);
                }
            }
        }
        if !receipts.is_empty() {
            session.reported = Some(now);
            self.send_control(key, Frame::Receipts(wire::Receipts { receipts }));
        }
    }

    /// Tells the peer, once a link, that this side waits for what it puts off: to close, or for room to write
    /// or to make answers.
    pub(super) fn ask_for_receipts(&mut self, key: LinkKey, session_key: SessionKey) {
        let crowd_at = self.answers_crowd_at();
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let link = &mut entry.link;
        if link.has_asked || !link.is_up() {
            return;
        }
        let conversation = &session.conversation;
        let is_closing = session.closing.is_some() || link.peer_close.is_some();
        let waits = is_closing && !conversation.has_said_all();
        let limits = &self.config.limits;
        let lanes = &conversation.lanes;
        let crowded = lanes.answers().bytes >= crowd_at;
        let outbox_is_full = session.room.is_refused() && lanes.has_messages_in_flight();
        let stuck =
            outbox_is_full || lanes.answers_are_stuck(limits) || lanes.window_is_full(limits);
        if !waits && !crowded && !stuck {
            return;
        }
        link.has_asked = true;
        let receipts = Vec::new();
        self.send_control(key, Frame::Receipts(wire::Receipts { receipts }));
    }

    /// `Receipts` came: what the peer holds, or, without entries, that it waits for this side's.
    pub(super) fn receipts_came(
        &mut self,
        key: LinkKey,
        session_key: SessionKey,
        receipts: &[wire::Receipt],
    ) -> Result<(), Fault> {
        if receipts.is_empty()
            && let Some(entry) = self.links.get_mut(key)
            && let Some(session) = self.sessions.get_mut(session_key)
            && !std::mem::replace(&mut entry.link.peer_awaits_receipts, true)
        {
            session.receipt_due = true;
        }
        self.peer_holds(session_key, receipts, true)
    }

    /// The peer's session holds so much, of what was sent on this link if `on_link`, or else ever.
    pub(super) fn peer_holds(
        &mut self,
        session_key: SessionKey,
        receipts: &[wire::Receipt],
        on_link: bool,
    ) -> Result<(), Fault> {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
        for receipt in receipts {
            // It is the peer's lane, of which it may say that there was nothing in it.
            let lanes = self.config.limits.lanes.max(session.peer.lanes);
            let lane = known_lane(receipt.lane, lanes)?;
            let Conversation {
                best_effort, lanes, ..
            } = &mut session.conversation;
            let held = match lane {
                Lane::BEST_EFFORT => best_effort.received(receipt.next),
                _ => {
                    let next = receipt.next;
                    next == 0 || lanes.held_by_peer(lane, next, on_link).is_ok()
                }
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
}

/// How long what came may go unreported, if `interval` is what the application has chosen.
fn may_wait(interval: Duration, in_a_hurry: bool, can_wait: bool) -> Duration {
    if in_a_hurry {
        interval.min(OFTEN)
    } else if can_wait {
        interval.max(PATIENCE)
    } else {
        interval
    }
}
