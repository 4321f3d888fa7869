//! How a link comes up: hello, admission, welcome.

use std::time::{Duration, Instant};

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::config::HEARTBEAT_RANGE;
use crate::error::{CloseCode, CommandError};
use crate::heartbeat::Heartbeat;
use crate::id::{ClientId, LinkKey, SessionId, SessionKey};
use crate::link::hello::{Asked, ClientHello, ServerWelcome};
use crate::link::{PeerLimits, Stage};
use crate::planted::{Bug, planted};
use crate::quic::{Fault, certificate_names_client};
use crate::session::{Conversation, Token, Tokens};
use crate::tap::Call;
use crate::timers::TimerSlot;

use super::roles::Admission;
use super::room::SessionRoom;
use super::tables::Session;
use super::{AdmissionRequest, Event, Node};

/// Why a client is not let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for people.
    pub reason: String,
    /// When the client may try again; `None`: it gives up.
    pub retry_after: Option<Duration>,
}

impl Node {
    /// The handshake is done: a client says hello, a server waits for it.
    pub(super) fn link_is_up(&mut self, key: LinkKey) {
        let limits = self.own_limits();
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        if entry.link.is_closed() {
            return;
        }
        if let Some(session) = entry.link.session {
            self.race_is_won(self.now, session, key);
        }
        let Some(entry) = self.links.get_mut(key) else {
            return;
        };
        let Some(session_key) = entry.link.session else {
            entry.link.stage = Stage::AwaitsHello;
            return;
        };
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let Some(dialing) = session.dialing.as_mut() else {
            return;
        };
        let resuming = dialing.hellos > 0;
        let mut fresh = [[0; 16]; 2];
        let resume = if resuming {
            fresh.iter_mut().for_each(|bytes| self.random.fill(bytes));
            Some(wire::Resume {
                session_id: session.tokens.id.0.to_vec().into(),
                token: session.tokens.current().bytes().to_vec().into(),
                epoch: session.tokens.epoch,
                received: held(&mut session.conversation),
                attempt: dialing.hellos,
            })
        } else {
            fresh = [session.tokens.id.0, *session.tokens.current().bytes()];
            None
        };
        dialing.hellos += 1;
        session.next = resuming.then(|| (SessionId(fresh[0]), Token::new(fresh[1])));
        let hello = wire::Hello {
            version: wire::VERSION,
            client_id: session.client.as_str().to_owned(),
            session_id: fresh[0].to_vec().into(),
            token: fresh[1].to_vec().into(),
            resume,
            credentials: dialing.credentials.clone(),
            limits: Some(limits),
            agent: dialing.agent.clone(),
        };
        session.conversation.lanes.rewind();
        if let Some(entry) = self.links.get_mut(key) {
            entry.link.stage = Stage::AwaitsWelcome { resuming };
            // A server that allows its application as long as this side does, and counts from before,
            // says first that nobody has decided: then nothing is lost.
            let timeouts = &self.config.timeouts;
            entry.link.admission_deadline = Some(self.now + timeouts.admission + timeouts.close);
        }
        self.send_control(key, Frame::Hello(hello));
    }

    /// Server: a client says who it is.
    pub(super) fn hello(
        &mut self,
        now: Instant,
        key: LinkKey,
        hello: wire::Hello,
    ) -> Result<(), Fault> {
        self.hellos += 1;
        let hello = ClientHello::check(hello, self.hellos)
            .map_err(|(code, reason)| Fault::new(code, reason))?;
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        let certificates = entry.carrier.certificates();
        match self.admission {
            None => Err(Fault::new(
                CloseCode::PROTOCOL_VIOLATION,
                "this node is no server",
            )),
            Some(Admission::Open) => self.let_in(now, key, hello),
            Some(Admission::MutualTls) => {
                let named = certificates.first().is_some_and(|certificate| {
                    certificate_names_client(certificate, &hello.client)
                });
                if !named {
                    self.metrics.admissions_refused += 1;
                    return Err(Fault::new(
                        CloseCode::UNAUTHENTICATED,
                        "the certificate does not name the client id as a DNS name",
                    ));
                }
                self.let_in(now, key, hello)
            }
            Some(Admission::Ask) => {
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

    /// The application's answer to [`Event::Admission`]: yes. It comes in, if there is room for its session.
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
        self.awaited_hello(link)?;
        self.metrics.admissions_refused += 1;
        self.turn_away(now, link, CloseCode::REFUSED, refusal);
        self.mark(link);
        Ok(())
    }

    /// Says Close in place of Welcome: no session was made, and the client knows it.
    pub(super) fn turn_away(
        &mut self,
        now: Instant,
        link: LinkKey,
        code: CloseCode,
        refusal: Refusal,
    ) {
        let Refusal {
            reason,
            retry_after,
        } = refusal;
        let close = wire::Close {
            code: code.0,
            reason: wire::clip_reason(&reason).to_owned(),
            // 0 would say that there is none.
            retry_after_ms: retry_after.map_or(0, |after| milliseconds(after).max(1)),
        };
        // The client closes the connection on it; the admission deadline stands behind that.
        self.send_control(link, Frame::Close(close));
        if let Some(entry) = self.links.get_mut(link) {
            entry.link.stage = Stage::Refused(code);
            entry.link.admission_deadline = Some(now + self.config.timeouts.close);
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

    /// Server: finds or makes the session, and welcomes the client.
    fn let_in(&mut self, now: Instant, key: LinkKey, hello: ClientHello) -> Result<(), Fault> {
        let known = hello
            .resume
            .as_ref()
            .and_then(|resume| self.by_id.get(&resume.id).copied());
        let (session_key, resumed) = match (known, &hello.resume) {
            (Some(session_key), Some(resume)) => {
                self.resume(now, session_key, &hello, resume)?;
                (session_key, true)
            }
            _ => {
                if self.draining.is_some() {
                    self.send_away(now, key);
                    return Ok(());
                }
                (self.new_server_session(now, &hello)?, false)
            }
        };
        let heartbeat = self.config.heartbeat;
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        entry.carrier.admit(&self.endpoint);
        entry.link.session = Some(session_key);
        entry.link.stage = Stage::Up;
        entry.link.admission_deadline = None;
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
        let leaves = session
            .closing
            .as_ref()
            .is_some_and(|closing| closing.draining);
        self.send_control(key, Frame::Welcome(welcome));
        if let Some(draining) = self.draining.as_ref().filter(|_| leaves) {
            // It was told on a link that it did not have any more.
            let frame = draining.frame(now);
            self.send_control(key, frame);
        }
        self.metrics.sessions_unknown += u64::from(hello.resume.is_some() && !resumed);
        if resumed && let Some(resume) = &hello.resume {
            self.peer_holds(session_key, &resume.received)?;
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
        resume: &crate::link::hello::Resume,
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
        self.timers.cancel(&mut session.timer);
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
        let (id, token) = hello.fresh;
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

    pub(super) fn session(&self, client: ClientId, tokens: Tokens) -> Session {
        Session {
            client,
            tokens,
            next: None,
            wish: None,
            taken_up: false,
            conversation: Conversation::new(&self.config.limits),
            link: None,
            peer: PeerLimits::default(),
            dialing: None,
            closing: None,
            room: SessionRoom::default(),
            timer: TimerSlot::default(),
            close_timer: TimerSlot::default(),
            receipt_timer: TimerSlot::default(),
            receipt_due: false,
            reported: None,
            connected_since: None,
            sent: 0,
            received: 0,
            dropped: 0,
        }
    }

    /// Client: the server's answer to hello.
    pub(super) fn welcome(
        &mut self,
        now: Instant,
        key: LinkKey,
        welcome: wire::Welcome,
        resuming: bool,
    ) -> Result<(), Fault> {
        let Some(session_key) = self.links.get(key).and_then(|entry| entry.link.session) else {
            return Ok(());
        };
        let Some(session) = self.sessions.get(session_key) else {
            return Ok(());
        };
        let asked = Asked {
            id: session.tokens.id,
            epoch: session.tokens.epoch,
            in_place: session
                .next
                .as_ref()
                .map(|(id, _)| *id)
                .filter(|_| resuming),
        };
        // Nothing is lost or changed by a welcome that does not fit.
        let welcome = ServerWelcome::check(welcome, &asked)
            .map_err(|(code, reason)| Fault::new(code, reason))?;
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        entry.link.stage = Stage::Up;
        entry.link.admission_deadline = None;
        let own = self.config.heartbeat;
        let asked = welcome.heartbeat.map_or(own.interval, |asked| {
            asked.clamp(HEARTBEAT_RANGE.0, HEARTBEAT_RANGE.1)
        });
        let phase = self.random.fraction();
        entry.link.heartbeat = Some(Heartbeat::client(
            now,
            self.origin,
            own.interval.min(asked),
            own.misses,
            phase,
        ));
        if resuming && !welcome.resumed {
            self.lose_session(session_key);
        }
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Ok(());
        };
        session.next = None;
        session.tokens = Tokens::new(welcome.id, welcome.epoch, Token::new(welcome.token));
        session.peer = welcome.limits;
        if let Some(dialing) = session.dialing.as_mut() {
            dialing.route = welcome.redial_id;
            dialing.welcomed = true;
            dialing.backoff.connected(now);
        }
        let epoch = welcome.epoch;
        self.send_control(key, Frame::Ready(wire::Ready { epoch }));
        self.peer_holds(session_key, &welcome.received)?;
        self.return_misfits(session_key);
        self.connected(now, session_key, welcome.resumed);
        Ok(())
    }

    fn connected(&mut self, now: Instant, session_key: SessionKey, resumed: bool) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        session.connected_since = Some(now);
        if let Some(closing) = session.closing.as_mut() {
            // Close went down with the old link: it is said again.
            closing.said = false;
        }
        let cancels = session.conversation.cancels.take();
        let (client, epoch) = (session.client.clone(), session.tokens.epoch);
        let Some(link) = session.link else {
            return;
        };
        let Some(entry) = self.links.get(link) else {
            return;
        };
        let address = entry.carrier.address();
        if resumed {
            self.metrics.sessions_resumed += 1;
        }
        self.events.push(Event::Connected {
            session: session_key,
            client,
            address,
            epoch,
            resumed,
        });
        for promise in cancels {
            self.send_cancel(link, promise);
        }
    }

    fn own_limits(&self) -> wire::Limits {
        let limits = &self.config.limits;
        wire::Limits {
            frame_bytes: limits.frame_bytes as u32,
            lanes: u32::from(limits.lanes),
        }
    }
}

/// What this side's session holds, a lane each; it counts as reported.
fn held(conversation: &mut Conversation) -> Vec<wire::Receipt> {
    let lanes = &mut conversation.lanes;
    let mut receipts = Vec::new();
    if planted(Bug::SkipDedupe) {
        return receipts;
    }
    for lane in lanes.sequenced() {
        if let Some(inbox) = lanes.inbox_mut(lane)
            && inbox.next() > 0
        {
            let next = inbox.next();
            inbox.reported(next);
            receipts.push(wire::Receipt {
                lane: u32::from(lane.number()),
                next,
            });
        }
    }
    receipts
}

/// Whole milliseconds, at most what the wire holds.
pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
