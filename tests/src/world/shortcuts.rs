//! What most tests do with a world: connect, send, answer, and look at what came.

use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{
    ClientId, CommandError, DeliveryKey, Dial, DisconnectReason, Event, Expects, LinkKey, Message,
    Node, Outcome, PromiseKey, SessionKey, Tag,
};

use super::{Happened, NodeIndex, World};

/// Answers every delivery: requests with their own body, the rest with an ack.
pub fn echo(node: &mut Node, now: Instant, event: &Event) {
    if let Event::Message(delivery) = event {
        let answered = match delivery.expects {
            Expects::Reply => node.reply(now, delivery.key, delivery.tag, delivery.body.clone()),
            _ => node.ack(now, delivery.key),
        };
        // The session may have ended since; then nobody waits for the answer.
        answered.ok();
    }
}

/// Answers nothing.
pub fn silent(_: &mut Node, _: Instant, _: &Event) {}

impl World {
    /// A world of a server and a client that follows from the seed.
    pub fn pair(seed: u64) -> (Self, NodeIndex, NodeIndex) {
        let mut world = Self::new(seed);
        let server = world.server();
        let client = world.client();
        (world, server, client)
    }

    /// The link about whose admission an application is asked within a second; nothing is answered meanwhile.
    ///
    /// # Panics
    /// If there is none.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn asked(&mut self) -> LinkKey {
        let mut asked = None;
        self.run(Duration::from_secs(1), |_, _, event| {
            if let Event::Admission(request) = event {
                asked = Some(request.link);
            }
        });
        asked.expect("somebody is asked about a client")
    }

    /// A message that comes within a tenth of a second, and is not answered.
    ///
    /// # Panics
    /// If there is none.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn unanswered(&mut self) -> DeliveryKey {
        let mut open = None;
        self.run(Duration::from_millis(100), |_, _, event| {
            if let Event::Message(delivery) = event {
                open = Some(delivery.key);
            }
        });
        open.expect("a message comes")
    }

    /// Why links of a node's sessions have ended so far.
    pub fn disconnects(&self, index: NodeIndex) -> Vec<DisconnectReason> {
        let log = self.log(index).iter();
        log.filter_map(|(_, event)| match event {
            Event::Disconnected { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .collect()
    }

    /// A client's new session with a server.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn connect(&mut self, client: NodeIndex, server: NodeIndex, name: &str) -> SessionKey {
        let dial = Dial {
            address: self.address(server),
            server_name: "localhost".to_owned(),
            client: ClientId::new(name).expect("a usable name"),
            credentials: Bytes::new(),
            agent: "testkit".to_owned(),
        };
        let now = self.now;
        self.node(client)
            .connect(now, dial)
            .expect("the client dials")
    }

    /// Sends a message that nobody waits for, if there is room.
    pub fn send(
        &mut self,
        from: NodeIndex,
        to: SessionKey,
        body: impl Into<Bytes>,
    ) -> Result<(), CommandError> {
        let message = Message::new(Tag::of("test.Said"), body);
        let now = self.now;
        let sent = self.node(from).send(now, to, message);
        sent.map_err(|refused| refused.error)
    }

    /// Sends a request without a timeout.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn request(&mut self, from: NodeIndex, to: SessionKey, body: &[u8]) -> PromiseKey {
        let message = Message::new(Tag::of("test.Ping"), Bytes::copy_from_slice(body));
        let now = self.now;
        self.node(from)
            .request(now, to, message, Some(Duration::MAX))
            .expect("there is room")
    }

    /// Sends an acked message without a timeout.
    #[allow(clippy::expect_used, reason = "a test helper: misuse ends the test")]
    pub fn send_acked(&mut self, from: NodeIndex, to: SessionKey, body: &[u8]) -> PromiseKey {
        let message = Message::new(Tag::of("test.Said"), Bytes::copy_from_slice(body));
        let now = self.now;
        self.node(from)
            .send_acked(now, to, message, Some(Duration::MAX))
            .expect("there is room")
    }

    /// How many such events a node's present process has told.
    pub fn count(&self, index: NodeIndex, wanted: impl Fn(&Event) -> bool) -> usize {
        let log = self.log(index).iter();
        log.filter(|(_, event)| wanted(event)).count()
    }

    /// Bodies of the messages that a node's application was handed, in order.
    pub fn bodies(&self, index: NodeIndex) -> Vec<Bytes> {
        let body = |(_, event): &Happened| match event {
            Event::Message(delivery) => Some(delivery.body.clone()),
            _ => None,
        };
        self.log(index).iter().filter_map(body).collect()
    }

    /// How a promise of a node's present process has settled, in words; `None`: it has not.
    pub fn outcome(&self, index: NodeIndex, promise: PromiseKey) -> Option<String> {
        Some(match self.hosts[index.0].outcome(promise)? {
            Outcome::Replied { body, .. } => format!("Replied {}", String::from_utf8_lossy(body)),
            other => format!("{other:?}"),
        })
    }
}
