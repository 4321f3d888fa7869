//! What the driver does with commands.

use std::time::Instant;

use super::backlog::{Blocked, Short};
use super::command::{Announcement, Answer, Command, Sender, Submission, Wanted};
use super::finding::Finding;
use super::ledger::Alarm;
use super::peer::Peer;
use super::resolve::Redirect;
use super::runtime::Io;
use super::turn::{Driver, find};
use super::waiter::{Place, Settlement, Ticket, Waiter};
use crate::logged::logged;
use crate::session::BestEffort;
use crate::{
    CommandError, DeliveryKey, Event, LinkKey, Message, Outcome, PromiseKey, SendError, SessionKey,
    Status, StatusCode, UndeliveredReason,
};

impl<I: Io> Driver<I> {
    pub(super) fn perform(&mut self, now: Instant, command: Command) {
        match command {
            Command::Send(session, ticket) => {
                // Who has given up in the meantime has taken the message back.
                if let Some((message, wanted)) = ticket.take() {
                    let sender = Sender::Waits(ticket);
                    let submission = Submission {
                        message,
                        wanted,
                        sender,
                    };
                    self.send(now, session, submission);
                }
            }
            Command::SendUnwaited { peer, message } => {
                self.send(now, peer.session(), Submission::unwaited(peer, message));
            }
            Command::SendBestEffort { peer, message, key } => {
                peer.0.front.remove(message.body.len());
                let session = peer.session();
                if let Err(refused) = self.node.send_best_effort(now, session, message, key) {
                    self.give_back(&peer, refused);
                }
            }
            Command::Abandon(session, waiter) => self.abandon(now, session, &waiter),
            Command::Answer(delivery, answer) => self.answer(now, delivery, answer),
            Command::Decide(link, decision) => {
                let alarm = self.undecided.remove(link);
                self.ledger.clear_alarm(alarm);
                // The link may be gone by now: then nobody waits for the decision.
                match decision {
                    Ok(finding) => self.admit(now, link, finding),
                    Err(refusal) => drop(self.node.refuse(now, link, refusal)),
                }
            }
            Command::Redirect(redirect) => self.redirect(now, redirect),
            Command::Broadcast(announcement) => self.broadcast(now, *announcement),
            Command::Look(look) => look(&self.node, now),
            Command::Change(change) => change(&mut self.node, now),
            Command::Close(session, code, reason) => self.close_session(now, session, code, reason),
            Command::Drain(plan, filler) => self.drain(now, plan, filler),
            Command::Stop(code, reason) => self.stop(now, code, reason),
        }
    }

    /// Lets a client in, and keeps what was found about it until its session is told of as connected: handlers of
    /// what came before over another link of it are not to see that. A link that did not come up leaves nothing.
    fn admit(&mut self, now: Instant, link: LinkKey, finding: Finding) {
        if self.node.admit(now, link).is_ok()
            && let Some(connected) = self.node.carried_by(link)
        {
            self.findings.insert(connected, finding);
        }
    }

    fn broadcast(&mut self, now: Instant, announcement: Announcement) {
        let Announcement {
            audience,
            except,
            message,
            key,
            filler,
            place,
        } = announcement;
        let bytes = BestEffort::queued_bytes(&message.body);
        let sent = match except {
            None => self.node.broadcast(now, &audience, message, key),
            Some(except) => self
                .node
                .broadcast_except(now, &audience, except, message, key),
        };
        let sessions = sent.as_ref().map_or(0, |sent| sent.queued);
        if sessions > 0 {
            self.gathering.add(now, bytes, sessions);
            if key.is_some() {
                self.gathering.end();
            }
        }
        drop(place);
        filler.fill(sent);
    }

    /// Retries what waits for room in a session's outbox or for a promise's place, in order.
    pub(super) fn resume_backlog(&mut self, now: Instant, session: SessionKey) {
        let Some(lodger) = self.lodger(session).filter(|lodger| !lodger.left) else {
            return;
        };
        lodger.backlog.begin();
        let mut promises = true;
        while let Some((number, blocked)) = self
            .lodger(session)
            .and_then(|lodger| lodger.backlog.next(promises))
        {
            let lane = blocked.holds_up();
            let Blocked {
                mut submission,
                deadline,
                alarm,
            } = blocked;
            submission.wanted = submission.wanted.by(deadline, now);
            let back = self.submit(now, session, submission);
            if back.is_none() {
                self.ledger.clear_alarm(alarm);
            }
            let Some(lodger) = self.lodger(session) else {
                return;
            };
            let Some((submission, short)) = back else {
                if let Some(lane) = lane {
                    lodger.backlog.gone(lane, number);
                }
                continue;
            };
            let blocked = Blocked {
                submission,
                deadline,
                alarm,
            };
            lodger.backlog.put(number, blocked);
            lodger.backlog.is_short(short);
            match short {
                Short::Room => return,
                Short::Promises => promises = false,
            }
        }
        if !self.has_backlog(session) {
            self.leave(now, session);
        }
    }

    pub(super) fn has_backlog(&mut self, session: SessionKey) -> bool {
        let lodger = self.lodger(session);
        lodger.is_some_and(|lodger| !lodger.backlog.is_empty())
    }

    /// Ends what has waited here for as long as it may.
    pub(super) fn fire_alarms(&mut self, now: Instant) {
        while let Some(alarm) = self.ledger.due(now) {
            let (session, number) = match alarm {
                Alarm::Blocked(session, number) => (session, number),
                Alarm::Undecided(link) => {
                    self.undecided.remove(link);
                    continue;
                }
                Alarm::Leave(session) => {
                    self.leave_at_once(now, session);
                    continue;
                }
            };
            let blocked = self.take_blocked(now, session, number);
            if let Some(Sender::Waits(ticket)) = blocked.map(|blocked| blocked.submission.sender) {
                self.node.count_timed_out();
                self.ledger
                    .settle(ticket, Settlement::Promise(Outcome::TimedOut));
            }
        }
    }

    /// Takes a message out of a backlog; those that it held up may fit.
    fn take_blocked(&mut self, now: Instant, session: SessionKey, number: u64) -> Option<Blocked> {
        let (blocked, others_may_go) = self.lodger(session)?.backlog.remove(number)?;
        if others_may_go {
            self.resume_backlog(now, session);
        }
        Some(blocked)
    }

    fn send(&mut self, now: Instant, session: SessionKey, submission: Submission) {
        let Some(lodger) = self.lodger(session) else {
            return self.refuse(submission, CommandError::UnknownSession);
        };
        if lodger.leaving.is_some() || lodger.left {
            return self.refuse(submission, CommandError::Closing);
        }
        if lodger.backlog.is_before(&submission) {
            return self.hold_back(now, session, submission);
        }
        let Some((submission, short)) = self.submit(now, session, submission) else {
            return;
        };
        self.hold_back(now, session, submission);
        if let Some(lodger) = self.lodger(session) {
            lodger.backlog.is_short(short);
        }
    }

    /// Puts a message behind all that wait for the same.
    pub(super) fn hold_back(&mut self, now: Instant, session: SessionKey, submission: Submission) {
        let default = Some(self.timeouts.promise).filter(|timeout| !timeout.is_zero());
        let deadline = match submission.wanted {
            Wanted::Room => None,
            Wanted::Ack(timeout) | Wanted::Reply(timeout) => timeout
                .or(default)
                .and_then(|timeout| now.checked_add(timeout)),
        };
        let Self { peers, ledger, .. } = self;
        let Some(lodger) = find(peers, session) else {
            return;
        };
        let number = lodger.backlog.next_number();
        let alarm =
            deadline.map(|deadline| ledger.set_alarm(deadline, Alarm::Blocked(session, number)));
        if let Sender::Waits(ticket) = &submission.sender {
            ticket.put(Place::Backlog(number));
        }
        let blocked = Blocked {
            submission,
            deadline,
            alarm,
        };
        lodger.backlog.put(number, blocked);
    }

    /// Gives a message to the node; it comes back if it has to wait, with what for.
    fn submit(
        &mut self,
        now: Instant,
        session: SessionKey,
        submission: Submission,
    ) -> Option<(Submission, Short)> {
        let Submission {
            message,
            wanted,
            sender,
        } = submission;
        let size = message.body.len();
        let taken = match wanted {
            Wanted::Room => self.node.send(now, session, message).map(|()| None),
            Wanted::Ack(timeout) => self
                .node
                .send_acked(now, session, message, timeout)
                .map(Some),
            Wanted::Reply(timeout) => self.node.request(now, session, message, timeout).map(Some),
        };
        match (taken, sender) {
            (Ok(Some(promise)), Sender::Waits(ticket)) => {
                ticket.put(Place::Promise(promise.number));
                if let Some(lodger) = self.lodger(session) {
                    lodger.promises.insert(promise.number, ticket);
                }
            }
            (Ok(None), Sender::Waits(ticket)) => self.ledger.settle(ticket, Settlement::Accepted),
            (Ok(_), Sender::Left(peer)) => peer.0.front.remove(size),
            (Err(SendError { message, error }), sender) => {
                let submission = Submission {
                    message,
                    wanted,
                    sender,
                };
                match error {
                    CommandError::OutboxFull => return Some((submission, Short::Room)),
                    CommandError::PromisesFull => return Some((submission, Short::Promises)),
                    _ => self.refuse(submission, error),
                }
            }
        }
        None
    }

    /// Dials elsewhere from now on, unless there was a link since that was looked up.
    fn redirect(&mut self, now: Instant, redirect: Redirect) {
        let Redirect {
            session,
            round,
            to_alternative,
            addresses,
        } = redirect;
        let resolver = self.resolver.as_mut();
        let Some(resolver) = resolver.filter(|resolver| resolver.is_latest(round)) else {
            return;
        };
        resolver.redirected(&addresses, to_alternative);
        for (place, address) in addresses.into_iter().enumerate() {
            let done = match place {
                // What was found before may be out of service, and still run.
                0 => {
                    let aimed = self.node.redirect(now, session, address);
                    aimed.and_then(|()| self.node.forget_addresses(now, session))
                }
                _ => self.node.add_address(now, session, address),
            };
            if let Err(error) = done {
                logged(|| tracing::debug!(?session, %address, %error, "not redirected"));
            }
        }
    }

    /// Tells whoever sent a message that it was not taken.
    pub(super) fn refuse(&mut self, submission: Submission, error: CommandError) {
        let Submission {
            message, sender, ..
        } = submission;
        let refused = SendError { message, error };
        match sender {
            Sender::Waits(ticket) => self.ledger.settle(ticket, Settlement::Refused(refused)),
            Sender::Left(peer) => {
                peer.0.front.remove(refused.message.body.len());
                self.give_back(&peer, refused);
            }
        }
    }

    /// Reports a message that was taken on behalf of the node, which then refused it.
    pub(super) fn give_back(&mut self, peer: &Peer, refused: SendError<Message>) {
        let SendError { message, error } = refused;
        self.node.count_undelivered();
        let session = peer.session();
        let reason = match error {
            CommandError::TooLarge { .. } | CommandError::UnknownLane => {
                UndeliveredReason::NotTaken
            }
            _ => UndeliveredReason::SessionOver,
        };
        logged(|| {
            tracing::debug!(?session, tag = %message.tag, %error, "a message was not sent");
        });
        self.tell_of(
            peer,
            &Event::Undelivered {
                session,
                message,
                reason,
                maybe_delivered: false,
            },
        );
    }

    /// Nobody waits for a promise any more, or it settles.
    pub(super) fn take_promise(&mut self, promise: PromiseKey) -> Option<Ticket> {
        self.lodger(promise.session)?
            .promises
            .remove(promise.number)
    }

    fn abandon(&mut self, now: Instant, session: SessionKey, waiter: &Waiter) {
        match waiter.place() {
            Place::Nowhere => {}
            Place::Promise(number) => {
                let promise = PromiseKey { session, number };
                drop(self.take_promise(promise));
                // It may have settled by itself, with the event or the news of it still to come.
                let _ = self.node.cancel(now, promise);
            }
            Place::Backlog(number) => {
                let blocked = self.take_blocked(now, session, number);
                self.ledger
                    .clear_alarm(blocked.and_then(|blocked| blocked.alarm));
            }
        }
    }

    fn answer(&mut self, now: Instant, delivery: DeliveryKey, answer: Answer) {
        if let Some(peer) = self.peer(delivery.session) {
            peer.0.cancellations.forget(delivery.number);
        }
        let answered = match answer {
            Answer::Ack => self.node.ack(now, delivery),
            Answer::Reply(tag, body) => self.node.reply(now, delivery, tag, body),
            Answer::Reject(status) => self.node.reject(now, delivery, status),
        };
        match answered {
            // Its session is gone, and with it whoever waited.
            Ok(()) | Err(CommandError::UnknownDelivery | CommandError::UnknownSession) => {}
            Err(error) => {
                let session = delivery.session;
                logged(|| {
                    tracing::debug!(?session, %error, "an answer was not taken; rejecting instead");
                });
                let status = Status::new(
                    StatusCode::INTERNAL,
                    format!("the answer cannot be sent: {error}"),
                );
                let _ = self.node.reject(now, delivery, status);
            }
        }
        // It may have been the last one, and who waits for room in vain is to hear so.
        if self.drains() && self.has_backlog(delivery.session) {
            self.resume_backlog(now, delivery.session);
        }
    }
}
