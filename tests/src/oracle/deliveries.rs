//! What is handed to applications: once, in order, to whom it was sent.

use std::time::{Duration, Instant};

use trunkline_core::{Delivery, Expects, Lane, Message, Outcome, SlowConsumer, StatusCode, Tag};

use super::bodies::is_whole;
use super::{Answer, Letter, Oracle, Side, TICK, Way, number_of, tag_of};

/// Whether a sender that has so much patience may say that it has so much left.
fn is_patience(told: Option<Duration>, given: Option<Duration>, cut_short: bool) -> bool {
    let Some(told) = told else {
        return given.is_none();
    };
    // Told in whole milliseconds, and one at least.
    let rounded_up = |given: Duration| {
        let millis = given.as_nanos().div_ceil(TICK.as_nanos());
        u64::try_from(millis).map_or(Duration::MAX, Duration::from_millis)
    };
    given.is_some_and(|given| told <= rounded_up(given)) || cut_short && told == TICK
}

impl Letter {
    /// Whether that is what was sent, or what is not.
    fn is_as_sent(&self, number: u64, tag: Tag, body: &[u8]) -> Result<(), &'static str> {
        if self.size != body.len() {
            return Err("it has another size");
        }
        if !is_whole(body) {
            return Err("its bytes are others");
        }
        if tag != tag_of(number) {
            return Err("it has another tag");
        }
        Ok(())
    }
}

impl Oracle {
    /// A node hands a message to its application.
    pub(super) fn handed_over(&mut self, now: Instant, node: usize, delivery: &Delivery) {
        let key = delivery.key;
        let Some(to) = self.side(node, key.session) else {
            return;
        };
        let number = number_of(&delivery.body).unwrap_or(0);
        let Some(letter) = self.letters.get_mut(&number) else {
            let what = format!("node {node} was handed what nobody sent: {delivery:?}");
            return self.violation(now, 2, what);
        };
        if let Some(process) = self.processes.get_mut(&node)
            && process.deliveries.insert(key, number).is_some()
        {
            let what = format!("node {node} was handed {key:?} twice");
            return self.violation(now, 2, what);
        }
        if let Err(why) = letter.is_as_sent(number, delivery.tag, &delivery.body) {
            let what = format!("message {number} came to node {node} as another: {why}");
            return self.violation(now, 2, what);
        }
        let repeated = !letter.handed.insert(to);
        match &letter.way {
            Way::Reliable { .. } if repeated || letter.handed.len() > 1 => {
                let what = format!("message {number} was handed to node {node} once more");
                self.violation(now, 2, what);
            }
            Way::Reliable { .. } => self.reliable_came(now, to, number, delivery),
            Way::BestEffort { .. } if repeated => {
                let what = format!("node {node} was handed best-effort message {number} twice");
                self.violation(now, 3, what);
            }
            Way::BestEffort { .. } => self.best_effort_came(now, to, number, delivery),
        }
    }

    fn reliable_came(&mut self, now: Instant, to: Side, number: u64, delivery: &Delivery) {
        let Some(letter) = self.letters.get(&number) else {
            return;
        };
        let Way::Reliable {
            from,
            lane,
            position,
            promise,
            is_request,
            patience,
            given_up,
        } = letter.way
        else {
            return;
        };
        let node = to.node;
        // Of a request that is written again after it was given up, no time is left.
        let cut_short = is_request && given_up.is_some();
        if !is_patience(delivery.timeout, patience, cut_short) {
            let told = delivery.timeout;
            let what =
                format!("message {number} came to node {node} with {told:?} left of {patience:?}");
            self.violation(now, 4, what);
        }
        let expects = match (promise, is_request) {
            (None, _) => Expects::Nothing,
            (Some(_), false) => Expects::Ack,
            (Some(_), true) => Expects::Reply,
        };
        if (delivery.lane, delivery.expects) != (lane, expects) {
            let what = format!("message {number} came to node {node} as another: {delivery:?}");
            self.violation(now, 3, what);
        }
        if given_up == Some(false) {
            let what =
                format!("message {number} came to node {node}; it was said that it cannot have");
            self.violation(now, 1, what);
        }
        self.pair(now, from, to);
        let Some((numbers, upto)) = self
            .ledgers
            .get_mut(&from)
            .and_then(|ledger| ledger.lanes.get_mut(&lane))
        else {
            return;
        };
        let before = *upto;
        *upto = (position + 1).max(before);
        let skipped: Vec<u64> = numbers.get(before..position).unwrap_or_default().to_vec();
        if position < before {
            let what = format!("message {number} came to node {node} after later ones of its lane");
            return self.violation(now, 3, what);
        }
        let missing = skipped
            .into_iter()
            .find(|number| !self.need_not_come(*number, to));
        if let Some(missing) = missing {
            let what = format!("message {number} came to node {node} before {missing} of its lane");
            self.violation(now, 3, what);
        }
    }

    /// Whether nobody misses a message that has not come to this side.
    fn need_not_come(&self, number: u64, to: Side) -> bool {
        let Some(letter) = self.letters.get(&number) else {
            return true;
        };
        match letter.way {
            // A node that drains rejects what somebody waits for, and the word of it is under way.
            Way::Reliable {
                given_up, promise, ..
            } => given_up.is_some() || promise.is_some() && self.drains_now(to),
            Way::BestEffort { .. } => true,
        }
    }

    fn drains_now(&self, side: Side) -> bool {
        let process = self.processes.get(&side.node);
        process.is_some_and(|p| p.number == side.process && p.drains)
    }

    /// A session's two sides belong together for as long as they live.
    fn pair(&mut self, now: Instant, from: Side, to: Side) {
        let mut pair = |one: Side, other: Side| {
            let known = self.ledgers.entry(one).or_default();
            *known.peer.get_or_insert(other) == other
        };
        if !(pair(from, to) & pair(to, from)) {
            let what = format!("{from:?} and {to:?} are not sides of one session");
            self.violation(now, 2, what);
        }
    }

    fn best_effort_came(&mut self, now: Instant, to: Side, number: u64, delivery: &Delivery) {
        let Some(letter) = self.letters.get(&number) else {
            return;
        };
        let Way::BestEffort { audience, key } = &letter.way else {
            return;
        };
        let node = to.node;
        let by_key = self.processes.get(&letter.node).is_some_and(|sender| {
            let policy = sender.config.slow_consumer;
            policy == SlowConsumer::KeepLatest
        });
        let place = (letter.node, key.filter(|_| by_key));
        let ledger = self.ledgers.entry(to).or_default();
        let mislaid = ledger.peer.is_some_and(|from| !audience.contains(&from));
        let earlier = ledger.best_effort.insert(place, number);
        if mislaid || delivery.lane != Lane::BEST_EFFORT || delivery.expects != Expects::Nothing {
            let what =
                format!("best-effort message {number} was not for node {node}: {delivery:?}");
            self.violation(now, 3, what);
        }
        if let Some(earlier) = earlier.filter(|earlier| *earlier >= number) {
            let what = format!("best-effort message {number} came to node {node} after {earlier}");
            self.violation(now, 3, what);
        }
    }

    /// What the oracle has to say of a promise's outcome, if it is wrong; and the message is done
    /// with.
    pub(super) fn judge(&mut self, number: u64, outcome: &Outcome) -> Result<(), &'static str> {
        // A node rejects by itself what comes to it too late, when it drains.
        let drains = self.server_gone.is_some();
        let Some(letter) = self.letters.get_mut(&number) else {
            return Ok(());
        };
        let came = !letter.handed.is_empty();
        let Way::Reliable { given_up, .. } = &mut letter.way else {
            return Ok(());
        };
        *given_up = match outcome {
            Outcome::Acked | Outcome::Replied { .. } => None,
            Outcome::Rejected(_) if came => None,
            Outcome::Rejected(_) => Some(false),
            Outcome::Lost { maybe_delivered } => Some(*maybe_delivered),
            _ => Some(true),
        };
        match (outcome, &letter.answer) {
            (Outcome::Acked, Some(Answer::Ack)) => Ok(()),
            (Outcome::Acked, _) => Err("nobody acked it"),
            (Outcome::Replied { tag, body }, Some(Answer::Reply(given, reply)))
                if (tag, body) == (given, reply) =>
            {
                Ok(())
            }
            (Outcome::Replied { .. }, _) => Err("nobody replied so"),
            (Outcome::Rejected(status), Some(Answer::Reject(code))) if status.code == *code => {
                Ok(())
            }
            (Outcome::Rejected(status), None) if !came => match status.code {
                StatusCode::INVALID_ARGUMENT => Ok(()),
                StatusCode::UNAVAILABLE if drains => Ok(()),
                _ => Err("nobody rejected it"),
            },
            (Outcome::Rejected(_), _) => Err("nobody rejected it so"),
            (
                Outcome::Lost {
                    maybe_delivered: false,
                },
                _,
            ) if came => Err("the peer's application has it"),
            _ => Ok(()),
        }
    }

    /// A message without a promise came back. Says what is wrong with that, if anything.
    pub(super) fn came_back(
        &mut self,
        number: u64,
        from: Side,
        message: &Message,
        maybe_delivered: bool,
    ) -> Result<(), &'static str> {
        let Some(letter) = self.letters.get_mut(&number) else {
            return Err("nobody sent it");
        };
        letter.is_as_sent(number, message.tag, &message.body)?;
        let came = !letter.handed.is_empty();
        let Way::Reliable {
            from: sender,
            lane,
            promise: None,
            given_up,
            ..
        } = &mut letter.way
        else {
            return Err("it was not sent so");
        };
        if message.lane != Some(*lane) {
            return Err("it was sent in another lane");
        }
        if (sender.node, sender.process, sender.session) != (from.node, from.process, from.session)
        {
            return Err("another session sent it");
        }
        if given_up.replace(maybe_delivered).is_some() {
            return Err("it came back before");
        }
        if came && !maybe_delivered {
            return Err("the peer's application has it");
        }
        Ok(())
    }
}
