//! When the clients of a server that closes hear when to come back: in time to know it, and no sooner.

use std::time::Duration;

use trunkline_core::{CloseCode, DeliveryKey, DisconnectReason, DrainPlan, Event, PromiseKey, Tag};
use trunkline_testkit::{NodeIndex, World, silent};

use crate::SECOND;

/// So many are sent away before the one that it is about, who is therefore asked to wait.
const BEFORE: usize = 600;

/// What that one is asked to wait at least: half a second, and a millisecond for each of the others.
const ASKED: Duration = Duration::from_millis(500 + BEFORE as u64);

const MILLISECOND: Duration = Duration::from_millis(1);

/// A client of a server that closes while it works for it.
struct Scene {
    world: World,
    server: NodeIndex,
    client: NodeIndex,
    promise: PromiseKey,
    delivery: DeliveryKey,
}

impl Scene {
    /// All of the server's sessions are told to go, that of the client last. The client notices in 0.4 s that its link is
    /// broken, and dials 0.1 s later.
    fn new() -> Self {
        let mut world = World::new(9);
        let config = world.config();
        config.limits.half_open = BEFORE;
        config.limits.half_open_unvalidated = BEFORE;
        config.transport.mtu_discovery = false;
        let [server, crowd] = [world.server(), world.client()];
        world.config().heartbeat.interval = SECOND / 10;
        world.config().redial.first = SECOND / 10;
        let client = world.client();
        for n in 0..BEFORE {
            world.connect(crowd, server, &format!("other-{n}"));
            world.run(MILLISECOND, silent);
        }
        let session = world.connect(client, server, "alice");
        world.run(SECOND, silent);
        let promise = world.request(client, session, b"work");
        let delivery = world.unanswered();
        let now = world.now();
        let node = world.node(server);
        let mut sessions: Vec<_> = node.sessions().map(|info| info.session).collect();
        assert_eq!(sessions.len(), BEFORE + 1);
        sessions.sort_by_key(|session| *session == delivery.session);
        for session in sessions {
            let code = CloseCode::GOING_AWAY;
            node.close(now, session, code, "the server closes").unwrap();
        }
        world.clear_log(client);
        Self {
            world,
            server,
            client,
            promise,
            delivery,
        }
    }

    fn run(&mut self, time: Duration) {
        self.world.run(time, silent);
    }

    /// Nothing gets through between the two for so long.
    fn cut(&mut self, time: Duration) {
        for cut in [true, false] {
            self.world.direction(self.client, self.server).cut = cut;
            self.world.direction(self.server, self.client).cut = cut;
            if cut {
                self.run(time);
            }
        }
    }

    fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.world.count(self.client, wanted)
    }

    fn resumed(&self) -> usize {
        self.count(|event| matches!(event, Event::Connected { resumed: true, .. }))
    }

    /// What the client has been told while it was connected: how much time is left, and when to come back.
    fn told(&self) -> Vec<(Duration, Option<Duration>)> {
        let log = self.world.log(self.client).iter();
        let told = log.filter_map(|(_, event)| match event {
            Event::Draining {
                deadline,
                retry_after,
                ..
            } => Some((*deadline, *retry_after)),
            _ => None,
        });
        told.collect()
    }

    /// What the client waits before its next dial.
    fn waits(&self) -> Duration {
        let mut log = self.world.log(self.client).iter().rev();
        let delay = log.find_map(|(_, event)| match event {
            Event::Reconnecting { delay, .. } => Some(*delay),
            _ => None,
        });
        delay.unwrap()
    }
}

#[test]
fn a_link_that_breaks_while_its_server_closes_is_resumed_at_once_and_the_work_finished() {
    let mut scene = Scene::new();
    scene.run(SECOND);
    scene.cut(SECOND / 2);
    scene.run(SECOND / 2);
    assert_eq!((scene.resumed(), scene.told()), (1, vec![]));
    let (now, delivery) = (scene.world.now(), scene.delivery);
    let node = scene.world.node(scene.server);
    node.reply(now, delivery, Tag(1), "done").unwrap();
    scene.run(SECOND);
    let outcome = scene.world.outcome(scene.client, scene.promise);
    assert_eq!(outcome.as_deref(), Some("Replied done"));
    // It left in order, and the last word says when to come back.
    assert_eq!(scene.told(), []);
    let last = scene.world.disconnects(scene.client).pop().unwrap();
    let closed = DisconnectReason::Peer {
        code: CloseCode::GOING_AWAY,
        reason: "the server closes".into(),
        retry_after: Some(ASKED),
    };
    assert_eq!(last, closed);
    assert!(scene.waits() >= ASKED, "{:?}", scene.waits());
}

#[test]
fn who_is_cut_off_while_a_server_closes_has_been_told_when_to_come_back() {
    let mut scene = Scene::new();
    scene.run(7 * SECOND / 2);
    assert_eq!(scene.told(), []);
    scene.run(SECOND);
    assert_eq!(scene.told(), [(5 * SECOND / 4, Some(ASKED))]);
    scene.run(SECOND);
    assert_eq!(scene.told().len(), 1);
    let cut_off = DisconnectReason::Peer {
        code: CloseCode::GOING_AWAY,
        reason: "the server closes".into(),
        retry_after: None,
    };
    assert_eq!(scene.world.disconnects(scene.client), [cut_off]);
    assert!(scene.waits() >= ASKED, "{:?}", scene.waits());
}

/// It was told on a link that had broken.
#[test]
fn who_resumes_shortly_before_the_end_is_told_as_well() {
    let mut scene = Scene::new();
    scene.run(7 * SECOND / 2);
    scene.cut(SECOND / 2);
    scene.run(SECOND / 2);
    assert_eq!(scene.resumed(), 1);
    let told = scene.told();
    assert!(
        matches!(*told, [(left, Some(ASKED))] if left < SECOND),
        "{told:?}"
    );
    scene.run(SECOND);
    assert_eq!(scene.told().len(), 1);
    assert!(scene.waits() >= ASKED, "{:?}", scene.waits());
}

/// Nobody comes back to a server that drains, whenever the link breaks.
#[test]
fn who_is_being_closed_when_a_drain_begins_is_told_at_once() {
    let mut scene = Scene::new();
    scene.run(SECOND);
    let now = scene.world.now();
    let plan = DrainPlan::within(60 * SECOND);
    scene.world.node(scene.server).drain(now, plan).unwrap();
    scene.run(SECOND);
    assert_eq!(scene.told(), [(4 * SECOND, Some(ASKED))]);
    scene.cut(SECOND / 2);
    scene.run(SECOND / 2);
    assert!(scene.waits() >= ASKED, "{:?}", scene.waits());
}
