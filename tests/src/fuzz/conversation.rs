//! What nodes say to each other, from simulated runs under null cryptography: what corpora begin
//! with.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::swarm::{Action, Plan, run_in};

use super::packets::{Frame, Space, frames, packets};
use super::two_nodes::null_world;

/// What one side of one connection has written.
#[derive(Clone, Debug, Default)]
pub(super) struct Talk {
    /// The client has written it.
    pub(super) to_server: bool,
    /// By QUIC's number of the stream, from the first byte without gaps.
    pub(super) streams: BTreeMap<u64, Vec<u8>>,
}

/// Seeds of the runs whose conversations are taken.
const SEEDS: std::ops::Range<u64> = 0..60;
/// No connection of more bytes is taken.
const BYTES_MAX: usize = 20_000;

/// The conversations of some runs of a server and a client.
pub(super) fn talks() -> Vec<Talk> {
    let mut talks = Vec::new();
    for seed in SEEDS {
        let mut plan = Plan::new(seed);
        (plan.servers, plan.clients) = (1, 1);
        plan.steps.retain(|step| is_of_two(&step.action));
        plan.server.transport.mtu_discovery = false;
        plan.client.transport.mtu_discovery = false;
        let heard = Rc::new(RefCell::new(Heard::default()));
        let mut world = null_world(seed);
        let hearing = heard.clone();
        world.observe(move |seen| hearing.borrow_mut().hear(seen.to.0 == 0, seen.payload));
        let (ran, world) = run_in(world, &plan, None);
        drop(world);
        assert!(
            ran.violations.is_empty() && ran.panicked.is_none(),
            "seed {seed}"
        );
        let heard = heard.take();
        talks.extend(heard.done.into_iter().chain(heard.now));
    }
    let size = |talk: &Talk| talk.streams.values().map(Vec::len).sum::<usize>();
    talks.retain(|talk| (1..BYTES_MAX).contains(&size(talk)));
    talks
}

/// Whether a step of any run means something to node 0 and node 1.
fn is_of_two(action: &Action) -> bool {
    match *action {
        Action::Send { node, size, .. } | Action::BestEffort { node, size, .. } => {
            node < 2 && size < 3_000
        }
        Action::Connect { client, server } => (client, server) == (1, 0),
        Action::Broadcast { node, .. }
        | Action::Join { node, .. }
        | Action::Leave { node, .. }
        | Action::Cancel { node, .. }
        | Action::Answer { node, .. }
        | Action::Hold { node, .. }
        | Action::Close { node, .. } => node < 2,
        Action::Cut { from, to, .. } => from < 2 && to < 2,
        _ => false,
    }
}

/// The connections so far; one begins when the client's first packet comes.
#[derive(Default)]
struct Heard {
    done: Vec<Talk>,
    now: [Talk; 2],
}

impl Heard {
    fn hear(&mut self, to_server: bool, datagram: &[u8]) {
        for packet in packets(datagram) {
            if (packet.space, packet.number.0, to_server) == (Space::Initial, 0, true) {
                self.done.extend(std::mem::take(&mut self.now));
            }
            let talk = &mut self.now[usize::from(to_server)];
            talk.to_server = to_server;
            for frame in frames(&packet.frames) {
                if let Frame::Stream {
                    stream,
                    offset,
                    data,
                    ..
                } = frame
                {
                    let written = talk.streams.entry(stream).or_default();
                    // What comes again, or after a gap, is not taken.
                    if written.len() as u64 == offset {
                        written.extend(data);
                    }
                }
            }
        }
    }
}
