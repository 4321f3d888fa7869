//! Bringing sessions up, some at a time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use trunkline_core::{
    ClientRole, Config, Dial, Event, Message, Node, Outcome, Roles, Roots, SendError,
};

use super::endpoint::{Endpoint, Setup};
use super::event_loop::{Application, Moment, run};
use super::{Place, ensure_intact};
use crate::peers::{Latencies, SERVER_NAME};

/// Makes client endpoints for that server, each with a socket of its own.
pub fn endpoints(
    server: SocketAddr,
    roots: Roots,
    config: &Config,
    count: usize,
) -> Result<Vec<Endpoint>> {
    let roles = Roles {
        server: None,
        client: Some(ClientRole {
            roots,
            identity: None,
        }),
    };
    let local: IpAddr = match (server, server.ip().is_loopback()) {
        (SocketAddr::V4(_), true) => Ipv4Addr::LOCALHOST.into(),
        (SocketAddr::V4(_), false) => Ipv4Addr::UNSPECIFIED.into(),
        (SocketAddr::V6(_), true) => Ipv6Addr::LOCALHOST.into(),
        (SocketAddr::V6(_), false) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let origin = Instant::now();
    (0..count)
        .map(|_| {
            let setup = Setup {
                config: config.clone(),
                roles: roles.clone(),
                keys: None,
                origin,
            };
            Endpoint::bind((local, 0).into(), setup)
        })
        .collect()
}

/// What came up.
#[derive(Debug, Default)]
pub struct Dialed {
    /// The sessions.
    pub places: Vec<Place>,
    /// From a dial until the session had its link.
    pub handshakes: Latencies,
    /// From a dial until the first message was acked.
    pub ready: Latencies,
}

/// Brings `count` sessions up, `at_once` at a time, spread over the endpoints. Each sends `first`
/// with its hello, and is up once that is acked.
pub fn dial(
    server: SocketAddr,
    endpoints: &mut [Endpoint],
    count: usize,
    at_once: usize,
    first: Message,
) -> Result<Dialed> {
    let mut dialing = Dialing {
        server,
        endpoints: endpoints.len(),
        count,
        at_once,
        first,
        begun: 0,
        under_way: BTreeMap::new(),
        dialed: Dialed::default(),
    };
    run(endpoints, &mut dialing)?;
    Ok(dialing.dialed)
}

/// What the how-manieth session of an endpoint is dialled with.
pub fn dial_of(server: SocketAddr, endpoint: usize, session: usize) -> Result<Dial> {
    Ok(Dial {
        address: server,
        server_name: SERVER_NAME.into(),
        // New even to a server that has served other runs.
        client: format!("{}-{endpoint}-{session}", std::process::id()).parse()?,
        credentials: Default::default(),
        agent: concat!("trunkline-testkit/", env!("CARGO_PKG_VERSION")).into(),
    })
}

struct Dialing {
    server: SocketAddr,
    endpoints: usize,
    count: usize,
    at_once: usize,
    first: Message,
    begun: usize,
    /// When each was dialled.
    under_way: BTreeMap<Place, Instant>,
    dialed: Dialed,
}

impl Dialing {
    fn may_begin(&self) -> bool {
        self.begun < self.count && self.under_way.len() < self.at_once
    }

    fn begin(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()> {
        let session = node.connect(now, dial_of(self.server, number, self.begun)?)?;
        node.send_acked(now, session, self.first.clone(), None)
            .map_err(|SendError { error, .. }| error)?;
        let place = Place {
            endpoint: number,
            session,
        };
        self.under_way.insert(place, now);
        self.begun += 1;
        Ok(())
    }
}

impl Application for Dialing {
    fn event(
        &mut self,
        number: usize,
        _: &mut Node,
        Moment { now, .. }: Moment,
        event: Event,
    ) -> Result<()> {
        ensure_intact(&event)?;
        let place = |session| Place {
            endpoint: number,
            session,
        };
        match event {
            Event::Connected { session, .. } => {
                if let Some(began) = self.under_way.get(&place(session)) {
                    self.dialed.handshakes.push(now - *began);
                }
            }
            Event::Settled {
                promise,
                outcome: Outcome::Acked,
                ..
            } => {
                let place = place(promise.session);
                if let Some(began) = self.under_way.remove(&place) {
                    self.dialed.ready.push(now - began);
                    self.dialed.places.push(place);
                }
            }
            Event::Settled {
                outcome: Outcome::Lost { .. },
                ..
            } => {} // Why follows.
            Event::Settled { outcome, .. } => {
                bail!("a session's first message was not acked: {outcome:?}")
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()> {
        // Endpoints take turns.
        while self.may_begin() && self.begun % self.endpoints == number {
            self.begin(number, node, now)?;
        }
        Ok(())
    }

    fn patience(&self, _: Instant) -> Option<Duration> {
        // It may be the turn of an endpoint that has had its chance already.
        self.may_begin().then_some(Duration::ZERO)
    }

    fn is_done(&self) -> bool {
        self.dialed.places.len() == self.count
    }
}
