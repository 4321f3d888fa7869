//! A server is replaced by its next process while a client goes on: it finishes what it has begun, its
//! clients come back to the next one, and what it did not take is sent again.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_channel::{Receiver, Sender, unbounded};
use trunkline::{
    Admit, Client, Context, DrainPlan, Event, Identity, Notice, PersistentKeys, PromiseError,
    Server, Service, StatusCode,
};

use crate::common::{Failure, throwaway_certificate};

messages! {
    package "orders.v1";
    message Order { uint64 number = "1"; }
}

const ORDERS: u64 = 1_000;

/// What outlives a process, a database, say; and who is told of each order.
type Books = (Arc<Mutex<BTreeSet<u64>>>, Sender<u64>);

/// An order that is sent again is known by its number.
async fn order((books, told): &Books, number: u64) {
    books
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(number);
    // Nobody listens for long.
    let _ = told.send(number).await;
}

/// A process of the server. Its keys are those of the process before, so that clients of one that was
/// killed notice at once. A service of yours keeps random ones in a file
/// (`PersistentKeys::load_or_create`).
async fn start(address: SocketAddr, identity: Identity, books: Books) -> Result<Server, Failure> {
    let service = Service::new(books).on(async |context: Context<Books>, Order { number }| {
        order(context.state(), number).await;
    });
    let server = Server::bind(address)
        .identity(identity)
        .persistent_keys(PersistentKeys::new([1; 32], [2; 32]))
        .admission(Admit::open())
        .service(service);
    Ok(server.await?)
}

/// Sends orders, each until a server has it.
async fn place_orders(client: &Client) -> Result<(), Failure> {
    for number in 1..=ORDERS {
        loop {
            // From here on, so that the end of the link is not missed.
            let mut events = client.events();
            match client.send(&Order { number }).acked().await {
                Ok(()) => break,
                // The next process does not know the client, and says so.
                Err(PromiseError::Lost { .. }) => {}
                // The server leaves. It takes nothing more before this link ends.
                Err(PromiseError::Rejected(status)) if status.code == StatusCode::UNAVAILABLE => {
                    println!("order {number} has to wait: {status}");
                    while let Some(Notice::Event(event)) = events.next().await {
                        if matches!(event, Event::Disconnected { .. }) {
                            break;
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// What a service does when it is told to end (tokio::signal, async-signal), and then its next process.
async fn restart(server: Server, identity: Identity, books: Books) -> Result<Server, Failure> {
    let mut plan = DrainPlan::within(Duration::from_secs(10));
    plan.retry_after = Some(Duration::from_millis(100));
    println!("{:?}", server.drain_with(plan).await?);
    server.close().await;
    start(server.local_addr(), identity, books).await
}

pub(crate) async fn run() -> Result<(), Failure> {
    let (identity, roots) = throwaway_certificate()?;
    let (tell, told): (_, Receiver<u64>) = unbounded();
    let books: Books = (Arc::default(), tell);
    let server = start("127.0.0.1:0".parse()?, identity.clone(), books.clone()).await?;
    let client = Client::connect(server.local_addr().to_string())
        .server_name("localhost")
        .roots(roots)
        .client_id("customer")
        .await?;
    let mut orders = pin!(place_orders(&client));
    let mut restarted = pin!(async {
        while told.recv().await? < ORDERS / 2 {}
        restart(server, identity, books.clone()).await
    });
    let (mut placed, mut next) = (None, None);
    // Both at once, as tokio::join! has it.
    poll_fn(|cx| {
        if placed.is_none()
            && let Poll::Ready(done) = orders.as_mut().poll(cx)
        {
            placed = Some(done);
        }
        if next.is_none()
            && let Poll::Ready(done) = restarted.as_mut().poll(cx)
        {
            next = Some(done);
        }
        if placed.is_some() && next.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    placed.transpose()?;
    let server = next.transpose()?;
    client.close().await;
    if let Some(server) = server {
        server.close().await;
    }
    let count = books.0.lock().unwrap_or_else(PoisonError::into_inner).len();
    println!("{count} of {ORDERS} orders are in the books");
    if count as u64 == ORDERS {
        Ok(())
    } else {
        Err("orders are missing".into())
    }
}
