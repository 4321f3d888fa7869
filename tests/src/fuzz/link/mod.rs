//! A node's link under whatever its peer may write: see [`link`].

mod acts;

use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{
    ClientId, Config, DeliveryKey, Dial, Event, Expects, LinkKey, Node, PromiseKey, ScriptEvent,
    ScriptStream, SessionKey,
};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_proto::{Heartbeat, Limits, Ready, Welcome};

use crate::oracle::Oracle;
use crate::raw_peer::{envelope, hello, lane_open};
use crate::world::echo;

use self::acts::act;
use super::input::Input;
use super::scripted::Scripted;
use super::two_nodes::told;
use super::{Reached, conversation};

pub(super) const FLOOR: &[&str] = &[
    "a server",
    "a client",
    "NORMAL",
    "FRAME_TOO_LARGE",
    "UNDECODABLE",
    "SEQUENCE_GAP",
    "UNKNOWN_LANE",
    "WRONG_TOKEN",
    "SUPERSEDED",
    "PROTOCOL_VIOLATION",
    "BAD_RECEIPT",
    "FLOODED",
    "HEARTBEAT_TIMEOUT",
    "a link that goes on",
    "a message",
    "a best-effort message",
    "a cancel heard of",
    "a session resumed",
    "an ack",
    "a reply",
    "a rejection",
    "a promise timed out",
    "a promise lost",
];

/// An authenticated peer writes whatever the input says, on whatever stream, in chunks of any size,
/// while the node's own application goes on talking to it.
///
/// The node ends the link with a numbered code, or goes on; it keeps its bounds and the laws of its
/// contract; what it writes itself is sound; and a request that comes on another link of the same
/// node is answered at once.
///
/// The input: a byte for who the node is and how it is configured, and then what the peer and the
/// application do, one after the other, as `act` names it.
pub fn link(data: &[u8]) -> Reached {
    let mut input = Input::new(data);
    let mut stage = Stage::new(input.byte());
    for _ in 0..ACTS_MAX {
        if input.is_empty() {
            break;
        }
        stage.act(&mut input);
    }
    stage.finish()
}

/// What nodes have said to each other: every frame in its place, to a node of its reader's side.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, talk) in conversation::talks().into_iter().enumerate() {
        let mut seed = vec![u8::from(!talk.to_server) | (number as u8 & 3) << 1];
        for (stream, bytes) in &talk.streams {
            let place = match stream {
                // Hello and Welcome are the stage's: those of another conversation mean nothing.
                0 => CONTROL_PLACE,
                _ => (*stream >> 2) as u8,
            };
            let skipped = usize::from(*stream == 0);
            for frame in crate::raw_peer::cut(bytes).into_iter().skip(skipped) {
                if let Ok(length) = u8::try_from(frame.len()) {
                    seed.extend([act::FRAME, place, length]);
                    seed.extend(frame);
                }
            }
            seed.extend([act::WAIT, 1]);
        }
        if seed.len() < 1_500 {
            seeds.push(seed);
        }
    }
    // A session is proposed that there is, and one is taken over.
    seeds.push(vec![0, act::BACK, 1, act::CONTROL, 8, 6]);
    seeds.push(vec![0, act::BACK, 0]);
    seeds
}

/// More acts than this are left out.
const ACTS_MAX: usize = 100;
/// A byte that stands for the control stream where lanes' streams are 0 to 6.
const CONTROL_PLACE: u8 = 7;

/// More bytes are left out: what a script writes takes time, and it has no flow control, which would hold
/// the peer to some more.
const WRITTEN_MAX: usize = 4 << 20;
/// How often the peer comes back at most.
const LINKS_MAX: u8 = 6;

struct Stage {
    nodes: Scripted,
    serves: bool,
    /// The link of the peer that does what the input says.
    link: LinkKey,
    links: Vec<LinkKey>,
    /// The link of one that does as it should.
    beside: LinkKey,
    /// The node's session with the peer, once it is known.
    session: Option<SessionKey>,
    oracle: Oracle,
    last: Option<(ScriptStream, Bytes)>,
    written: usize,
    /// Bytes are given in chunks of so many.
    chunk: usize,
    hellos: u64,
    aside: Vec<(DeliveryKey, Expects)>,
    promises: Vec<PromiseKey>,
    holds: bool,
    beats: u64,
    reached: Reached,
}

impl Stage {
    fn new(how: u8) -> Self {
        let serves = how & 1 == 0;
        let now = Instant::now();
        let mut config = Config::default();
        if how & 2 != 0 {
            shrink(&mut config);
        }
        let mut oracle = Oracle::new(now);
        oracle.started(now, 0, &config);
        let mut nodes = Scripted::new(config, serves, now);
        let (beside, link, session);
        if serves {
            session = None;
            beside = nodes.begin(1);
            nodes.control(beside, Frame::Hello(hello("honest", HONEST)));
            nodes.pass(Duration::ZERO, &mut echo);
            nodes.control(beside, Frame::Ready(Ready { epoch: 1 }));
            link = nodes.begin(2);
        } else {
            (beside, _) = dialled(&mut nodes, 1);
            let welcome = welcome(&nodes, beside, 1);
            nodes.control(beside, Frame::Welcome(welcome));
            let (second, key) = dialled(&mut nodes, 2);
            (link, session) = (second, Some(key));
        }
        nodes.pass(Duration::ZERO, &mut echo);
        let mut stage = Self {
            nodes,
            serves,
            link,
            links: vec![link],
            beside,
            session,
            oracle,
            last: None,
            written: 0,
            chunk: usize::MAX,
            hellos: 1,
            aside: Vec::new(),
            promises: Vec::new(),
            holds: how & 4 != 0,
            beats: 0,
            reached: Reached::new(),
        };
        if how & 8 == 0 {
            stage.greet(1);
        }
        stage
    }

    /// The link begins as it should.
    fn greet(&mut self, epoch: u64) {
        if self.serves {
            let mut hello = hello("raw", self.hellos);
            if epoch > 1 {
                hello.resume = Some(self.ticket(Vec::new()));
            }
            self.nodes.control(self.link, Frame::Hello(hello));
            self.pass(Duration::ZERO);
            self.nodes.control(self.link, Frame::Ready(Ready { epoch }));
        } else {
            let welcome = welcome(&self.nodes, self.link, epoch);
            self.nodes.control(self.link, Frame::Welcome(welcome));
        }
        self.pass(Duration::ZERO);
    }

    /// Lets time pass; the honest peer beats its heart.
    fn pass(&mut self, time: Duration) {
        const BEAT: Duration = Duration::from_secs(10);
        let mut left = time;
        loop {
            let step = left.min(BEAT);
            if !step.is_zero() {
                self.beat();
            }
            self.step(step);
            left -= step;
            if left.is_zero() {
                break;
            }
        }
        let now = self.nodes.now;
        self.oracle.look(now, 0, self.nodes.node());
    }

    /// The honest peer says that it lives.
    fn beat(&mut self) {
        if self.serves {
            self.beats += 1;
            let beat = Heartbeat { number: self.beats };
            self.nodes.control(self.beside, Frame::Heartbeat(beat));
        } else {
            self.nodes.play(self.beside, ScriptEvent::Acknowledge);
        }
    }

    fn step(&mut self, time: Duration) {
        let Self {
            nodes,
            serves,
            session,
            aside,
            holds,
            reached,
            ..
        } = self;
        let mut application = |node: &mut Node, now: Instant, event: &Event| {
            reached.extend(told(event));
            match event {
                Event::Connected {
                    session: new,
                    client,
                    ..
                } if *serves && client.as_str() == "raw" => *session = Some(*new),
                Event::Message(delivery) if &delivery.body[..] != QUESTION => {
                    reached.insert("a message");
                    if *holds {
                        aside.push((delivery.key, delivery.expects));
                        return;
                    }
                }
                _ => {}
            }
            echo(node, now, event);
        };
        nodes.pass(time, &mut application);
    }

    fn write(&mut self, stream: ScriptStream, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.written += bytes.len();
        if self.written > WRITTEN_MAX {
            return;
        }
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(self.chunk.min(rest.len()));
            self.nodes.write(self.link, stream, chunk);
        }
        self.last = Some((stream, bytes));
    }

    /// The honest peer's request is answered at once.
    fn finish(mut self) -> Reached {
        let request = Envelope {
            kind: Kind::Request.into(),
            promise: 1,
            body: QUESTION.into(),
            ..Envelope::default()
        };
        let bytes = [lane_open(0, 0), envelope(&request)].concat();
        self.nodes.write(self.beside, ScriptStream::Lane(0), bytes);
        self.pass(Duration::ZERO);
        let answers = self.nodes.envelopes(self.beside);
        let answered = |(_, answer): &(u8, trunkline_proto::Envelope)| {
            answer.header.kind == Kind::Reply && &answer.body[..] == QUESTION
        };
        assert!(
            answers.len() == 1 && answers.iter().all(answered),
            "the honest peer was answered {answers:?}, {:?}",
            self.nodes.closed(self.beside)
        );
        if let Some(violation) = self.oracle.violations().first() {
            panic!("{violation}");
        }
        let mut reached = self.reached;
        reached.insert(if self.serves { "a server" } else { "a client" });
        for link in self.links {
            // What the node says is sound, whatever it was told.
            self.nodes.heard(link);
            self.nodes.envelopes(link);
            reached.insert(match self.nodes.closed(link) {
                None => "a link that goes on",
                // Some are the peer's own, said back.
                Some((code, _)) => code.name(),
            });
        }
        reached
    }
}

/// What the honest peer asks, and nobody else.
const QUESTION: &[u8] = b"what is asked beside";
/// A number that no hello of the other peer's has.
const HONEST: u64 = 1_000;

/// The node dials a server whose handshake is done.
fn dialled(nodes: &mut Scripted, number: u8) -> (LinkKey, SessionKey) {
    let dial = Dial {
        address: ([192, 0, 2, number], 4_433).into(),
        server_name: "localhost".to_owned(),
        client: ClientId::new("fuzzed").expect("a usable name"),
        credentials: Bytes::new(),
        agent: "fuzz".to_owned(),
    };
    let before = nodes.links();
    let now = nodes.now;
    let session = nodes.node().connect(now, dial).expect("the node dials");
    let new = nodes
        .links()
        .into_iter()
        .find(|link| !before.contains(link));
    let (link, _) = new.expect("a dial begins a link");
    nodes.play(link, ScriptEvent::Up);
    nodes.pass(Duration::ZERO, &mut echo);
    (link, session)
}

/// A Welcome that fits what the client has said.
fn welcome(nodes: &Scripted, link: LinkKey, epoch: u64) -> Welcome {
    let (session_id, resumed) = match nodes.heard(link).into_iter().next() {
        Some(Frame::Hello(hello)) => match hello.resume {
            None => (hello.session_id, false),
            Some(resume) => (resume.session_id, true),
        },
        _ => (Bytes::new(), false),
    };
    Welcome {
        version: 1,
        session_id,
        token: vec![3; 16].into(),
        epoch,
        resumed,
        limits: Some(Limits {
            frame_bytes: 1 << 20,
            lanes: 4,
        }),
        heartbeat_ms: 15_000,
        retention_ms: 120_000,
        ..Welcome::default()
    }
}

/// Next to no room for anything.
fn shrink(config: &mut Config) {
    let limits = &mut config.limits;
    limits.frame_bytes = 4_096;
    limits.promises = 4;
    limits.outbox_messages = 8;
    limits.outbox_bytes = 4_096;
    limits.lane_window_bytes = 1_024;
    limits.deliveries = 2;
    limits.delivery_bytes = 1_024;
    limits.event_messages = 2;
    limits.event_bytes = 1_024;
    limits.best_effort_bytes = 1_024;
}
