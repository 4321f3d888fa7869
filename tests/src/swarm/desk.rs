//! The applications of a run, and what all of them share with the oracle.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{
    AdmissionRequest, ClientId, Config, Delivery, DeliveryKey, Event, Expects, LinkKey, Node,
    PromiseKey, Refusal, SessionKey, Status, StatusCode, Tag,
};

use crate::World;
use crate::memory::{copied, counted};
use crate::oracle::{Answer, Oracle, number_of};
use crate::world::NodeIndex;

use super::faults::{self, Faults};
use super::pressure::Pressure;
use super::seen::Seen;

/// Code of the rejections that applications give.
const NO: StatusCode = StatusCode(1_000);

/// What one node's application has on its desk.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) sessions: Vec<SessionKey>,
    pub(super) promises: Vec<PromiseKey>,
    /// Put aside, to be answered later.
    pub(super) aside: VecDeque<Delivery>,
    pub(super) asking: VecDeque<(LinkKey, ClientId)>,
    pub(super) holds: bool,
    /// Answer at once and with yes, whatever it is.
    pub(super) willing: bool,
    /// Deliveries that were cancelled.
    pub(super) cancelled: Vec<DeliveryKey>,
    /// Groups that its sessions are in, as it asked for.
    pub(super) groups: BTreeMap<String, Vec<SessionKey>>,
    seen: Seen,
}

/// What applications share.
pub(super) struct Hall {
    pub(super) oracle: Oracle,
    pub(super) desks: Vec<Desk>,
    /// What applications have seen to be full.
    pub(super) pressure: Pressure,
    /// Faults whose effect they have seen.
    pub(super) faults: Faults,
    /// Makes a run's applications decide in their own way.
    temper: u64,
}

pub(super) type Shared = Rc<RefCell<Hall>>;

impl Hall {
    pub(super) fn new(now: Instant, temper: u64) -> Shared {
        Rc::new(RefCell::new(Self {
            oracle: Oracle::new(now),
            desks: Vec::new(),
            pressure: Pressure::default(),
            faults: Faults::default(),
            temper,
        }))
    }

    /// The application of a node, which reports to the oracle.
    pub(super) fn staff(shared: &Shared, world: &mut World, index: NodeIndex, config: &Config) {
        let hall = shared.clone();
        let at = index.0;
        let config = config.clone();
        shared.borrow_mut().desks.push(Desk::default());
        world.attach(index, move |node, now, event| {
            let mut hall = hall.borrow_mut();
            hall.oracle.event(now, at, event);
            let Self {
                desks, pressure, ..
            } = &mut *hall;
            let seen = &mut desks[at].seen;
            seen.event(now, node, event, &config, pressure);
            hall.handle(now, at, node, event);
        });
    }

    fn handle(&mut self, now: Instant, at: usize, node: &mut Node, event: &Event) {
        let desk = &mut self.desks[at];
        match event {
            Event::Connected { session, .. } if !desk.sessions.contains(session) => {
                desk.sessions.push(*session);
            }
            Event::Closed { session, .. } => {
                desk.sessions.retain(|known| known != session);
                for members in desk.groups.values_mut() {
                    members.retain(|known| known != session);
                }
            }
            Event::Settled { promise, .. } => desk.promises.retain(|known| known != promise),
            Event::Cancelled { delivery } => {
                desk.cancelled.push(*delivery);
                if !desk.willing {
                    self.faults.count(faults::CANCEL_HEARD);
                }
            }
            Event::Draining { .. } if !desk.willing => self.faults.count(faults::DRAINS),
            Event::Admission(request) => {
                let draw = self.draw(desk_number(request));
                let desk = &mut self.desks[at];
                desk.asking
                    .push_back((request.link, request.client.clone()));
                if desk.willing || !draw.is_multiple_of(4) {
                    let refuses = !desk.willing && draw.is_multiple_of(7);
                    self.admit(now, at, node, refuses);
                }
            }
            Event::Message(delivery) => {
                let draw = self.draw(number_of(&delivery.body).unwrap_or(0));
                let desk = &mut self.desks[at];
                let later = desk.holds || !desk.willing && draw.is_multiple_of(6);
                if later {
                    desk.aside.push_back(delivery.clone());
                    if desk.holds && !desk.willing {
                        self.faults.count(faults::SLOW);
                    }
                } else {
                    let rejects = !desk.willing && draw.is_multiple_of(11);
                    self.answer(now, at, node, delivery, rejects);
                }
            }
            _ => {}
        }
    }

    /// A number that follows from another and the run, so that what an application does about one
    /// message depends on no other.
    fn draw(&self, number: u64) -> u64 {
        crate::Random::new(self.temper ^ number).next_u64() >> 8
    }

    /// Decides about everybody who asks to be let in.
    pub(super) fn admit(&mut self, now: Instant, at: usize, node: &mut Node, refuses: bool) {
        while let Some((link, client)) = self.desks[at].asking.pop_front() {
            if refuses {
                let refused = counted(|| {
                    let refusal = Refusal {
                        reason: "not now".into(),
                        retry_after: Some(Duration::from_millis(500)),
                    };
                    node.refuse(now, link, refusal)
                });
                if refused.is_ok() {
                    self.oracle.refuses(now, at, link, &client);
                }
            } else {
                // The link may have gone meanwhile.
                if counted(|| node.admit(now, link)).is_ok() {
                    self.oracle.admits(at, link);
                }
            }
        }
    }

    /// Answers some of what was put aside, oldest first.
    pub(super) fn answer_aside(
        &mut self,
        now: Instant,
        at: usize,
        node: &mut Node,
        count: usize,
        rejects: bool,
    ) {
        for _ in 0..count {
            let Some(delivery) = self.desks[at].aside.pop_front() else {
                return;
            };
            self.answer(now, at, node, &delivery, rejects);
        }
    }

    fn answer(
        &mut self,
        now: Instant,
        at: usize,
        node: &mut Node,
        delivery: &Delivery,
        rejects: bool,
    ) {
        let key = delivery.key;
        let (given, answer) = if rejects {
            let given = counted(|| node.reject(now, key, Status::new(NO, "no")));
            (given, Answer::Reject(NO))
        } else if delivery.expects == Expects::Reply {
            // The request's body is the reply; where the sender takes no such frame, its number. The tag
            // is another, so that it cannot be the request's.
            let (tag, body) = (Tag(!delivery.tag.0), delivery.body.clone());
            match counted(|| node.reply(now, key, tag, copied(&body))) {
                Err(trunkline_core::CommandError::TooLarge { .. }) => {
                    let body: Bytes = body.slice(..8);
                    let given = counted(|| node.reply(now, key, tag, copied(&body)));
                    (given, Answer::Reply(tag, body))
                }
                given => (given, Answer::Reply(tag, body)),
            }
        } else {
            (counted(|| node.ack(now, key)), Answer::Ack)
        };
        // The session may have ended since; then nobody waits for the answer.
        if given.is_ok() {
            self.oracle.answered(now, at, key, answer);
            self.desks[at].seen.answered(delivery);
        }
    }
}

fn desk_number(request: &AdmissionRequest) -> u64 {
    let link = request.link.0;
    u64::from(link.slot) << 32 | u64::from(link.generation)
}
