//! What a simulation says of mistakes: tests that would hang, handlers that panic unnoticed, runs inside of runs.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use trunkline_core::driver::{Admit, Context, Hooks, Peer, Service, StartError};
use trunkline_core::{AdmissionRequest, Refusal, Status};
use trunkline_testkit::simulated::{Client, Server, Simulation};

use crate::SECOND;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

message!(Ask);
message!(Answer);

async fn answer(_: Context<()>, ask: Ask) -> Result<Answer, Status> {
    assert!(ask.number > 0, "nothing to answer");
    Ok(Answer { number: ask.number })
}

async fn serve(simulation: &Simulation) -> Server {
    let server = simulation.server();
    server
        .service(Service::new(()).on_request(answer))
        .await
        .unwrap()
}

async fn ask(client: &Client, number: u32) -> bool {
    let answer = client.request::<Answer>(&Ask { number }).await;
    answer.is_ok_and(|answer| answer.number == number)
}

#[test]
#[should_panic(expected = "heartbeats and redials alone keep time moving")]
fn a_wait_that_nothing_ends_ends_the_test_beside_a_client_that_lives() {
    let simulation = Simulation::new(1);
    simulation.run(async {
        let _server = serve(&simulation).await;
        let _client = simulation.client("anna").await.unwrap();
        pending::<()>().await;
    });
}

#[test]
#[should_panic(expected = "the test has waited for 1")]
fn a_task_that_sleeps_again_and_again_keeps_no_test_waiting() {
    let simulation = Simulation::new(2);
    simulation.stall_timeout(100 * SECOND);
    simulation.spawn({
        let simulation = simulation.clone();
        async move {
            loop {
                simulation.sleep(SECOND).await;
            }
        }
    });
    simulation.run(pending::<()>());
}

#[test]
fn a_test_sleeps_for_a_week_or_waits_for_a_task_that_does() {
    let simulation = Simulation::new(3);
    simulation.run(async {
        simulation.sleep(7 * DAY).await;
        let (tell, told) = channel();
        simulation.spawn({
            let simulation = simulation.clone();
            async move {
                simulation.sleep(7 * DAY).await;
                tell.send(()).unwrap();
            }
        });
        told.await.unwrap();
    });
    assert_eq!(simulation.elapsed(), 14 * DAY);
}

/// As a time-out that is never to come, in a task or in the test itself.
#[test]
#[should_panic(expected = "heartbeats and redials alone keep time moving")]
fn a_sleep_of_a_century_keeps_no_test_waiting() {
    let simulation = Simulation::new(11);
    simulation.spawn(simulation.sleep(100 * YEAR));
    simulation.run(async {
        let _server = serve(&simulation).await;
        let client = simulation.client("anna").await.unwrap();
        simulation.spawn(simulation.sleep(100 * YEAR));
        assert!(ask(&client, 1).await);
        pending::<()>().await;
    });
}

#[test]
fn where_nothing_else_happens_a_test_sleeps_for_a_century() {
    let simulation = Simulation::new(12);
    simulation.run(simulation.sleep(100 * YEAR));
    assert_eq!(simulation.elapsed(), 100 * YEAR);
}

fn channel() -> (
    tokio::sync::oneshot::Sender<()>,
    tokio::sync::oneshot::Receiver<()>,
) {
    tokio::sync::oneshot::channel()
}

#[test]
#[should_panic(expected = "a handler panicked: nothing to answer")]
fn a_handler_that_panics_fails_the_test() {
    let simulation = Simulation::new(4);
    simulation.run(async {
        let _server = serve(&simulation).await;
        let client = simulation.client("anna").await.unwrap();
        assert!(!ask(&client, 0).await);
    });
}

#[test]
fn panics_of_handlers_hooks_and_admission_are_told_of_once() {
    struct Brittle;
    impl Hooks for Brittle {
        fn connected(&self, peer: &Peer) {
            assert_ne!(peer.client_id().as_str(), "bob", "no bob");
        }
    }
    let admit = async |request: AdmissionRequest| -> Result<(), Refusal> {
        assert_ne!(request.client.as_str(), "eve", "no eve");
        Ok(())
    };
    let simulation = Simulation::new(5);
    simulation.run(async {
        let server = simulation
            .server()
            .admission(Admit::ask(move |request| Box::pin(admit(request))))
            .hooks(Brittle)
            .service(Service::new(()).parallel().on_request(answer));
        let _server = server.await.unwrap();
        let bob = simulation.client("bob").await.unwrap();
        assert!(!ask(&bob, 0).await);
        assert!(ask(&bob, 1).await);
        let _eve = simulation.client("eve").start().await.unwrap();
        simulation.sleep(SECOND / 2).await;
        let panics = simulation.take_panics();
        let [hook, handler, admission] = &panics[..] else {
            panic!("{panics:?}")
        };
        assert!(hook.starts_with("a hook panicked: ") && hook.contains("no bob"));
        assert_eq!(handler, "a handler panicked: nothing to answer");
        assert!(admission.starts_with("an admission function panicked: "));
    });
}

#[test]
#[should_panic(expected = "call it from a plain #[test], outside of any runtime")]
fn no_run_inside_of_tokio() {
    let tokio = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    tokio.block_on(async { Simulation::new(6).run(async {}) });
}

#[test]
#[should_panic(expected = "this simulation runs already")]
fn no_run_inside_of_its_own() {
    let simulation = Simulation::new(7);
    simulation.run(async { simulation.run(async {}) });
}

#[test]
fn runs_follow_each_other() {
    let simulation = Simulation::new(8);
    for number in 0..2 {
        assert_eq!(simulation.run(async { number }), number);
    }
}

#[test]
fn a_paths_function_may_look_at_the_simulation() {
    let simulation = Simulation::new(9);
    let [one, other]: [SocketAddr; 2] =
        ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
    simulation.path(|path| path.delay = SECOND + simulation.elapsed());
    simulation.path_between(one, other, |path| {
        assert_eq!(path.delay, SECOND + simulation.elapsed());
        path.cut = true;
    });
    simulation.direction(one, other, |path| {
        assert!(path.cut && simulation.traffic().sent == 0);
    });
}

#[test]
fn a_time_that_no_clock_shows_is_never() {
    let simulation = Simulation::new(10);
    simulation.run(async {
        let _server = serve(&simulation).await;
        simulation.spawn(simulation.sleep(Duration::MAX));
        let client = simulation.client("anna").connect_timeout(Duration::MAX);
        let client = client.await.unwrap();
        simulation.path(|path| path.delay = Duration::MAX);
        let late = client.request::<Answer>(&Ask { number: 1 });
        assert!(late.timeout(5 * SECOND).await.is_err());
        assert!(simulation.traffic().cut > 0);
        simulation.path(|path| path.delay = SECOND / 100);
        assert!(ask(&client, 2).await);
    });
}

#[test]
fn what_is_one_simulations_does_not_start_in_another() {
    let (here, there) = (Simulation::new(11), Simulation::new(12));
    here.run(async {
        let server = there.server().await.unwrap_err();
        let client = there.client("anna").await.unwrap_err();
        for error in [server, client] {
            assert!(
                matches!(&error, StartError::Bind { error, .. } if error.to_string().contains("another simulation")),
                "{error}"
            );
        }
    });
}

#[test]
fn a_server_that_is_bound_to_every_address_is_found_by_its_name() {
    let simulation = Simulation::new(13);
    let bind = || {
        Server::bind("0.0.0.0:4433".parse().unwrap())
            .identity(simulation.certificates().server)
            .admission(Admit::open())
            .service(Service::new(()).on_request(answer))
    };
    simulation.run(async {
        let server = bind().await.unwrap();
        assert_eq!(server.local_addr(), "127.0.0.1:4433".parse().unwrap());
        let client = simulation.client("anna").await.unwrap();
        assert!(ask(&client, 1).await);
        // It is another machine's.
        let other = bind().await.unwrap();
        assert_ne!(other.local_addr(), server.local_addr());
    });
}

#[test]
#[should_panic(expected = "start it anew with `World::start_process`")]
fn a_node_whose_process_was_killed_is_not_looked_at() {
    let (mut world, server, _) = trunkline_testkit::World::pair(14);
    world.kill(server);
    world.node(server);
}
