//! What applications ask of their nodes, told to the oracle too.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use trunkline_core::{
    Audience, ClientId, CloseCode, CommandError, Dial, DrainPlan, GroupName, Lane, Message, Node,
    PromiseKey, PromisesFull, SessionKey,
};

use crate::memory::{copied, counted};
use crate::oracle::{Waits, tag_of};

use super::faults;
use super::plan::Kind;
use super::pressure::Refused;
use super::run::Run;

/// The shortest time that a promise is given.
const SHORTEST: Duration = Duration::from_millis(1);

/// With so much time a promise has no deadline.
const FOREVER: Duration = Duration::from_nanos(u64::MAX);

/// An address at which nobody is.
fn nowhere() -> SocketAddr {
    ([192, 0, 2, 1], 4433).into()
}

impl Run<'_> {
    /// What a command to a node returns.
    fn tell<T>(&mut self, node: usize, command: impl FnOnce(&mut Node) -> T) -> T {
        let index = self.indices[node];
        self.world.command(index, |node| counted(|| command(node)))
    }

    /// Whether a command was carried out, with a message of so many bytes, if there was one.
    fn took(
        &mut self,
        node: usize,
        session: Option<SessionKey>,
        size: usize,
        done: Result<(), CommandError>,
    ) -> bool {
        if let Err(error) = &done {
            let now = self.world.now();
            let machine = self.world.node(self.indices[node]);
            self.pressure.refused(&Refused {
                error,
                size,
                limits: &self.plan.config(node).limits,
                session: session.and_then(|session| machine.session_info(session)),
                metrics: machine.metrics(now),
            });
        }
        done.is_ok()
    }

    /// How many promises a session has and its node, if a new one may take the place of another.
    fn promises(&mut self, node: usize, session: SessionKey, kind: Kind) -> Option<[usize; 2]> {
        let evicts = self.plan.config(node).promises_full == PromisesFull::EvictOldest;
        if kind == Kind::Told || !evicts {
            return None;
        }
        let machine = self.world.node(self.indices[node]);
        let own = machine.session_info(session)?.promises;
        Some([own, machine.sessions().map(|info| info.promises).sum()])
    }

    pub(super) fn connect(&mut self, client: usize, server: usize) {
        let Some(client) = self.running(client) else {
            return;
        };
        // Names come back after some time, as those of people do.
        let name = format!("client-{client}-{}", self.dials % 3);
        let Ok(name) = ClientId::new(&name) else {
            return;
        };
        self.dials += 1;
        let now = self.world.now();
        let address = self.world.address(self.indices[server]);
        // Now and then a server has another address, at which nobody is, and that is dialled first.
        let dead = self.dials.is_multiple_of(5).then(nowhere);
        let connected = self.tell(client, |machine| {
            let dial = Dial {
                address: dead.unwrap_or(address),
                server_name: "localhost".to_owned(),
                client: name.clone(),
                credentials: Bytes::new(),
                agent: "swarm".to_owned(),
            };
            let session = machine.connect(now, dial)?;
            if dead.is_some() {
                machine.add_address(now, session, address)?;
            }
            Ok::<_, CommandError>(session)
        });
        if let Ok(session) = connected {
            let mut hall = self.hall.borrow_mut();
            hall.oracle.connects(now, client, session, &name);
            hall.desks[client].sessions.push(session);
        }
    }

    /// Sends a message; its number, if the node took it, or why it did not.
    pub(super) fn send(
        &mut self,
        node: usize,
        session: SessionKey,
        kind: Kind,
        lane: Option<Lane>,
        size: usize,
    ) -> Result<u64, CommandError> {
        const BULK: usize = 64 << 10;
        let now = self.world.now();
        let body = self.next_body(size);
        let number = self.numbers;
        let asks = matches!(kind, Kind::Asked(_));
        let usual = if asks && body.len() > BULK {
            Lane::BULK
        } else {
            Lane::DEFAULT
        };
        let promises = self.promises(node, session, kind);
        let sent = self.tell(node, |machine| {
            let message = Message {
                lane,
                tag: tag_of(number),
                body: copied(&body),
            };
            let sent = match kind {
                Kind::Told => machine.send(now, session, message).map(|()| None),
                Kind::Acked(timeout) => {
                    machine.send_acked(now, session, message, timeout).map(Some)
                }
                Kind::Asked(timeout) => machine.request(now, session, message, timeout).map(Some),
            };
            sent.map_err(|refused| refused.error)
        });
        self.took(
            node,
            Some(session),
            body.len(),
            sent.as_ref().map(drop).map_err(|error| *error),
        );
        let config = self.plan.config(node);
        if let (Ok(_), Some([own, in_all])) = (&sent, promises) {
            self.pressure.evicted(own, in_all, &config.limits);
        }
        let lasts = |timeout: Option<Duration>| match timeout {
            Some(timeout) => Some(timeout.max(SHORTEST)).filter(|time| *time < FOREVER),
            None => Some(config.timeouts.promise).filter(|timeout| !timeout.is_zero()),
        };
        let mut hall = self.hall.borrow_mut();
        match sent {
            Ok(promise) => {
                let waits = match (kind, promise) {
                    (Kind::Acked(timeout), Some(key)) => Waits::ForAck(key, lasts(timeout)),
                    (Kind::Asked(timeout), Some(key)) => Waits::ForReply(key, lasts(timeout)),
                    _ => Waits::Not,
                };
                let lane = lane.unwrap_or(usual);
                hall.oracle.sent(now, node, session, lane, &body, waits);
                hall.desks[node].promises.extend(promise);
                Ok(number)
            }
            Err(error) => {
                hall.oracle.refused(node, session, &error);
                Err(error)
            }
        }
    }

    pub(super) fn send_best_effort(
        &mut self,
        node: usize,
        session: SessionKey,
        key: Option<u64>,
        size: usize,
    ) {
        let now = self.world.now();
        let body = self.next_body(size);
        let tag = tag_of(self.numbers);
        let sent = self.tell(node, |machine| {
            let message = Message::new(tag, copied(&body));
            let sent = machine.send_best_effort(now, session, message, key);
            sent.map_err(|refused| refused.error)
        });
        if self.took(node, Some(session), body.len(), sent) {
            let mut hall = self.hall.borrow_mut();
            hall.oracle
                .sent_best_effort(now, node, &[session], &body, key);
        }
    }

    /// Broadcasts; the message's number.
    pub(super) fn broadcast(
        &mut self,
        node: usize,
        group: Option<usize>,
        except: Option<SessionKey>,
        key: Option<u64>,
        size: usize,
    ) -> u64 {
        let now = self.world.now();
        let body = self.next_body(size);
        let (audience, mut sessions) = {
            let hall = self.hall.borrow();
            let desk = &hall.desks[node];
            match group.and_then(|group| GroupName::new(&name_of(group)).ok()) {
                None => (Audience::Everyone, desk.sessions.clone()),
                Some(group) => {
                    let members = desk.groups.get(group.as_str());
                    let members = members.cloned().unwrap_or_default();
                    (Audience::Group(group), members)
                }
            }
        };
        sessions.retain(|session| Some(*session) != except);
        let tag = tag_of(self.numbers);
        let sent = self.tell(node, |machine| {
            let message = Message::new(tag, copied(&body));
            let sent = match except {
                None => machine.broadcast(now, &audience, message, key),
                Some(except) => machine.broadcast_except(now, &audience, except, message, key),
            };
            sent.map(drop).map_err(|refused| refused.error)
        });
        if self.took(node, None, body.len(), sent) {
            let mut hall = self.hall.borrow_mut();
            hall.oracle
                .sent_best_effort(now, node, &sessions, &body, key);
        }
        self.numbers
    }

    pub(super) fn group(&mut self, node: usize, session: usize, group: usize, joins: bool) {
        let Some((node, session)) = self.session(node, session) else {
            return;
        };
        let Ok(name) = GroupName::new(&name_of(group)) else {
            return;
        };
        let now = self.world.now();
        let done = self.tell(node, |machine| {
            if joins {
                machine.join(now, session, &name).map(|()| true)
            } else {
                Ok(machine.leave(now, session, &name))
            }
        });
        let left = done == Ok(true);
        let done = self.took(node, Some(session), 0, done.map(drop)) && left;
        let mut hall = self.hall.borrow_mut();
        let groups = &mut hall.desks[node].groups;
        let members = groups.entry(name_of(group)).or_default();
        members.retain(|member| *member != session || !done);
        if joins && done {
            members.push(session);
        }
    }

    /// Whether there was something to cancel.
    pub(super) fn cancel(&mut self, node: usize, promise: PromiseKey) -> bool {
        let now = self.world.now();
        let cancelled = self.tell(node, |machine| machine.cancel(now, promise));
        if cancelled.is_ok() {
            self.hall.borrow_mut().oracle.cancelled(node, promise);
        }
        cancelled.is_ok()
    }

    /// Whether there was something to close.
    pub(super) fn close(&mut self, node: usize, session: SessionKey, code: CloseCode) -> bool {
        let now = self.world.now();
        // Told first: a session without a link ends in the call itself.
        self.hall.borrow_mut().oracle.closes(now, node, session);
        self.tell(node, |machine| {
            machine.close(now, session, code, "enough").is_ok()
        })
    }

    pub(super) fn drain(&mut self, node: usize, plan: DrainPlan) {
        if std::mem::replace(&mut self.state[node].draining, true) {
            return;
        }
        let now = self.world.now();
        let deadline = plan.deadline;
        self.hall.borrow_mut().oracle.drains(now, node, deadline);
        self.tell(node, |machine| machine.drain(now, plan).ok());
    }

    /// The node shows another certificate from now on, and a client other credentials, too.
    pub(super) fn renew(&mut self, node: usize) {
        let (now, serves) = (self.world.now(), node < self.plan.servers);
        let identity = self.world.renewed();
        let shown = self.tell(node, |machine| {
            if serves {
                machine.set_server_identity(now, identity)
            } else {
                machine.set_client_identity(now, identity)
            }
        });
        let sessions = self.hall.borrow().desks[node].sessions.clone();
        if shown.is_ok() && !sessions.is_empty() {
            self.faults.count(faults::RENEWED);
        }
        for session in sessions.into_iter().filter(|_| !serves) {
            let changed = self.tell(node, |machine| {
                machine.set_credentials(now, session, "renewed")
            });
            debug_assert!(changed.is_ok() || changed == Err(CommandError::UnknownSession));
        }
    }
}

fn name_of(group: usize) -> String {
    format!("group-{group}")
}
