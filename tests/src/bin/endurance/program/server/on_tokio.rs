//! The server on the tokio adapter.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{MissedTickBehavior, interval};
use trunkline_core::SessionKey;
use trunkline_testkit::Certificates;
use trunkline_testkit::peers::{Event, announce};
use trunkline_tokio::{
    Admit, Context, DisconnectReason, Hooks, Peer, Server, ServerHandle, Service, Status,
    StatusCode,
};

use super::super::arguments::Broadcasts;
use super::super::messages::{Ask, AskSlow, Numbered, Ready, Standing, Told};
use super::account::Account;
use super::slowness::Slowness;
use super::{KEY, MOST, Setting};

/// What is kept of the sessions.
#[derive(Default)]
struct Books {
    account: Account<SessionKey>,
    slowness: Slowness,
}

/// What handlers share.
#[derive(Clone, Default)]
struct State(Arc<Mutex<Books>>);

impl State {
    fn with<T>(&self, work: impl FnOnce(&mut Books) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn connected(&self, peer: &Peer) {
        if let Some(address) = peer.address() {
            self.with(|books| books.slowness.connected(peer.session(), address));
        }
    }
}

/// Sees who comes, is slow and goes.
struct Watching(State);

impl Hooks for Watching {
    fn connected(&self, peer: &Peer) {
        self.0.connected(peer);
    }

    fn resumed(&self, peer: &Peer) {
        self.0.connected(peer);
    }

    fn slow_consumer(&self, peer: &Peer, _: usize) {
        let found = self
            .0
            .with(|books| books.slowness.found_slow(peer.session()));
        if let Err(error) = found {
            eprintln!("endurance: a slow client is not counted: {error:#}");
        }
    }

    fn closed(&self, peer: &Peer, _: &DisconnectReason) {
        let session: SessionKey = peer.session();
        self.0.with(|books| {
            books.account.forget(&session);
            books.slowness.forget(&session);
        });
    }
}

pub(super) fn serve(setting: Setting) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::spawn(start(setting)).await? })
}

async fn start(setting: Setting) -> Result<()> {
    let identity = Certificates::new()
        .map_err(|error| anyhow!("{error}"))?
        .server;
    let state = State::default();
    let service = Service::new(state.clone())
        .on(numbered)
        .on(ready)
        .on_request(ask)
        .on_request(ask_slow);
    let server = Server::bind(setting.listen)
        .identity(identity)
        .admission(Admit::open())
        .config(setting.config)
        .persistent_keys(setting.keys)
        .service(service)
        .hooks(Watching(state))
        .await?;
    announce(server.local_addr(), MOST)?;
    match setting.broadcasts {
        Some(broadcasts) => broadcast(&server, broadcasts).await,
        None => {
            server.closed().await;
            Ok(())
        }
    }
}

async fn broadcast(server: &ServerHandle, broadcasts: Broadcasts) -> Result<()> {
    let payload = usize::try_from(broadcasts.payload)?;
    let mut due = interval(Duration::from_secs_f64(1.0 / broadcasts.rate));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        server.broadcast(&Event::now(payload)?).key(KEY).await?;
    }
}

async fn numbered(context: Context<State>, numbered: Numbered) {
    let session = context.peer().session();
    let enter = |books: &mut Books| books.account.enter(session, numbered.number);
    context.state().with(enter);
}

async fn ready(_: Context<State>, _: Ready) {}

async fn ask(context: Context<State>, _: Ask) -> Result<Standing, Status> {
    let metrics = context.server().metrics().await;
    let metrics =
        metrics.map_err(|error| Status::new(StatusCode::UNAVAILABLE, error.to_string()))?;
    let standing = context.state().with(|books| books.account.standing());
    Ok(standing.with(&metrics))
}

async fn ask_slow(context: Context<State>, _: AskSlow) -> Result<Told, Status> {
    Ok(context.state().with(|books| books.slowness.told()))
}
