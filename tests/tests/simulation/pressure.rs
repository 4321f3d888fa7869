//! What a full table hands back arrives all the same, once, when it is sent again on `Writable`.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use trunkline_core::{CommandError, Event, Limits, Message, Node, SessionKey, Tag};
use trunkline_testkit::{NodeIndex, Path, World, echo};

use crate::SECOND;

const MESSAGES: u32 = 400;

/// An application that sends numbered messages to each of its sessions as fast as there is room,
/// and tries again when it is told that there is some: never by a clock.
#[derive(Default)]
struct Sender {
    waiting: BTreeMap<SessionKey, VecDeque<u32>>,
    refused: BTreeMap<&'static str, u32>,
}

impl Sender {
    fn push(&mut self, node: &mut Node, now: Instant, session: SessionKey) {
        let waiting = self.waiting.entry(session);
        let waiting = waiting.or_insert_with(|| (0..MESSAGES).collect());
        while let Some(n) = waiting.pop_front() {
            let mut body = n.to_be_bytes().to_vec();
            body.resize(1_000, 0);
            let message = Message::new(Tag::of("test.Said"), body.clone());
            // Some are not waited for, some are.
            let refused = if n % 3 == 0 {
                node.send(now, session, message).err()
            } else {
                let timeout = Some(Duration::MAX);
                node.send_acked(now, session, message, timeout).err()
            };
            let Some(refused) = refused else { continue };
            assert_eq!(refused.message.body, body, "it comes back whole");
            waiting.push_front(n);
            *self.refused.entry(name(&refused.error)).or_default() += 1;
            return;
        }
    }

    fn hears(&mut self, node: &mut Node, now: Instant, event: &Event) {
        match event {
            Event::Connected { session, .. } | Event::Writable { session } => {
                self.push(node, now, *session);
            }
            _ => echo(node, now, event),
        }
    }
}

fn name(error: &CommandError) -> &'static str {
    match error {
        CommandError::OutboxFull => "outbox",
        CommandError::PromisesFull => "promises",
        _ => "other",
    }
}

fn attach(world: &mut World, node: NodeIndex) -> Rc<RefCell<Sender>> {
    let sender = Rc::new(RefCell::new(Sender::default()));
    let own = sender.clone();
    world.attach(node, move |node, now, event| {
        own.borrow_mut().hears(node, now, event);
    });
    sender
}

/// Which numbers came from each session, in order.
fn received(world: &World, node: NodeIndex) -> BTreeMap<SessionKey, Vec<u32>> {
    let mut all: BTreeMap<SessionKey, Vec<u32>> = BTreeMap::new();
    for (_, event) in world.log(node) {
        if let Event::Message(delivery) = event {
            let number = u32::from_be_bytes(delivery.body[..4].try_into().unwrap());
            all.entry(delivery.key.session).or_default().push(number);
        }
    }
    all
}

#[test]
fn what_full_tables_hand_back_arrives_once_and_in_order_on_a_bad_network() {
    const SESSIONS: usize = 5;
    let tight: [(_, fn(&mut Limits)); 4] = [
        ("outbox", |limits| limits.outbox_bytes = 8_000),
        ("outbox", |limits| limits.outbox_messages = 7),
        ("promises", |limits| limits.promises = 6),
        ("promises", |limits| limits.promises_total = 9),
    ];
    for (seed, (what, tighten)) in tight.into_iter().enumerate() {
        let mut world = World::new(seed as u64);
        world.path = Path {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
            loss: 0.1,
            burst: Some(2.0),
            reorder: 0.1,
            duplicate: 0.05,
            corrupt: 0.02,
            ..Path::default()
        };
        tighten(&mut world.config().limits);
        world.config().timeouts.retention = 600 * SECOND;
        let server = world.server();
        let client = world.client();
        let senders = [server, client].map(|node| attach(&mut world, node));
        for _ in 0..SESSIONS {
            world.connect(client, server, "alice");
        }
        // Cut for long enough for both sides to find the link dead, in the middle of it all.
        world.run(5 * SECOND, echo);
        world.path.cut = true;
        world.run(60 * SECOND, echo);
        world.path.cut = false;
        world.run(600 * SECOND, echo);
        for (node, sender) in [server, client].iter().zip(&senders) {
            let refused = &sender.borrow().refused;
            assert!(refused[what] > 20 && refused.len() == 1, "{refused:?}");
            let all = received(&world, *node);
            assert_eq!(all.len(), SESSIONS);
            for numbers in all.values() {
                let expected: Vec<_> = (0..MESSAGES).collect();
                assert_eq!(*numbers, expected, "{what} full, seed {seed}");
            }
            let now = world.now();
            let metrics = world.node(*node).metrics(now);
            assert_eq!((metrics.promises, metrics.outbox_bytes), (0, 0));
            assert_eq!((metrics.promises_lost, metrics.undelivered), (0, 0));
        }
    }
}
