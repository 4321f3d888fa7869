//! Every kind of tokio runtime: it runs in all of them, and ends with them in mid-traffic.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests end by panicking")]

mod common;

use std::future::{Future, poll_fn};
use std::net::ToSocketAddrs;
use std::pin::Pin;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::{Authority, Double, Doubled, Note, soon};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::LocalSet;
use trunkline_tokio::{
    Admit, Client, CommandError, Context, PromiseError, Server, Service, StartError, Status,
    StatusCode,
};

/// Panics of all threads; no test here means to panic.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            usual(panic);
        }));
    });
}

fn threads(count: usize) -> Runtime {
    watch_for_panics();
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(count).enable_all().build().unwrap()
}

fn one_thread() -> Runtime {
    watch_for_panics();
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Doubles numbers, asking the client itself for every other one.
fn doubling() -> Service<()> {
    Service::new(())
        .on(async |_: Context<()>, _: Note| ())
        .on_request(async |context: Context<()>, question: Double| {
            let number = question.number;
            if number % 2 == 1 {
                let even = Double { number: number - 1 };
                let doubled: Doubled = context
                    .peer()
                    .request(&even)
                    .await
                    .map_err(|error| Status::new(StatusCode::UNKNOWN, error.to_string()))?;
                return Ok(Doubled {
                    number: doubled.number + 2,
                });
            }
            tokio::task::yield_now().await;
            Ok::<_, Status>(Doubled { number: 2 * number })
        })
}

async fn pair(authority: &Authority) -> (Server, Client) {
    let server = authority.server().admission(Admit::open());
    let server = server.service(doubling()).await.unwrap();
    let client = authority.client(server.local_addr(), "anna");
    let client = soon(client.service(doubling()).into_future());
    (server, client.await.unwrap())
}

async fn double(client: &Client, number: i64) -> Result<i64, PromiseError> {
    let doubled = client.request::<Doubled>(&Double { number }).await;
    doubled.map(|doubled| doubled.number)
}

/// What a promise may say once its runtime is ending.
fn is_over(error: &PromiseError) -> bool {
    match error {
        PromiseError::Stopped(_) | PromiseError::Lost { .. } => true,
        PromiseError::Refused(refused) => refused.error == CommandError::UnknownSession,
        _ => false,
    }
}

/// Traffic of all kinds until the runtime ends; counts requests that were replied to.
async fn traffic(server: Server, client: Client, replies: &'static AtomicUsize) {
    for number in 0.. {
        let (doubled, sent, shouted) = tokio::join!(
            double(&client, number),
            client.send(&Note { number: 1 }).into_future(),
            server.broadcast(&Note { number: 2 }).into_future(),
        );
        match doubled {
            Ok(doubled) => assert_eq!(doubled, 2 * number),
            // A runtime of many threads ends its tasks one after the other.
            Err(error) => return assert!(is_over(&error), "{error}"),
        }
        if sent.is_err() || shouted.is_err() {
            return;
        }
        replies.fetch_add(1, Ordering::SeqCst);
    }
}

/// Ends a runtime while requests are under way, inside of it and outside.
fn cut_off(runtime: Runtime, replies: &'static AtomicUsize, end: impl FnOnce(Runtime)) {
    let authority = Authority::new();
    let (server, client) = runtime.block_on(pair(&authority));
    for _ in 0..8 {
        runtime.spawn(traffic(server.clone(), client.clone(), replies));
    }
    // These are waited for outside.
    type Promise = Pin<Box<dyn Future<Output = Result<i64, PromiseError>> + Send>>;
    let mut promises: Vec<Promise> = Vec::new();
    for number in 0..200 {
        let client = client.clone();
        promises.push(Box::pin(async move { double(&client, number).await }));
    }
    runtime.block_on(async {
        while replies.load(Ordering::SeqCst) < 100 {
            tokio::task::yield_now().await;
        }
        poll_fn(|cx| {
            // The first poll sends it.
            let polled = promises.iter_mut().map(|promise| promise.as_mut().poll(cx));
            assert!(polled.filter(Poll::is_pending).count() == 200);
            Poll::Ready(())
        })
        .await;
    });
    let handle = runtime.handle().clone();
    end(runtime);
    one_thread().block_on(async {
        for (number, promise) in (0..).zip(promises) {
            match soon(promise).await {
                Ok(doubled) => assert_eq!(doubled, 2 * number),
                Err(error) => assert!(is_over(&error), "{error}"),
            }
        }
        soon(server.closed()).await;
        soon(client.close()).await;
        assert!(server.clients().await.is_err());
        assert!(client.send(&Note { number: 1 }).await.is_err());
        assert!(client.try_send(&Note { number: 1 }).is_err());
        // Nothing starts in a runtime that is gone, and nothing waits for it.
        let again = authority.server().admission(Admit::open()).runtime(handle);
        match soon(again.into_future()).await {
            Err(StartError::Bind { .. }) => {}
            Ok(server) => soon(server.closed()).await,
            Err(other) => panic!("{other}"),
        }
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

#[test]
fn a_runtime_of_many_threads_is_dropped_in_mid_traffic() {
    static REPLIES: AtomicUsize = AtomicUsize::new(0);
    cut_off(threads(3), &REPLIES, drop);
}

#[test]
fn a_runtime_of_many_threads_is_shut_down_in_the_background() {
    static REPLIES: AtomicUsize = AtomicUsize::new(0);
    cut_off(threads(2), &REPLIES, Runtime::shutdown_background);
}

#[test]
fn a_runtime_of_one_thread_is_dropped_in_mid_traffic() {
    static REPLIES: AtomicUsize = AtomicUsize::new(0);
    cut_off(one_thread(), &REPLIES, drop);
}

#[test]
fn a_runtime_is_dropped_inside_of_another() {
    static REPLIES: AtomicUsize = AtomicUsize::new(0);
    let outer = threads(2);
    outer.block_on(async {
        let inner = tokio::task::spawn_blocking(|| {
            // A runtime may not be dropped where blocking is forbidden; in the background it may.
            cut_off(threads(2), &REPLIES, Runtime::shutdown_background);
        });
        inner.await.unwrap();
    });
}

#[test]
fn a_local_set_is_dropped_in_mid_traffic_and_the_rest_lives_on() {
    static REPLIES: AtomicUsize = AtomicUsize::new(0);
    let runtime = one_thread();
    let authority = Authority::new();
    let local = LocalSet::new();
    let (server, client) = local.block_on(&runtime, pair(&authority));
    for _ in 0..8 {
        local.spawn_local(traffic(server.clone(), client.clone(), &REPLIES));
    }
    local.block_on(&runtime, async {
        while REPLIES.load(Ordering::SeqCst) < 100 {
            tokio::task::yield_now().await;
        }
    });
    drop(local);
    // The drivers are tasks of the runtime, not of the local set.
    let doubled = runtime.block_on(soon(double(&client, 21)));
    assert_eq!(doubled.unwrap(), 42);
    runtime.block_on(async {
        soon(client.close()).await;
        soon(server.close()).await;
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

#[test]
fn blocking_code_inside_of_a_runtime_waits_for_replies() {
    let runtime = threads(2);
    let authority = Authority::new();
    let doubled = runtime.block_on(async {
        let (_server, client) = pair(&authority).await;
        let handle = Handle::current();
        let blocking = move || handle.block_on(soon(double(&client, 21)));
        tokio::task::spawn_blocking(blocking).await.unwrap()
    });
    assert_eq!(doubled.unwrap(), 42);
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

#[test]
fn what_is_told_to_runs_in_another_runtime_than_the_callers() {
    let (network, application) = (threads(1), one_thread());
    let authority = Authority::new();
    application.block_on(async {
        // A name, so that the look-up too happens there; it may be of either family.
        let address = ("localhost", 0).to_socket_addrs().unwrap().next().unwrap();
        let server = Server::bind(address)
            .identity(authority.identity("localhost"))
            .admission(Admit::open())
            .service(doubling())
            .runtime(network.handle().clone());
        let server = server.await.unwrap();
        let port = server.local_addr().port();
        let client = Client::connect(format!("localhost:{port}"))
            .roots(authority.roots())
            .client_id("anna")
            .service(doubling())
            .connect_timeout(Duration::from_secs(20))
            .runtime(network.handle().clone());
        let client = soon(client.into_future()).await.unwrap();
        assert_eq!(soon(double(&client, 21)).await.unwrap(), 42);
        network.shutdown_background();
        soon(server.closed()).await;
        assert!(double(&client, 1).await.is_err());
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}
