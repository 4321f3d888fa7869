//! The oracle's own tests: for each invariant a history that keeps it, and one that breaks it in one
//! place.

mod causes;
mod messages;
mod promises;
mod refusals;
mod sessions;
mod windows;

use std::time::{Duration, Instant};

use trunkline_core::{
    ClientId, CloseCode, Config, Delivery, DeliveryKey, DisconnectReason, Event, Expects, Key,
    Lane, Message, Outcome, PromiseKey, SessionKey, UndeliveredReason,
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SERVER: usize = 0;
const CLIENT: usize = 1;
const SESSION: SessionKey = SessionKey(Key {
    slot: 0,
    generation: 0,
});
/// The promise of the message that is sent first.
const PROMISE: PromiseKey = PromiseKey {
    session: SESSION,
    number: 1,
};

/// A client's session with a server, as an oracle is told of it.
struct History {
    oracle: Oracle,
    now: Instant,
}

impl History {
    fn new() -> Self {
        let now = Instant::now();
        let mut oracle = Oracle::new(now);
        for node in [SERVER, CLIENT] {
            oracle.started(now, node, &Config::default());
        }
        oracle.connects(now, CLIENT, SESSION, &name());
        let mut history = Self { oracle, now };
        history.connected(1, false);
        history
    }

    fn tell(&mut self, node: usize, event: Event) {
        self.oracle.event(self.now, node, &event);
    }

    fn connected(&mut self, epoch: u64, resumed: bool) {
        for node in [SERVER, CLIENT] {
            let connected = Event::Connected {
                session: SESSION,
                client: name(),
                address: ([10, 0, 0, 1], 4_433).into(),
                epoch,
                resumed,
            };
            self.tell(node, connected);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The client sends a message of that number.
    fn send(&mut self, number: u64, waits: Waits) {
        let body = body(number, 20);
        let oracle = &mut self.oracle;
        oracle.sent(self.now, CLIENT, SESSION, Lane::DEFAULT, &body, waits);
    }

    /// The server's application is handed it.
    fn comes(&mut self, number: u64, expects: Expects) -> DeliveryKey {
        self.is_handed(said(number, expects))
    }

    /// The server's application is handed it, and told how long its sender waits.
    fn comes_within(&mut self, number: u64, expects: Expects, timeout: Duration) -> DeliveryKey {
        self.is_handed(Delivery {
            timeout: Some(timeout),
            ..said(number, expects)
        })
    }

    /// The server's application is handed something.
    fn is_handed(&mut self, delivery: Delivery) -> DeliveryKey {
        let key = delivery.key;
        self.tell(SERVER, Event::Message(delivery));
        key
    }

    /// The client's application gets a message back.
    fn comes_back(&mut self, message: Message, reason: UndeliveredReason, maybe_delivered: bool) {
        let given_back = Event::Undelivered {
            session: SESSION,
            message,
            reason,
            maybe_delivered,
        };
        self.tell(CLIENT, given_back);
    }

    /// The client's link or dial has ended, and it dials again.
    fn redials(&mut self, attempt: u32, delay: Duration) {
        self.tell(CLIENT, gone());
        let redials = Event::Reconnecting {
            session: SESSION,
            attempt,
            delay,
        };
        self.tell(CLIENT, redials);
    }

    /// The client's application hears that its server has crashed and lost its session.
    fn is_lost(&mut self) {
        self.oracle.ended(self.now, SERVER);
        self.tell(CLIENT, Event::SessionLost { session: SESSION });
    }

    /// The client's application has closed its session, and that is done.
    fn is_over(&mut self) {
        self.oracle.closes(self.now, CLIENT, SESSION);
        let reason = DisconnectReason::Local {
            code: CloseCode::NORMAL,
            reason: String::new(),
        };
        let session = SESSION;
        self.tell(CLIENT, Event::Closed { session, reason });
    }

    fn settles(&mut self, outcome: Outcome) {
        let settled = Event::Settled {
            promise: PROMISE,
            outcome,
            after: Duration::ZERO,
        };
        self.tell(CLIENT, settled);
    }

    /// Which invariants were broken.
    fn broken(&self) -> Vec<u8> {
        let violations = self.oracle.violations().iter();
        violations.map(|violation| violation.invariant).collect()
    }

    fn finish(mut self) -> Vec<u8> {
        self.oracle.finish(self.now);
        self.broken()
    }
}

fn name() -> ClientId {
    ClientId::new("alice").unwrap()
}

fn delivery(number: u64) -> DeliveryKey {
    DeliveryKey {
        session: SESSION,
        number,
    }
}

/// The session's link has ended, and the session has not.
fn gone() -> Event {
    Event::Disconnected {
        session: SESSION,
        reason: DisconnectReason::ConnectTimeout,
        retained: true,
    }
}

/// A message as it was sent.
fn sent(number: u64) -> Message {
    Message::new(tag_of(number), body(number, 20)).on(Lane::DEFAULT)
}

/// A message as it comes to whom it was sent.
fn said(number: u64, expects: Expects) -> Delivery {
    Delivery {
        key: delivery(number),
        lane: Lane::DEFAULT,
        tag: tag_of(number),
        body: body(number, 20),
        expects,
        timeout: None,
    }
}

const ACK: Waits = Waits::ForAck(PROMISE, Some(SECOND));
