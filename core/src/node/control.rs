//! Frames of the control stream, each in the state of the link in which it may come.

use std::time::Instant;

use bytes::Bytes;
use prost::Message as _;
use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::error::{CloseCode, Fault};
use crate::id::{DeliveryKey, LinkKey};
use crate::link::Stage;

use super::{Event, Node};

/// How many control frames may wait for a peer that does not read them. A peer that does leaves
/// none: they are few, small, and go before everything else.
const CONTROL_BACKLOG_MAX: usize = 1_000;

/// With so many waiting, no cancel is added, for those are hints, and many promises may be over at the same time.
pub(super) const CANCELS_WAITING_MAX: usize = CONTROL_BACKLOG_MAX / 2;

impl Node {
    pub(super) fn control_frame(
        &mut self,
        now: Instant,
        key: LinkKey,
        frame: Bytes,
    ) -> Result<(), Fault> {
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
                    session.taken_up |= ready.epoch == session.tokens.epoch;
                }
                Ok(())
            }
            (Stage::Up | Stage::AwaitsWelcome { .. }, Frame::Heartbeat(_)) => {
                // That it has come is all that it says, and the answer is QUIC's. What was put off goes with that.
                entry.carrier.acknowledge();
                if let Some(session) = session.and_then(|s| self.sessions.get_mut(s)) {
                    session.receipt_due = true;
                }
                Ok(())
            }
            (Stage::Up, Frame::Receipts(receipts)) => session.map_or(Ok(()), |session| {
                self.receipts_came(key, session, &receipts.receipts)
            }),
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

    /// Control frames are written as they come up; a peer that does not read them must not make
    /// them pile up here.
    pub(super) fn check_control_backlog(&self, key: LinkKey) -> Result<(), Fault> {
        let backlog = self
            .links
            .get(key)
            .map_or(0, |entry| entry.carrier.control_backlog());
        if backlog <= CONTROL_BACKLOG_MAX {
            return Ok(());
        }
        Err(Fault::new(
            CloseCode::FLOODED,
            "control frames are not read: too many of them wait",
        ))
    }
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
        Stage::Refused(_) => "its refusal",
        Stage::AwaitsWelcome { .. } => "wait for Welcome",
        Stage::Up => "use",
        Stage::Closed => "its end",
    }
}
