//! Paths of a simulation that are not like the others: one client's, or one direction of it.

use std::future::{Future, IntoFuture, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use trunkline_core::driver::{Context, Service, State};
use trunkline_core::{DisconnectReason, PersistentKeys, Status};
use trunkline_testkit::Path;
use trunkline_testkit::simulated::{Client, Process, Simulation};

use crate::SECOND;

/// Three heartbeats of 15 s that were not answered, and one more for where in their interval it began.
const PATIENCE: Duration = Duration::from_secs(60);
/// A request's there and back at the default delay, and what QUIC's timers add to it at most.
const AT_ONCE: Duration = Duration::from_millis(5);

message!(Ask);
message!(Answer);

/// What a service was asked, in order.
type Book = Arc<Mutex<Vec<u32>>>;

async fn answer(book: Context<Book>, ask: Ask) -> Result<Answer, Status> {
    book.state().lock().unwrap().push(ask.number);
    Ok(Answer { number: ask.number })
}

fn service(book: &Book) -> Service<Book> {
    Service::new(book.clone()).on_request(answer)
}

/// Where a simulation's server is.
fn server() -> SocketAddr {
    "127.0.0.1:4433".parse().unwrap()
}

/// How long an answer takes.
async fn ask(simulation: &Simulation, client: &Client, number: u32) -> Duration {
    let asked = simulation.elapsed();
    let answer: Answer = client.request(&Ask { number }).await.unwrap();
    assert_eq!(answer.number, number);
    simulation.elapsed() - asked
}

/// Has something begin that is waited for later.
async fn begin(mut work: Pin<&mut impl Future>) {
    let begun = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx)));
    assert!(begun.await.is_pending());
}

#[test]
fn a_client_whose_path_is_cut_is_found_dead_while_its_neighbour_goes_on() {
    let simulation = Simulation::new(1);
    let book = Book::default();
    simulation.run(async {
        let server = simulation.server().service(service(&book)).await.unwrap();
        let anna = simulation.client("anna").await.unwrap();
        let bob = simulation.client("bob").await.unwrap();
        let seen = server.client(anna.client_id()).unwrap();

        simulation.path_between(anna.local_addr(), server.local_addr(), |path| {
            path.cut = true;
        });
        for number in 0..60 {
            simulation.sleep(SECOND).await;
            assert!(ask(&simulation, &bob, number).await < AT_ONCE);
        }
        let dead = |state| {
            let is_dead = matches!(&state, State::Away(DisconnectReason::HeartbeatTimeout));
            assert!(is_dead, "{state:?}");
        };
        dead(seen.state());
        assert!(!anna.state().is_connected());

        simulation.path_between(anna.local_addr(), server.local_addr(), |path| {
            path.cut = false;
        });
        ask(&simulation, &anna, 60).await;
        let resumed = async |client: &Client| client.metrics().await.unwrap().sessions_resumed;
        assert_eq!((resumed(&anna).await, resumed(&bob).await), (1, 0));
    });
    assert_eq!(*book.lock().unwrap(), (0..=60).collect::<Vec<_>>());
}

#[test]
fn what_one_direction_carries_arrives_while_the_other_is_cut() {
    let simulation = Simulation::new(2);
    let book = Book::default();
    simulation.run(async {
        let server = simulation.server().service(service(&book)).await.unwrap();
        let anna = simulation.client("anna").await.unwrap();
        let (client, server) = (anna.local_addr(), server.local_addr());

        simulation.direction(server, client, |path| path.cut = true);
        let asked = anna.request::<Answer>(&Ask { number: 1 });
        let mut asked = pin!(asked.timeout(5 * PATIENCE).into_future());
        begin(asked.as_mut()).await;
        simulation.sleep(AT_ONCE).await;
        assert_eq!(*book.lock().unwrap(), [1]);
        // It hears nothing, whatever it says, so the server is dead to it.
        simulation.sleep(PATIENCE).await;
        assert!(!anna.state().is_connected());
        assert_eq!(*book.lock().unwrap(), [1]);

        simulation.direction(server, client, |path| path.cut = false);
        assert_eq!(asked.await.unwrap().number, 1);
        assert_eq!(*book.lock().unwrap(), [1], "it was done once");

        simulation.direction(client, server, |path| path.cut = true);
        let asked = anna.request::<Answer>(&Ask { number: 2 });
        let mut asked = pin!(asked.timeout(5 * PATIENCE).into_future());
        begin(asked.as_mut()).await;
        simulation.sleep(PATIENCE).await;
        assert_eq!(*book.lock().unwrap(), [1], "it has not arrived");
        simulation.direction(client, server, |path| path.cut = false);
        assert_eq!(asked.await.unwrap().number, 2);
    });
    assert_eq!(*book.lock().unwrap(), [1, 2]);
}

#[test]
fn a_slow_uplink_slows_its_own_client_and_one_way() {
    let simulation = Simulation::new(3);
    let slow = SECOND / 5;
    simulation.run(async {
        let server = simulation.server().service(service(&Book::default()));
        let server = server.await.unwrap();
        let anna = simulation.client("anna").await.unwrap();
        let bob = simulation.client("bob").await.unwrap();
        simulation.direction(anna.local_addr(), server.local_addr(), |path| {
            path.delay = slow;
        });
        let took = ask(&simulation, &anna, 1).await;
        assert!(took >= slow && took < slow + AT_ONCE, "{took:?}");
        assert!(ask(&simulation, &bob, 2).await < AT_ONCE);

        // It stays as it is, whatever becomes of all others.
        simulation.path(|path| path.delay = 2 * slow);
        let took = ask(&simulation, &anna, 3).await;
        assert!(took >= 3 * slow && took < 3 * slow + AT_ONCE, "{took:?}");
        let took = ask(&simulation, &bob, 4).await;
        assert!(took >= 4 * slow && took < 4 * slow + AT_ONCE, "{took:?}");
    });
}

#[test]
fn settings_of_a_path_are_its_addresses_and_outlive_whoever_has_them() {
    let simulation = Simulation::new(4);
    let serve = || -> Process {
        let server = simulation
            .server()
            .persistent_keys(PersistentKeys::new([1; 32], [2; 32]))
            .service(service(&Book::default()));
        simulation.process(async {
            let _server = server.await.unwrap();
            std::future::pending().await
        })
    };
    simulation.run(async {
        // Before there is a server, and before the client has said a word.
        let anna = simulation.client("anna").start().await.unwrap();
        let cut = |cut| simulation.direction(server(), anna.local_addr(), |path| path.cut = cut);
        cut(true);
        let first = serve();
        simulation.sleep(PATIENCE).await;
        assert!(!anna.state().is_connected());
        first.kill();
        let second = serve();
        // It dials again every minute at least.
        simulation.sleep(3 * PATIENCE).await;
        assert!(!anna.state().is_connected());
        cut(false);
        anna.connected().await.unwrap();
        second.kill();
    });
}

/// Two clients that ask by turns over a bad network; `change` is done to it before.
fn run(seed: u64, change: impl FnOnce(&Simulation, [SocketAddr; 2])) -> (u64, Vec<Duration>) {
    let simulation = Simulation::new(seed);
    simulation.path(|path| {
        path.jitter = SECOND / 100;
        path.loss = 0.1;
        path.duplicate = 0.1;
    });
    let took = simulation.run(async {
        let server = simulation.server().service(service(&Book::default()));
        let _server = server.await.unwrap();
        let anna = simulation.client("anna").await.unwrap();
        let bob = simulation.client("bob").await.unwrap();
        change(&simulation, [anna.local_addr(), bob.local_addr()]);
        let mut took = Vec::new();
        for number in 0..20 {
            took.push(ask(&simulation, &anna, number).await);
            took.push(ask(&simulation, &bob, number).await);
        }
        took
    });
    (simulation.fingerprint(), took)
}

#[test]
fn own_paths_follow_from_the_seed_and_alike_ones_change_nothing() {
    let untouched = |_: &Simulation, _: [SocketAddr; 2]| ();
    let alike = |simulation: &Simulation, [anna, bob]: [SocketAddr; 2]| {
        simulation.path_between(anna, server(), |_| ());
        simulation.direction(server(), bob, |_| ());
    };
    let bad = |simulation: &Simulation, [anna, _]: [SocketAddr; 2]| {
        simulation.path_between(server(), anna, |path| path.loss = 0.3);
    };
    for seed in 0..3 {
        assert_eq!(run(seed, untouched), run(seed, alike));
        assert_eq!(run(seed, bad), run(seed, bad));
        assert_ne!(run(seed, untouched).0, run(seed, bad).0);
    }
}

#[test]
#[should_panic(expected = "no socket has the address 0.0.0.0:4433")]
fn a_path_to_an_address_that_no_socket_can_have_is_a_mistake_of_the_test() {
    let simulation = Simulation::new(5);
    let unspecified = "0.0.0.0:4433".parse().unwrap();
    simulation.direction(server(), unspecified, |path| *path = Path::default());
}
