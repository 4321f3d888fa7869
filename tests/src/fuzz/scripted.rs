//! A node whose peers are the target's: every byte of theirs is, and every byte that the node writes
//! is read and has to be sound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use trunkline_core::{
    Admission, CloseCode, Config, Event, LinkKey, Node, Said, ScriptEvent, ScriptStream,
    ScriptedNode, ScriptedRoles, Seed,
};
use trunkline_proto::control::Frame;
use trunkline_proto::{Control, Envelope, LaneOpen};

use crate::raw_peer;

use super::laws;

pub(super) const CONTROL: ScriptStream = ScriptStream::Bidirectional(0);

/// A node and what it has said to each peer.
pub(super) struct Scripted {
    pub(super) machine: ScriptedNode,
    pub(super) now: Instant,
    said: BTreeMap<(LinkKey, ScriptStream), Vec<Bytes>>,
    closed: BTreeMap<LinkKey, (CloseCode, String)>,
}

impl Scripted {
    pub(super) fn new(config: Config, serves: bool, now: Instant) -> Self {
        let roles = ScriptedRoles {
            admission: serves.then_some(Admission::Open),
            client: !serves,
        };
        let machine = ScriptedNode::new(config, roles, &Seed::new([7; 32]), now);
        Self {
            machine: machine.expect("the configuration is valid"),
            now,
            said: BTreeMap::new(),
            closed: BTreeMap::new(),
        }
    }

    pub(super) fn node(&mut self) -> &mut Node {
        self.machine.node()
    }

    /// A peer's handshake with the node is done.
    pub(super) fn begin(&mut self, number: u8) -> LinkKey {
        let address = SocketAddr::from(([192, 0, 2, number], 4_433));
        let link = self.machine.begin(self.now, address, Vec::new());
        let link = link.expect("the node is scripted");
        self.play(link, ScriptEvent::Up);
        link
    }

    pub(super) fn play(&mut self, link: LinkKey, event: ScriptEvent) {
        self.machine.play(self.now, link, event);
    }

    pub(super) fn write(&mut self, link: LinkKey, stream: ScriptStream, bytes: impl Into<Bytes>) {
        self.play(link, ScriptEvent::Bytes(stream, bytes.into()));
    }

    pub(super) fn control(&mut self, link: LinkKey, frame: Frame) {
        self.write(link, CONTROL, raw_peer::control(frame));
    }

    /// Lets time pass; `on_event` is the node's application.
    pub(super) fn pass(
        &mut self,
        time: Duration,
        on_event: &mut dyn FnMut(&mut Node, Instant, &Event),
    ) {
        let end = self.now + time;
        let mut sent = |_, _: &[u8]| panic!("a scripted node sends no datagrams");
        laws::pass(self.machine.node(), &mut self.now, end, on_event, &mut sent);
        for (link, said) in self.machine.take_said() {
            match said {
                Said::Bytes(stream, bytes) => {
                    self.said.entry((link, stream)).or_default().push(bytes);
                }
                Said::Closed(code, reason) => {
                    self.closed.insert(link, (code, reason));
                }
                Said::Refused(_) => {}
            }
        }
    }

    /// What the node has said on a link's control stream, `Hello` or `Welcome` first.
    pub(super) fn heard(&self, link: LinkKey) -> Vec<Frame> {
        let said = self.said.get(&(link, CONTROL));
        let bytes = said.map_or_else(Vec::new, |said| said.concat());
        let frames = raw_peer::cut(&bytes);
        let frame = |frame| Control::decode(frame).expect("a control frame").frame;
        let frames = frames.into_iter().map(frame);
        frames.map(|frame| frame.expect("a known frame")).collect()
    }

    /// The code and the reason that the node has closed a link with.
    pub(super) fn closed(&self, link: LinkKey) -> Option<&(CloseCode, String)> {
        self.closed.get(&link)
    }

    /// The envelopes that the node has written to a link, each with its lane.
    ///
    /// # Panics
    /// If what it has written is not as the protocol says.
    pub(super) fn envelopes(&self, link: LinkKey) -> Vec<(u8, Envelope)> {
        let mut all = Vec::new();
        for ((of, stream), said) in &self.said {
            if *of != link || *stream == CONTROL {
                continue;
            }
            let bytes = said.concat();
            let mut frames = raw_peer::cut(&bytes).into_iter();
            let Some(first) = frames.next() else {
                continue;
            };
            let open = LaneOpen::decode(first).expect("the opening of a lane");
            let lane = u8::try_from(open.lane).expect("a lane");
            for frame in frames {
                let envelope = Envelope::decode(Bytes::copy_from_slice(frame));
                let envelope = envelope.expect("an envelope");
                envelope.check_place(lane).expect("its place");
                all.push((lane, envelope));
            }
        }
        all
    }

    /// The links that there are, and whether the node has dialled them.
    pub(super) fn links(&mut self) -> Vec<(LinkKey, bool)> {
        self.machine.links()
    }
}
