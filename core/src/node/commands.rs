//! Commands about sessions: begin, redirect, group, close, drain. None changes anything when it
//! returns an error.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_proto as wire;

use crate::dial::Dialing;
use crate::error::{CloseCode, CommandError};
use crate::groups::GroupsFull;
use crate::id::{ClientId, GroupName, SessionKey};
use crate::quic::Endpoint;
use crate::session::Closing;
use crate::tap::{Body, Call};
use crate::timers::TimerSlot;

use super::tables::Session;
use super::{Draining, Node, TimeoutReason};

/// How to reach a server, and as whom.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The server's address.
    pub address: SocketAddr,
    /// The name that its certificate must bear.
    pub server_name: String,
    /// Who this client is.
    pub client: ClientId,
    /// What the server's admission wants to see, at most 2 KiB.
    pub credentials: Bytes,
    /// Name and version of this software, for the server's logs.
    pub agent: String,
}

/// Why a client is not let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for people.
    pub reason: String,
    /// When the client may try again; `None`: it gives up.
    pub retry_after: Option<Duration>,
}

/// How a node goes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// How long what is in flight may take to finish.
    pub deadline: Duration,
    /// When clients are to try again.
    pub retry_after: Option<Duration>,
    /// Where clients are to go instead, as `host:port`, of at most 272 bytes. They verify it under the
    /// name that they were given for this server.
    pub alternative: Option<String>,
}

impl DrainPlan {
    /// Whether clients can follow it.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        match &self.alternative {
            Some(alternative) if !names_a_place(alternative) => {
                Err(CommandError::InvalidAlternative)
            }
            _ => Ok(()),
        }
    }
}

/// Whether it can be a host and a port, an IPv6 address in brackets.
pub(super) fn names_a_place(alternative: &str) -> bool {
    if let Ok(address) = alternative.parse::<SocketAddr>() {
        return address.port() != 0 && !address.ip().to_canonical().is_unspecified();
    }
    let Some((host, port)) = alternative.rsplit_once(':') else {
        return false;
    };
    let strange = |c: char| c.is_control() || c.is_whitespace() || ":/[]".contains(c);
    alternative.len() <= wire::ALTERNATIVE_MAX
        && !host.is_empty()
        && !host.contains(strange)
        && port.starts_with(|c: char| c.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Whether they fit into a Hello.
pub(super) fn check_credentials(credentials: &[u8], agent: &str) -> Result<(), CommandError> {
    let size = credentials.len() + agent.len();
    let limit = wire::CREDENTIALS_MAX;
    if size > limit {
        return Err(CommandError::CredentialsTooLarge { size, limit });
    }
    Ok(())
}

impl Node {
    /// Begins a client session. The key is good until [`crate::Event::Closed`].
    pub fn connect(&mut self, now: Instant, dial: Dial) -> Result<SessionKey, CommandError> {
        let call = || Call::Connect {
            address: dial.address,
            server_name: &dial.server_name,
            client: dial.client.as_str(),
            credentials: Body::Whole(&dial.credentials),
            agent: &dial.agent,
        };
        let now = self.enter(now, call);
        let Dial {
            address,
            server_name,
            client,
            credentials,
            agent,
        } = dial;
        if !self.endpoint.has_client_role() {
            return Err(CommandError::NotConfigured("client role"));
        }
        if self.draining.is_some() {
            return Err(CommandError::Closing);
        }
        check_credentials(&credentials, &agent)?;
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(CommandError::UndialableAddress(address));
        }
        Endpoint::check_server_name(&server_name)?;
        let tokens = self.new_tokens();
        let dialing = Dialing::new(address, server_name, credentials, agent, self.config.redial);
        let session = Session {
            dialing: Some(Box::new(dialing)),
            ..self.session(client, tokens)
        };
        let key = self.sessions.insert_with(|_| session);
        if let Err(error) = self.dial(now, key) {
            self.sessions.remove(key);
            return Err(error);
        }
        self.metrics.sessions_opened += 1;
        Ok(key)
    }

    /// Where the next dial of a client session goes. Unless it is one of the server's addresses that
    /// are known, the others are forgotten.
    pub fn redirect(
        &mut self,
        now: Instant,
        session: SessionKey,
        address: SocketAddr,
    ) -> Result<(), CommandError> {
        self.enter(now, || Call::Redirect { session, address });
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(CommandError::UndialableAddress(address));
        }
        self.dialing_mut(session)?.aim(address);
        Ok(())
    }

    /// How a client session gets its links.
    pub(super) fn dialing_mut(
        &mut self,
        session: SessionKey,
    ) -> Result<&mut Dialing, CommandError> {
        let session = self
            .sessions
            .get_mut(session)
            .ok_or(CommandError::UnknownSession)?;
        let dialing = session.dialing.as_deref_mut();
        dialing.ok_or(CommandError::NotConfigured("dialled session"))
    }

    /// Puts a client's session into a group. Membership ends with the session.
    ///
    /// # Errors
    /// [`CommandError::NotOfAClient`] for a session that this node dialled: its server has the groups.
    pub fn join(
        &mut self,
        now: Instant,
        session: SessionKey,
        group: &GroupName,
    ) -> Result<(), CommandError> {
        let call = || Call::Join {
            session,
            group: group.as_str(),
        };
        self.enter(now, call);
        let entry = self.sessions.get(session);
        if entry.ok_or(CommandError::UnknownSession)?.dialing.is_some() {
            return Err(CommandError::NotOfAClient);
        }
        match self.groups.join(session, group) {
            Ok(_) => Ok(()),
            Err(GroupsFull::Groups) => Err(CommandError::TableFull {
                what: "the table of groups",
                field: "limits.groups",
            }),
            Err(GroupsFull::GroupsOfSession) => Err(CommandError::TableFull {
                what: "the session's list of groups",
                field: "limits.groups_per_session",
            }),
        }
    }

    /// Takes a session out of a group. `false`: it was not in it.
    pub fn leave(&mut self, now: Instant, session: SessionKey, group: &GroupName) -> bool {
        let call = || Call::Leave {
            session,
            group: group.as_str(),
        };
        self.enter(now, call);
        self.groups.leave(session, group)
    }

    /// Closes a session once nothing is under way, or after [`crate::Timeouts::close`]. A session
    /// that a drain closes already gets this code and reason, no more time than that, and nothing more to send.
    pub fn close(
        &mut self,
        now: Instant,
        session: SessionKey,
        code: CloseCode,
        reason: impl Into<String>,
    ) -> Result<(), CommandError> {
        let reason = reason.into();
        let call = || Call::Close {
            session,
            code,
            reason: &reason,
        };
        let now = self.enter(now, call);
        let patience = self.config.timeouts.close;
        let entry = self
            .sessions
            .get_mut(session)
            .ok_or(CommandError::UnknownSession)?;
        match &mut entry.closing {
            None => {
                let closing = Closing {
                    code,
                    reason,
                    retry_after: None,
                    said: false,
                    draining: false,
                    takes_sends: false,
                };
                self.begin_close(now, session, closing, patience);
                Ok(())
            }
            Some(closing) if closing.draining => {
                closing.takes_sends = false;
                if !closing.said {
                    // Only who is told to go elsewhere is told when to come back.
                    let hint = closing.retry_after;
                    closing.retry_after = hint.filter(|_| code == CloseCode::GOING_AWAY);
                    (closing.code, closing.reason) = (code, reason);
                }
                self.hurries(now, session, now + patience);
                Ok(())
            }
            Some(_) => Err(CommandError::Closing),
        }
    }

    /// Goes away as a server: nothing new is accepted, clients are told, what is in flight is
    /// finished, and what is not by the deadline comes back. What comes meanwhile and somebody waits
    /// for is rejected as [`crate::StatusCode::UNAVAILABLE`]. A session whose deliveries are not all
    /// answered yet can be sent to; the others refuse that as [`CommandError::Closing`]. One that is being closed
    /// already goes on as it was told, by the deadline at the latest. Ends with [`crate::Event::Drained`].
    pub fn drain(&mut self, now: Instant, plan: DrainPlan) -> Result<(), CommandError> {
        let call = || Call::Drain {
            deadline: plan.deadline,
            retry_after: plan.retry_after,
            alternative: plan.alternative.as_deref(),
        };
        let now = self.enter(now, call);
        plan.check()?;
        if self.draining.is_some() {
            return Err(CommandError::Closing);
        }
        let DrainPlan {
            deadline,
            retry_after,
            alternative,
        } = plan;
        // The wire carries no longer deadline.
        let deadline = deadline.min(Duration::from_millis(u64::from(u32::MAX)));
        let mut timer = TimerSlot::default();
        self.timers
            .set(&mut timer, TimeoutReason::Drain, now + deadline);
        let draining = Draining {
            timer,
            deadline: now + deadline,
            retry_after,
            alternative,
            finished: 0,
            cut_off: 0,
            // Until all are told below.
            sent_away: 1,
            reported: false,
        };
        let frame = draining.frame(now);
        self.draining = Some(draining);
        for key in self.served_sessions() {
            if self.hurries(now, key, now + deadline) {
                continue;
            }
            if let Some(link) = self.sessions.get(key).and_then(|s| s.link) {
                self.send_control(link, frame.clone());
            }
            let closing = Closing {
                code: CloseCode::GOING_AWAY,
                reason: "the server is going away".into(),
                retry_after,
                said: false,
                draining: true,
                takes_sends: true,
            };
            self.begin_close(now, key, closing, deadline);
        }
        self.send_newcomers_away(now);
        self.one_is_sent_away();
        Ok(())
    }
}
