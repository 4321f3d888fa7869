//! Typed services on the simulated network: the driver, handles and handlers in virtual time.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex};

use trunkline_core::driver::{Admit, Context, Notice, PromiseError, Service};
use trunkline_core::{DisconnectReason, Event, PersistentKeys, Status};
use trunkline_testkit::simulated::{Client, Process, Server, Simulation};

use crate::SECOND;

message!(Ask);
message!(Answer);
message!(Note);

/// What a service has been told, in order.
type Book = Arc<Mutex<Vec<u32>>>;

/// A service whose handlers take their time: longer for some messages than for others.
fn service(simulation: &Simulation, book: &Book) -> Service<(Simulation, Book)> {
    Service::new((simulation.clone(), book.clone()))
        .on(async |context: Context<(Simulation, Book)>, note: Note| {
            let (simulation, book) = context.state();
            simulation.sleep(SECOND / 100 * (note.number % 3)).await;
            book.lock().unwrap().push(note.number);
        })
        .on_request(async |_: Context<(Simulation, Book)>, ask: Ask| {
            Ok::<_, Status>(Answer {
                number: ask.number * 2,
            })
        })
}

/// A server as a process of its own, which runs until it is killed.
fn serve(simulation: &Simulation, book: &Book) -> Process {
    serve_with(PersistentKeys::new([1; 32], [2; 32]), simulation, book)
}

fn serve_with(keys: PersistentKeys, simulation: &Simulation, book: &Book) -> Process {
    let server = Server::bind("127.0.0.1:4433".parse().unwrap())
        .identity(simulation.certificates().server)
        .persistent_keys(keys)
        .admission(Admit::open())
        .service(service(simulation, book));
    simulation.process(async {
        let _server = server.await.unwrap();
        std::future::pending().await
    })
}

async fn connect(simulation: &Simulation) -> Client {
    let roots = simulation.certificates().roots;
    let client = Client::connect("localhost:4433").roots(roots);
    client.client_id("alice").await.unwrap()
}

fn bad(simulation: &Simulation) {
    simulation.path(|path| {
        path.delay = SECOND / 50;
        path.jitter = SECOND / 100;
        path.loss = 0.1;
        path.burst = Some(2.0);
        path.duplicate = 0.1;
        path.corrupt = 0.05;
        path.reorder = 0.1;
    });
}

#[test]
fn acked_notes_reach_the_handler_once_and_in_order_across_a_cut() {
    let simulation = Simulation::new(1);
    let book = Book::default();
    bad(&simulation);
    simulation.run(async {
        let _server = serve(&simulation, &book);
        let client = connect(&simulation).await;
        for number in 0..100 {
            // What is sent stands in the outbox; whether it arrives is seen in the book.
            client.send(&Note { number }).await.unwrap();
            if number == 50 {
                simulation.path(|path| path.cut = true);
                simulation.sleep(100 * SECOND).await;
                assert!(!client.state().is_connected());
                simulation.path(|path| path.cut = false);
            }
        }
        let last = client.send(&Note { number: 100 }).acked();
        last.timeout(300 * SECOND).await.unwrap();
        assert_eq!(client.metrics().await.unwrap().sessions_resumed, 1);
    });
    assert_eq!(*book.lock().unwrap(), (0..=100).collect::<Vec<_>>());
}

#[test]
fn a_killed_server_is_a_lost_session_to_its_client_who_goes_on_by_itself() {
    let simulation = Simulation::new(2);
    let book = Book::default();
    simulation.run(async {
        let server = serve(&simulation, &book);
        let client = connect(&simulation).await;
        simulation.spawn({
            let (simulation, book) = (simulation.clone(), book.clone());
            async move {
                simulation.sleep(SECOND / 200).await;
                server.kill();
                drop(serve(&simulation, &book));
            }
        });
        // Its handler takes longer than the server lives.
        let lost = client.send(&Note { number: 2 }).acked().await;
        assert!(matches!(
            lost,
            Err(PromiseError::Lost {
                maybe_delivered: true
            })
        ));
        let answer: Answer = client.request(&Ask { number: 21 }).await.unwrap();
        assert_eq!(answer.number, 42);
        assert!(client.state().is_connected() && simulation.elapsed() < 30 * SECOND);
    });
    assert!(book.lock().unwrap().is_empty(), "the handler died with it");
}

#[test]
fn a_process_that_finds_its_keys_in_the_file_is_known_for_a_restarted_one_at_once() {
    let name = format!("trunkline-restart-{}.keys", std::process::id());
    let file = std::env::temp_dir().join(name);
    let simulation = Simulation::new(7);
    let book = Book::default();
    let process = || {
        let keys = PersistentKeys::load_or_create(&file).unwrap();
        serve_with(keys, &simulation, &book)
    };
    simulation.run(async {
        let first = process();
        let client = connect(&simulation).await;
        let mut events = client.events();
        first.kill();
        let _second = process();
        let restarted = simulation.elapsed();
        client.send(&Note { number: 1 }).await.unwrap();
        let reason = loop {
            let notice = events.next().await.unwrap();
            if let Notice::Event(Event::Disconnected { reason, .. }) = notice {
                break reason;
            }
        };
        assert_eq!(reason, DisconnectReason::Reset);
        let took = simulation.elapsed() - restarted;
        assert!(took < SECOND, "{took:?}: a heartbeat takes longer");
        let lost = |notice: &Notice| matches!(notice, Notice::Event(Event::SessionLost { .. }));
        while !lost(&events.next().await.unwrap()) {}
        let answer: Answer = client.request(&Ask { number: 21 }).await.unwrap();
        assert_eq!(answer.number, 42);
    });
    std::fs::remove_file(file).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_run_of_drivers_and_handlers_too() {
    let run = |seed| {
        let simulation = Simulation::new(seed);
        let book = Book::default();
        bad(&simulation);
        simulation.run(async {
            let _server = serve(&simulation, &book);
            let client = connect(&simulation).await;
            for number in 0..20 {
                let note = client.send(&Note { number }).acked().into_future();
                let ask = client.request::<Answer>(&Ask { number }).into_future();
                assert_eq!(ask.await.unwrap().number, number * 2);
                note.await.unwrap();
            }
            client.close().await;
        });
        (simulation.fingerprint(), simulation.elapsed())
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
#[should_panic(expected = "the test waits for what no task, timer or datagram will bring")]
fn a_test_that_would_hang_ends_instead() {
    Simulation::new(5).run(std::future::pending::<()>());
}

#[test]
fn an_address_is_bound_once_and_free_again_when_its_process_is_killed() {
    let simulation = Simulation::new(6);
    let book = Book::default();
    let bind = || {
        Server::bind("127.0.0.1:4433".parse().unwrap())
            .identity(simulation.certificates().server)
            .admission(Admit::open())
    };
    simulation.run(async {
        let first = serve(&simulation, &book);
        simulation.sleep(SECOND).await;
        let taken = bind().await.unwrap_err();
        assert!(taken.to_string().contains("127.0.0.1:4433"), "{taken}");
        first.kill();
        drop(bind().await.unwrap());
    });
}
