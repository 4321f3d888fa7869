//! What the driver does with the node's events: settle, dispatch, and tell whoever listens.

use std::sync::Arc;
use std::time::Instant;

use super::command::Drained;
use super::mailbox::Settlement;
use super::peer::{Peer, State};
use super::queue::{Job, Then};
use super::runtime::Io;
use super::service::{Serve, unimplemented};
use super::turn::Driver;
use super::worker::Worker;
use crate::{CommandError, Delivery, DisconnectReason, Event, SessionKey};

impl<I: Io> Driver<I> {
    pub(super) fn report(&mut self, now: Instant, event: Event) {
        match event {
            Event::Settled {
                promise,
                ref outcome,
                ..
            } => {
                let settlement = Settlement::Promise(outcome.clone());
                self.ledger.settle_promise(promise, settlement);
                self.tell(&event);
            }
            Event::Message(delivery) => {
                let event = Event::Message(delivery);
                self.tell(&event);
                if let Event::Message(delivery) = event {
                    self.dispatch(now, delivery);
                }
            }
            Event::Cancelled { delivery } => {
                if let Some(peer) = self.peer(delivery.session) {
                    peer.0.cancellations.cancel(delivery.number);
                }
            }
            Event::Writable { session } => self.resume_backlog(now, session),
            Event::Admission(request) => match &self.ask {
                Some(ask) => ask.decide(request, &self.shared),
                None => tracing::warn!("nobody decides about admission"),
            },
            Event::Closed {
                session,
                ref reason,
            } => {
                self.return_backlog(session, CommandError::UnknownSession);
                self.tell(&event);
                self.evict(session, reason);
            }
            event => {
                self.follow(now, &event);
                self.tell(&event);
            }
        }
    }

    /// What an event changes for handles, before it is told.
    fn follow(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Connected {
                session,
                client,
                address,
                epoch,
                ..
            } => {
                let state = State::Connected {
                    address: *address,
                    epoch: *epoch,
                };
                let peer = self.lodge(*session, client, state.clone());
                peer.0.state.set(state);
                self.turn_away(now, *session);
            }
            Event::Disconnected {
                session,
                reason,
                retained: true,
            } => {
                if let Some(peer) = self.peer(*session) {
                    let state = State::Away(reason.clone());
                    peer.0.state.set(state);
                }
            }
            Event::Reconnecting {
                session,
                attempt,
                delay,
            } => {
                if let Some(peer) = self.peer(*session) {
                    let reason = match peer.state() {
                        State::Away(reason) | State::Reconnecting { reason, .. } => reason,
                        _ => DisconnectReason::ConnectTimeout,
                    };
                    peer.0.state.set(State::Reconnecting {
                        attempt: *attempt,
                        delay: *delay,
                        reason,
                    });
                }
                if let Some(resolver) = &self.resolver {
                    resolver.find(*session, *attempt, &self.shared);
                }
            }
            Event::Draining {
                session,
                alternative: Some(alternative),
                ..
            } => {
                if let Some(resolver) = &mut self.resolver {
                    resolver.prefer(alternative.clone());
                    resolver.find(*session, 1, &self.shared);
                }
            }
            Event::Drained { finished, cut_off } => {
                self.drained(Drained {
                    finished: *finished,
                    cut_off: *cut_off,
                });
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, now: Instant, delivery: Delivery) {
        let (key, tag) = (delivery.key, delivery.tag);
        let handled = self
            .service
            .as_ref()
            .filter(|service| service.order(&delivery).is_some());
        let (Some(service), Some(peer)) = (handled, self.peer(key.session)) else {
            tracing::debug!(session = ?key.session, %tag, "nobody handles this message type");
            let _ = self.node.reject(now, key, unimplemented(tag));
            return;
        };
        let deadline = delivery.timeout.map(|timeout| now + timeout);
        match peer.0.jobs.push(Job { delivery, deadline }) {
            Then::Nothing => {}
            Then::Start => start_worker(peer.clone(), service.clone()),
            Then::Wake(waker) => self.woken.push(waker),
        }
    }

    /// Tells hooks and subscribers of an event.
    pub(super) fn tell(&self, event: &Event) {
        match session_of(event).and_then(|session| self.peer(session)) {
            Some(peer) => self.tell_of(peer, event),
            None => self.shared.subscribers.publish(event),
        }
    }

    /// As [`Driver::tell`], of a peer that may be forgotten already.
    pub(super) fn tell_of(&self, peer: &Peer, event: &Event) {
        self.call_hook(peer, event);
        self.shared.subscribers.publish(event);
    }

    fn call_hook(&self, peer: &Peer, event: &Event) {
        let Some(hooks) = &self.hooks else { return };
        match event {
            Event::Connected { resumed: false, .. } => hooks.connected(peer),
            Event::Connected { resumed: true, .. } => hooks.resumed(peer),
            Event::Disconnected {
                reason, retained, ..
            } => hooks.disconnected(peer, reason, *retained),
            Event::HeartbeatTimeout { .. } => hooks.heartbeat_timeout(peer),
            Event::Reconnecting { attempt, delay, .. } => {
                hooks.reconnecting(peer, *attempt, *delay)
            }
            Event::SessionLost { .. } => hooks.session_lost(peer),
            Event::Draining {
                deadline,
                alternative,
                ..
            } => hooks.draining(peer, *deadline, alternative.as_deref()),
            Event::Closed { reason, .. } => hooks.closed(peer, reason),
            Event::Sent { lane, tag, .. } => hooks.message_sent(peer, *lane, *tag),
            Event::Message(Delivery {
                lane, tag, body, ..
            }) => {
                hooks.message_received(peer, *lane, *tag, body.len());
            }
            Event::SlowConsumer { queued_bytes, .. } => hooks.slow_consumer(peer, *queued_bytes),
            Event::Dropped { messages, .. } => hooks.dropped(peer, *messages),
            Event::Undelivered {
                message,
                maybe_delivered,
                ..
            } => {
                hooks.undelivered(peer, message, *maybe_delivered);
            }
            _ => {}
        }
    }
}

fn start_worker(peer: Peer, service: Arc<dyn Serve>) {
    let runtime = peer.0.shared.runtime.clone();
    runtime.spawn(Box::pin(Worker::new(peer, service)));
}

fn session_of(event: &Event) -> Option<SessionKey> {
    match event {
        Event::Connected { session, .. }
        | Event::Disconnected { session, .. }
        | Event::HeartbeatTimeout { session }
        | Event::Reconnecting { session, .. }
        | Event::SessionLost { session }
        | Event::Closed { session, .. }
        | Event::Undelivered { session, .. }
        | Event::Sent { session, .. }
        | Event::SlowConsumer { session, .. }
        | Event::Dropped { session, .. }
        | Event::Draining { session, .. } => Some(*session),
        Event::Message(delivery) => Some(delivery.key.session),
        _ => None,
    }
}
