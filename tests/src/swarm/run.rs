//! Runs a plan: the steps while faults last, then the examination of who has healed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{Admission, CloseCode, DrainPlan, Lane, SessionKey};

use crate::oracle::{Violation, body};
use crate::world::NodeIndex;
use crate::{Certificates, Recording, Traffic, World};

use super::caught::caught;
use super::desk::{Hall, Shared};
use super::faults::{self, Faults, Harmed};
use super::plan::{Action, Plan, Step};
use super::pressure::Pressure;

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    /// What the oracle has found, oldest first.
    pub violations: Vec<Violation>,
    /// Where something panicked, and with what words: a node, or the world that checks it.
    pub panicked: Option<String>,
    /// Stands for every datagram that was sent.
    pub fingerprint: u64,
    /// What became of the datagrams.
    pub traffic: Traffic,
    /// What was full.
    pub pressure: Pressure,
    /// Which faults of processes took effect.
    pub faults: Faults,
    /// What was recorded, if that was asked for.
    pub recorded: Option<Recorded>,
}

/// What is left of a run that was recorded.
#[derive(Debug)]
pub struct Recorded {
    /// The nodes' recordings: the node's index, and a trace a process.
    pub traces: Vec<(usize, Vec<Vec<u8>>)>,
    /// What happened, a line an event, in order.
    pub events: String,
}

pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) world: World,
    pub(super) hall: Shared,
    pub(super) indices: Vec<NodeIndex>,
    pub(super) state: Vec<Process>,
    pub(super) cut: Vec<(usize, usize)>,
    pub(super) numbers: u64,
    pub(super) dials: u64,
    pub(super) pressure: Pressure,
    pub(super) faults: Faults,
    pub(super) harmed: Vec<Harmed>,
}

/// What the run did to a node's process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) killed: bool,
    pub(super) paused: bool,
    pub(super) draining: bool,
    /// Its send buffer is full.
    pub(super) withholds: bool,
    pub(super) lag: Duration,
}

/// Runs a plan to its end, or to the first thing that is wrong.
pub fn run(plan: &Plan, certificates: &Certificates) -> Ran {
    run_recorded(plan, certificates, None)
}

/// The same, recorded so.
pub fn run_recorded(plan: &Plan, certificates: &Certificates, recording: Option<Recording>) -> Ran {
    let world = World::with_certificates(plan.seed, certificates);
    run_in(world, plan, recording).0
}

/// The same in a world without nodes, which is given back.
pub(crate) fn run_in(world: World, plan: &Plan, recording: Option<Recording>) -> (Ran, World) {
    let mut run = Run::new(plan, world, recording);
    let finished = caught(|| run.steps() && run.examine());
    let ran = Ran {
        violations: run.hall.borrow().oracle.violations().to_vec(),
        panicked: finished.err(),
        fingerprint: run.world.fingerprint(),
        traffic: run.world.traffic(),
        pressure: run.pressure(),
        faults: run.faults(),
        recorded: recording.is_some().then(|| run.recorded()),
    };
    (ran, run.world)
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, mut world: World, recording: Option<Recording>) -> Self {
        if let Some(recording) = recording {
            world.record_at(recording);
        }
        if plan.asks {
            world.admission = Admission::Ask;
        }
        let hall = Hall::new(world.now(), plan.seed);
        let mut indices = Vec::new();
        for node in 0..plan.servers + plan.clients {
            let serves = node < plan.servers;
            let config = plan.config(node);
            *world.config() = config.clone();
            let index = if serves {
                world.server()
            } else {
                world.client()
            };
            hall.borrow_mut().oracle.started(world.now(), node, config);
            Hall::staff(&hall, &mut world, index, config);
            indices.push(index);
        }
        let (nodes, wall) = (0..indices.len(), world.wall);
        Self {
            plan,
            world,
            hall,
            state: vec![Process::default(); indices.len()],
            indices,
            cut: Vec::new(),
            numbers: 0,
            dials: 0,
            pressure: Pressure::default(),
            faults: Faults::default(),
            harmed: nodes.map(|_| Harmed::new(wall)).collect(),
        }
    }

    fn pressure(&self) -> Pressure {
        let mut pressure = self.pressure.clone();
        pressure.add(&self.hall.borrow().pressure);
        let dropped = self.world.traffic().socket_full;
        pressure.count("a paused process's socket", dropped);
        pressure
    }

    fn faults(&self) -> Faults {
        let mut faults = self.faults.clone();
        faults.add(&self.hall.borrow().faults);
        faults
    }

    fn recorded(&self) -> Recorded {
        let start = self.world.now() - self.world.elapsed();
        let mut events = Vec::new();
        for (node, index) in self.indices.iter().enumerate() {
            let log = self.world.log(*index).iter();
            events.extend(log.map(|(at, event)| (*at - start, node, format!("{event:?}"))));
        }
        events.sort_by_key(|(at, ..)| *at);
        let line = |(at, node, event): &(Duration, usize, String)| {
            let shown: String = event.chars().take(300).collect();
            format!("{at:?} node {node}: {shown}\n")
        };
        let traces = self.indices.iter();
        Recorded {
            traces: traces.map(|i| (i.0, self.world.traces(*i))).collect(),
            events: events.iter().map(line).collect(),
        }
    }

    fn steps(&mut self) -> bool {
        for Step { at, action } in &self.plan.steps {
            self.pass(at.saturating_sub(self.world.elapsed()));
            self.perform(action);
            if !self.is_well() {
                return false;
            }
        }
        true
    }

    /// Lets time pass, and the oracle look at everybody after it.
    pub(super) fn pass(&mut self, time: Duration) {
        self.world.run(time, |_, _, _| {});
        let now = self.world.now();
        let mut hall = self.hall.borrow_mut();
        for (node, state) in self.state.iter().enumerate() {
            if state.paused {
                hall.oracle.stalled(now, node);
            }
            if !state.killed && !state.paused {
                let held = self.world.held(self.indices[node]);
                let shown = self.world.node(self.indices[node]);
                hall.oracle.look(now, node, shown);
                hall.oracle.count_refusals(now, node, shown);
                if let Some(held) = held {
                    hall.oracle.weigh(now, node, held, shown);
                }
            }
        }
        drop(hall);
        self.look_at_harm();
    }

    pub(super) fn is_well(&self) -> bool {
        self.hall.borrow().oracle.violations().is_empty()
    }

    pub(super) fn runs(&self, node: usize) -> bool {
        let Process { killed, paused, .. } = self.state[node];
        !killed && !paused
    }

    /// A node that is meant, if it runs.
    pub(super) fn running(&self, node: usize) -> Option<usize> {
        Some(node).filter(|node| self.runs(*node))
    }

    pub(super) fn session(&self, node: usize, place: usize) -> Option<(usize, SessionKey)> {
        let node = self.running(node)?;
        let hall = self.hall.borrow();
        let sessions = &hall.desks[node].sessions;
        let session = sessions.get(place.checked_rem(sessions.len())?)?;
        Some((node, *session))
    }

    pub(super) fn next_body(&mut self, size: usize) -> Bytes {
        self.numbers += 1;
        body(self.numbers, size)
    }

    pub(super) fn perform(&mut self, action: &Action) {
        let now = self.world.now();
        match *action {
            Action::Connect { client, server } => self.connect(client, server),
            Action::Storm { server } => {
                for client in self.plan.servers..self.indices.len() {
                    self.connect(client, server);
                }
            }
            Action::Send {
                node,
                session,
                kind,
                lane,
                size,
                count,
            } => {
                if let Some((node, session)) = self.session(node, session) {
                    let lane = lane.and_then(Lane::new);
                    for _ in 0..count {
                        // What is refused is counted.
                        self.send(node, session, kind, lane, size).ok();
                    }
                }
            }
            Action::BestEffort {
                node,
                session,
                key,
                size,
                count,
            } => {
                if let Some((node, session)) = self.session(node, session) {
                    for _ in 0..count {
                        self.send_best_effort(node, session, key, size);
                    }
                }
            }
            Action::Broadcast {
                node,
                group,
                except,
                key,
                size,
                count,
            } => {
                if let Some(node) = self.running(node) {
                    let except = except.and_then(|place| self.session(node, place));
                    let except = except.map(|(_, session)| session);
                    for _ in 0..count {
                        self.broadcast(node, group, except, key, size);
                    }
                }
            }
            Action::Join {
                node,
                session,
                group,
            } => self.group(node, session, group, true),
            Action::Leave {
                node,
                session,
                group,
            } => self.group(node, session, group, false),
            Action::Cancel { node, promise } => {
                let Some(node) = self.running(node) else {
                    return;
                };
                let promises = self.hall.borrow().desks[node].promises.clone();
                if let Some(place) = promise.checked_rem(promises.len())
                    && self.cancel(node, promises[place])
                {
                    self.faults.count(faults::CANCELLED);
                }
            }
            Action::Answer {
                node,
                count,
                rejects,
            } => {
                if let Some(node) = self.running(node) {
                    self.answers(now, node, count, rejects);
                }
            }
            Action::Hold { node, holds } => self.hall.borrow_mut().desks[node].holds = holds,
            Action::Close {
                node,
                session,
                code,
            } => {
                if let Some((node, session)) = self.session(node, session)
                    && self.close(node, session, CloseCode(code))
                {
                    self.faults.count(faults::CLOSED);
                }
            }
            Action::Drain {
                node,
                deadline,
                retry_after,
            } => {
                let plan = DrainPlan {
                    deadline,
                    retry_after,
                    alternative: None,
                };
                if let Some(node) = self.running(node) {
                    self.drain(node, plan);
                }
            }
            Action::Renew { node } => {
                if let Some(node) = self.running(node) {
                    self.renew(node);
                }
            }
            Action::Redirect {
                client,
                session,
                server,
            } => {
                if let Some((client, session)) = self.session(client, session) {
                    let address = self.world.address(self.indices[server]);
                    let machine = self.world.node(self.indices[client]);
                    let before = machine.session_info(session).and_then(|info| info.address);
                    if machine.redirect(now, session, address).is_ok() {
                        if before != Some(address) {
                            self.harmed[client].is_sent(now, session, address);
                        }
                        let mut hall = self.hall.borrow_mut();
                        hall.oracle.redirects(client, session);
                    }
                }
            }
            _ => self.harm(action),
        }
    }

    /// An application lets in whoever waits for that, and answers some of what it has put aside.
    pub(super) fn answers(&mut self, now: Instant, node: usize, count: usize, rejects: bool) {
        let mut hall = self.hall.borrow_mut();
        self.world.command(self.indices[node], |machine| {
            hall.admit(now, node, machine, rejects);
            hall.answer_aside(now, node, machine, count, rejects);
        });
    }
}
