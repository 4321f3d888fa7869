//! The server on the bare state machine.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use prost::Message as _;
use trunkline_core::{
    Admission, Audience, CommandError, Delivery, Event, Message, Node, Roles, ServerRole,
    SessionKey, Status, StatusCode,
};
use trunkline_testkit::Certificates;
use trunkline_testkit::peers::bare::{Application, Endpoint, Moment, Setup, run};
use trunkline_testkit::peers::{self, announce};

use super::super::arguments::Broadcasts;
use super::super::messages::{Numbered, tag};
use super::account::Account;
use super::slowness::Slowness;
use super::{KEY, MOST, Setting};

pub(super) fn serve(setting: Setting) -> Result<()> {
    let certificates = Certificates::new().map_err(|error| anyhow!("{error}"))?;
    let server = ServerRole {
        identity: certificates.server,
        admission: Admission::Open,
        client_roots: None,
    };
    let setup = Setup {
        config: setting.config,
        roles: Roles {
            server: Some(server),
            client: None,
        },
        keys: Some(setting.keys),
        origin: Instant::now(),
    };
    let endpoint = Endpoint::bind(setting.listen, setup)?;
    announce(endpoint.local_address()?, MOST)?;
    let mut server = Server {
        account: Account::default(),
        slowness: Slowness::default(),
        broadcasts: setting
            .broadcasts
            .map(|broadcasts| (broadcasts, Instant::now())),
    };
    run(&mut [endpoint], &mut server)
}

struct Server {
    account: Account<SessionKey>,
    slowness: Slowness,
    /// What is broadcast, and when the next time.
    broadcasts: Option<(Broadcasts, Instant)>,
}

impl Server {
    fn message(&mut self, node: &mut Node, now: Instant, delivery: Delivery) -> Result<()> {
        let answered = match delivery.tag {
            tag::NUMBERED => {
                let Numbered { number } = Numbered::decode(delivery.body)?;
                self.account.enter(delivery.key.session, number);
                node.ack(now, delivery.key)
            }
            tag::READY => node.ack(now, delivery.key),
            tag::ASK => {
                let standing = self.account.standing().with(&node.metrics(now));
                node.reply(now, delivery.key, tag::STANDING, standing.encode_to_vec())
            }
            tag::ASK_SLOW => {
                let told = self.slowness.told().encode_to_vec();
                node.reply(now, delivery.key, tag::TOLD, told)
            }
            _ => {
                let status = Status::new(StatusCode::UNIMPLEMENTED, "no figure sends this");
                node.reject(now, delivery.key, status)
            }
        };
        match answered {
            // Its session may have ended meanwhile.
            Ok(()) | Err(CommandError::UnknownDelivery) => Ok(()),
            Err(error) => Err(error.into()),
        }
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
        match event {
            Event::Message(delivery) => self.message(node, now, delivery)?,
            Event::Connected {
                session, address, ..
            } => self.slowness.connected(session, address),
            Event::SlowConsumer { session, .. } => self.slowness.found_slow(session)?,
            Event::Closed { session, .. } => {
                self.account.forget(&session);
                self.slowness.forget(&session);
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, _: usize, node: &mut Node, now: Instant) -> Result<()> {
        if let Some((broadcasts, due)) = &mut self.broadcasts
            && now >= *due
        {
            let event = peers::Event::now(usize::try_from(broadcasts.payload)?)?;
            let message = Message::new(peers::tag::EVENT, event.encode_to_vec());
            node.broadcast(now, &Audience::Everyone, message, Some(KEY))?;
            *due = now.max(*due + Duration::from_secs_f64(1.0 / broadcasts.rate));
        }
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        let (_, due) = self.broadcasts.as_ref()?;
        Some(due.saturating_duration_since(now))
    }

    fn is_done(&self) -> bool {
        false
    }
}
