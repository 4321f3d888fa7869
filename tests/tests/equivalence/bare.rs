//! The scenario in a loop of one's own: two nodes, two sockets, one thread, no runtime, no driver.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Instant, SystemTime};

use mio::{Interest, Poll, Token};
use prost::{Message as _, Name};
use trunkline_core::driver::system::{Batches, UdpSockRef, random_seed};
use trunkline_core::{
    Admission, Audience, ClientRole, CloseCode, Delivery, DeliveryKey, Dial, DrainPlan, Event,
    Expects, GroupName, Input, Lane, Message, Node, Origin, PromiseKey, Roles, ServerRole,
    SessionKey, Status, StatusCode, Tag,
};
use trunkline_testkit::Certificates;

use crate::journal::{Journal, label, outcome_of};
use crate::relay::Relay;
use crate::script::messages::{Answer, Ask, Bad, Note, Slow, Stuck, Tick, Unknown};
use crate::script::{BAD, CLIENT, Kind, SCRIPT, Side, Step};
use crate::{PATIENCE, config, differs};

/// Plays the script; gives what both applications have seen.
pub fn play(certificates: Certificates) -> Vec<String> {
    let poll = Poll::new().unwrap();
    let server = Roles {
        server: Some(ServerRole {
            identity: certificates.server,
            admission: Admission::Open,
            client_roots: None,
        }),
        client: None,
    };
    let client = Roles {
        server: None,
        client: Some(ClientRole {
            roots: certificates.roots,
            identity: None,
        }),
    };
    let server = Application::new(Side::Server, server, &poll);
    let client = Application::new(Side::Client, client, &poll);
    let relay = Relay::to(server.socket.local_addr().unwrap()).unwrap();
    let mut play = Play {
        journal: Journal::default(),
        relay,
        poll,
        client,
        server,
    };
    let dial = Dial {
        address: play.relay.address(),
        server_name: "localhost".into(),
        client: CLIENT.parse().unwrap(),
        credentials: Default::default(),
        agent: "bare".into(),
    };
    let session = play.client.node.connect(Instant::now(), dial).unwrap();
    play.client.session = Some(session);
    for phase in SCRIPT {
        for step in phase.steps {
            play.perform(*step);
        }
        let patience = Instant::now() + PATIENCE;
        while play.journal.phase(None) != phase.then {
            if Instant::now() > patience {
                differs(&play.journal.phase(None), phase.then);
            }
            play.turn(patience);
        }
        play.journal.turn_page();
    }
    play.journal.past()
}

struct Play {
    journal: Journal,
    relay: Relay,
    poll: Poll,
    client: Application,
    server: Application,
}

/// One side: a node, its socket, and what its application has to remember.
struct Application {
    side: Side,
    node: Node,
    socket: mio::net::UdpSocket,
    batches: Batches,
    buffer: Vec<u8>,
    session: Option<SessionKey>,
    promises: BTreeMap<PromiseKey, String>,
    /// Requests that wait until their senders give up.
    at_work: BTreeMap<DeliveryKey, (Kind, u64)>,
}

impl Play {
    /// Drives both nodes until there is nothing left to do, then waits for a socket or a deadline.
    fn turn(&mut self, patience: Instant) {
        self.client.turn(&self.journal);
        self.server.turn(&self.journal);
        let nodes = [&self.client.node, &self.server.node];
        let deadlines = nodes.into_iter().filter_map(Node::poll_timeout);
        let wake = deadlines.min().unwrap_or(patience).min(patience);
        let timeout = wake.saturating_duration_since(Instant::now());
        // Which socket it was does not matter: both are looked at.
        let mut events = mio::Events::with_capacity(2);
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => panic!("{error}"),
            _ => {}
        }
    }

    fn perform(&mut self, step: Step) {
        let now = Instant::now();
        let server = &mut self.server;
        match step {
            Step::Heal => self.relay.open(true),
            Step::Cut => self.relay.open(false),
            Step::Send(from, kind, number, lane) => {
                let message = message(kind, number).on(Lane::new(lane).unwrap());
                let (node, session) = self.sender(from);
                node.send(now, session, message).unwrap();
            }
            Step::Acked(from, kind, number, lane) => {
                let message = message(kind, number).on(Lane::new(lane).unwrap());
                let (node, session) = self.sender(from);
                let promise = node.send_acked(now, session, message, None).unwrap();
                self.keep(from, promise, label(kind, number));
            }
            Step::BestEffort(from, kind, number) => {
                let (node, session) = self.sender(from);
                let message = message(kind, number);
                node.send_best_effort(now, session, message, None).unwrap();
            }
            Step::Request(from, kind, number, timeout) => {
                let timeout = (!timeout.is_zero()).then_some(timeout);
                let (node, session) = self.sender(from);
                let promise = node.request(now, session, message(kind, number), timeout);
                self.keep(from, promise.unwrap(), label(kind, number));
            }
            Step::Cancel(from, kind, number) => {
                let application = self.application(from);
                let named = label(kind, number);
                let mut promises = application.promises.iter();
                let promise = promises.find(|(_, label)| **label == named).unwrap().0;
                application.node.cancel(now, *promise).unwrap();
            }
            Step::Join(group) => {
                let group = GroupName::new(group).unwrap();
                server
                    .node
                    .join(now, server.session.unwrap(), &group)
                    .unwrap();
            }
            Step::Broadcast(group, number) => {
                let audience = Audience::Group(GroupName::new(group).unwrap());
                let tick = message(Kind::Tick, number);
                let sent = server.node.broadcast(now, &audience, tick, None).unwrap();
                self.journal.broadcast(number, sent);
            }
            Step::BroadcastExcept(group, number) => {
                let audience = Audience::Group(GroupName::new(group).unwrap());
                let tick = message(Kind::Tick, number);
                let client = server.session.unwrap();
                let sent = server
                    .node
                    .broadcast_except(now, &audience, client, tick, None)
                    .unwrap();
                self.journal.broadcast(number, sent);
            }
            Step::Drain(deadline, retry_after) => {
                let plan = DrainPlan {
                    deadline,
                    retry_after: Some(retry_after),
                    alternative: None,
                };
                server.node.drain(now, plan).unwrap();
            }
            Step::Close => {
                let (node, session) = self.sender(Side::Client);
                node.close(now, session, CloseCode::NORMAL, "").unwrap();
            }
        }
    }

    fn application(&mut self, side: Side) -> &mut Application {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn sender(&mut self, side: Side) -> (&mut Node, SessionKey) {
        let application = self.application(side);
        (&mut application.node, application.session.unwrap())
    }

    fn keep(&mut self, from: Side, promise: PromiseKey, label: String) {
        self.application(from).promises.insert(promise, label);
    }
}

impl Application {
    fn new(side: Side, roles: Roles, poll: &Poll) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = UdpSocket::bind(any).unwrap();
        let batches = Batches::new(&socket).unwrap();
        let mut socket = mio::net::UdpSocket::from_std(socket);
        let token = Token(side as usize);
        poll.registry()
            .register(&mut socket, token, Interest::READABLE)
            .unwrap();
        let origin = Origin {
            now: Instant::now(),
            wall: SystemTime::now(),
            seed: random_seed().unwrap(),
            keys: None,
        };
        Self {
            side,
            node: Node::new(config(), roles, origin).unwrap(),
            socket,
            batches,
            buffer: Vec::new(),
            session: None,
            promises: BTreeMap::new(),
            at_work: BTreeMap::new(),
        }
    }

    /// Datagrams in, then timers, then events, then datagrams out.
    fn turn(&mut self, journal: &Journal) {
        let now = Instant::now();
        let Self {
            node,
            socket,
            batches,
            ..
        } = self;
        let mut sink = |datagram| node.handle_input(now, Input::Datagram(datagram));
        loop {
            match batches.receive(UdpSockRef::from(&*socket), &mut sink) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        if self.node.poll_timeout().is_some_and(|due| due <= now) {
            self.node.handle_input(now, Input::Timeout);
        }
        while let Some(event) = self.node.poll_event() {
            self.hear(now, event, journal);
        }
        let segments = self.batches.max_segments();
        while let Some(transmit) = self.node.poll_transmit(now, segments, &mut self.buffer) {
            // What the socket does not take is lost; QUIC sends its contents again.
            let _ = self.batches.send(&self.socket, &transmit, &self.buffer);
            self.buffer.clear();
        }
    }

    fn hear(&mut self, now: Instant, event: Event, journal: &Journal) {
        journal.event(self.side, &event);
        match event {
            Event::Connected { session, .. } => self.session = Some(session),
            Event::Message(delivery) => self.handle(now, delivery, journal),
            Event::Cancelled { delivery } => {
                if let Some((kind, number)) = self.at_work.remove(&delivery) {
                    if kind == Kind::Slow {
                        let line = format!("{} given up", label(kind, number));
                        journal.write(self.side, "requests", line);
                    }
                    let status = Status::new(StatusCode::CANCELLED, "");
                    self.node.reject(now, delivery, status).unwrap();
                }
            }
            Event::Settled {
                promise, outcome, ..
            } => {
                let label = self.promises.remove(&promise).unwrap();
                let read = |body: &[u8]| Answer::decode(body).unwrap().number;
                if let Some(outcome) = outcome_of(&outcome, read) {
                    journal.outcome(self.side, &label, &outcome);
                }
            }
            Event::Drained { finished, cut_off } => journal.drained(finished, cut_off),
            _ => {}
        }
    }

    /// What the application does with what it gets.
    fn handle(&mut self, now: Instant, delivery: Delivery, journal: &Journal) {
        let Self { side, node, .. } = self;
        let key = delivery.key;
        let kinds = [
            (Note::full_name(), Kind::Note),
            (Tick::full_name(), Kind::Tick),
            (Bad::full_name(), Kind::Bad),
            (Ask::full_name(), Kind::Ask),
            (Slow::full_name(), Kind::Slow),
            (Stuck::full_name(), Kind::Stuck),
        ];
        let kind = kinds
            .iter()
            .find(|(name, _)| Tag::of(name) == delivery.tag)
            .map_or(Kind::Unknown, |(_, kind)| *kind);
        // All of them have the same shape.
        let number = Note::decode(delivery.body).unwrap().number;
        match kind {
            Kind::Note | Kind::Tick => {
                assert_ne!(delivery.expects, Expects::Reply);
                journal.message(*side, kind, delivery.lane, number);
                node.ack(now, key).unwrap();
            }
            Kind::Bad => node
                .reject(now, key, Status::new(StatusCode(BAD), "bad"))
                .unwrap(),
            Kind::Unknown => node
                .reject(now, key, Status::new(StatusCode::UNIMPLEMENTED, ""))
                .unwrap(),
            Kind::Ask => {
                let answer = Answer { number: 2 * number };
                let tag = Tag::of(&Answer::full_name());
                node.reply(now, key, tag, answer.encode_to_vec()).unwrap();
            }
            Kind::Slow | Kind::Stuck => {
                if kind == Kind::Slow {
                    let line = format!("{} started", label(kind, number));
                    journal.write(*side, "requests", line);
                }
                self.at_work.insert(key, (kind, number));
            }
        }
    }
}

fn message(kind: Kind, number: u64) -> Message {
    let (name, body) = match kind {
        Kind::Note => (Note::full_name(), Note { number }.encode_to_vec()),
        Kind::Tick => (Tick::full_name(), Tick { number }.encode_to_vec()),
        Kind::Bad => (Bad::full_name(), Bad { number }.encode_to_vec()),
        Kind::Unknown => (Unknown::full_name(), Unknown { number }.encode_to_vec()),
        Kind::Ask => (Ask::full_name(), Ask { number }.encode_to_vec()),
        Kind::Slow => (Slow::full_name(), Slow { number }.encode_to_vec()),
        Kind::Stuck => (Stuck::full_name(), Stuck { number }.encode_to_vec()),
    };
    Message::new(Tag::of(&name), body)
}
