//! The clients: thousands of sessions on some sockets of this process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use prost::Message as _;
use trunkline_core::{Config, Event, Message, Node, Outcome, SendError, SessionKey};
use trunkline_testkit::Certificates;
use trunkline_testkit::peers::bare::{
    self, Application, Endpoint, Moment, Place, close, dial, run,
};

use super::arguments::Common;
use super::messages::{Ask, Ready, Standing, tag};

/// Client endpoints for that server.
pub(crate) fn endpoints(
    server: SocketAddr,
    config: &Config,
    count: usize,
) -> Result<Vec<Endpoint>> {
    let certificates = Certificates::new().map_err(|error| anyhow!("{error}"))?;
    bare::endpoints(server, certificates.roots, config, count)
}

/// Sessions, all of them connected, and their endpoints.
pub(crate) struct Clients {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) places: Vec<Place>,
}

impl Clients {
    /// Connects so many, and says on standard error how long that took.
    pub(crate) fn connect(
        server: SocketAddr,
        config: &Config,
        connections: u32,
        common: &Common,
    ) -> Result<Self> {
        let connections = connections as usize;
        let sockets = usize::from(common.sockets).min(connections);
        let mut endpoints = endpoints(server, config, sockets)?;
        let begin = Instant::now();
        let at_once = common.at_once as usize;
        let places = dial(server, &mut endpoints, connections, at_once, ready())?.places;
        let took = Instant::now() - begin;
        eprintln!("{connections} connected in {:.1} s", took.as_secs_f64());
        Ok(Self { endpoints, places })
    }

    /// Datagrams that the path has lost.
    pub(crate) fn datagrams_lost(&self) -> u64 {
        self.endpoints.iter().map(Endpoint::lost).sum()
    }
}

/// A session's first message.
fn ready() -> Message {
    Message::new(tag::READY, Ready {}.encode_to_vec())
}

/// Asks a server how it stands, over a connection of its own.
pub(crate) fn standing(server: SocketAddr) -> Result<Standing> {
    let mut endpoints = endpoints(server, &Config::default(), 1)?;
    let places = dial(server, &mut endpoints, 1, 1, ready())?.places;
    let mut asking = Asking {
        session: places[0].session,
        asked: false,
        standing: None,
    };
    run(&mut endpoints, &mut asking)?;
    close(&mut endpoints, &places)?;
    asking
        .standing
        .ok_or_else(|| anyhow!("the server does not say how it stands"))
}

struct Asking {
    session: SessionKey,
    asked: bool,
    standing: Option<Standing>,
}

impl Application for Asking {
    fn event(&mut self, _: usize, _: &mut Node, _: Moment, event: Event) -> Result<()> {
        match event {
            Event::Settled {
                outcome: Outcome::Replied { body, .. },
                ..
            } => self.standing = Some(Standing::decode(body)?),
            Event::Settled { outcome, .. } => {
                bail!("the server does not say how it stands: {outcome:?}")
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, _: usize, node: &mut Node, now: Instant) -> Result<()> {
        if !std::mem::replace(&mut self.asked, true) {
            let ask = Message::new(tag::ASK, Ask {}.encode_to_vec());
            node.request(now, self.session, ask, None)
                .map_err(|SendError { error, .. }| error)?;
        }
        Ok(())
    }

    fn patience(&self, _: Instant) -> Option<Duration> {
        None
    }

    fn is_done(&self) -> bool {
        self.standing.is_some()
    }
}
