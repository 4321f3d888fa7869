//! A stage with a server and a client, recorded above QUIC.

use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_core::{
    ClientId, Dial, Event, GroupName, Message, Node, PromiseKey, Refusal, SessionKey, Tag,
};
use trunkline_testkit::{NodeIndex, Recording, World, echo};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Recorded traces: what comes behind the scene's name, and the bytes.
pub(crate) type Traces = Vec<(&'static str, Vec<u8>)>;

/// A server and a client in a world of their own.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) server: NodeIndex,
    pub(crate) client: NodeIndex,
}

impl Scene {
    /// Makes one, with a world that `prepare` has looked at.
    pub(crate) fn new(seed: u64, prepare: impl FnOnce(&mut World)) -> Self {
        let mut world = World::new(seed);
        world.record_at(Recording::Link);
        world.path.delay = Duration::from_millis(10);
        prepare(&mut world);
        let server = world.server();
        let client = world.client();
        Self {
            world,
            server,
            client,
        }
    }

    /// The same, and the client is connected.
    pub(crate) fn connected(seed: u64, prepare: impl FnOnce(&mut World)) -> (Self, SessionKey) {
        let mut scene = Self::new(seed, prepare);
        let session = scene.world.connect(scene.client, scene.server, "anna");
        scene.run(SECOND);
        (scene, session)
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.world.run(time, echo);
    }

    /// Dials with something to show.
    pub(crate) fn dial(&mut self, credentials: &'static [u8]) -> SessionKey {
        let dial = Dial {
            address: self.world.address(self.server),
            server_name: "localhost".into(),
            client: ClientId::new("anna").unwrap(),
            credentials: Bytes::from_static(credentials),
            agent: "golden/1".into(),
        };
        self.tell(true, |node, now| node.connect(now, dial).unwrap())
    }

    /// Tells the client something, or the server.
    pub(crate) fn tell<T>(
        &mut self,
        client: bool,
        command: impl FnOnce(&mut Node, Instant) -> T,
    ) -> T {
        let now = self.world.now();
        let index = if client { self.client } else { self.server };
        command(self.world.node(index), now)
    }

    /// The server's first session.
    pub(crate) fn of_server(&mut self) -> SessionKey {
        self.world
            .node(self.server)
            .sessions()
            .map(|s| s.session)
            .next()
            .unwrap()
    }

    pub(crate) fn group(&mut self) -> GroupName {
        let group = GroupName::new("readers").unwrap();
        let session = self.of_server();
        self.tell(false, |node, now| node.join(now, session, &group).unwrap());
        group
    }

    /// Something that happened to the client, or to the server.
    pub(crate) fn happened(&self, client: bool, wanted: impl Fn(&Event) -> bool) -> bool {
        let index = if client { self.client } else { self.server };
        self.world.log(index).iter().any(|(_, event)| wanted(event))
    }

    pub(crate) fn outcome(&self, promise: PromiseKey) -> Option<String> {
        self.world.outcome(self.client, promise)
    }

    /// Ends it, and returns what was recorded of both.
    pub(crate) fn end(mut self) -> Traces {
        let (server, client) = (self.server, self.client);
        self.world.kill(client);
        self.world.kill(server);
        let last = |index| self.world.traces(index).pop().unwrap();
        vec![("server", last(server)), ("client", last(client))]
    }

    /// The same of the server alone.
    pub(crate) fn end_server(mut self) -> Traces {
        self.world.kill(self.server);
        vec![("server", self.world.traces(self.server).pop().unwrap())]
    }
}

pub(crate) fn said(body: &[u8]) -> Message {
    Message::new(Tag::of("test.Said"), body.to_vec())
}

/// Lets in who shows the word, and tells others to come back later.
pub(crate) fn doorkeeper(node: &mut Node, now: Instant, event: &Event) {
    if let Event::Admission(request) = event {
        if request.credentials == "open sesame" {
            node.admit(now, request.link).unwrap();
        } else {
            let refusal = Refusal {
                reason: "who are you?".into(),
                retry_after: Some(5 * SECOND),
            };
            node.refuse(now, request.link, refusal).unwrap();
        }
    }
    echo(node, now, event);
}
