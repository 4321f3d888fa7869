//! Events, each told to the part of the oracle that it concerns.

use std::time::{Duration, Instant};

use trunkline_core::{DeliveryKey, Event, Outcome, PromiseKey};

use super::{Oracle, Way, number_of};

impl Oracle {
    /// A node tells its application something. Call it before the application does anything
    /// about it.
    pub fn event(&mut self, now: Instant, node: usize, event: &Event) {
        self.ends_are_told(now, node);
        match event {
            Event::Connected {
                session,
                client,
                epoch,
                resumed,
                ..
            } => self.connected(now, node, *session, client, *epoch, *resumed),
            Event::Admission(request) => {
                if let Some(process) = self.processes.get_mut(&node) {
                    let asks = (request.client.clone(), now);
                    process.asked.insert(request.link, asks);
                }
            }
            Event::Refused {
                link, client, code, ..
            } => self.told_refused(now, node, *link, client, *code),
            Event::Disconnected {
                session, reason, ..
            } => self.disconnected(now, node, *session, reason),
            Event::HeartbeatTimeout { session } => self.found_dead(now, node, *session),
            Event::Reconnecting {
                session,
                attempt,
                delay,
            } => self.redials(now, node, *session, *attempt, *delay),
            Event::SessionLost { session } => self.lost(now, node, *session),
            Event::Closed { session, reason } => self.closed(now, node, *session, reason),
            Event::Message(delivery) => {
                self.heard_by_message(now, node, delivery);
                self.handed_over(now, node, delivery);
            }
            Event::Cancelled { delivery } => {
                self.heard(now, node, delivery.session);
                self.told_cancelled(now, node, *delivery);
            }
            Event::Settled {
                promise, outcome, ..
            } => self.settled(now, node, *promise, outcome),
            Event::Undelivered {
                session,
                message,
                reason,
                maybe_delivered,
            } => {
                let Some(from) = self.side(node, *session) else {
                    return;
                };
                let number = number_of(&message.body).unwrap_or(0);
                let sound = self.came_back(number, from, message, *maybe_delivered);
                let sound = sound.and_then(|()| self.may_come_back(now, number, *reason));
                if let Err(why) = sound {
                    let what =
                        format!("message {number} came back to node {node} ({reason}): {why}");
                    self.violation(now, 1, what);
                }
            }
            Event::Writable { session } => {
                if let Some(process) = self.processes.get_mut(&node) {
                    process.wants_room.remove(session);
                }
            }
            Event::Draining {
                session,
                retry_after,
                ..
            } => {
                self.heard(now, node, *session);
                let process = self.processes.get_mut(&node);
                if let Some(state) = process.and_then(|p| p.sessions.get_mut(session)) {
                    state.hinted |= retry_after.is_some();
                }
            }
            Event::Moved { session, .. } => {
                let process = self.processes.get(&node);
                let state = process.and_then(|process| process.sessions.get(session));
                if !state.is_some_and(|state| state.up && !state.dialled) {
                    let what = format!("{session:?} of node {node} moved, and no client is there");
                    self.violation(now, 6, what);
                }
            }
            Event::Drained { .. } => {
                let process = self.processes.get_mut(&node);
                let by = process.and_then(|process| process.drained_by.take());
                if by.is_none() {
                    let what = format!("node {node} has drained, and nobody asked it to");
                    self.violation(now, 6, what);
                }
            }
            _ => {}
        }
    }

    fn heard(&mut self, now: Instant, node: usize, session: trunkline_core::SessionKey) {
        let process = self.processes.get_mut(&node);
        if let Some(state) = process.and_then(|p| p.sessions.get_mut(&session)) {
            state.heard(now);
        }
    }

    fn settled(&mut self, now: Instant, node: usize, promise: PromiseKey, outcome: &Outcome) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let Some(pledge) = process.pledges.get_mut(&promise) else {
            let what = format!("node {node} settles {promise:?}, which it never gave out");
            return self.violation(now, 4, what);
        };
        let earlier = pledge.settled.replace(outcome.clone());
        let number = pledge.number;
        let given_up = pledge.given_up;
        let deadline = pledge.deadline;
        let late = deadline.is_some_and(|at| now > process.latest(at));
        let mut evicted = Ok(());
        if *outcome == Outcome::Evicted {
            evicted = process.has_evicted(promise.session);
        } else if earlier.is_none() && !given_up {
            process.holds_less(promise.session);
        }
        if let Some(at) = deadline {
            process.due.remove(&(at, promise));
        }
        let mut wrong = None;
        if let Some(earlier) = earlier {
            wrong = Some(format!("it had settled as {earlier:?}"));
        } else if late {
            let by = deadline.map_or(Duration::ZERO, |at| now - at);
            wrong = Some(format!("its deadline was {by:?} before"));
        } else if *outcome == Outcome::TimedOut && deadline.is_none_or(|at| now < at) {
            wrong = Some("its deadline has not come".to_owned());
        } else if *outcome == Outcome::Cancelled && !given_up {
            wrong = Some("nobody gave it up".to_owned());
        } else if let Err(why) = evicted {
            wrong = Some(why.to_owned());
        }
        let judged = self.judge(number, outcome);
        let judged = judged.and_then(|()| self.may_settle_so(now, number, outcome));
        let wrong = wrong.or_else(|| judged.err().map(str::to_owned));
        if let Some(wrong) = wrong {
            let what = format!(
                "node {node} settles {promise:?} (message {number}) as {outcome:?}: {wrong}"
            );
            self.violation(now, 4, what);
        }
    }

    /// A peer's application is told that nobody waits for an answer.
    fn told_cancelled(&mut self, now: Instant, node: usize, delivery: DeliveryKey) {
        let process = self.processes.get(&node);
        let number = process.and_then(|p| p.deliveries.get(&delivery));
        let letter = number.and_then(|number| self.letters.get(number));
        let Some(letter) = letter else {
            let what = format!("node {node} is told that {delivery:?} is cancelled: what is it?");
            return self.violation(now, 4, what);
        };
        let Way::Reliable {
            promise: Some(promise),
            ..
        } = letter.way
        else {
            let what = format!("node {node} is told that {delivery:?} is cancelled: nobody waits");
            return self.violation(now, 4, what);
        };
        let sender = self.processes.get(&letter.node);
        let Some(sender) = sender.filter(|p| p.runs && p.number == letter.process) else {
            return;
        };
        let pledge = sender.pledges.get(&promise);
        if pledge.is_some_and(|pledge| pledge.settled.is_none() && !pledge.given_up) {
            let what = format!("node {node} is told that {delivery:?} is cancelled, and it is not");
            self.violation(now, 4, what);
        }
    }
}
