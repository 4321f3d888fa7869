//! The server: one endpoint whose messages are answered where they are found.

use std::time::{Duration, Instant};

use anyhow::Result;
use prost::Message as _;
use trunkline_core::{
    Admission, Audience, CommandError, Delivery, Event, GroupName, Message, Node, Roles,
    ServerRole, Status, StatusCode,
};
use trunkline_testkit::peers::bare::{Application, Endpoint, Moment, Setup, run};
use trunkline_testkit::peers::{
    self, SUBSCRIBERS, ServerArguments, Start, announce, config, identity, tag,
};

/// Events of one broadcast that a turn sends at most, before packets come and go again.
const EVENTS: usize = 64;

pub(crate) fn serve(arguments: ServerArguments) -> Result<()> {
    let roles = Roles {
        server: Some(ServerRole {
            identity: identity()?,
            admission: Admission::Open,
            client_roots: None,
        }),
        client: None,
    };
    let setup = Setup {
        config: config(),
        roles,
        keys: None,
        origin: Instant::now(),
    };
    let endpoint = Endpoint::bind(arguments.listen, setup)?;
    announce(endpoint.local_address()?, arguments.max_secs)?;
    let mut server = Server {
        subscribers: GroupName::new(SUBSCRIBERS)?,
        broadcasts: Vec::new(),
    };
    run(&mut [endpoint], &mut server)
}

struct Server {
    subscribers: GroupName,
    broadcasts: Vec<Broadcast>,
}

/// A broadcast that is under way.
struct Broadcast {
    start: Start,
    began: Instant,
    /// How many events have been sent.
    sent: u64,
}

impl Broadcast {
    /// When the next event is due; `None`: there is none.
    fn due(&self) -> Option<Instant> {
        (self.sent < self.start.events).then(|| self.began + self.start.due(self.sent))
    }
}

impl Server {
    fn message(&mut self, node: &mut Node, now: Instant, delivery: Delivery) {
        let answered = match delivery.tag {
            tag::NOTE => node.ack(now, delivery.key),
            tag::ECHO => node.reply(now, delivery.key, tag::ECHO, delivery.body),
            tag::SUBSCRIBE => match node.join(now, delivery.key.session, &self.subscribers) {
                Ok(()) => node.ack(now, delivery.key),
                Err(error) => {
                    let status = Status::new(StatusCode::UNAVAILABLE, error.to_string());
                    node.reject(now, delivery.key, status)
                }
            },
            tag::START => match self.start(now, &delivery) {
                Ok(()) => node.ack(now, delivery.key),
                Err(status) => node.reject(now, delivery.key, status),
            },
            _ => {
                let status = Status::new(StatusCode::UNIMPLEMENTED, "no workload sends this");
                node.reject(now, delivery.key, status)
            }
        };
        match answered {
            // Its session may have ended meanwhile.
            Ok(()) | Err(CommandError::UnknownDelivery) => {}
            Err(error) => eprintln!("peer-trunkline-core: not answered: {error}"),
        }
    }

    fn start(&mut self, now: Instant, delivery: &Delivery) -> Result<(), Status> {
        let start = Start::decode(delivery.body.clone())
            .map_err(|error| Status::new(StatusCode::INVALID_ARGUMENT, error.to_string()))?;
        start.check()?;
        self.broadcasts.push(Broadcast {
            start,
            began: now,
            sent: 0,
        });
        Ok(())
    }
}

impl Application for Server {
    fn event(
        &mut self,
        _: usize,
        node: &mut Node,
        Moment { now, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        if let Event::Message(delivery) = event {
            self.message(node, now, delivery);
        }
        Ok(())
    }

    fn act(&mut self, _: usize, node: &mut Node, now: Instant) -> Result<()> {
        let audience = Audience::Group(self.subscribers.clone());
        for broadcast in &mut self.broadcasts {
            for _ in 0..EVENTS {
                if broadcast.due().is_none_or(|due| due > now) {
                    break;
                }
                let event = peers::Event::now(broadcast.start.payload as usize)?;
                let message = Message::new(tag::EVENT, event.encode_to_vec());
                node.broadcast(now, &audience, message, None)?;
                broadcast.sent += 1;
            }
        }
        self.broadcasts
            .retain(|broadcast| broadcast.due().is_some());
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        let due = self.broadcasts.iter().filter_map(Broadcast::due).min()?;
        Some(due.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        false
    }
}
