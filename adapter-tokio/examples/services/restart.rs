//! A server is replaced by its next process while a client goes on: it finishes what it has begun, its
//! clients come back to the next one, and what it did not take is sent again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trunkline::{
    Admit, Client, Context, DrainPlan, Hooks, Identity, Peer, PersistentKeys, PromiseError, Server,
    Service, StatusCode,
};

use crate::common::{Failure, throwaway_certificate};

messages! {
    package "orders.v1";
    message Order { uint64 number = "1"; }
}

const ORDERS: u64 = 1_000;

/// What outlives a process: a database, say.
#[derive(Clone, Default)]
struct Books(Arc<Mutex<BTreeSet<u64>>>);

impl Books {
    /// An order that is sent again is known by its number.
    fn enter(&self, number: u64) -> usize {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        books.insert(number);
        books.len()
    }
}

async fn order(context: Context<Books>, Order { number }: Order) {
    let count = context.state().enter(number);
    if count as u64 == ORDERS {
        println!("all {ORDERS} orders are in the books");
    }
}

/// Tells of what a client goes through.
struct Log;

impl Hooks for Log {
    fn draining(&self, _: &Peer, deadline: Duration, _: Option<&str>) {
        println!("the server leaves within {deadline:?}");
    }

    fn connected(&self, peer: &Peer) {
        println!("{} is connected", peer.client_id());
    }
}

/// A process of the server. The keys are those of the process before, so that clients of one that was
/// killed notice at once.
async fn start(
    address: SocketAddr,
    identity: Identity,
    keys: PersistentKeys,
    books: Books,
) -> Result<Server, Failure> {
    let server = Server::bind(address)
        .identity(identity)
        .persistent_keys(keys)
        .admission(Admit::open())
        .service(Service::new(books).on(order));
    Ok(server.await?)
}

/// Sends an order until a server has it.
async fn place(client: &Client, number: u64) -> Result<(), PromiseError> {
    loop {
        match client.send(&Order { number }).acked().await {
            // The server has forgotten the client, as the next process has.
            Err(PromiseError::Lost { .. }) => {}
            // The server leaves. It says so until this link ends.
            Err(PromiseError::Rejected(status)) if status.code == StatusCode::UNAVAILABLE => {
                client.wait_for(|state| !state.is_connected()).await;
            }
            done => return done,
        }
    }
}

pub(crate) async fn run() -> Result<(), Failure> {
    let (identity, roots) = throwaway_certificate()?;
    // A service of yours keeps random ones in a file.
    let keys = PersistentKeys::new([1; 32], [2; 32]);
    let books = Books::default();
    let any = "127.0.0.1:0".parse()?;
    let server = start(any, identity.clone(), keys.clone(), books.clone()).await?;
    let address = server.local_addr();
    let client = Client::connect(address.to_string())
        .server_name("localhost")
        .roots(roots)
        .client_id("customer")
        .hooks(Log)
        .await?;
    for number in 1..=ORDERS / 2 {
        place(&client, number).await?;
    }
    // What a service does when it is told to end (tokio::signal, async-signal).
    let plan = DrainPlan {
        deadline: Duration::from_secs(10),
        retry_after: Some(Duration::from_millis(100)),
        alternative: None,
    };
    println!("{:?}", server.drain_with(plan).await?);
    server.close().await;
    let server = start(address, identity, keys, books).await?;
    for number in ORDERS / 2 + 1..=ORDERS {
        place(&client, number).await?;
    }
    client.close().await;
    server.close().await;
    Ok(())
}
