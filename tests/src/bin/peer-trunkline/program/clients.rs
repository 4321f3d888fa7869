//! Connecting, many at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use trunkline_testkit::peers::{Plan, SERVER_NAME, config, recording, roots};
use trunkline_tokio::{Client, ClientBuilder, Roots};

/// Makes the clients of one run. Each has a socket of its own, as every client of the adapter
/// does; `--endpoints` changes nothing here.
#[derive(Clone)]
pub(crate) struct Dialer {
    server: String,
    roots: Roots,
}

impl Dialer {
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        Ok(Self {
            server: plan.connect.to_string(),
            roots: roots()?,
        })
    }

    /// Client `number`; its id is new even to a server that has served other runs.
    pub(crate) fn client(&self, number: usize) -> Result<ClientBuilder> {
        let client = Client::connect(self.server.clone())
            .server_name(SERVER_NAME)
            .roots(self.roots.clone())
            .client_id(format!("{}-{number}", std::process::id()))
            .connect_timeout(Duration::from_secs(10))
            .config(config());
        Ok(match recording(&format!("client-{number}"))? {
            Some(recording) => client.record(recording),
            None => client,
        })
    }
}

/// Does something for each number below `count`, `at_once` of them at a time.
pub(crate) async fn for_each<T, F>(
    count: usize,
    at_once: usize,
    work: impl Fn(usize) -> F,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let permit = room.clone().acquire_owned().await?;
        let work = work(number);
        tasks.spawn(async move {
            let done = work.await;
            drop(permit);
            done
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(done) = tasks.join_next().await {
        all.push(done?.context("one of the connections failed")?);
    }
    Ok(all)
}

/// Says good-bye, so that the server need not wait for anybody to come back.
pub(crate) async fn close(clients: Vec<Client>) {
    let closing: JoinSet<_> = clients
        .into_iter()
        .map(|client| async move { client.close().await })
        .collect();
    closing.join_all().await;
}
