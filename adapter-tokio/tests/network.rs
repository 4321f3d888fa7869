//! Paths that break, names, and servers that send their clients elsewhere, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::relay::Relay;
use common::{Authority, Double, Doubled, Note, soon};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use trunkline_tokio::{
    Admit, Config, Context, DrainError, DrainPlan, Event, Notice, Peer, Server, Service, State,
    Status,
};

type Sink = mpsc::UnboundedSender<u64>;

/// Passes on the numbers of all notes.
fn noting() -> (Service<Sink>, mpsc::UnboundedReceiver<u64>) {
    let (sink, notes) = mpsc::unbounded_channel();
    let service = Service::new(sink).on(async |context: Context<Sink>, note: Note| {
        context.state().send(note.number).unwrap();
    });
    (service, notes)
}

/// Finds out fast that a peer is gone, and comes back fast.
fn nervous() -> Config {
    let mut config = common::quick();
    config.heartbeat.interval = Duration::from_millis(200);
    config
}

/// Sends notes of those numbers, all at once, and waits until each is acked.
async fn send_all(peer: &Peer, numbers: std::ops::Range<u64>) {
    let mut sending = JoinSet::new();
    for number in numbers {
        sending.spawn(peer.send(&Note { number }).acked().into_future());
    }
    for acked in sending.join_all().await {
        acked.unwrap();
    }
}

#[tokio::test]
async fn what_is_sent_while_the_path_is_cut_arrives_once_and_in_order_both_ways() {
    let authority = Authority::new();
    let (at_server, mut from_client) = noting();
    let (at_client, mut from_server) = noting();
    let server = authority.server().config(nervous());
    let server = server.admission(Admit::open()).service(at_server);
    let server = server.await.unwrap();
    let relay = Relay::to(server.local_addr()).await;
    let client = authority.client(relay.address, "anna").config(nervous());
    let client = soon(client.service(at_client).into_future()).await.unwrap();
    let anna = server.client(client.client_id()).unwrap();
    let (up, down) = (client.peer(), &anna);
    soon(async { tokio::join!(send_all(up, 0..100), send_all(down, 0..100)) }).await;

    relay.cut();
    soon(client.wait_for(|state| !state.is_connected())).await;
    soon(anna.wait_for(|state| !state.is_connected())).await;
    let sending = async { tokio::join!(send_all(up, 100..300), send_all(down, 100..300)) };
    let mut sending = std::pin::pin!(sending);
    let still = tokio::time::timeout(Duration::from_millis(1), &mut sending).await;
    assert!(still.is_err(), "nothing can be acked yet");
    relay.mend();
    soon(sending).await;

    assert!(matches!(anna.state(), State::Connected { epoch: 2.., .. }));
    for notes in [&mut from_client, &mut from_server] {
        for number in 0..300 {
            assert_eq!(notes.try_recv(), Ok(number));
        }
        assert!(notes.try_recv().is_err());
    }
    let metrics = soon(server.metrics()).await.unwrap();
    assert!(metrics.sessions_resumed >= 1);
    assert_eq!((metrics.sessions_opened, metrics.sessions_lost), (1, 0));
}

#[tokio::test]
async fn a_client_of_a_name_finds_its_server_after_a_restart() {
    let authority = Authority::new();
    let address = common::ports::free_address();
    let first = doubling(&authority, address).await;
    let client = trunkline_tokio::Client::connect(format!("localhost:{}", address.port()))
        .roots(authority.roots())
        .client_id("anna")
        .config(common::quick());
    let client = soon(client.into_future()).await.unwrap();
    let mut events = client.events();
    soon(first.close()).await;
    let second = doubling(&authority, address).await;
    let doubled: Doubled = soon(client.request(&Double { number: 4 }).into_future())
        .await
        .unwrap();
    assert_eq!(doubled.number, 8);
    let lost = async {
        while !matches!(
            events.next().await.unwrap(),
            Notice::Event(Event::SessionLost { .. })
        ) {}
    };
    soon(lost).await;
    assert_eq!(client.address(), Some(address));
    drop(second);
}

#[tokio::test]
async fn a_draining_server_sends_its_clients_to_another() {
    let authority = Authority::new();
    let old = doubling(&authority, common::loopback()).await;
    let new = doubling(&authority, common::loopback()).await;
    let client = authority.client(old.local_addr(), "anna");
    let client = soon(client.into_future()).await.unwrap();
    let plan = |alternative: String| DrainPlan {
        deadline: Duration::from_secs(10),
        retry_after: None,
        alternative: Some(alternative),
    };
    let nowhere = soon(old.drain_with(plan("there".into()))).await;
    assert!(
        matches!(nowhere, Err(DrainError::Refused(_))),
        "{nowhere:?}"
    );
    let plan = plan(new.local_addr().to_string());
    let drained = soon(old.drain_with(plan)).await.unwrap();
    assert_eq!((drained.finished, drained.cut_off), (1, 0));
    // Sent whenever, it waits for the new server.
    let doubled: Doubled = soon(client.request(&Double { number: 5 }).into_future())
        .await
        .unwrap();
    assert_eq!(doubled.number, 10);
    assert_eq!(client.address(), Some(new.local_addr()));
    assert_eq!(new.metrics().await.unwrap().requests_received, 1);
    soon(old.close()).await;
    assert!(client.state().is_connected());
}

#[tokio::test]
async fn a_client_follows_its_server_to_the_other_family_and_back() {
    let v6 = "[::1]:0".parse().unwrap();
    if std::net::UdpSocket::bind(v6).is_err() {
        // This machine has no IPv6 to try it with.
        return;
    }
    let authority = Authority::new();
    let mut server = doubling(&authority, common::loopback()).await;
    let client = authority.client(server.local_addr(), "anna");
    let client = soon(client.config(nervous()).into_future()).await.unwrap();
    for next in [v6, common::loopback()] {
        let next = doubling(&authority, next).await;
        let mut plan = DrainPlan::within(Duration::from_secs(10));
        plan.alternative = Some(next.local_addr().to_string());
        soon(server.drain_with(plan)).await.unwrap();
        let doubled: Doubled = soon(client.request(&Double { number: 5 }).into_future())
            .await
            .unwrap();
        assert_eq!(doubled.number, 10);
        assert_eq!(client.address(), Some(next.local_addr()));
        server = next;
    }
}

/// A server at that address, as soon as it is free.
async fn doubling(authority: &Authority, address: SocketAddr) -> Server {
    let service = Service::new(()).on_request(async |_: Context<()>, question: Double| {
        Ok::<_, Status>(Doubled {
            number: question.number * 2,
        })
    });
    Server::bind(address)
        .identity(authority.identity("localhost"))
        .admission(Admit::open())
        .service(service)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_client_of_ipv4_is_one_to_a_server_of_both_families() {
    let everywhere = "[::]:0".parse().unwrap();
    if std::net::UdpSocket::bind(everywhere).is_err() {
        // This machine has no IPv6 to try it with.
        return;
    }
    let authority = Authority::new();
    let server = doubling(&authority, everywhere).await;
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, server.local_addr().port()).into();
    // As somebody may write it.
    let mapped: SocketAddr = (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), address.port()).into();
    for target in [address, mapped] {
        let client = soon(authority.client(target, "anna").into_future())
            .await
            .unwrap();
        let doubled: Doubled = soon(client.request(&Double { number: 1 }).into_future())
            .await
            .unwrap();
        assert_eq!(doubled.number, 2);
        assert_eq!(client.address(), Some(address));
        let clients = server.clients().await.unwrap();
        let seen = clients[0].address.unwrap();
        let own = client.local_addr().port();
        assert_eq!(seen, (Ipv4Addr::LOCALHOST, own).into());
        soon(client.close()).await;
    }
}
