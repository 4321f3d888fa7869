//! Messages that were queued before it was known what the peer takes, and that it does not.

use std::time::Instant;

use crate::error::{Status, StatusCode};
use crate::id::SessionKey;
use crate::message::{Message, Outcome};

use super::messages::ENVELOPE;
use super::{Event, Node};

impl Node {
    /// Gives back what waits and exceeds the limits that the peer has just announced. The peer
    /// would close the link for it, and the session with it.
    pub(super) fn return_misfits(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let peer = session.peer;
        let misfits = session.conversation.lanes.take_waiting(|lane, entry| {
            lane.number() < peer.lanes && entry.body.len() + ENVELOPE <= peer.frame_bytes
        });
        for (lane, entry) in misfits {
            if entry.promise == 0 {
                self.metrics.undelivered += 1;
                let message = Message {
                    lane: Some(lane),
                    tag: entry.tag,
                    body: entry.body,
                };
                self.events.push(Event::Undelivered {
                    session: key,
                    message,
                    maybe_delivered: false,
                });
                continue;
            }
            let reason = format!(
                "{} bytes in lane {lane} were not sent: the peer takes frames of {} bytes in {} lanes",
                entry.body.len(),
                peer.frame_bytes,
                peer.lanes
            );
            let status = Status::new(StatusCode::INVALID_ARGUMENT, reason);
            self.settle(now, key, entry.promise, Outcome::Rejected(status));
        }
        self.room_again(key);
    }
}
