//! What the driver does with the node's events: settle, dispatch, and tell whoever listens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::command::Drained;
use super::hooks::Hooks;
use super::ledger::Alarm;
use super::peer::{Peer, State};
use super::queue::{Job, Then};
use super::runtime::{Io, tell_panic};
use super::service::{Serve, unimplemented};
use super::turn::Driver;
use super::waiter::Settlement;
use super::worker::Worker;
use crate::logged::logged;
use crate::{CommandError, Delivery, DisconnectReason, Event, Expects, SessionKey};

impl<I: Io> Driver<I> {
    pub(super) fn report(&mut self, now: Instant, event: Event) {
        match event {
            Event::Settled { .. } => {
                self.tell(&event);
                if let Event::Settled {
                    promise, outcome, ..
                } = event
                    && let Some(ticket) = self.take_promise(promise)
                {
                    self.ledger.settle(ticket, Settlement::Promise(outcome));
                }
            }
            Event::Message(delivery) => {
                let event = Event::Message(delivery);
                self.tell(&event);
                if let Event::Message(delivery) = event {
                    self.dispatch(now, delivery);
                }
            }
            Event::Cancelled { delivery } => {
                // An answer may have crossed it, and then nobody would forget it.
                if self.node.owes(delivery)
                    && let Some(peer) = self.peer(delivery.session)
                {
                    peer.0.cancellations.cancel(delivery.number);
                }
            }
            Event::Writable { session } => self.resume_backlog(now, session),
            Event::Admission(request) if self.is_stopping() => {
                self.refuse_at_the_end(now, request.link);
            }
            // Who has gone before it was read of need not be decided about.
            Event::Admission(request) if !self.node.awaits_admission(request.link) => {}
            Event::Admission(request) => match &self.ask {
                Some(ask) => {
                    for alarm in self.undecided.look(|link| self.node.awaits_admission(link)) {
                        self.ledger.clear_alarm(Some(alarm));
                    }
                    let link = request.link;
                    let patience = ask.decide(*request, &self.desk);
                    let over = now + self.timeouts.admission;
                    let alarm = self.ledger.set_alarm(over, Alarm::Undecided(link));
                    self.undecided.insert(link, alarm, patience);
                }
                None => logged(|| tracing::warn!("nobody decides about admission")),
            },
            Event::Closed {
                session,
                ref reason,
            } => {
                self.return_backlog(session, CommandError::UnknownSession);
                self.tell(&event);
                self.evict(session, reason);
            }
            Event::Drained { finished, cut_off } => {
                self.tell(&event);
                self.drained(Drained { finished, cut_off });
            }
            event => {
                self.follow(now, &event);
                self.tell(&event);
            }
        }
    }

    /// Sets what handles see at once; who waits for it is woken once hooks have been told.
    fn set_state(&mut self, session: SessionKey, state: State) {
        if let Some(peer) = self.peer(session).cloned() {
            peer.0.state.replace(state, &mut self.ledger.woken);
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
                let finding = self.findings.remove(&(*session, *epoch));
                self.lodge(*session, client, state.clone(), finding);
                self.set_state(*session, state);
                if let Some(resolver) = &mut self.resolver {
                    resolver.reached(*address);
                }
                self.turn_away(now, *session);
            }
            Event::Moved { session, address } => {
                // Its epoch stays.
                if let Some(State::Connected { epoch, .. }) = self.peer(*session).map(Peer::state) {
                    let address = *address;
                    self.set_state(*session, State::Connected { address, epoch });
                }
            }
            Event::Disconnected {
                session,
                reason,
                retained: true,
            } => {
                self.set_state(*session, State::Away(reason.clone()));
            }
            Event::Reconnecting {
                session,
                attempt,
                delay,
            } => {
                let reason = match self.peer(*session).map(Peer::state) {
                    Some(State::Away(reason) | State::Reconnecting { reason, .. }) => reason,
                    _ => DisconnectReason::ConnectTimeout,
                };
                let state = State::Reconnecting {
                    attempt: *attempt,
                    delay: *delay,
                    reason,
                };
                self.set_state(*session, state);
                // The machine may have slept meanwhile.
                self.check_wall(now);
                if let Some(resolver) = &mut self.resolver {
                    resolver.redial(*session, &self.desk);
                }
            }
            Event::Draining {
                session,
                alternative,
                ..
            } => {
                if let Some(resolver) = &mut self.resolver {
                    resolver.sent_to(alternative.clone(), *session, &self.desk);
                }
            }
            Event::SessionLost { session } => {
                if let Some(resolver) = &mut self.resolver {
                    resolver.session_lost();
                }
                if let Some(lodger) = self.lodger(*session) {
                    let lost = lodger.next_delivery;
                    let peer = &lodger.peer.0;
                    peer.cancellations.cancel_below(lost);
                    peer.jobs.drop_below(lost);
                }
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, now: Instant, delivery: Delivery) {
        let (key, tag) = (delivery.key, delivery.tag);
        let service = self.service.as_ref();
        let order = service.and_then(|service| service.order(&delivery));
        let Some((order, lodger)) = order.zip(self.lodger(key.session)) else {
            let status = unimplemented(tag);
            match self.lodger(key.session) {
                Some(lodger) if delivery.expects == Expects::Nothing => {
                    lodger.peer.rejected_unheard(Some(tag), &status);
                }
                _ => {
                    let session = key.session;
                    logged(|| {
                        tracing::debug!(?session, %tag, "nobody handles this message type");
                    });
                }
            }
            let _ = self.node.reject(now, key, status);
            return;
        };
        lodger.next_delivery = key.number + 1;
        let deadline = delivery.timeout.map(|timeout| now + timeout);
        let job = Job {
            delivery,
            order,
            deadline,
        };
        match lodger.peer.0.jobs.push(job) {
            Then::Nothing => {}
            Then::Start => {
                let peer = lodger.peer.clone();
                if let Some(service) = &self.service {
                    start_worker(peer, service.clone());
                }
            }
            Then::Wake(waker) => self.ledger.woken.push(waker),
        }
    }

    /// Tells hooks and subscribers of an event.
    pub(super) fn tell(&self, event: &Event) {
        if let Some(peer) = session_of(event).and_then(|session| self.peer(session)) {
            return self.tell_of(peer, event);
        }
        if let Event::Refused {
            client,
            address,
            code,
            reason,
            ..
        } = event
        {
            self.with_hooks(|hooks| hooks.refused(client, *address, *code, reason));
        }
        self.shared.subscribers.publish(event);
    }

    /// As [`Driver::tell`], of a peer that may be forgotten already.
    pub(super) fn tell_of(&self, peer: &Peer, event: &Event) {
        self.with_hooks(|hooks| call_hook(hooks, peer, event));
        self.shared.subscribers.publish(event);
    }

    fn with_hooks(&self, call: impl FnOnce(&dyn Hooks)) {
        let Some(hooks) = &self.hooks else {
            return;
        };
        // What a hook leaves half done is its own; everything else goes on.
        let called = catch_unwind(AssertUnwindSafe(|| call(&**hooks)));
        if let Err(panic) = called {
            logged(|| tracing::error!("a hook panicked"));
            tell_panic(&*self.desk.runtime, "a hook", &*panic);
        }
    }
}

fn call_hook(hooks: &dyn Hooks, peer: &Peer, event: &Event) {
    match event {
        Event::Connected { resumed: false, .. } => hooks.connected(peer),
        Event::Connected { resumed: true, .. } => hooks.resumed(peer),
        Event::Moved { address, .. } => hooks.moved(peer, *address),
        Event::Disconnected {
            reason, retained, ..
        } => hooks.disconnected(peer, reason, *retained),
        Event::HeartbeatTimeout { .. } => hooks.heartbeat_timeout(peer),
        Event::Reconnecting { attempt, delay, .. } => hooks.reconnecting(peer, *attempt, *delay),
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
            reason,
            maybe_delivered,
            ..
        } => {
            hooks.undelivered(peer, message, *reason, *maybe_delivered);
        }
        _ => {}
    }
}

fn start_worker(peer: Peer, service: Arc<dyn Serve>) {
    let runtime = peer.0.desk.runtime.clone();
    runtime.spawn(Box::pin(Worker::new(peer, service)));
}

fn session_of(event: &Event) -> Option<SessionKey> {
    match event {
        Event::Connected { session, .. }
        | Event::Moved { session, .. }
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
