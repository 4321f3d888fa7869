//! Messages and requests, both ways, over real sockets.

#![allow(clippy::panic, reason = "tests may")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Authority, Double, Doubled, Note, Other, soon};
use tokio::sync::{Notify, mpsc};
use trunkline_tokio::{
    Admit, ClientId, CommandError, Context, Expects, Lane, PromiseError, Service, Status,
    StatusCode,
};

async fn double(_: Context<()>, question: Double) -> Result<Doubled, Status> {
    Ok(Doubled {
        number: question.number * 2,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_travel_both_ways() {
    let authority = Authority::new();
    let (at_server, mut from_client) = mpsc::unbounded_channel();
    let (at_client, mut from_server) = mpsc::unbounded_channel();
    let note = |sink: mpsc::UnboundedSender<u64>| {
        Service::new(sink).on(
            async |context: Context<mpsc::UnboundedSender<u64>>, note: Note| {
                context.state().send(note.number).unwrap();
            },
        )
    };
    let server = authority
        .server()
        .admission(Admit::open())
        .service(note(at_server))
        .await
        .unwrap();
    let client = soon(
        authority
            .client(server.local_addr(), "anna")
            .service(note(at_client))
            .into_future(),
    )
    .await
    .unwrap();
    soon(client.send(&Note { number: 1 }).acked().into_future())
        .await
        .unwrap();
    assert_eq!(from_client.recv().await, Some(1));
    let anna = server.client(&ClientId::new("anna").unwrap()).unwrap();
    soon(anna.send(&Note { number: 2 }).acked().into_future())
        .await
        .unwrap();
    assert_eq!(from_server.recv().await, Some(2));
    assert_eq!(server.clients().await.unwrap().len(), 1);
    assert_eq!(server.metrics().await.unwrap().connected, 1);
    soon(client.close()).await;
    soon(server.close()).await;
}

#[tokio::test]
async fn a_request_is_replied_to() {
    let authority = Authority::new();
    let service = Service::new(()).on_request(double);
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let doubled: Doubled = soon(client.request(&Double { number: 21 }).into_future())
        .await
        .unwrap();
    assert_eq!(doubled.number, 42);
    let wrong = soon(
        client
            .request::<Other>(&Double { number: 21 })
            .into_future(),
    )
    .await;
    assert!(
        matches!(wrong, Err(PromiseError::Undecodable { .. })),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn many_requests_are_under_way_at_once() {
    let authority = Authority::new();
    let service = Service::new(()).on_request(double);
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let requests: Vec<_> = (0..2_000)
        .map(|number| tokio::spawn(client.request::<Doubled>(&Double { number }).into_future()))
        .collect();
    for (number, request) in requests.into_iter().enumerate() {
        assert_eq!(
            soon(request).await.unwrap().unwrap().number,
            2 * number as i64
        );
    }
}

#[tokio::test]
async fn a_lane_keeps_its_order_whatever_its_handlers_do() {
    let authority = Authority::new();
    let (sink, mut seen) = mpsc::unbounded_channel();
    let service = Service::new(sink).on(
        async |context: Context<mpsc::UnboundedSender<u64>>, note: Note| {
            for _ in 0..note.number % 3 {
                tokio::task::yield_now().await;
            }
            context.state().send(note.number).unwrap();
        },
    );
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    for number in 0..5_000 {
        if let Err(refused) = client.send(&Note { number }).await {
            panic!("{refused}: {:?}", client.state());
        }
    }
    for number in 0..5_000 {
        assert_eq!(soon(seen.recv()).await, Some(number));
    }
}

#[tokio::test]
async fn lanes_do_not_wait_for_each_other() {
    let authority = Authority::new();
    let gate = Arc::new(Notify::new());
    let service =
        Service::new(gate.clone()).on(async |context: Context<Arc<Notify>>, note: Note| {
            if note.number == 1 {
                context.state().notified().await;
            }
        });
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let held = tokio::spawn(client.send(&Note { number: 1 }).acked().into_future());
    let other = client
        .send(&Note { number: 2 })
        .lane(Lane::new(2).unwrap())
        .acked();
    soon(other.into_future()).await.unwrap();
    assert!(!held.is_finished());
    gate.notify_one();
    soon(held).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_nobody_handles_is_rejected() {
    let authority = Authority::new();
    let server = authority
        .server()
        .admission(Admit::open())
        .service(Service::new(()).on_request(double))
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let rejected = soon(client.send(&Note { number: 1 }).acked().into_future()).await;
    assert_eq!(code(rejected), StatusCode::UNIMPLEMENTED);
    let anna = server.client(client.client_id()).unwrap();
    let rejected = soon(anna.send(&Note { number: 1 }).acked().into_future()).await;
    assert_eq!(code(rejected), StatusCode::UNIMPLEMENTED);
}

#[tokio::test]
async fn a_body_that_cannot_be_decoded_is_rejected() {
    let authority = Authority::new();
    let server = authority
        .server()
        .admission(Admit::open())
        .service(Service::new(()).on_request(double))
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let message =
        trunkline_tokio::Message::new(trunkline_tokio::Tag::of("test.v1.Double"), &b"\xff"[..]);
    assert_eq!(
        code(soon(client.send_raw(message).acked().into_future()).await),
        StatusCode::INVALID_ARGUMENT
    );
}

#[tokio::test]
async fn a_panicking_handler_rejects_its_own_message_and_harms_no_other() {
    let authority = Authority::new();
    let service = Service::new(())
        .on(async |_: Context<()>, note: Note| {
            tokio::task::yield_now().await;
            assert_ne!(note.number, 13, "a panic on purpose");
        })
        .on_request(double);
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let (first, second, third) = tokio::join!(
        client.send(&Note { number: 13 }).acked().into_future(),
        client.send(&Note { number: 14 }).acked().into_future(),
        client
            .request::<Doubled>(&Double { number: 2 })
            .into_future(),
    );
    assert_eq!(code(first), StatusCode::INTERNAL);
    second.unwrap();
    assert_eq!(third.unwrap().number, 4);
}

#[tokio::test]
async fn a_request_times_out_at_its_deadline_and_its_handler_sees_it() {
    let authority = Authority::new();
    let (sink, mut seen) = mpsc::unbounded_channel();
    type Sink = mpsc::UnboundedSender<bool>;
    let service = Service::new(sink).on_request(async |context: Context<Sink>, _: Double| {
        assert!(context.remaining().unwrap() <= Duration::from_secs(1));
        context.cancelled().await;
        context.state().send(context.is_cancelled()).unwrap();
        Err::<Doubled, _>(Status::new(StatusCode::CANCELLED, ""))
    });
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let request = client
        .request::<Doubled>(&Double { number: 1 })
        .timeout(Duration::from_secs(1));
    let outcome = soon(request.into_future()).await;
    assert!(
        matches!(outcome, Err(PromiseError::TimedOut)),
        "{outcome:?}"
    );
    assert_eq!(soon(seen.recv()).await, Some(true));
}

#[tokio::test]
async fn a_dropped_request_is_cancelled() {
    let authority = Authority::new();
    let (sink, mut seen) = mpsc::unbounded_channel();
    type Sink = mpsc::UnboundedSender<&'static str>;
    let service = Service::new(sink).on_request(async |context: Context<Sink>, _: Double| {
        context.state().send("started").unwrap();
        context.cancelled().await;
        context.state().send("cancelled").unwrap();
        Err::<Doubled, _>(Status::new(StatusCode::CANCELLED, ""))
    });
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let request = tokio::spawn(
        client
            .request::<Doubled>(&Double { number: 1 })
            .into_future(),
    );
    assert_eq!(soon(seen.recv()).await, Some("started"));
    request.abort();
    assert_eq!(soon(seen.recv()).await, Some("cancelled"));
}

#[tokio::test]
async fn a_handler_calls_back_the_client_that_it_was_called_from() {
    let authority = Authority::new();
    let service = Service::new(()).on_request(async |context: Context<()>, question: Double| {
        let doubled: Doubled = context
            .peer()
            .request(&question)
            .await
            .map_err(|error| Status::new(StatusCode::UNKNOWN, error.to_string()))?;
        Ok::<_, Status>(Doubled {
            number: doubled.number + 1,
        })
    });
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let client = authority
        .client(server.local_addr(), "anna")
        .service(Service::new(()).on_request(double))
        .await
        .unwrap();
    let answer: Doubled = soon(client.request(&Double { number: 5 }).into_future())
        .await
        .unwrap();
    assert_eq!(answer.number, 11);
}

#[tokio::test]
async fn a_handler_passes_a_message_on_to_whichever_handler_owns_its_type() {
    let authority = Authority::new();
    let (sink, mut seen) = mpsc::unbounded_channel();
    type Sink = mpsc::UnboundedSender<u64>;
    let service = Service::new(sink)
        .on(async |context: Context<Sink>, note: Note| {
            let doubled: Doubled = context
                .ask(&Double {
                    number: note.number as i64,
                })
                .await?;
            context
                .forward(&Other {
                    number: doubled.number as u64,
                })
                .await
        })
        .on(async |context: Context<Sink>, other: Other| {
            assert_eq!(context.expects(), Expects::Ack);
            context.state().send(other.number).unwrap();
        })
        .on_request(async |_: Context<Sink>, question: Double| {
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
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    soon(client.send(&Note { number: 4 }).acked().into_future())
        .await
        .unwrap();
    assert_eq!(soon(seen.recv()).await, Some(8));
}

#[tokio::test]
async fn a_message_that_fits_no_frame_comes_back_at_once() {
    let authority = Authority::new();
    let server = authority.server().admission(Admit::open()).await.unwrap();
    let client = authority.client(server.local_addr(), "anna").await.unwrap();
    let message = trunkline_tokio::Message::new(trunkline_tokio::Tag(1), vec![7; (1 << 20) + 1]);
    let refused = client.try_send_raw(message.clone()).unwrap_err();
    assert_eq!(refused.message, message);
    assert!(matches!(refused.error, CommandError::TooLarge { .. }));
    let refused = client.send_raw(message.clone()).await.unwrap_err();
    assert_eq!(refused.message, message);
}

#[tokio::test]
async fn a_full_outbox_makes_senders_wait_and_loses_nothing() {
    let authority = Authority::new();
    let (sink, mut seen) = mpsc::unbounded_channel();
    let service = Service::new(sink).on(
        async |context: Context<mpsc::UnboundedSender<u64>>, note: Note| {
            context.state().send(note.number).unwrap();
        },
    );
    let server = authority
        .server()
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap();
    let mut config = common::quick();
    config.limits.outbox_messages = 10;
    let client = authority
        .client(server.local_addr(), "anna")
        .config(config)
        .await
        .unwrap();
    let acked: Vec<_> = (0..200)
        .map(|number| tokio::spawn(client.send(&Note { number }).acked().into_future()))
        .collect();
    for acked in acked {
        soon(acked).await.unwrap().unwrap();
    }
    let mut numbers: Vec<_> = (0..200).map(|_| seen.try_recv().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

fn code<T: std::fmt::Debug>(outcome: Result<T, PromiseError>) -> StatusCode {
    match outcome {
        Err(PromiseError::Rejected(status)) => status.code,
        other => panic!("not rejected: {other:?}"),
    }
}
