//! Whom a server lets in: hello, the application's word, and the session that is found or made.

use std::time::{Duration, Instant};

use rustls_pki_types::CertificateDer;
use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::error::{CloseCode, CommandError, Fault};
use crate::heartbeat::Heartbeat;
use crate::id::{ClientId, LinkKey, SessionKey};
use crate::link::Stage;
use crate::link::hello::{ClientHello, Resume};
use crate::link::milliseconds::milliseconds;
use crate::planted::{Bug, planted};
use crate::quic::certificate_has_expired;
use crate::session::{Token, Tokens};
use crate::tap::Call;

use super::events::names_client;
use super::roles::Admission;
use super::welcome::held;
use super::{AdmissionRequest, Event, Node};

/// Why a client is not let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for people.
    pub reason: String,
    /// When the client may try again; `None`: it gives up.
    pub retry_after: Option<Duration>,
}

/// When a client tries again whose certificate has expired, which TLS does not end a client for either: it gets renewed.
const UNTIL_RENEWED: Duration = Duration::from_secs(30);

/// Whether the certificates that a client has shown have to name it.
fn binds(admission: Admission, certificates: &[CertificateDer<'_>]) -> bool {
    match admission {
        Admission::MutualTls => true,
        // It asks for none. Who shows one all the same says by it who they are.
        Admission::Open => !certificates.is_empty(),
        Admission::Ask => false,
    }
}

impl Node {
    /// A client says who it is.
    pub(super) fn hello(
        &mut self,
        now: Instant,
        key: LinkKey,
        hello: wire::Hello,
    ) -> Result<(), Fault> {
        self.hellos += 1;
        let hello = ClientHello::check(hello, self.hellos)?;
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        let certificates = entry.carrier.certificates();
        let Some(admission) = self.admission else {
            return Err(Fault::new(
                CloseCode::PROTOCOL_VIOLATION,
                "this node is no server",
            ));
        };
        if binds(admission, &certificates) && !names_client(&certificates, &hello.client) {
            self.metrics.admissions_refused += 1;
            let code = CloseCode::UNAUTHENTICATED;
            let reason = "the certificate does not name the client id as a DNS name";
            self.refused(key, hello.client, code, reason);
            return Err(Fault::new(code, reason));
        }
        // A resumed TLS session hands the certificate on to the next one, and TLS does not look at it again.
        let wall = self.endpoint.wall().read();
        let own = certificates.first();
        if own.is_some_and(|own| certificate_has_expired(own, wall)) {
            self.metrics.admissions_refused += 1;
            let refusal = Refusal {
                reason: "the certificate has expired: renew it".into(),
                retry_after: Some(UNTIL_RENEWED),
            };
            self.turn_away(now, key, hello.client, CloseCode::UNAUTHENTICATED, refusal);
            return Ok(());
        }
        match admission {
            Admission::Open | Admission::MutualTls => self.let_in(now, key, hello),
            Admission::Ask => {
                let request = Box::new(AdmissionRequest {
                    link: key,
                    client: hello.client.clone(),
                    address: entry.carrier.address(),
                    credentials: hello.credentials.clone(),
                    certificates,
                    agent: hello.agent.clone(),
                });
                self.events.push(Event::Admission(request));
                entry.link.stage = Stage::AwaitsAdmission(Box::new(hello));
                Ok(())
            }
        }
    }

    /// Whether a link still waits for the application's answer to [`Event::Admission`]: `false` once it was given one, or
    /// has ended.
    pub fn awaits_admission(&self, link: LinkKey) -> bool {
        let entry = self.links.get(link);
        entry.is_some_and(|entry| matches!(entry.link.stage, Stage::AwaitsAdmission(_)))
    }

    /// The application's answer to [`Event::Admission`]: yes. It comes in, if there is room for its session; which one that
    /// is says [`carried_by`](Node::carried_by) from then on.
    ///
    /// # Errors
    /// [`CommandError::UnknownLink`] if the client has gone meanwhile, or was given an answer already.
    pub fn admit(&mut self, now: Instant, link: LinkKey) -> Result<(), CommandError> {
        let now = self.enter(now, || Call::Admit { link });
        let hello = self.awaited_hello(link)?;
        if let Err(fault) = self.let_in(now, link, hello) {
            self.link_fault(now, link, &fault);
        }
        self.mark(link);
        Ok(())
    }

    /// The application's answer to [`Event::Admission`]: no.
    ///
    /// # Errors
    /// Those of [`Node::admit`].
    pub fn refuse(
        &mut self,
        now: Instant,
        link: LinkKey,
        refusal: Refusal,
    ) -> Result<(), CommandError> {
        let call = || Call::Refuse {
            link,
            reason: &refusal.reason,
            retry_after: refusal.retry_after,
        };
        let now = self.enter(now, call);
        let client = self.awaited_hello(link)?.client;
        self.metrics.admissions_refused += 1;
        self.turn_away(now, link, client, CloseCode::REFUSED, refusal);
        self.mark(link);
        Ok(())
    }

    /// Says Close in place of Welcome: no session was made, and the client knows it.
    pub(super) fn turn_away(
        &mut self,
        now: Instant,
        link: LinkKey,
        client: ClientId,
        code: CloseCode,
        refusal: Refusal,
    ) {
        let Refusal {
            reason,
            retry_after,
        } = refusal;
        self.refused(link, client, code, &reason);
        let close = wire::Close {
            code: code.0,
            reason: wire::clip_reason(&reason).to_owned(),
            // 0 would say that there is none.
            retry_after_ms: retry_after.map_or(0, |after| milliseconds(after).max(1)),
        };
        // The client closes the connection on it; its deadline stands behind that.
        self.send_control(link, Frame::Close(close));
        if let Some(entry) = self.links.get_mut(link) {
            entry.link.stage = Stage::Refused(code);
            entry.link.stage_deadline = Some(now + self.config.timeouts.close);
        }
    }

    fn awaited_hello(&mut self, link: LinkKey) -> Result<ClientHello, CommandError> {
        let entry = self.links.get_mut(link).ok_or(CommandError::UnknownLink)?;
        match std::mem::replace(&mut entry.link.stage, Stage::AwaitsHello) {
            Stage::AwaitsAdmission(hello) => Ok(*hello),
            other => {
                entry.link.stage = other;
                Err(CommandError::UnknownLink)
            }
        }
    }

    /// Finds or makes the session, and welcomes the client.
    fn let_in(&mut self, now: Instant, key: LinkKey, hello: ClientHello) -> Result<(), Fault> {
        let known = hello
            .resume
            .as_ref()
            .and_then(|resume| self.by_id.get(&resume.id).copied());
        let found = match (known, &hello.resume) {
            (Some(session_key), Some(resume)) => {
                let resumed = self.resume(now, session_key, &hello, resume);
                resumed.map(|()| (session_key, true))
            }
            _ if self.draining.is_some() => {
                self.send_away(now, key, hello.client);
                return Ok(());
            }
            _ => {
                let made = self.new_server_session(now, &hello);
                made.map(|session_key| (session_key, false))
            }
        };
        let (session_key, resumed) = match found {
            Ok(found) => found,
            Err(fault) => {
                self.refused(key, hello.client, fault.code, &fault.reason);
                return Err(fault);
            }
        };
        let heartbeat = self.config.heartbeat;
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        entry.carrier.admit(&self.endpoint);
        entry.link.session = Some(session_key);
        entry.link.stage = Stage::Up;
        entry.link.stage_deadline = None;
        entry.link.heartbeat = Some(Heartbeat::server(now, heartbeat.interval, heartbeat.misses));
        if let Some(network) = entry.half_open.take() {
            self.half_open.remove(&network);
        }
        let limits = self.own_limits();
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
        session.link = Some(key);
        session.peer = hello.limits;
        let welcome = wire::Welcome {
            version: wire::VERSION,
            session_id: session.tokens.id.0.to_vec().into(),
            token: session.tokens.current().bytes().to_vec().into(),
            epoch: session.tokens.epoch,
            resumed,
            received: held(&mut session.conversation),
            limits: Some(limits),
            heartbeat_ms: milliseconds(heartbeat.interval),
            retention_ms: milliseconds(self.config.timeouts.retention),
            lost_code: if hello.resume.is_some() && !resumed {
                CloseCode::UNKNOWN_SESSION.0
            } else {
                0
            },
            redial_id: self.endpoint.redial_id(),
        };
        self.send_control(key, Frame::Welcome(welcome));
        self.metrics.sessions_unknown += u64::from(hello.resume.is_some() && !resumed);
        if resumed && let Some(resume) = &hello.resume {
            self.peer_holds(session_key, &resume.received, false)?;
            self.return_misfits(session_key);
        }
        self.connected(now, session_key, resumed);
        Ok(())
    }

    fn resume(
        &mut self,
        now: Instant,
        session_key: SessionKey,
        hello: &ClientHello,
        resume: &Resume,
    ) -> Result<(), Fault> {
        let mut token = [0; 16];
        self.random.fill(&mut token);
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
        let shown = Token::new(resume.token);
        if session.client != hello.client || !session.tokens.admits(&shown) {
            return Err(Fault::new(
                CloseCode::WRONG_TOKEN,
                "the token does not resume this session",
            ));
        }
        // A link that the client has given up may bring its hello after that of the one which
        // followed: it must not take the session from that.
        if !session.tokens.follows(resume.attempt) {
            return Err(Fault::new(
                CloseCode::SUPERSEDED,
                "a later attempt has resumed this session",
            ));
        }
        session
            .tokens
            .rotate(shown, Token::new(token), resume.attempt);
        session.taken_up = true;
        self.sessions_of
            .greeted(&hello.client, hello.number, session_key);
        session.conversation.lanes.rewind();
        let old = session.link.take();
        let dropped = session.conversation.link_lost();
        session.dropped += dropped;
        self.metrics.best_effort_dropped += dropped;
        if !planted(Bug::FlapLinks) {
            self.timers.cancel(&mut session.timer);
        }
        if let Some(old) = old {
            self.supersede(now, old);
        }
        Ok(())
    }

    fn new_server_session(
        &mut self,
        now: Instant,
        hello: &ClientHello,
    ) -> Result<SessionKey, Fault> {
        let (id, token) = hello.offered;
        if self.by_id.contains_key(&id) {
            return Err(Fault::new(
                CloseCode::WRONG_TOKEN,
                "a session of this id exists: resume it",
            ));
        }
        // The client has given that link up, and has come back since for what it wanted.
        if self.has_what_it_wished(hello) {
            return Err(Fault::new(
                CloseCode::SUPERSEDED,
                "a later attempt has made a session in place of this one",
            ));
        }
        self.end_what_earlier_attempts_made(now, hello);
        self.make_room_for(now, hello)?;
        let limits = &self.config.limits;
        let own = self.sessions_of.of(&hello.client).len();
        if self.by_id.len() >= limits.sessions || own >= limits.sessions_per_client {
            return Err(Fault::new(
                CloseCode::TOO_MANY_SESSIONS,
                "this server keeps no more sessions, or no more of this client: close some, or wait",
            ));
        }
        let tokens = Tokens::new(id, 1, Token::new(token));
        let mut session = self.session(hello.client.clone(), tokens);
        session.wish = Some(hello.wish());
        let key = self.sessions.insert_with(|_| session);
        self.by_id.insert(id, key);
        self.sessions_of.greeted(&hello.client, hello.number, key);
        self.metrics.sessions_opened += 1;
        Ok(key)
    }
}
