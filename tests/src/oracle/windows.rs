//! What waits at whoever it came to: messages that a node does not read yet, for its application has others
//! to answer first. When they are handed over they say nothing of the peer's life since they were sent.

use std::collections::BTreeMap;
use std::time::Instant;

use trunkline_core::{Delivery, DeliveryKey, Lane, Limits, SessionKey};

use super::{Answer, Oracle, Process, number_of};

/// What an application owes answers for, of a node's process.
#[derive(Debug, Default)]
pub(super) struct Windows {
    lanes: BTreeMap<(SessionKey, Lane), Window>,
    owed: BTreeMap<DeliveryKey, (Lane, usize)>,
    /// Bytes of all answers so far. Those that no peer has taken are at most as many; once they exceed the limit
    /// for good, messages count as heard when they were sent.
    answers: usize,
}

/// The same of one lane of a session.
#[derive(Debug, Default)]
struct Window {
    messages: usize,
    bytes: usize,
    /// The last moment at which it may have been full. What room there is since then its node used in that
    /// moment already.
    full_at: Option<Instant>,
}

/// What a node counts for a message or an answer beside its body, at the most: 64 bytes, 8 more for an ack in a
/// list, or a short reason.
const BESIDE_BODY: usize = 100;

impl Window {
    fn is_full(&self, limits: &Limits) -> bool {
        self.messages >= limits.deliveries || self.bytes >= limits.delivery_bytes
    }
}

impl Windows {
    fn is_handed(&mut self, delivery: &Delivery) {
        let (key, lane) = (delivery.key, delivery.lane);
        let bytes = delivery.body.len() + BESIDE_BODY;
        if self.owed.insert(key, (lane, bytes)).is_none() {
            let window = self.lanes.entry((key.session, lane)).or_default();
            window.messages += 1;
            window.bytes += bytes;
        }
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        key: DeliveryKey,
        answer: &Answer,
        limits: &Limits,
    ) {
        self.answers += BESIDE_BODY;
        if let Answer::Reply(_, body) = answer {
            self.answers += body.len();
        }
        let Some((lane, bytes)) = self.owed.remove(&key) else {
            return;
        };
        if let Some(window) = self.lanes.get_mut(&(key.session, lane)) {
            if window.is_full(limits) {
                window.full_at = Some(now);
            }
            window.messages -= 1;
            window.bytes -= bytes;
        }
    }

    /// A session has ended or is lost: nothing of it is owed any more.
    pub(super) fn forget(&mut self, session: SessionKey) {
        self.owed.retain(|key, _| key.session != session);
        self.lanes.retain(|(of, _), _| *of != session);
    }
}

impl Process {
    /// Whether what is handed over now may have come earlier, and waited: for room in its lane, or because other
    /// sessions' answers took all that there is. (Whoever waits for room for its own answers gets that from its
    /// peer, which is heard with it.)
    fn may_have_waited(&self, now: Instant, session: SessionKey, lane: Lane) -> bool {
        let limits = &self.config.limits;
        let window = self.windows.lanes.get(&(session, lane));
        let window =
            window.is_some_and(|window| window.full_at == Some(now) || window.is_full(limits));
        window || self.windows.answers >= limits.outbox_bytes_total
    }
}

impl Oracle {
    /// A message is handed over: its sender was heard when it came, which was now, or, if it may have waited,
    /// no earlier than it was sent.
    pub(super) fn heard_by_message(&mut self, now: Instant, node: usize, delivery: &Delivery) {
        let letter = number_of(&delivery.body).and_then(|number| self.letters.get(&number));
        let sent = letter.map(|letter| letter.sent);
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let session = delivery.key.session;
        let waited = process.may_have_waited(now, session, delivery.lane);
        let heard = if waited { sent } else { Some(now) };
        process.windows.is_handed(delivery);
        if let (Some(heard), Some(state)) = (heard, process.sessions.get_mut(&session)) {
            state.heard(heard);
        }
    }
}
