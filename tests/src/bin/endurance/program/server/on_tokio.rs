//! The server on the tokio adapter.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use trunkline_core::{Config, PersistentKeys, SessionKey};
use trunkline_testkit::Certificates;
use trunkline_testkit::peers::announce;
use trunkline_tokio::{
    Admit, Context, DisconnectReason, Hooks, Peer, Server, Service, Status, StatusCode,
};

use super::super::messages::{Ask, Numbered, Ready, Standing};
use super::MOST;
use super::account::Account;

/// What handlers share.
#[derive(Clone, Default)]
struct State(Arc<Mutex<Account<SessionKey>>>);

impl State {
    fn with<T>(&self, work: impl FnOnce(&mut Account<SessionKey>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Forgets the sessions that are gone.
struct Forgetting(State);

impl Hooks for Forgetting {
    fn closed(&self, peer: &Peer, _: &DisconnectReason) {
        let session: SessionKey = peer.session();
        self.0.with(|account| account.forget(&session));
    }
}

pub(super) fn serve(listen: SocketAddr, config: Config, keys: PersistentKeys) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::spawn(start(listen, config, keys)).await? })
}

async fn start(listen: SocketAddr, config: Config, keys: PersistentKeys) -> Result<()> {
    let identity = Certificates::new()
        .map_err(|error| anyhow!("{error}"))?
        .server;
    let state = State::default();
    let service = Service::new(state.clone())
        .on(numbered)
        .on(ready)
        .on_request(ask);
    let server = Server::bind(listen)
        .identity(identity)
        .admission(Admit::open())
        .config(config)
        .persistent_keys(keys)
        .service(service)
        .hooks(Forgetting(state))
        .await?;
    announce(server.local_addr(), MOST)?;
    server.closed().await;
    Ok(())
}

async fn numbered(context: Context<State>, numbered: Numbered) {
    let session = context.peer().session();
    let enter = |account: &mut Account<_>| account.enter(session, numbered.number);
    context.state().with(enter);
}

async fn ready(_: Context<State>, _: Ready) {}

async fn ask(context: Context<State>, _: Ask) -> Result<Standing, Status> {
    let metrics = context.server().metrics().await;
    let metrics =
        metrics.map_err(|error| Status::new(StatusCode::UNAVAILABLE, error.to_string()))?;
    let standing = context.state().with(|account| account.standing());
    Ok(standing.with(&metrics))
}
