//! Clients that are not let in.

use trunkline_core::{Admission, AdmissionRequest, Refusal};

use crate::World;

use super::*;

const LINK: LinkKey = LinkKey(SESSION.0);

impl History {
    /// A client asks to be let in.
    fn is_asked(&mut self) {
        let request = AdmissionRequest {
            link: LINK,
            client: name(),
            address: ([10, 0, 0, 2], 4_433).into(),
            credentials: Bytes::new(),
            certificates: Vec::new(),
            agent: String::new(),
        };
        self.tell(SERVER, Event::Admission(Box::new(request)));
    }

    fn told_refused(&mut self, client: &str, code: CloseCode) {
        let refused = Event::Refused {
            link: LINK,
            client: ClientId::new(client).unwrap(),
            address: ([10, 0, 0, 2], 4_433).into(),
            code,
            reason: String::new(),
        };
        self.tell(SERVER, refused);
    }
}

#[test]
fn who_is_refused_was_refused_by_the_application_or_for_another_reason() {
    for (decision, client, code, expected) in [
        (Some(false), "alice", CloseCode::REFUSED, vec![]),
        (Some(false), "bob", CloseCode::REFUSED, vec![10]),
        (Some(false), "alice", CloseCode::TOO_MANY_SESSIONS, vec![10]),
        (Some(true), "alice", CloseCode::REFUSED, vec![10]),
        (Some(true), "alice", CloseCode::TOO_MANY_SESSIONS, vec![]),
        (Some(true), "alice", CloseCode::WRONG_TOKEN, vec![6]),
        (None, "alice", CloseCode::REFUSED, vec![10]),
        (None, "alice", CloseCode::ADMISSION_TIMEOUT, vec![]),
        (None, "alice", CloseCode::GOING_AWAY, vec![10]),
    ] {
        let mut history = History::new();
        history.is_asked();
        match decision {
            Some(true) => history.oracle.admits(SERVER, LINK),
            Some(false) => history.oracle.refuses(history.now, SERVER, LINK, &name()),
            None => {}
        }
        history.told_refused(client, code);
        assert_eq!(history.broken(), expected, "{decision:?} {client} {code}");
    }
}

#[test]
fn who_is_refused_is_told_of_once() {
    let mut history = History::new();
    history.told_refused("alice", CloseCode::TOO_MANY_SESSIONS);
    assert_eq!(history.broken(), Vec::<u8>::new());
    history.told_refused("alice", CloseCode::TOO_MANY_SESSIONS);
    assert_eq!(history.broken(), [10]);
}

#[test]
fn a_server_that_drains_sends_clients_away() {
    let mut history = History::new();
    history.oracle.drains(history.now, SERVER, SECOND);
    history.told_refused("alice", CloseCode::GOING_AWAY);
    assert_eq!(history.broken(), Vec::<u8>::new());
}

#[test]
fn what_is_told_of_refusals_is_what_is_counted() {
    let mut world = World::new(1);
    world.admission = Admission::Ask;
    let (server, client) = (world.server(), world.client());
    world.connect(client, server, "alice");
    let link = world.asked();
    let now = world.now();
    let node = world.node(server);
    node.refuse(now, link, Refusal::default()).unwrap();
    for (told, expected) in [(true, vec![]), (false, vec![10])] {
        let mut history = History::new();
        history
            .oracle
            .started(history.now, SERVER, &Config::default());
        if told {
            history.oracle.refuses(history.now, SERVER, LINK, &name());
            history.told_refused("alice", CloseCode::REFUSED);
        }
        history
            .oracle
            .count_refusals(now, SERVER, world.node(server));
        assert_eq!(history.broken(), expected);
    }
}

#[test]
fn who_is_let_in_comes_or_is_refused_and_not_both() {
    let (mut world, server, _) = World::pair(1);
    let now = world.now();
    for (comes, refused, expected) in [
        (true, false, vec![]),
        (false, false, vec![10]),
        // The world's server has counted no refusal either.
        (true, true, vec![10, 10]),
    ] {
        let mut history = History::new();
        history
            .oracle
            .started(history.now, SERVER, &Config::default());
        history.oracle.admits(SERVER, LINK);
        if comes {
            history.connected(2, true);
        }
        if refused {
            history.told_refused("alice", CloseCode::TOO_MANY_SESSIONS);
        }
        history
            .oracle
            .count_refusals(now, SERVER, world.node(server));
        assert_eq!(history.broken(), expected);
    }
}
