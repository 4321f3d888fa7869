//! Handlers tested through a client, as those of any service are, in a simulation's two lines: what they know of
//! the message, and what becomes of what they are not there for.

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, Waker};
use std::time::Duration;

use trunkline_core::driver::{Admit, Context, PromiseError, Service, ServiceError, StartError};
use trunkline_core::{
    AdmissionRequest, DisconnectReason, Message, Refusal, Status, StatusCode, Tag,
};
use trunkline_testkit::simulated::{Client, Simulation};

use crate::SECOND;

message!(Add);
message!(Count);
message!(Counted);
message!(Wait);
message!(Tell);
message!(Told);

struct Room {
    simulation: Simulation,
    sum: AtomicU32,
    given_up: Mutex<Vec<Duration>>,
}

struct User {
    level: u32,
}

async fn add(room: Context<Arc<Room>>, add: Add) -> Result<(), Status> {
    if add.number == 0 {
        return Err(Status::new(StatusCode::INVALID_ARGUMENT, "nothing to add"));
    }
    room.state().sum.fetch_add(add.number, Ordering::Relaxed);
    Ok(())
}

async fn count(room: Context<Arc<Room>>, _: Count) -> Result<Counted, Status> {
    let number = room.state().sum.load(Ordering::Relaxed);
    let level = room.admitted::<User>().map_or(0, |user| user.level);
    assert!(level < 9, "a bug of the handler's");
    Ok(Counted {
        number: number * level,
    })
}

/// Waits until nobody wants its answer any more.
async fn wait(room: Context<Arc<Room>>, _: Wait) -> Result<Counted, Status> {
    let state = room.state();
    let started = state.simulation.elapsed();
    room.cancelled().await;
    let waited = state.simulation.elapsed() - started;
    state.given_up.lock().unwrap().push(waited);
    Err(Status::new(StatusCode::CANCELLED, "nobody waits"))
}

/// Tells all others what somebody tells it.
async fn tell(room: Context<Arc<Room>>, tell: Tell) -> Result<(), Status> {
    for peer in room.server().peers() {
        if peer != *room.peer() {
            peer.send(&Told {
                number: tell.number,
            })
            .acked()
            .await?;
        }
    }
    Ok(())
}

fn room(simulation: &Simulation) -> Arc<Room> {
    Arc::new(Room {
        simulation: simulation.clone(),
        sum: AtomicU32::default(),
        given_up: Mutex::default(),
    })
}

fn service(room: &Arc<Room>) -> Service<Arc<Room>> {
    Service::new(room.clone())
        .on(add)
        .on_request(count)
        .on_request(wait)
        .on(tell)
}

fn status(rejected: Result<(), PromiseError>) -> Status {
    match rejected {
        Err(PromiseError::Rejected(status)) => status,
        other => panic!("not rejected: {other:?}"),
    }
}

/// The credentials are one byte, the user's level.
async fn admit(request: AdmissionRequest) -> Result<User, Refusal> {
    match request.credentials[..] {
        [level] => Ok(User {
            level: level.into(),
        }),
        _ => Err(Refusal::default()),
    }
}

async fn count_as(simulation: &Simulation, level: u8) -> Result<Counted, PromiseError> {
    let name = format!("level{level}");
    let client = simulation.client(name).credentials(vec![level]);
    client.await.unwrap().request(&Count::default()).await
}

#[test]
fn each_message_comes_to_its_handler_and_no_other_is_taken() {
    let simulation = Simulation::new(1);
    let room = room(&simulation);
    simulation.run(async {
        let _server = simulation.server().service(service(&room)).await.unwrap();
        let client = simulation.client("anna").await.unwrap();
        for number in 1..=4 {
            client.send(&Add { number }).acked().await.unwrap();
        }
        assert_eq!(room.sum.load(Ordering::Relaxed), 10);

        let nothing = client.send(&Add::default()).acked().await;
        assert_eq!(status(nothing).reason, "nothing to add");
        let unhandled = client.send(&Told::default()).acked().await;
        assert_eq!(status(unhandled).code, StatusCode::UNIMPLEMENTED);
        let no_request = client.request::<Counted>(&Add { number: 1 }).await;
        assert_eq!(status(no_request.map(drop)).code, StatusCode::UNIMPLEMENTED);
        let garbage = Message::new(Tag::of("test.v1.Add"), "no protobuf");
        let garbled = client.send_raw(garbage).acked().await;
        assert_eq!(status(garbled).code, StatusCode::INVALID_ARGUMENT);
        assert_eq!(room.sum.load(Ordering::Relaxed), 10);
    });
}

#[test]
fn a_handler_knows_what_admission_found_out_and_its_panic_is_a_rejection() {
    let simulation = Simulation::new(2);
    let room = room(&simulation);
    room.sum.store(7, Ordering::Relaxed);
    simulation.run(async {
        let server = simulation.server().admission(Admit::ask(admit));
        let _server = server.service(service(&room)).await.unwrap();
        assert_eq!(count_as(&simulation, 3).await.unwrap().number, 21);
        let bug = count_as(&simulation, 9).await.map(drop);
        assert_eq!(status(bug).code, StatusCode::INTERNAL);
        let panics = simulation.take_panics();
        assert_eq!(panics, ["a handler panicked: a bug of the handler's"]);
        let refused = simulation.client("nobody").await.unwrap_err();
        assert!(
            matches!(refused, StartError::Refused(DisconnectReason::Peer { .. })),
            "{refused}"
        );
    });
}

#[test]
fn a_handler_hears_when_nobody_waits_for_it_any_more() {
    let simulation = Simulation::new(3);
    let room = room(&simulation);
    simulation.run(async {
        let _server = simulation.server().service(service(&room)).await.unwrap();
        let client = simulation.client("anna").await.unwrap();
        let asked = client.request::<Counted>(&Wait::default());
        let outcome = asked.timeout(2 * SECOND).await;
        assert_eq!(outcome, Err(PromiseError::TimedOut));
        simulation.sleep(SECOND).await;
    });
    let given_up = room.given_up.lock().unwrap().clone();
    let [waited] = given_up[..] else {
        panic!("{given_up:?}")
    };
    assert!(waited.abs_diff(2 * SECOND) < SECOND / 100, "{waited:?}");
}

#[test]
fn a_handler_sends_to_clients_that_have_services_too() {
    let simulation = Simulation::new(4);
    let room = room(&simulation);
    let heard = Arc::<Mutex<Vec<u32>>>::default();
    let listener = || {
        Service::new(heard.clone()).on(async |heard: Context<Arc<Mutex<Vec<u32>>>>, told: Told| {
            heard.state().lock().unwrap().push(told.number);
        })
    };
    simulation.run(async {
        let _server = simulation.server().service(service(&room)).await.unwrap();
        let anna = simulation.client("anna").service(listener());
        let bob = simulation.client("bob").service(listener());
        let (anna, bob): (Client, Client) = (anna.await.unwrap(), bob.await.unwrap());
        anna.send(&Tell { number: 5 }).acked().await.unwrap();
        bob.send(&Tell { number: 6 }).acked().await.unwrap();
    });
    assert_eq!(*heard.lock().unwrap(), [5, 6]);
}

#[test]
fn handlers_that_cannot_stand_beside_each_other_are_an_error_when_the_server_starts() {
    let simulation = Simulation::new(5);
    let room = room(&simulation);
    simulation.run(async {
        let server = simulation.server().service(service(&room).on(add));
        let error = server.await.unwrap_err();
        let twice = ServiceError::Twice("test.v1.Add".into());
        assert!(
            matches!(&error, StartError::Service(error) if *error == twice),
            "{error}"
        );
    });
}

#[test]
fn outside_of_a_run_neither_starts() {
    fn now<T>(future: impl IntoFuture<Output = Result<T, StartError>>) -> String {
        let mut cx = task::Context::from_waker(Waker::noop());
        match pin!(future.into_future()).poll(&mut cx) {
            Poll::Ready(Err(error)) => error.to_string(),
            Poll::Ready(Ok(_)) => panic!("it started"),
            Poll::Pending => panic!("it waits"),
        }
    }
    let simulation = Simulation::new(6);
    for error in [now(simulation.server()), now(simulation.client("anna"))] {
        assert!(error.contains("not inside of `Simulation::run`"), "{error}");
    }
}
