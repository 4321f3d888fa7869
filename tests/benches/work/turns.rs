//! Two nodes in one thread, with datagrams carried from hand to hand.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use trunkline_core::trace::Recorder;
use trunkline_core::{
    Admission, ClientRole, Config, Datagram, Dial, Event, Input, Message, Node, Origin, Roles,
    Seed, ServerRole, SessionKey, Tag,
};
use trunkline_testkit::Certificates;

/// How nodes are recorded, to nowhere.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recorded {
    No,
    Wire,
    Link,
}

/// A client and a server with many sessions between them.
pub(crate) struct Nodes {
    now: Instant,
    client: Node,
    server: Node,
    sessions: Vec<SessionKey>,
    body: Bytes,
}

const SERVER: u16 = 1;
const CLIENT: u16 = 2;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

impl Nodes {
    /// So many sessions, all of them connected and idle.
    pub(crate) fn new(sessions: usize, body: usize, recorded: Recorded) -> Self {
        let certificates = Certificates::new().unwrap();
        let mut config = Config::default();
        config.limits.sessions_per_client = sessions;
        // All at once, from one network: it gets half of the places.
        config.limits.half_open = 2 * sessions;
        config.limits.half_open_unvalidated = sessions;
        config.transport.mtu_discovery = false;
        // The fewest beats there can be: what is measured is what the message costs.
        config.heartbeat.interval = Duration::from_secs(300);
        let now = Instant::now();
        let node = |roles, seed| {
            let origin = Origin {
                now,
                wall: SystemTime::now(),
                seed: Seed::new([seed; 32]),
                keys: None,
            };
            let recorder = match recorded {
                Recorded::No => return Node::new(config.clone(), roles, origin).unwrap(),
                Recorded::Wire => Recorder::wire(std::io::sink()),
                Recorded::Link => Recorder::link(std::io::sink()),
            };
            recorder.start(config.clone(), roles, origin).unwrap()
        };
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
        let (server, client) = (node(server, 1), node(client, 2));
        let mut nodes = Self {
            now,
            client,
            server,
            sessions: Vec::new(),
            body: vec![0x5a; body].into(),
        };
        for _ in 0..sessions {
            let dial = Dial {
                address: address(SERVER),
                server_name: "localhost".into(),
                client: "many".parse().unwrap(),
                credentials: Bytes::new(),
                agent: "benchmark".into(),
            };
            nodes
                .sessions
                .push(nodes.client.connect(now, dial).unwrap());
            nodes.exchange();
        }
        // What is late has been: acknowledgements, receipts, keys of the handshake that are dropped.
        for _ in 0..20 {
            nodes.pass(Duration::from_millis(500));
        }
        assert_eq!(nodes.server.metrics(nodes.now).connected, sessions);
        nodes
    }

    fn pass(&mut self, time: Duration) -> usize {
        self.now += time;
        for node in [&mut self.client, &mut self.server] {
            node.handle_input(self.now, Input::Timeout);
        }
        self.exchange()
    }

    /// The session that speaks, always the same: its first message costs more, for it opens a lane.
    fn speaker(&self) -> SessionKey {
        self.sessions[self.sessions.len() / 2]
    }

    /// A request of one session and its reply, with all that follows within 50 ms, at both ends.
    pub(crate) fn request(&mut self) -> usize {
        self.requests(1)
    }

    /// So many requests of one session, in one turn, and their replies, with all that follows within
    /// 50 ms, at both ends.
    pub(crate) fn requests(&mut self, requests: usize) -> usize {
        let tag = Tag::of("benchmark.Echo");
        for _ in 0..requests {
            let request = Message::new(tag, self.body.clone());
            let sent = self.client.request(self.now, self.speaker(), request, None);
            sent.unwrap();
        }
        let at_once = self.exchange();
        let later = (0..2).map(|_| self.pass(Duration::from_millis(25)));
        at_once + later.sum::<usize>()
    }

    /// So many acked messages of one session, in one turn, and their acks.
    pub(crate) fn pipeline(&mut self, messages: usize) -> usize {
        let tag = Tag::of("benchmark.Note");
        for _ in 0..messages {
            let message = Message::new(tag, self.body.clone());
            let sent = self
                .client
                .send_acked(self.now, self.speaker(), message, None);
            sent.unwrap();
        }
        self.exchange()
    }

    /// Carries datagrams until both are quiet; returns how many promises have settled.
    fn exchange(&mut self) -> usize {
        let mut settled = 0;
        loop {
            let carried = carry(self.now, &mut self.client, &mut self.server, CLIENT)
                + carry(self.now, &mut self.server, &mut self.client, SERVER);
            while let Some(event) = self.server.poll_event() {
                if let Event::Message(message) = event {
                    if message.expects == trunkline_core::Expects::Reply {
                        self.server
                            .reply(self.now, message.key, message.tag, message.body)
                            .unwrap();
                    } else {
                        self.server.ack(self.now, message.key).unwrap();
                    }
                }
            }
            while let Some(event) = self.client.poll_event() {
                settled += usize::from(matches!(event, Event::Settled { .. }));
            }
            // An answer may be all there is to do.
            let answered = carry(self.now, &mut self.server, &mut self.client, SERVER);
            if carried + answered == 0 {
                return settled;
            }
        }
    }
}

/// Carries all that one has to say to the other one.
fn carry(now: Instant, from: &mut Node, to: &mut Node, port: u16) -> usize {
    let mut carried = 0;
    let mut buffer = Vec::new();
    while from
        .poll_transmit(now, NonZeroUsize::MIN, &mut buffer)
        .is_some()
    {
        let datagram = Datagram {
            remote: address(port),
            local_ip: None,
            ecn: None,
            data: buffer[..].into(),
        };
        to.handle_input(now, Input::Datagram(datagram));
        buffer.clear();
        carried += 1;
    }
    carried
}
