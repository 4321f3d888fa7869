//! What the applications ask of their nodes, and what is known of the answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{
    Audience, ClientId, CloseCode, CommandError, DeliveryKey, Dial, DrainPlan, Expects, Lane,
    LinkKey, Message, Node, Refusal, Status,
};

use crate::oracle::{Answer, Waits, body, tag_of};

use crate::fuzz::input::Input;

use super::party::{BULK, Party, failure, group_name, key_of, reply_tag};
use super::{NO, SIZES, Stage, TIMEOUTS, WAITS, act};

impl Stage {
    /// Does something to a node. If it fails, nothing may have changed, but that who finds no room may ask for some at once.
    pub(super) fn command<T, E: Into<CommandError> + Copy>(
        &mut self,
        at: usize,
        do_it: impl FnOnce(&mut Node, Instant) -> Result<T, E>,
    ) -> Result<T, CommandError> {
        let now = self.now;
        let before = self.parties[at].seen(now);
        let done = do_it(&mut self.parties[at].node, now).map_err(Into::into);
        if let Err(error) = &done {
            let mut after = self.parties[at].seen(now);
            if *error == CommandError::OutboxFull && after.timeout == Some(now) {
                after.timeout = before.timeout;
            }
            assert_eq!(
                before, after,
                "a command failed ({error}) and changed something"
            );
            self.reached.extend(failure(error));
        }
        done
    }

    pub(super) fn address(&self, at: usize, how: u8) -> SocketAddr {
        match how & 15 {
            12 => ([0, 0, 0, 0], 4_433).into(),
            13 => ([10, 0, 0, 9], 0).into(),
            14 => ([10, 0, 0, 99], 4_433).into(),
            15 => self.parties[at].address,
            _ => self.parties[1 - at].address,
        }
    }

    pub(super) fn connect(&mut self, at: usize, how: u8) {
        // Others of them would be half open for ever.
        if self.parties[at].sessions.len() > 4 {
            return;
        }
        let names = ["alice", "bob"];
        let Ok(client) = ClientId::new(names[usize::from(how >> 4 & 1)]) else {
            return;
        };
        let address = self.address(at, how);
        let dial = Dial {
            address,
            server_name: if how & 0x40 == 0 { "localhost" } else { "-" }.to_owned(),
            client: client.clone(),
            credentials: vec![0; if how & 0x20 == 0 { 10 } else { 2_049 }].into(),
            agent: "fuzz".to_owned(),
        };
        let dialled = self.command(at, |node, now| node.connect(now, dial));
        if let Ok(session) = dialled {
            self.oracle.connects(self.now, at, session, &client);
            let party = &mut self.parties[at];
            party.sessions.push(session);
            party.aims.insert(session, address);
        }
        self.settle(at);
    }

    pub(super) fn send(&mut self, at: usize, kind: u8, input: &mut Input<'_>) {
        let (place, lane, size) = (input.byte(), input.byte(), input.pick(&SIZES));
        let timeout = input.pick(&TIMEOUTS);
        let session = self.parties[at].session(place);
        let lane = match lane & 7 {
            0..3 => None,
            7 => Lane::new(lane >> 3),
            lane => Lane::new(lane - 3),
        };
        let body = self.next_body(size);
        let message = Message {
            lane,
            tag: tag_of(self.numbers),
            body: body.clone(),
        };
        let promise = self.command(at, |node, now| {
            let sent = match kind {
                act::TELL => node.send(now, session, message).map(|()| None),
                act::ACKED => node.send_acked(now, session, message, timeout).map(Some),
                _ => node.request(now, session, message, timeout).map(Some),
            };
            sent.map_err(|refused| refused.error)
        });
        let lasts = match timeout {
            Some(Duration::MAX) => None,
            Some(timeout) => Some(timeout.max(Duration::from_millis(1))),
            None => Some(self.parties[at].config.timeouts.promise).filter(|time| !time.is_zero()),
        };
        let usual = match kind {
            act::REQUEST if body.len() > BULK => Lane::BULK,
            _ => Lane::DEFAULT,
        };
        match promise {
            Ok(promise) => {
                let waits = match promise {
                    None => Waits::Not,
                    Some(promise) if kind == act::ACKED => Waits::ForAck(promise, lasts),
                    Some(promise) => Waits::ForReply(promise, lasts),
                };
                let lane = lane.unwrap_or(usual);
                self.oracle.sent(self.now, at, session, lane, &body, waits);
                let party = &mut self.parties[at];
                party.tally.promised += u64::from(promise.is_some());
                party.open.extend(promise);
            }
            Err(error) => self.oracle.refused(at, session, &error),
        }
        self.settle(at);
    }

    pub(super) fn best_effort(&mut self, at: usize, input: &mut Input<'_>) {
        let (place, size) = (input.byte(), input.pick(&SIZES));
        let session = self.parties[at].session(place);
        let key = u64::from(place >> 6);
        let key = (key > 0).then_some(key);
        let body = self.next_body(size);
        let message = Message::new(tag_of(self.numbers), body.clone());
        let sent = self.command(at, |node, now| {
            let sent = node.send_best_effort(now, session, message, key);
            sent.map_err(|refused| refused.error)
        });
        if sent.is_ok() {
            self.oracle
                .sent_best_effort(self.now, at, &[session], &body, key);
        }
        self.settle(at);
    }

    pub(super) fn broadcast(&mut self, at: usize, kind: u8, input: &mut Input<'_>) {
        let (how, size) = (input.byte(), input.pick(&SIZES));
        let except =
            (kind == act::BROADCAST_EXCEPT).then(|| self.parties[at].session(input.byte()));
        let body = self.next_body(size);
        let message = Message::new(tag_of(self.numbers), body.clone());
        let node = &self.parties[at].node;
        let (audience, mut members) = match how & 3 {
            0 => (
                Audience::Everyone,
                node.sessions().map(|info| info.session).collect::<Vec<_>>(),
            ),
            group => {
                let group = group_name(group);
                let members = node.members(&group).collect();
                (Audience::Group(group), members)
            }
        };
        let all = members.len();
        members.retain(|member| Some(*member) != except);
        let sent = self.command(at, |node, now| {
            let sent = match except {
                None => node.broadcast(now, &audience, message, None),
                Some(except) => node.broadcast_except(now, &audience, except, message, None),
            };
            sent.map_err(|refused| refused.error)
        });
        if let Ok(sent) = sent {
            if members.len() < all {
                self.reached.insert("a broadcast to all but one");
            }
            assert!(sent.queued + sent.away <= members.len(), "{sent:?}");
            self.oracle
                .sent_best_effort(self.now, at, &members, &body, None);
        }
        self.settle(at);
    }

    pub(super) fn group(&mut self, at: usize, input: &mut Input<'_>) {
        let how = input.byte();
        let session = self.parties[at].session(input.byte());
        let group = group_name(how & 3);
        let lives = self.parties[at].node.session_info(session).is_some();
        let is_in = |party: &Party| party.node.groups_of(session).any(|name| *name == group);
        let before = is_in(&self.parties[at]);
        if how & 0x40 == 0 {
            let joined = self.command(at, |node, now| node.join(now, session, &group));
            assert!(lives || joined.is_err(), "who is not there joined");
            assert_eq!(is_in(&self.parties[at]), before || joined.is_ok());
        } else {
            let now = self.now;
            let left = self.parties[at].node.leave(now, session, &group);
            assert_eq!((left, is_in(&self.parties[at])), (before, false));
        }
        self.settle(at);
    }

    /// An answer of any kind, to what is owed, was answered, or never came.
    pub(super) fn answer(&mut self, at: usize, input: &mut Input<'_>) {
        let (how, place) = (input.byte(), usize::from(input.byte()));
        let party = &self.parties[at];
        let owed = place
            .checked_rem(party.owed.len())
            .map(|place| &party.owed[place]);
        let answered = place.checked_rem(party.answered.len());
        let (key, expects, body) = match (how & 15, owed, answered) {
            (0, _, Some(place)) => (party.answered[place], None, Bytes::new()),
            (1, ..) => {
                let session = party.session(how);
                let number = place as u64 + 1_000_000;
                (DeliveryKey { session, number }, None, Bytes::new())
            }
            (_, Some((key, expects, body)), _) => (*key, Some(*expects), body.clone()),
            _ => return,
        };
        let (answer, done) = match how >> 4 & 3 {
            0 | 1 if expects == Some(Expects::Reply) || how & 0x80 != 0 => {
                let tag = reply_tag(&body);
                let done = self.command(at, |node, now| node.reply(now, key, tag, body.clone()));
                (Answer::Reply(tag, body), done)
            }
            2 => {
                let status = Status::new(NO, "no");
                let done = self.command(at, |node, now| node.reject(now, key, status));
                (Answer::Reject(NO), done)
            }
            _ => {
                let done = self.command(at, |node, now| node.ack(now, key));
                (Answer::Ack, done)
            }
        };
        let is_reply = matches!(answer, Answer::Reply(..));
        let is_ack = answer == Answer::Ack;
        // Whoever has given a request up takes an ack as an end, too.
        let given_up = self.parties[at].cancelled.contains(&key);
        let expected = match expects {
            None => Err(CommandError::UnknownDelivery),
            Some(Expects::Reply) if is_ack && !given_up => Err(CommandError::IsARequest),
            Some(Expects::Ack | Expects::Nothing) if is_reply => Err(CommandError::NotARequest),
            Some(_) => Ok(()),
        };
        let too_large = matches!(done, Err(CommandError::TooLarge { .. })) && is_reply;
        assert!(
            done == expected || too_large,
            "{done:?} in place of {expected:?} for {key:?}"
        );
        if done.is_ok() {
            let party = &mut self.parties[at];
            party.owed.retain(|(known, ..)| *known != key);
            party.answered.push(key);
            self.oracle.answered(self.now, at, key, answer);
        }
        self.settle(at);
    }

    pub(super) fn cancel(&mut self, at: usize, how: u8) {
        let party = &self.parties[at];
        let place = usize::from(how & 0x3f);
        let known = if how & 0x80 == 0 {
            &party.open
        } else {
            &party.settled
        };
        let Some(place) = place.checked_rem(known.len()) else {
            return;
        };
        let promise = known[place];
        let done = self.command(at, |node, now| node.cancel(now, promise));
        assert_eq!(done.is_ok(), how & 0x80 == 0, "{promise:?}: {done:?}");
        if done.is_ok() {
            self.oracle.cancelled(at, promise);
        }
        self.settle(at);
    }

    pub(super) fn close(&mut self, at: usize, input: &mut Input<'_>) {
        let session = self.parties[at].session(input.byte());
        let code = CloseCode(input.long() as u32 % 2_000);
        // Codes of faults are the node's own: an application that says them has its reasons.
        let code = if code.0 == 0 || code.0 >= 1_000 {
            code
        } else {
            CloseCode::GOING_AWAY
        };
        if self.parties[at].node.session_info(session).is_some() {
            // Told first: a session without a link ends in the call itself.
            self.oracle.closes(self.now, at, session);
        }
        let closed = self.command(at, |node, now| node.close(now, session, code, "enough"));
        let party = &self.parties[at];
        if party.ended.contains(&session) && !party.sessions.contains(&session) {
            assert_eq!(closed, Err(CommandError::UnknownSession));
        }
        self.settle(at);
    }

    pub(super) fn redirect(&mut self, at: usize, input: &mut Input<'_>) {
        let session = self.parties[at].session(input.byte());
        let address = self.address(at, input.byte() & 13);
        let done = self.command(at, |node, now| node.redirect(now, session, address));
        if done.is_ok() {
            self.oracle.redirects(at, session);
            self.parties[at].aims.insert(session, address);
        }
        self.settle(at);
    }

    pub(super) fn begin_drain(&mut self, at: usize, input: &mut Input<'_>) {
        let how = input.byte();
        let deadline = match how & 15 {
            15 => Duration::MAX,
            wait => Duration::from_millis(WAITS[usize::from(wait) % 10]),
        };
        let plan = DrainPlan {
            deadline,
            retry_after: (how & 0x80 != 0).then(|| Duration::from_millis(100)),
            alternative: (how & 0x40 != 0).then(|| "localhost:1".to_owned()),
        };
        let was = self.parties[at].drained;
        if !was && how & 15 != 15 {
            self.oracle.drains(self.now, at, deadline);
        }
        if !was && how & 15 == 15 {
            return;
        }
        let drained = self.command(at, |node, now| node.drain(now, plan));
        assert_eq!(drained.is_ok(), !was);
        self.parties[at].drained = true;
        self.settle(at);
    }

    pub(super) fn admit(&mut self, at: usize, how: u8) {
        let party = &mut self.parties[at];
        let place = usize::from(how & 15).checked_rem(party.asking.len());
        let (link, client) = match place {
            Some(place) if how & 0x40 == 0 => party.asking.remove(place),
            _ => {
                let link = LinkKey(key_of(how));
                let now = self.now;
                let unknown = |(known, _): &(LinkKey, ClientId)| *known != link;
                if party.asking.iter().all(unknown) {
                    let done = self.command(at, |node, _| node.admit(now, link));
                    assert_eq!(done, Err(CommandError::UnknownLink));
                }
                return;
            }
        };
        if how & 0x80 == 0 {
            // The link may have gone meanwhile.
            let admitted = self.command(at, |node, now| node.admit(now, link));
            if admitted.is_ok() {
                self.oracle.admits(at, link);
            }
        } else {
            let refusal = Refusal {
                reason: "not now".into(),
                retry_after: Some(Duration::from_millis(500)),
            };
            let refused = self.command(at, |node, now| node.refuse(now, link, refusal));
            if refused.is_ok() {
                self.oracle.refuses(self.now, at, link, &client);
            }
        }
        self.settle(at);
    }

    pub(super) fn next_body(&mut self, size: usize) -> Bytes {
        self.numbers += 1;
        body(self.numbers, size)
    }
}
