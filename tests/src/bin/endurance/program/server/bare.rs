//! The server on the bare state machine.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use prost::Message as _;
use trunkline_core::{
    Admission, CommandError, Config, Delivery, Event, Node, PersistentKeys, Roles, ServerRole,
    SessionKey, Status, StatusCode,
};
use trunkline_testkit::Certificates;
use trunkline_testkit::peers::announce;
use trunkline_testkit::peers::bare::{Application, Endpoint, Moment, Setup, run};

use super::super::messages::{Numbered, tag};
use super::MOST;
use super::account::Account;

pub(super) fn serve(listen: SocketAddr, config: Config, keys: PersistentKeys) -> Result<()> {
    let certificates = Certificates::new().map_err(|error| anyhow!("{error}"))?;
    let server = ServerRole {
        identity: certificates.server,
        admission: Admission::Open,
        client_roots: None,
    };
    let setup = Setup {
        config,
        roles: Roles {
            server: Some(server),
            client: None,
        },
        keys: Some(keys),
        origin: Instant::now(),
    };
    let endpoint = Endpoint::bind(listen, setup)?;
    announce(endpoint.local_address()?, MOST)?;
    run(&mut [endpoint], &mut Server::default())
}

#[derive(Default)]
struct Server {
    account: Account<SessionKey>,
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
            Event::Closed { session, .. } => self.account.forget(&session),
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, _: usize, _: &mut Node, _: Instant) -> Result<()> {
        Ok(())
    }

    fn patience(&self, _: Instant) -> Option<Duration> {
        None
    }

    fn is_done(&self) -> bool {
        false
    }
}
