//! The clients: thousands of sessions on some sockets of this process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use prost::Message as _;
use trunkline_core::{Config, Event, Message, Node, Outcome, SendError, SessionKey};
use trunkline_testkit::Certificates;
use trunkline_testkit::peers::bare::{
    self, Application, Endpoint, Moment, Place, close, dial, run,
};

use super::arguments::Common;
use super::messages::{Ask, AskSlow, Ready, Standing, Told, tag};

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
}

/// Datagrams that the paths of these endpoints have lost.
pub(crate) fn datagrams_lost(endpoints: &[Endpoint]) -> u64 {
    endpoints.iter().map(Endpoint::lost).sum()
}

/// All datagrams that have come to these paths.
pub(crate) fn datagrams(endpoints: &[Endpoint]) -> u64 {
    endpoints.iter().map(Endpoint::met).sum()
}

/// A session's first message.
fn ready() -> Message {
    Message::new(tag::READY, Ready {}.encode_to_vec())
}

/// Asks a server how it stands, over a connection of its own.
pub(crate) fn standing(server: SocketAddr) -> Result<Standing> {
    ask(server, Message::new(tag::ASK, Ask {}.encode_to_vec()))
}

/// Asks a server which clients it was told to be slow, over a connection of its own.
pub(crate) fn told_slow(server: SocketAddr) -> Result<Told> {
    let ask_slow = AskSlow {}.encode_to_vec();
    ask(server, Message::new(tag::ASK_SLOW, ask_slow))
}

fn ask<A: prost::Message + Default>(server: SocketAddr, question: Message) -> Result<A> {
    let mut endpoints = endpoints(server, &Config::default(), 1)?;
    let places = dial(server, &mut endpoints, 1, 1, ready())?.places;
    let mut asking = Asking {
        session: places[0].session,
        question: Some(question),
        answer: None,
    };
    run(&mut endpoints, &mut asking)?;
    close(&mut endpoints, &places)?;
    let answer = asking.answer.context("the server does not answer")?;
    Ok(A::decode(answer)?)
}

struct Asking {
    session: SessionKey,
    /// Until it is asked.
    question: Option<Message>,
    answer: Option<Bytes>,
}

impl Application for Asking {
    fn event(&mut self, _: usize, node: &mut Node, moment: Moment, event: Event) -> Result<()> {
        match event {
            // A broadcast; what is not answered would hold up the end.
            Event::Message(delivery) => node.ack(moment.now, delivery.key)?,
            Event::Settled {
                outcome: Outcome::Replied { body, .. },
                ..
            } => self.answer = Some(body),
            Event::Settled { outcome, .. } => {
                bail!("the server does not answer: {outcome:?}")
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, _: usize, node: &mut Node, now: Instant) -> Result<()> {
        if let Some(question) = self.question.take() {
            node.request(now, self.session, question, None)
                .map_err(|SendError { error, .. }| error)?;
        }
        Ok(())
    }

    fn patience(&self, _: Instant) -> Option<Duration> {
        None
    }

    fn is_done(&self) -> bool {
        self.answer.is_some()
    }
}
