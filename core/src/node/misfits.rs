//! Messages that were queued before it was known what the peer takes, and that it does not.

use bytes::Bytes;

use crate::error::{Status, StatusCode};
use crate::id::{Lane, SessionKey, Tag};
use crate::message::{Outcome, UndeliveredReason};
use crate::outbox::{Entry, Kind};
use crate::session::is_answers;

use super::Node;
use super::messages::ENVELOPE;

impl Node {
    /// Gives back what waits and exceeds the limits that the peer has just announced. The peer
    /// would close the link for it, and the session with it.
    pub(super) fn return_misfits(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let peer = session.peer;
        let lanes = &mut session.conversation.lanes;
        let misfits = lanes.take_waiting(|lane, entry| {
            let carried = lane.number() < peer.lanes || is_answers(lane);
            carried && entry.body.len() + ENVELOPE <= peer.frame_bytes
        });
        let (answers, messages): (Vec<_>, Vec<_>) =
            misfits.into_iter().partition(|(lane, _)| is_answers(*lane));
        for (_, reply) in answers {
            let reason = format!(
                "a reply of {} bytes was not sent: its receiver takes frames of {} bytes",
                reply.body.len(),
                peer.frame_bytes
            );
            let status = Status::new(StatusCode::INTERNAL, reason);
            self.metrics.rejects_sent += 1;
            let rejection = Entry {
                kind: Kind::Reject(status),
                tag: Tag(0),
                body: Bytes::new(),
                ..reply
            };
            lanes.push(Lane::ANSWERS, rejection);
        }
        for (lane, entry) in messages {
            if entry.promise == 0 {
                self.undelivered(key, lane, entry, UndeliveredReason::NotTaken, false);
                continue;
            }
            let reason = format!(
                "{} bytes in lane {lane} were not sent: the peer takes frames of {} bytes in {} lanes",
                entry.body.len(),
                peer.frame_bytes,
                peer.lanes
            );
            let status = Status::new(StatusCode::INVALID_ARGUMENT, reason);
            self.settle(key, entry.promise, Outcome::Rejected(status));
        }
        self.room_again(key);
    }
}
