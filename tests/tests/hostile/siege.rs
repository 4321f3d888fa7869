//! A server under attack, and an honest client that goes on working beside.

use std::time::{Duration, Instant};

use trunkline_core::{
    AdmissionRequest, DisconnectReason, Event, MetricsSnapshot, Node, PromiseKey, SessionKey,
};
use trunkline_proto::control::Frame;
use trunkline_proto::{CloseCode, Hello, Limits, Welcome};
use trunkline_testkit::raw_peer::{Ended, RawLink, RawSettings, hello};
use trunkline_testkit::{NodeIndex, World, echo};

/// How often the honest client asks, unless told otherwise.
const PACE: Duration = Duration::from_millis(50);
/// In which time it is answered, whatever its neighbours do: two ways of a millisecond each, and
/// nothing in between waits for anybody else.
const PROMPT: Duration = Duration::from_millis(3);

/// A server, an honest client with a session there, and room for raw peers.
pub(crate) struct Siege {
    pub(crate) world: World,
    pub(crate) server: NodeIndex,
    honest: NodeIndex,
    session: SessionKey,
    asked: Vec<PromiseKey>,
    raw: u64,
    decide: Decide,
    mute: bool,
    pace: Duration,
    next: Duration,
}

/// What the server's application does with whoever asks to be let in, the honest client aside.
type Decide = fn(&mut Node, Instant, &AdmissionRequest);

impl Siege {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(World::new(seed))
    }

    /// With a world that is set up in some way of its own.
    pub(crate) fn of(mut world: World) -> Self {
        let server = world.server();
        let honest = world.client();
        let session = world.connect(honest, server, "honest");
        let mut siege = Self {
            world,
            server,
            honest,
            session,
            asked: Vec::new(),
            raw: 0,
            decide: |node, now, request| node.admit(now, request.link).unwrap(),
            mute: false,
            pace: PACE,
            next: Duration::ZERO,
        };
        siege.run(Duration::from_millis(200));
        siege
    }

    /// Lets time pass while the honest client works.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.world.elapsed() + time;
        while self.world.elapsed() < end {
            let body = self.asked.len().to_be_bytes();
            if self.world.elapsed() >= self.next {
                let promise = self.world.request(self.honest, self.session, &body);
                self.asked.push(promise);
                self.next = self.world.elapsed() + self.pace;
            }
            let left = end.saturating_sub(self.world.elapsed());
            let (decide, mute) = (self.decide, self.mute);
            self.world
                .run(PACE.min(left), |node, now, event| match event {
                    Event::Admission(request) if request.client.as_str() == "honest" => {
                        node.admit(now, request.link).unwrap();
                    }
                    Event::Admission(request) => decide(node, now, request),
                    Event::Message(delivery) if mute && !is_honest(node, delivery.key.session) => {}
                    event => echo(node, now, event),
                });
        }
    }

    /// What the server's application says from now on to those who ask.
    pub(crate) fn decides(&mut self, decide: Decide) {
        self.decide = decide;
    }

    /// How often the honest client asks from now on: less often for measurements that it is not to
    /// disturb.
    pub(crate) fn paces(&mut self, pace: Duration) {
        self.pace = pace;
    }

    /// From now on the server's application answers the honest client alone.
    pub(crate) fn ignores_messages(&mut self) {
        self.mute = true;
    }

    /// A raw client whose handshake is done, if it can be.
    pub(crate) fn raw(&mut self, settings: &RawSettings) -> NodeIndex {
        let peer = self.world.raw_client(self.server, settings);
        self.run(Duration::from_millis(100));
        peer
    }

    /// A raw client that was admitted to a new session.
    pub(crate) fn admitted(&mut self) -> NodeIndex {
        self.admitted_with(&RawSettings::default())
    }

    pub(crate) fn admitted_with(&mut self, settings: &RawSettings) -> NodeIndex {
        let peer = self.raw(settings);
        self.greet(peer);
        peer
    }

    /// Another link of a raw client, that was admitted to another new session.
    pub(crate) fn admitted_again(&mut self, peer: NodeIndex) {
        self.world.redial(peer, self.server);
        self.run(Duration::from_millis(100));
        self.greet(peer);
    }

    fn greet(&mut self, peer: NodeIndex) {
        self.raw += 1;
        let hello = hello(&format!("raw-{}", self.raw), self.raw);
        self.world.raw(peer).link().hello(&hello);
        self.run(Duration::from_millis(100));
        let control = self.link(peer).control();
        let welcomed = matches!(control.first(), Some(Frame::Welcome(welcome)) if !welcome.resumed);
        assert!(welcomed, "{control:?}, {:?}", self.link(peer).ended());
    }

    /// The raw peer's newest link.
    pub(crate) fn link(&mut self, peer: NodeIndex) -> &mut RawLink {
        self.world.raw(peer).link()
    }

    /// The honest client begins a session with a server that may not be; its own goes on.
    pub(crate) fn victim(&mut self, server: NodeIndex) -> SessionKey {
        self.world.connect(self.honest, server, "honest")
    }

    /// The honest client's node.
    pub(crate) fn victim_node(&self) -> NodeIndex {
        self.honest
    }

    pub(crate) fn victim_metrics(&mut self) -> MetricsSnapshot {
        let now = self.world.now();
        self.world.node(self.honest).metrics(now)
    }

    /// Where the honest client's session dials next.
    pub(crate) fn redirect(&mut self, session: SessionKey, server: NodeIndex) {
        let (now, address) = (self.world.now(), self.world.raw(server).address());
        let node = self.world.node(self.honest);
        node.redirect(now, session, address).unwrap();
    }

    /// What a raw server's newest client has said hello with.
    pub(crate) fn hello(&mut self, server: NodeIndex) -> Hello {
        match self.link(server).control().first() {
            Some(Frame::Hello(hello)) => hello.clone(),
            other => panic!("{other:?} in place of Hello"),
        }
    }

    /// The Welcome of a new session for it.
    pub(crate) fn fitting_welcome(&mut self, server: NodeIndex) -> Welcome {
        Welcome {
            version: 1,
            session_id: self.hello(server).session_id,
            token: vec![3; 16].into(),
            epoch: 1,
            limits: Some(Limits {
                frame_bytes: 1 << 20,
                lanes: 4,
            }),
            heartbeat_ms: 15_000,
            retention_ms: 120_000,
            ..Welcome::default()
        }
    }

    /// A raw server welcomes its newest client to a new session.
    pub(crate) fn welcome(&mut self, server: NodeIndex) {
        let welcome = self.fitting_welcome(server);
        self.link(server).send_control(Frame::Welcome(welcome));
    }

    /// Why a session of the honest client's node is gone for good; panics if it is not.
    pub(crate) fn closed_session(&mut self, session: SessionKey) -> DisconnectReason {
        let log = self.world.log(self.honest);
        let reason = log.iter().find_map(|(_, event)| match event {
            Event::Closed {
                session: of,
                reason,
            } if *of == session => Some(reason.clone()),
            _ => None,
        });
        reason.unwrap_or_else(|| panic!("the session lives: {log:?}"))
    }

    /// The reason with which the server has closed the raw peer's newest link; panics if it has not,
    /// or with another code.
    pub(crate) fn closed(&mut self, peer: NodeIndex, code: CloseCode) -> String {
        match self.link(peer).ended() {
            Some(Ended::Application {
                code: found,
                reason,
            }) if *found == u64::from(code.0) => reason.clone(),
            other => panic!("the link ended as {other:?}, not with {code}"),
        }
    }

    /// Whom the server's application was told of as refused, and with which code.
    pub(crate) fn refused(&self) -> Vec<String> {
        let log = self.world.log(self.server).iter();
        let refused = log.filter_map(|(_, event)| match event {
            Event::Refused { client, code, .. } => Some(format!("{client}: {code}")),
            _ => None,
        });
        refused.collect()
    }

    pub(crate) fn metrics(&mut self) -> MetricsSnapshot {
        let now = self.world.now();
        self.world.node(self.server).metrics(now)
    }

    /// How many links were closed with a code, by either side.
    pub(crate) fn count(&mut self, code: CloseCode) -> u64 {
        self.metrics()
            .closed_by_code
            .get(&code)
            .copied()
            .unwrap_or(0)
    }

    /// The honest client has noticed nothing: one link all the time, and each request answered, once
    /// and promptly.
    pub(crate) fn unharmed(&mut self) {
        self.run(Duration::from_millis(200));
        let mut connected = 0;
        for (at, event) in self.world.log(self.honest) {
            match event {
                Event::Connected { session, .. } if *session == self.session => connected += 1,
                Event::Disconnected { session, .. }
                | Event::SessionLost { session, .. }
                | Event::Closed { session, .. }
                    if *session == self.session =>
                {
                    panic!("{event:?} at {at:?}")
                }
                _ => {}
            }
        }
        assert_eq!(connected, 1);
        let mut slowest = Duration::ZERO;
        let mut settled = 0;
        for (_, event) in self.world.log(self.honest) {
            if let Event::Settled { promise, after, .. } = event
                && promise.session == self.session
            {
                settled += 1;
                // The first ones wait for the handshake.
                if self.asked.iter().position(|p| p == promise) >= Some(4) {
                    slowest = slowest.max(*after);
                }
            }
        }
        assert_eq!(settled, self.asked.len());
        for (n, promise) in self.asked.iter().enumerate() {
            let outcome = self.world.outcome(self.honest, *promise);
            let body = String::from_utf8_lossy(&n.to_be_bytes()).into_owned();
            assert_eq!(outcome, Some(format!("Replied {body}")));
        }
        assert!(slowest <= PROMPT, "a reply took {slowest:?}");
    }
}

fn is_honest(node: &Node, session: SessionKey) -> bool {
    node.session_info(session)
        .is_some_and(|info| info.client.as_str() == "honest")
}
