//! Starting, refusing, groups, draining, closing, and runtimes that go away.

#![allow(clippy::panic, reason = "tests may")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Authority, Double, Doubled, Note, loopback, soon};
use tokio::sync::mpsc;
use trunkline_tokio::{
    Admit, Context, DisconnectReason, Event, GroupName, Hooks, Notice, Peer, PromiseError, Server,
    Service, ServiceError, StartError, State, Status,
};

#[tokio::test]
async fn a_server_must_say_who_is_let_in() {
    let error = Authority::new().server().await.unwrap_err();
    assert!(matches!(error, StartError::NoAdmission));
    for choice in ["Admit::open", "Admit::mutual_tls", "Admit::ask"] {
        assert!(error.to_string().contains(choice), "{error}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_a_clear_error() {
    let authority = Authority::new();
    let first = authority.server().admission(Admit::open()).await.unwrap();
    let second = Server::bind(first.local_addr())
        .identity(authority.identity("localhost"))
        .admission(Admit::open());
    let error = second.await.unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }));
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let server = Server::bind(loopback()).identity_pem_files("no/such.pem", "no/such.key");
    let error = server.admission(Admit::open()).await.unwrap_err();
    assert!(error.to_string().contains("no/such.pem"), "{error}");
}

#[tokio::test]
async fn two_handlers_of_one_type_are_an_error_that_names_it() {
    let twice = Service::new(())
        .on(async |_: Context<()>, _: Note| ())
        .on(async |_: Context<()>, _: Note| ());
    let error = Authority::new()
        .server()
        .admission(Admit::open())
        .service(twice)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StartError::Service(ServiceError::Twice(name)) if name == "test.v1.Note"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_that_finds_nobody_says_so_in_time() {
    let authority = Authority::new();
    let nobody = std::net::UdpSocket::bind(loopback()).unwrap();
    let client = authority
        .client(nobody.local_addr().unwrap(), "anna")
        .connect_timeout(Duration::from_millis(100));
    let error = soon(client.into_future()).await.unwrap_err();
    assert!(matches!(error, StartError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("it has not answered"), "{error}");
}

#[tokio::test]
async fn a_broadcast_reaches_its_group_and_nobody_else() {
    let authority = Authority::new();
    let server = authority.server().admission(Admit::open()).await.unwrap();
    let (sink, mut seen) = mpsc::unbounded_channel();
    let mut clients = Vec::new();
    for name in ["anna", "otto", "emil"] {
        let sink = sink.clone();
        let service = Service::new(()).on(move |context: Context<()>, note: Note| {
            sink.send((context.client_id().to_string(), note.number))
                .unwrap();
            async {}
        });
        clients.push(
            soon(
                authority
                    .client(server.local_addr(), name)
                    .service(service)
                    .into_future(),
            )
            .await
            .unwrap(),
        );
    }
    let room = server.group(&GroupName::new("room").unwrap());
    for client in &clients[..2] {
        room.join(&server.client(client.client_id()).unwrap())
            .await
            .unwrap();
    }
    let sent = soon(room.broadcast(&Note { number: 1 }).into_future())
        .await
        .unwrap();
    assert_eq!((sent.queued, sent.dropped, sent.away), (2, 0, 0));
    let mut got = [
        soon(seen.recv()).await.unwrap(),
        soon(seen.recv()).await.unwrap(),
    ];
    got.sort();
    assert_eq!(got, [("anna".to_owned(), 1), ("otto".to_owned(), 1)]);
    assert_eq!(room.members().await.unwrap().len(), 2);
    // To everybody: the third client's first message is this one.
    soon(server.broadcast(&Note { number: 2 }).into_future())
        .await
        .unwrap();
    let mut got = [
        seen.recv().await.unwrap(),
        seen.recv().await.unwrap(),
        seen.recv().await.unwrap(),
    ];
    got.sort();
    assert_eq!(got.map(|(_, number)| number), [2, 2, 2]);
}

#[tokio::test]
async fn events_and_hooks_tell_what_happens() {
    #[derive(Default)]
    struct Log(Mutex<Vec<&'static str>>);
    struct Logging(Arc<Log>);
    impl Hooks for Logging {
        fn connected(&self, _: &Peer) {
            self.0.0.lock().unwrap().push("connected");
        }
        fn message_received(
            &self,
            _: &Peer,
            _: trunkline_tokio::Lane,
            _: trunkline_tokio::Tag,
            _: usize,
        ) {
            self.0.0.lock().unwrap().push("message");
        }
        fn closed(&self, _: &Peer, _: &DisconnectReason) {
            self.0.0.lock().unwrap().push("closed");
        }
    }
    let authority = Authority::new();
    let log = Arc::new(Log::default());
    let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .hooks(Logging(log.clone()))
        .await
        .unwrap();
    let mut events = server.events();
    let client = soon(authority.client(server.local_addr(), "anna").into_future())
        .await
        .unwrap();
    assert!(matches!(client.state(), State::Connected { epoch: 1, .. }));
    soon(client.send(&Note { number: 1 }).acked().into_future())
        .await
        .unwrap();
    soon(client.close()).await;
    let mut kinds = Vec::new();
    loop {
        match soon(events.next()).await {
            Some(Notice::Event(Event::Connected { .. })) => kinds.push("connected"),
            Some(Notice::Event(Event::Closed { .. })) => break kinds.push("closed"),
            Some(_) => {}
            None => panic!("the stream ended"),
        }
    }
    assert_eq!(kinds, ["connected", "closed"]);
    assert_eq!(*log.0.lock().unwrap(), ["connected", "message", "closed"]);
    assert!(
        matches!(client.send(&Note { number: 2 }).await, Err(refused) if refused.message.tag != trunkline_tokio::Tag(0))
    );
}

#[tokio::test]
async fn a_close_delivers_what_was_sent_before_it() {
    let authority = Authority::new();
    let count = Arc::new(AtomicUsize::new(0));
    let service =
        Service::new(count.clone()).on(async |context: Context<Arc<AtomicUsize>>, _: Note| {
            context.state().fetch_add(1, Ordering::SeqCst);
        });
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    for number in 0..500 {
        client.send(&Note { number }).await.unwrap();
    }
    soon(client.close()).await;
    soon(async {
        while count.load(Ordering::SeqCst) < 500 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way() {
    struct Telling(mpsc::UnboundedSender<Duration>);
    impl Hooks for Telling {
        fn draining(&self, _: &Peer, deadline: Duration, _: Option<&str>) {
            self.0.send(deadline).unwrap();
        }
    }
    let authority = Authority::new();
    let (started, mut starts) = mpsc::unbounded_channel();
    type Started = mpsc::UnboundedSender<tokio::sync::oneshot::Sender<()>>;
    let service =
        Service::new(started).on_request(async |context: Context<Started>, question: Double| {
            let (go, gone) = tokio::sync::oneshot::channel();
            context.state().send(go).unwrap();
            gone.await.unwrap();
            context.peer().send(&question).await.unwrap();
            Ok::<_, Status>(Doubled {
                number: question.number * 2,
            })
        });
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let (told, mut told_of) = mpsc::unbounded_channel();
    let (number, mut numbers) = mpsc::unbounded_channel();
    let heard = Service::new(number).on(async |context: Context<_>, said: Double| {
        let number: &mpsc::UnboundedSender<i64> = context.state();
        number.send(said.number).unwrap();
    });
    let client = authority
        .client(server.local_addr(), "anna")
        .hooks(Telling(told))
        .service(heard)
        .await
        .unwrap();
    let mut events = client.events();
    let request = tokio::spawn(
        client
            .request::<Doubled>(&Double { number: 4 })
            .into_future(),
    );
    let go = soon(starts.recv()).await.unwrap();
    let draining = tokio::spawn({
        let server = server.clone();
        async move { server.drain(Duration::from_secs(10)).await }
    });
    loop {
        if let Some(Notice::Event(Event::Draining { .. })) = soon(events.next()).await {
            break;
        }
    }
    assert_eq!(soon(told_of.recv()).await, Some(Duration::from_secs(10)));
    go.send(()).unwrap();
    assert_eq!(soon(request).await.unwrap().unwrap().number, 8);
    assert_eq!(soon(numbers.recv()).await, Some(4));
    let drained = soon(draining).await.unwrap().unwrap();
    assert_eq!((drained.finished, drained.cut_off), (1, 0));
}

#[test]
fn a_runtime_that_is_dropped_in_mid_traffic_settles_every_promise() {
    let authority = Authority::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (client, server) = runtime.block_on(async {
        let service = Service::new(()).on_request(async |context: Context<()>, _: Double| {
            context.cancelled().await;
            Err::<Doubled, _>(Status::new(trunkline_tokio::StatusCode::CANCELLED, ""))
        });
        let server = authority
            .server()
            .admission(Admit::open())
            .service(service)
            .await
            .unwrap();
        let client = authority.client(server.local_addr(), "anna").await.unwrap();
        (client, server)
    });
    let outside = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    outside.block_on(async {
        let mut pending: Vec<_> = (0..100)
            .map(|number| Box::pin(client.request::<Doubled>(&Double { number }).into_future()))
            .collect();
        for request in &mut pending {
            // One poll sends it.
            let polled = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(request.as_mut().poll(cx).is_pending())
            })
            .await;
            assert!(polled);
        }
        runtime.shutdown_background();
        for request in pending {
            let outcome = soon(request).await;
            assert!(
                matches!(
                    outcome,
                    Err(PromiseError::Stopped(_) | PromiseError::Lost { .. })
                ),
                "{outcome:?}"
            );
        }
        soon(server.closed()).await;
        assert!(server.clients().await.is_err());
        assert!(client.try_send(&Note { number: 1 }).is_err());
    });
}

#[test]
fn it_runs_on_one_thread_inside_of_a_local_set() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let authority = Authority::new();
        let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
        let server = authority
            .server()
            .admission(Admit::open())
            .service(service)
            .await
            .unwrap();
        let client = soon(authority.client(server.local_addr(), "anna").into_future())
            .await
            .unwrap();
        soon(client.send(&Note { number: 1 }).acked().into_future())
            .await
            .unwrap();
    });
}

#[test]
fn outside_of_a_runtime_nothing_starts_and_nothing_panics() {
    let mut server = Box::pin(
        Authority::new()
            .server()
            .admission(Admit::open())
            .into_future(),
    );
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match server.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(Err(StartError::Runtime(_))) => {}
        other => panic!("unexpected: {other:?}"),
    }
}
