//! How a client goes away that its server gives work: what it finishes, and what its server is told.

use std::time::Duration;

use trunkline_core::{
    Admission, CloseCode, DeliveryKey, DisconnectReason, DrainPlan, Event, LinkState, PromiseKey,
    SessionKey, Tag,
};
use trunkline_testkit::{NodeIndex, World, echo, silent};

use crate::SECOND;

/// A server, and its client at work for it.
struct Work {
    world: World,
    server: NodeIndex,
    client: NodeIndex,
    /// The client's session, as the server names it.
    session: SessionKey,
    promise: PromiseKey,
    open: DeliveryKey,
}

fn work() -> Work {
    let (mut world, server, client) = World::pair(6);
    world.connect(client, server, "worker");
    world.run(SECOND, echo);
    let session = world.node(server).sessions().next().unwrap().session;
    let promise = world.request(server, session, b"work");
    let open = world.unanswered();
    Work {
        world,
        server,
        client,
        session,
        promise,
        open,
    }
}

impl Work {
    fn drains(&mut self, deadline: Duration) {
        let now = self.world.now();
        let plan = DrainPlan::within(deadline);
        self.world.node(self.client).drain(now, plan).unwrap();
    }

    /// How the client's drain ended: sessions finished, and cut off.
    fn drained(&self) -> Vec<(u64, u64)> {
        let log = self.world.log(self.client).iter();
        log.filter_map(|(_, event)| match event {
            Event::Drained { finished, cut_off } => Some((*finished, *cut_off)),
            _ => None,
        })
        .collect()
    }

    fn finishes(&mut self) {
        let now = self.world.now();
        let node = self.world.node(self.client);
        node.reply(now, self.open, Tag(1), "done").unwrap();
        self.world.run(SECOND, silent);
        let outcome = self.world.outcome(self.server, self.promise);
        assert_eq!(outcome.as_deref(), Some("Replied done"));
    }

    /// How often the server has heard that its client goes away.
    fn announced(&self) -> usize {
        let announced = |event: &Event| matches!(event, Event::Draining { .. });
        self.world.count(self.server, announced)
    }
}

#[test]
fn a_draining_client_finishes_its_work_takes_no_more_and_is_gone() {
    let mut work = work();
    work.drains(60 * SECOND);
    work.world.run(SECOND, silent);
    assert_eq!((work.announced(), work.drained().len()), (1, 0));
    let more = work.world.request(work.server, work.session, b"more");
    work.world.run(SECOND, silent);
    let outcome = work.world.outcome(work.server, more).unwrap();
    assert!(outcome.contains("UNAVAILABLE"), "{outcome}");
    work.finishes();
    assert_eq!(work.drained(), [(1, 0)]);
    // Its server keeps no session for it, and it dials no more.
    let closed = |event: &Event| {
        let Event::Closed { reason, .. } = event else {
            return false;
        };
        let of_peer = |code| matches!(reason, DisconnectReason::Peer { code: c, .. } if *c == code);
        of_peer(CloseCode::NORMAL)
    };
    assert_eq!(work.world.count(work.server, closed), 1);
    assert_eq!(work.world.node(work.client).sessions().count(), 0);
}

#[test]
fn an_idle_client_has_drained_at_once() {
    let mut work = work();
    work.finishes();
    work.drains(60 * SECOND);
    work.world.run(SECOND / 2, silent);
    assert_eq!(work.drained(), [(1, 0)]);
}

#[test]
fn work_that_takes_too_long_is_cut_off_at_the_deadline() {
    let mut work = work();
    work.drains(3 * SECOND);
    work.world.run(2 * SECOND, silent);
    assert_eq!(work.drained(), []);
    work.world.run(2 * SECOND, silent);
    assert_eq!(work.drained(), [(0, 1)]);
    let outcome = work.world.outcome(work.server, work.promise);
    let lost = "Lost { maybe_delivered: true }";
    assert_eq!(outcome.as_deref(), Some(lost));
}

/// The answer goes over the next link, whose server hears of the drain once more.
#[test]
fn a_client_whose_link_breaks_while_it_drains_comes_back_to_finish() {
    let mut work = work();
    work.drains(300 * SECOND);
    work.world.run(SECOND, silent);
    work.world.path.cut = true;
    work.world.run(60 * SECOND, silent);
    work.world.path.cut = false;
    work.world.run(60 * SECOND, silent);
    assert_eq!((work.announced(), work.drained().len()), (2, 0));
    work.finishes();
    assert_eq!(work.drained(), [(1, 0)]);
}

/// With a close that began before the drain, or in its middle: it does not cut off what a link may still come for.
#[test]
fn a_close_without_a_link_waits_for_one_whatever_the_drain() {
    for close_first in [true, false] {
        let mut work = work();
        work.world.path.cut = true;
        work.world.run(60 * SECOND, silent);
        let own = work.open.session;
        let away = |work: &mut Work| {
            let info = work.world.node(work.client).session_info(own);
            info.unwrap().state == LinkState::Away
        };
        while !away(&mut work) {
            work.world.run(SECOND / 10, silent);
        }
        let now = work.world.now();
        let close = |work: &mut Work| {
            let node = work.world.node(work.client);
            node.close(now, own, CloseCode::NORMAL, "").unwrap();
        };
        if close_first {
            close(&mut work);
        }
        work.drains(300 * SECOND);
        if !close_first {
            close(&mut work);
        }
        work.world.path.cut = false;
        let node = work.world.node(work.client);
        node.reply(now, work.open, Tag(1), "done").unwrap();
        let home = work.world.address(work.server);
        work.world
            .node(work.client)
            .redirect(now, own, home)
            .unwrap();
        work.world.run(300 * SECOND, silent);
        assert_eq!(work.drained().len(), 1, "{close_first}");
        let mut log = work.world.log(work.client).iter();
        let ended = log.find(|(_, event)| matches!(event, Event::Closed { .. }));
        let after = ended.unwrap().0 - now;
        assert!(after > SECOND / 100, "{close_first}: at once, {after:?}");
    }
}

/// It is coming up, and its server has not decided about it yet: a Drain in place of silence would end it.
#[test]
fn a_client_that_is_not_welcomed_yet_says_nothing_of_its_drain() {
    let mut world = World::new(6);
    world.admission = Admission::Ask;
    let (server, client) = (world.server(), world.client());
    let session = world.connect(client, server, "worker");
    let promise = world.request(client, session, b"first");
    world.run(SECOND, silent);
    let asked = |event: &Event| match event {
        Event::Admission(request) => Some(request.link),
        _ => None,
    };
    let link = world
        .log(server)
        .iter()
        .find_map(|(_, e)| asked(e))
        .unwrap();
    let now = world.now();
    let plan = DrainPlan::within(60 * SECOND);
    world.node(client).drain(now, plan).unwrap();
    world.run(SECOND, silent);
    let now = world.now();
    world.node(server).admit(now, link).unwrap();
    world.run(2 * SECOND, echo);
    let outcome = world.outcome(client, promise);
    assert_eq!(outcome.as_deref(), Some("Replied first"));
    let announced = |event: &Event| matches!(event, Event::Draining { .. });
    assert_eq!(world.count(server, announced), 1);
}

/// What its server has lost was not finished.
#[test]
fn work_that_a_server_loses_with_the_session_is_cut_off() {
    let mut work = work();
    work.drains(300 * SECOND);
    work.world.run(SECOND, silent);
    work.world.kill(work.server);
    work.world.start_process(work.server);
    work.world.run(120 * SECOND, silent);
    assert_eq!(work.drained(), [(0, 1)]);
}
