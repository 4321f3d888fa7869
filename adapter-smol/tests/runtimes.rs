//! Every way to run smol: it runs in all of them, and ends with its executor in mid-traffic.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests end by panicking"
)]

#[cfg(unix)]
#[path = "../../adapter-tokio/tests/common/ports.rs"]
mod ports;

use std::future::{Future, IntoFuture, poll_fn};
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};
use smol::future::{or, yield_now, zip};
use smol::{Executor, LocalExecutor, Timer, block_on};
use trunkline_smol::{
    Admit, BusyPoll, Client, ClientBuilder, CommandError, Context, Identity, PromiseError, Roots,
    Runtime, Server, ServerBuilder, Service, StartError, Status, StatusCode, Stopped,
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

macro_rules! message {
    ($($name:ident)*) => { $(
        #[derive(Clone, PartialEq, prost::Message)]
        struct $name {
            #[prost(int64, tag = "1")]
            number: i64,
        }
        impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = "test.v1";
        }
    )* };
}

message!(Note Double Doubled);

/// Fails a test that hangs.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    or(async { Some(work.await) }, async {
        Timer::after(Duration::from_secs(20)).await;
        None
    })
    .await
    .expect("it should not take this long")
}

/// Doubles numbers, asking the client itself for every odd one's neighbour.
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
            yield_now().await;
            Ok::<_, Status>(Doubled { number: 2 * number })
        })
}

/// A server and a client on that executor, or on smol's own.
async fn pair(runtime: Option<Runtime>) -> (Server, Client) {
    pair_with(runtime, |server| server, |client| client).await
}

/// The same, with what those make of the server and of the client.
async fn pair_with(
    runtime: Option<Runtime>,
    change_server: impl FnOnce(ServerBuilder) -> ServerBuilder,
    change_client: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> (Server, Client) {
    // A name, so that the look-up is tried too; it may be of either family.
    let address = ("localhost", 0).to_socket_addrs().unwrap().next().unwrap();
    pair_at(address, runtime, change_server, change_client).await
}

async fn pair_at(
    address: SocketAddr,
    runtime: Option<Runtime>,
    change_server: impl FnOnce(ServerBuilder) -> ServerBuilder,
    change_client: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> (Server, Client) {
    watch_for_panics();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes(), "server").unwrap();
    let roots = Roots::from_pem(certificate.as_bytes(), "roots").unwrap();
    let mut server = Server::bind(address)
        .identity(identity)
        .admission(Admit::open())
        .service(doubling());
    if let Some(runtime) = &runtime {
        server = server.runtime(runtime.clone());
    }
    let server = soon(change_server(server).into_future()).await.unwrap();
    let mut client = Client::connect(format!("localhost:{}", server.local_addr().port()))
        .roots(roots)
        .client_id("anna")
        .service(doubling());
    if let Some(runtime) = &runtime {
        client = client.runtime(runtime.clone());
    }
    let client = change_client(client);
    (server, soon(client.into_future()).await.unwrap())
}

async fn double(client: &Client, number: i64) -> Result<i64, PromiseError> {
    let doubled = client.request::<Doubled>(&Double { number }).await;
    doubled.map(|doubled| doubled.number)
}

/// Connects, asks something each way, and closes.
async fn visit(runtime: Option<Runtime>) {
    let (server, client) = pair(runtime).await;
    assert_eq!(soon(double(&client, 21)).await.unwrap(), 42);
    soon(client.close()).await;
    soon(server.close()).await;
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

#[test]
fn it_runs_on_the_global_executor() {
    block_on(visit(None));
    block_on(smol::spawn(visit(None)));
}

#[test]
fn block_on_may_be_nested() {
    block_on(async {
        let (_server, client) = pair(None).await;
        assert_eq!(block_on(soon(double(&client, 21))).unwrap(), 42);
        let blocking = smol::unblock(move || block_on(soon(double(&client, 20))));
        assert_eq!(blocking.await.unwrap(), 40);
    });
}

#[test]
fn it_runs_on_an_executor_of_one_thread() {
    let executor = Arc::new(Executor::new());
    block_on(executor.run(visit(Some((&executor).into()))));
}

#[test]
fn it_runs_beside_a_local_executor() {
    let (executor, local) = (Arc::new(Executor::new()), LocalExecutor::new());
    let task = local.spawn(visit(Some((&executor).into())));
    block_on(local.run(executor.run(task)));
}

#[test]
fn it_runs_on_an_executor_that_lives_for_ever() {
    static EXECUTOR: Executor<'_> = Executor::new();
    block_on(EXECUTOR.run(visit(Some((&EXECUTOR).into()))));
}

/// One request at a time, far more than there are sleeps before the first look. Each end has a thread of its own, as
/// drivers that look want it.
#[test]
fn drivers_may_look_for_datagrams_before_they_sleep() {
    const REQUESTS: i64 = 200;
    let patient = BusyPoll::new(Duration::from_millis(1));
    let (theirs, ours) = (Threads::new(1), Threads::new(1));
    block_on(async {
        let on_theirs = |server: ServerBuilder| {
            let server = server.busy_poll(patient.clone());
            server.runtime(Runtime::from(&theirs.executor))
        };
        let looks = |client: ClientBuilder| client.busy_poll(patient.clone());
        let (server, client) = pair_with(Some((&ours.executor).into()), on_theirs, looks).await;
        for number in 0..REQUESTS {
            let number = 2 * number;
            assert_eq!(soon(double(&client, number)).await.unwrap(), 2 * number);
        }
        soon(client.close()).await;
        soon(server.close()).await;
    });
    theirs.end();
    ours.end();
}

#[test]
fn it_runs_on_an_executor_of_many_threads() {
    let threads = Threads::new(3);
    block_on(visit(Some((&threads.executor).into())));
    threads.end();
}

#[cfg(unix)]
#[test]
fn shards_run_on_threads_of_their_own() {
    let name = async |_: Context<()>, _: Double| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        let number = name.strip_prefix("trunkline-").and_then(|n| n.parse().ok());
        let number = number.unwrap_or(i64::MAX);
        Ok::<_, Status>(Doubled { number })
    };
    let service = Service::new(()).on_request(name);
    block_on(async {
        let sharded = |server: ServerBuilder| server.service(service).shards(2);
        let address = ports::free_address();
        let (server, client) = pair_at(address, None, sharded, |client| client).await;
        let shard = server.peers()[0].session().shard();
        let thread = soon(double(&client, 1)).await.unwrap();
        assert_eq!(usize::try_from(thread), Ok(shard));
        soon(client.close()).await;
        soon(server.close()).await;
        std::net::UdpSocket::bind(server.local_addr()).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn shards_end_with_the_executor_that_started_them() {
    let executor = Arc::new(Executor::new());
    let runtime = Some((&executor).into());
    let pair = pair_with(runtime, |server| server.shards(2), |client| client);
    let (server, client) = block_on(executor.run(pair));
    drop(executor);
    block_on(soon(server.closed()));
    assert_eq!(block_on(server.clients()), Err(Stopped));
    let error = block_on(soon(double(&client, 1))).unwrap_err();
    assert!(is_over(&error), "{error}");
}

#[test]
fn nothing_starts_on_an_executor_that_is_gone() {
    let executor = Arc::new(Executor::new());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let server = Server::bind(address)
        .identity(Identity::from_pem(certificate.as_bytes(), key.as_bytes(), "server").unwrap())
        .admission(Admit::open())
        .runtime(&executor);
    drop(executor);
    match block_on(server.into_future()) {
        Err(error @ StartError::Bind { .. }) => {
            assert!(error.to_string().contains("was dropped"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_executor_of_many_threads_is_dropped_in_mid_traffic() {
    static REPLIES: AtomicUsize = AtomicUsize::new(0);
    let threads = Threads::new(3);
    let executor = threads.executor.clone();
    let left = block_on(begin(&executor, &REPLIES));
    // It ends with its last owner.
    drop(executor);
    threads.end();
    block_on(left.settles());
}

#[test]
fn an_executor_of_one_thread_is_dropped_in_mid_traffic() {
    static REPLIES: AtomicUsize = AtomicUsize::new(0);
    let executor = Arc::new(Executor::new());
    let left = block_on(executor.run(begin(&executor, &REPLIES)));
    drop(executor);
    block_on(left.settles());
}

/// An executor that some threads run.
struct Threads {
    executor: Arc<Executor<'static>>,
    stop: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    fn new(count: usize) -> Self {
        let executor = Arc::new(Executor::new());
        let (stop, stopped): (_, Receiver<()>) = bounded(1);
        let run = || {
            let (executor, stopped) = (executor.clone(), stopped.clone());
            thread::spawn(move || {
                let _ = block_on(executor.run(stopped.recv()));
            })
        };
        let threads = (0..count).map(|_| run()).collect();
        Self {
            executor,
            stop,
            threads,
        }
    }

    fn end(self) {
        drop(self.stop);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// What is left of the traffic of an executor that is about to go.
struct Left {
    server: Server,
    client: Client,
    promises: Vec<Promise>,
}

type Promise = Pin<Box<dyn Future<Output = Result<i64, PromiseError>> + Send>>;

/// Begins traffic on an executor, and sends requests that are waited for outside of it.
async fn begin(executor: &Arc<Executor<'static>>, replies: &'static AtomicUsize) -> Left {
    let (server, client) = pair(Some(executor.into())).await;
    for _ in 0..8 {
        let traffic = traffic(server.clone(), client.clone(), replies);
        executor.spawn(traffic).detach();
    }
    while replies.load(Ordering::SeqCst) < 100 {
        yield_now().await;
    }
    let mut promises = Vec::new();
    for number in 0..200 {
        let client = client.clone();
        let mut promise: Promise = Box::pin(async move { double(&client, number).await });
        // The first poll sends it.
        let polled = poll_fn(|cx| Poll::Ready(promise.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        promises.push(promise);
    }
    Left {
        server,
        client,
        promises,
    }
}

/// Traffic of all kinds until the executor ends; counts requests that were replied to.
async fn traffic(server: Server, client: Client, replies: &'static AtomicUsize) {
    for number in 0.. {
        let sent = client.send(&Note { number: 1 }).into_future();
        let shouted = server.broadcast(&Note { number: 2 }).into_future();
        let ((doubled, sent), shouted) = zip(zip(double(&client, number), sent), shouted).await;
        match doubled {
            Ok(doubled) => assert_eq!(doubled, 2 * number),
            Err(error) => return assert!(is_over(&error), "{error}"),
        }
        if sent.is_err() || shouted.is_err() {
            return;
        }
        replies.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a promise may say once its executor is gone.
fn is_over(error: &PromiseError) -> bool {
    match error {
        PromiseError::Stopped(_) | PromiseError::Lost { .. } => true,
        PromiseError::Refused(refused) => refused.error == CommandError::UnknownSession,
        _ => false,
    }
}

impl Left {
    /// Every promise settles, and nothing waits for what is gone.
    async fn settles(self) {
        for (number, promise) in (0..).zip(self.promises) {
            match soon(promise).await {
                Ok(doubled) => assert_eq!(doubled, 2 * number),
                Err(error) => assert!(is_over(&error), "{error}"),
            }
        }
        soon(self.server.closed()).await;
        soon(self.client.close()).await;
        assert!(self.server.clients().await.is_err());
        assert!(self.client.send(&Note { number: 1 }).await.is_err());
        assert!(self.client.try_send(&Note { number: 1 }).is_err());
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }
}
