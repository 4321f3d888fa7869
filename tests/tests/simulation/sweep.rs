//! The link of one conversation is killed after every single datagram, in either direction, by
//! silence of one way or of both: every run ends complete.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use trunkline_core::{Event, Expects, Lane, Message, Node, Outcome, PromiseKey, SessionKey};
use trunkline_testkit::oracle::{Answer, Oracle, Waits, body, tag_of};
use trunkline_testkit::{Certificates, NodeIndex, World};

use crate::SECOND;

const MILLISECOND: Duration = Duration::from_millis(1);
const SERVER: usize = 0;
const CLIENT: usize = 1;
/// Turns of the conversation.
const TURNS: u32 = 150;

/// How the link is killed: how many more datagrams get through of what the server sends, and of
/// what the client sends; `None`: all.
type Death = [Option<u64>; 2];

struct Conversation {
    world: World,
    nodes: [NodeIndex; 2],
    oracle: Rc<RefCell<Oracle>>,
    sessions: [SessionKey; 2],
    numbers: u64,
    promises: Vec<(usize, PromiseKey)>,
    messages: Vec<u64>,
}

/// Tells the oracle, and answers: requests by what they said.
fn application(
    oracle: &Rc<RefCell<Oracle>>,
    at: usize,
) -> impl FnMut(&mut Node, Instant, &Event) + 'static {
    let oracle = oracle.clone();
    move |node, now, event| {
        let mut oracle = oracle.borrow_mut();
        oracle.event(now, at, event);
        if let Event::Message(delivery) = event {
            let (given, answer) = if delivery.expects == Expects::Reply {
                let (tag, body) = (delivery.tag, delivery.body.clone());
                let given = node.reply(now, delivery.key, tag, body.clone());
                (given, Answer::Reply(tag, body))
            } else {
                (node.ack(now, delivery.key), Answer::Ack)
            };
            if given.is_ok() {
                oracle.answered(now, at, delivery.key, answer);
            }
        }
    }
}

impl Conversation {
    fn new(certificates: &Certificates) -> Self {
        let mut world = World::with_certificates(3, certificates);
        world.path.delay = 5 * MILLISECOND;
        let config = world.config();
        config.heartbeat.interval = SECOND;
        config.heartbeat.misses = 2;
        config.redial.first = SECOND / 2;
        config.redial.cap = SECOND;
        config.transport.mtu_discovery = false;
        let oracle = Rc::new(RefCell::new(Oracle::new(world.now())));
        let nodes = [world.server(), world.client()];
        for (at, node) in nodes.into_iter().enumerate() {
            let config = world.config().clone();
            oracle.borrow_mut().started(world.now(), at, &config);
            world.attach(node, application(&oracle, at));
        }
        let session = world.connect(nodes[CLIENT], nodes[SERVER], "alice");
        let name = "alice".parse().unwrap();
        oracle
            .borrow_mut()
            .connects(world.now(), CLIENT, session, &name);
        world.run(SECOND, |_, _, _| {});
        let served = world.node(nodes[SERVER]).sessions().next().unwrap();
        Self {
            world,
            nodes,
            oracle,
            sessions: [served.session, session],
            numbers: 0,
            promises: Vec::new(),
            messages: Vec::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.world.run(time, |_, _, _| {});
    }

    fn send(&mut self, at: usize, lane: Lane, size: usize, how: usize) {
        self.numbers += 1;
        let body = body(self.numbers, size);
        let message = Message::new(tag_of(self.numbers), body.clone()).on(lane);
        let (now, session) = (self.world.now(), self.sessions[at]);
        let forever = Some(Duration::MAX);
        let node = self.world.node(self.nodes[at]);
        let waits = match how % 3 {
            0 => {
                node.send(now, session, message).unwrap();
                Waits::Not
            }
            1 => Waits::ForAck(
                node.send_acked(now, session, message, forever).unwrap(),
                None,
            ),
            _ => Waits::ForReply(node.request(now, session, message, forever).unwrap(), None),
        };
        if let Waits::ForAck(promise, _) | Waits::ForReply(promise, _) = waits {
            self.promises.push((at, promise));
        }
        self.messages.push(self.numbers);
        self.oracle
            .borrow_mut()
            .sent(now, at, session, lane, &body, waits);
    }

    /// Both sides speak in three lanes, in every way, and now and then at length.
    fn converse(&mut self) {
        for turn in 0..TURNS {
            let at = if turn % 2 == 0 { CLIENT } else { SERVER };
            let lane = [Lane::DEFAULT, Lane::BULK, Lane::new(2).unwrap()][turn as usize % 3];
            let size = if turn % 10 == 7 { 5_000 } else { 30 };
            self.send(at, lane, size, turn as usize / 2);
            self.pass(4 * MILLISECOND);
        }
    }

    fn cut(&mut self, death: Death) {
        let [server, client] = self.nodes;
        self.world.cut_after(server, client, death[SERVER]);
        self.world.cut_after(client, server, death[CLIENT]);
    }

    /// The whole run: a conversation whose link dies, and is mended after both have noticed.
    fn run(certificates: &Certificates, death: Death) {
        let mut conversation = Self::new(certificates);
        conversation.cut(death);
        conversation.converse();
        conversation.pass(6 * SECOND);
        conversation.cut([None, None]);
        conversation.pass(10 * SECOND);
        conversation.assert_complete(death);
        conversation.assert_resumed(death);
    }

    /// The link dies in mid-conversation, and the one that resumes the session dies too, with its
    /// greeting or what it repeats under way.
    fn run_resuming(certificates: &Certificates, second: Death) {
        let mut conversation = Self::new(certificates);
        conversation.cut([Some(60), Some(60)]);
        conversation.converse();
        conversation.pass(6 * SECOND);
        conversation.cut(second);
        conversation.pass(6 * SECOND);
        conversation.cut([None, None]);
        conversation.pass(10 * SECOND);
        conversation.assert_complete(second);
        conversation.assert_resumed(second);
    }

    /// A link that had died was followed by another one.
    fn assert_resumed(&self, death: Death) {
        for node in self.nodes {
            let resumed = |event: &Event| matches!(event, Event::Connected { resumed: true, .. });
            let mut log = self.world.log(node).iter();
            assert!(log.any(|(_, event)| resumed(event)), "{death:?}");
        }
    }

    /// Everything that was sent came, once and in order, and every promise was kept.
    fn assert_complete(&self, death: Death) {
        let oracle = self.oracle.borrow();
        let violations = oracle.violations();
        assert!(violations.is_empty(), "{death:?}: {}", violations[0]);
        for (at, promise) in &self.promises {
            let outcome = oracle.outcome(*at, *promise);
            let kept = matches!(outcome, Some(Outcome::Acked | Outcome::Replied { .. }));
            assert!(kept, "{death:?}: {promise:?} of {at} is {outcome:?}");
        }
        for number in &self.messages {
            assert_eq!(oracle.handed(*number), 1, "{death:?}: message {number}");
        }
        for node in self.nodes {
            let lost = |event: &Event| {
                matches!(event, Event::SessionLost { .. } | Event::Undelivered { .. })
            };
            let mut log = self.world.log(node).iter();
            assert!(!log.any(|(_, event)| lost(event)), "{death:?}");
        }
    }
}

/// Who sends each datagram of the conversation when nothing is cut.
fn undisturbed(certificates: &Certificates) -> Vec<usize> {
    let mut conversation = Conversation::new(certificates);
    let senders = Rc::new(RefCell::new(Vec::new()));
    let seen = senders.clone();
    let node = conversation.nodes[SERVER];
    conversation.world.observe(move |observed| {
        let at = if observed.from == node {
            SERVER
        } else {
            CLIENT
        };
        seen.borrow_mut().push(at);
    });
    conversation.converse();
    conversation.pass(SECOND / 2);
    conversation.assert_complete([None, None]);
    senders.take()
}

#[test]
fn a_link_that_dies_after_any_datagram_costs_nothing() {
    let certificates = Certificates::new().unwrap();
    let senders = undisturbed(&certificates);
    let mut deaths = Vec::new();
    let mut sent = [0, 0];
    for at in senders {
        // Silence both ways from here on, or from one side alone, which the other one finds dead.
        deaths.push(sent.map(Some));
        let mut one = [None, None];
        one[at] = Some(sent[at]);
        deaths.push(one);
        sent[at] += 1;
    }
    assert!(
        sent[SERVER] > 50 && sent[CLIENT] > 50,
        "{sent:?} is no long conversation"
    );
    for_each(&deaths, |death| Conversation::run(&certificates, death));
    println!("the link died {} times", deaths.len());
}

/// Of a link that resumes, every datagram from the first of its handshake on, whoever sends it.
#[test]
fn a_link_that_dies_while_it_resumes_costs_nothing() {
    let certificates = Certificates::new().unwrap();
    let deaths: Vec<Death> = (0..40)
        .flat_map(|after| {
            let after = Some(after);
            [[after, after], [after, None], [None, after]]
        })
        .collect();
    for_each(&deaths, |death| {
        Conversation::run_resuming(&certificates, death);
    });
}

/// On as many threads as there are cores.
fn for_each(deaths: &[Death], run: impl Fn(Death) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(death) = deaths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(*death);
                }
            });
        }
    });
}
