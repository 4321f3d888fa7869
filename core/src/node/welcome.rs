//! How a client's link comes up: hello and welcome. And what both sides do then.

use std::time::Instant;

use trunkline_proto as wire;
use trunkline_proto::control::Frame;

use crate::config::HEARTBEAT_RANGE;
use crate::error::Fault;
use crate::heartbeat::Heartbeat;
use crate::id::{ClientId, LinkKey, SessionId, SessionKey};
use crate::link::hello::{Asked, ServerWelcome};
use crate::link::{PeerLimits, Stage};
use crate::planted::{Bug, planted};
use crate::session::{Conversation, Token, Tokens};
use crate::timers::TimerSlot;

use super::room::SessionRoom;
use super::tables::Session;
use super::{Event, Node};

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
        let mut offered = [[0; 16]; 2];
        let resume = if resuming {
            offered.iter_mut().for_each(|bytes| self.random.fill(bytes));
            Some(wire::Resume {
                session_id: session.tokens.id.0.to_vec().into(),
                token: session.tokens.current().bytes().to_vec().into(),
                epoch: session.tokens.epoch,
                received: held(&mut session.conversation),
                attempt: dialing.hellos,
            })
        } else {
            offered = [session.tokens.id.0, *session.tokens.current().bytes()];
            None
        };
        dialing.hellos += 1;
        dialing.offered = resuming.then_some(SessionId(offered[0]));
        let hello = wire::Hello {
            version: wire::VERSION,
            client_id: session.client.as_str().to_owned(),
            session_id: offered[0].to_vec().into(),
            token: offered[1].to_vec().into(),
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
            entry.link.stage_deadline = Some(self.now + timeouts.admission + timeouts.close);
        }
        self.send_control(key, Frame::Hello(hello));
    }

    /// A session that has done nothing yet.
    pub(super) fn session(&self, client: ClientId, tokens: Tokens) -> Session {
        Session {
            client,
            tokens,
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

    /// The server's answer to hello.
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
            offered: session
                .dialing
                .as_ref()
                .and_then(|dialing| dialing.offered)
                .filter(|_| resuming),
        };
        // Nothing is lost or changed by a welcome that does not fit.
        let welcome = ServerWelcome::check(welcome, &asked)?;
        let Some(entry) = self.links.get_mut(key) else {
            return Ok(());
        };
        entry.link.stage = Stage::Up;
        entry.link.stage_deadline = None;
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
        session.tokens = Tokens::new(welcome.id, welcome.epoch, Token::new(welcome.token));
        session.peer = welcome.limits;
        if let Some(dialing) = session.dialing.as_mut() {
            dialing.route = welcome.redial_id;
            dialing.offered = None;
            dialing.welcomed = true;
            dialing.backoff.connected(now);
        }
        let epoch = welcome.epoch;
        self.send_control(key, Frame::Ready(wire::Ready { epoch }));
        self.peer_holds(session_key, &welcome.received, !welcome.resumed)?;
        self.return_misfits(session_key);
        self.connected(now, session_key, welcome.resumed);
        Ok(())
    }

    pub(super) fn connected(&mut self, now: Instant, session_key: SessionKey, resumed: bool) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        session.connected_since = Some(now);
        if let Some(closing) = session.closing.as_mut() {
            // Close went down with the old link: it is said again.
            closing.said = false;
        }
        let leaves = session.closing.as_ref().filter(|c| c.draining);
        let leaves = leaves.map(|closing| closing.retry_after);
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
        if let Some((draining, retry_after)) = self.draining.as_ref().zip(leaves) {
            // The peer was told on a link that it did not have any more.
            let frame = draining.frame(now, retry_after);
            self.send_control(link, frame);
        }
        self.ask_back(now, session_key);
    }

    pub(super) fn own_limits(&self) -> wire::Limits {
        let limits = &self.config.limits;
        wire::Limits {
            frame_bytes: limits.frame_bytes as u32,
            lanes: u32::from(limits.lanes),
        }
    }
}

/// What this side's session holds, a lane each; it counts as reported.
pub(super) fn held(conversation: &mut Conversation) -> Vec<wire::Receipt> {
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
