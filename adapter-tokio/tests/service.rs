//! How many handlers run, and where.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{Authority, Double, Doubled, Note, soon};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use trunkline_tokio::{Admit, Client, ClientId, Context, Server, Service, Status, StatusCode};

/// A place where handlers meet: each waits, with its thread, until all are there.
#[derive(Default)]
struct Meeting {
    here: Mutex<usize>,
    arrived: Condvar,
}

impl Meeting {
    fn of(&self, expected: usize) -> bool {
        let mut here = self.here.lock().unwrap();
        *here += 1;
        self.arrived.notify_all();
        let patience = Duration::from_secs(20);
        let apart = |here: &mut usize| *here < expected;
        let waited = self.arrived.wait_timeout_while(here, patience, apart);
        !waited.unwrap().1.timed_out()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handlers_of_one_session_run_on_several_threads_if_they_are_to() {
    let authority = Authority::new();
    let service = Service::new(Meeting::default())
        .on_request(async |context: Context<Meeting>, question: Double| {
            if !context.state().of(2) {
                let alone = "the other one did not come";
                return Err(Status::new(StatusCode::UNAVAILABLE, alone));
            }
            let number = question.number * 2;
            Ok(Doubled { number })
        })
        .parallel();
    let server = authority.server().admission(Admit::open());
    let server = server.service(service).await.unwrap();
    let client = authority.client(server.local_addr(), "anna");
    let client = soon(client.into_future()).await.unwrap();
    let ask = |number| {
        client
            .request::<Doubled>(&Double { number })
            .timeout(Duration::from_secs(60))
            .into_future()
    };
    let (one, two) = tokio::join!(ask(1), ask(2));
    assert_eq!((one.unwrap().number, two.unwrap().number), (2, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_task_of_its_own_is_its_own_messages_rejection() {
    let authority = Authority::new();
    let service = Service::new(())
        .on_request(async |_: Context<()>, question: Double| {
            assert_ne!(question.number, 13, "a panic on purpose");
            let number = question.number * 2;
            Ok::<_, Status>(Doubled { number })
        })
        .parallel();
    let server = authority.server().admission(Admit::open());
    let server = server.service(service).await.unwrap();
    let client = authority.client(server.local_addr(), "anna");
    let client = soon(client.into_future()).await.unwrap();
    let ask = |number| client.request::<Doubled>(&Double { number }).into_future();
    let (bad, good) = soon(async { tokio::join!(ask(13), ask(14)) }).await;
    match bad {
        Err(trunkline_tokio::PromiseError::Rejected(status)) => {
            assert_eq!(status.code, StatusCode::INTERNAL);
        }
        other => panic!("not rejected: {other:?}"),
    }
    assert_eq!(good.unwrap().number, 28);
}

/// Counts who is at work, of each client, and lets them go one by one.
struct Gate {
    working: Mutex<BTreeMap<ClientId, usize>>,
    started: mpsc::UnboundedSender<(usize, usize)>,
    leave: Semaphore,
}

/// A server whose handlers wait at a gate; what it is told of each that starts: how many of its
/// session are at work, and how many in all.
async fn gated(
    authority: &Authority,
    per_session: usize,
    in_all: usize,
) -> (Server, Arc<Gate>, mpsc::UnboundedReceiver<(usize, usize)>) {
    let (started, starts) = mpsc::unbounded_channel();
    let gate = Arc::new(Gate {
        working: Mutex::default(),
        started,
        leave: Semaphore::new(0),
    });
    let service = Service::new(gate.clone())
        .on_request(async |context: Context<Arc<Gate>>, question: Double| {
            let gate = context.state();
            {
                let mut working = gate.working.lock().unwrap();
                *working.entry(context.client_id().clone()).or_default() += 1;
                let counts = (working[context.client_id()], working.values().sum());
                gate.started.send(counts).unwrap();
            }
            gate.leave.acquire().await.unwrap().forget();
            let mut working = gate.working.lock().unwrap();
            *working.entry(context.client_id().clone()).or_default() -= 1;
            let number = question.number * 2;
            Ok::<_, Status>(Doubled { number })
        })
        .concurrency(per_session, in_all);
    let server = authority.server().admission(Admit::open());
    (server.service(service).await.unwrap(), gate, starts)
}

/// The most that were at work at once, of one session and in all, while three clients asked four
/// questions each.
async fn most_at_work(per_session: usize, in_all: usize) -> (usize, usize) {
    let authority = Authority::new();
    let (server, gate, mut starts) = gated(&authority, per_session, in_all).await;
    let mut asking = JoinSet::new();
    let mut clients = Vec::<Client>::new();
    for name in ["anna", "otto", "emil"] {
        let client = authority.client(server.local_addr(), name);
        let client = soon(client.into_future()).await.unwrap();
        for number in 0..4 {
            asking.spawn(client.request::<Doubled>(&Double { number }).into_future());
        }
        clients.push(client);
    }
    // So many start before anybody leaves; then the others, in their places.
    let mut most = (0, 0);
    for count in 0..12 {
        if count == in_all.min(3 * per_session) {
            gate.leave.add_permits(12);
        }
        let (of_session, all) = soon(starts.recv()).await.unwrap();
        most = (most.0.max(of_session), most.1.max(all));
    }
    for answer in soon(asking.join_all()).await {
        answer.unwrap();
    }
    most
}

#[tokio::test]
async fn no_more_handlers_run_than_are_allowed_in_all() {
    assert_eq!(most_at_work(256, 2).await.1, 2);
    assert_eq!(most_at_work(256, 7).await.1, 7);
}

#[tokio::test]
async fn no_more_handlers_of_one_session_run_than_are_allowed() {
    assert_eq!(most_at_work(1, 256).await, (1, 3));
    assert_eq!(most_at_work(3, 256).await, (3, 9));
}

#[tokio::test]
async fn who_waits_for_a_handlers_place_is_handled_in_the_end_in_order() {
    let authority = Authority::new();
    let (sink, mut seen) = mpsc::unbounded_channel();
    type Sink = mpsc::UnboundedSender<(ClientId, u64)>;
    let service = Service::new(sink)
        .on(async |context: Context<Sink>, note: Note| {
            tokio::task::yield_now().await;
            let line = (context.client_id().clone(), note.number);
            context.state().send(line).unwrap();
        })
        .concurrency(1, 1);
    let server = authority.server().admission(Admit::open());
    let server = server.service(service).await.unwrap();
    let mut clients = Vec::new();
    for name in ["anna", "otto", "emil", "ines"] {
        let client = authority.client(server.local_addr(), name);
        clients.push(soon(client.into_future()).await.unwrap());
    }
    for number in 0..200 {
        for client in &clients {
            client.send(&Note { number }).await.unwrap();
        }
    }
    let mut next = BTreeMap::<_, u64>::new();
    for _ in 0..200 * clients.len() {
        let (client, number) = soon(seen.recv()).await.unwrap();
        let expected = next.entry(client).or_default();
        assert_eq!(number, *expected);
        *expected += 1;
    }
}
