//! The proxy on loopback sockets. Nothing here sleeps: each test waits for what is to happen.

#[path = "../../../../tests/common/ports.rs"]
mod ports;

use std::collections::BTreeSet;

use super::super::settings::{Directions, Share};
use super::*;

/// Far longer than anything takes: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a socket")
}

fn settings(to: SocketAddr) -> ProxySettings {
    ProxySettings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        to,
        impairments: Impairments::default(),
        seed: 1,
        rebind_every: None,
        clients: 8,
        idle: Duration::from_secs(60),
    }
}

fn start(server: &UdpSocket, change: impl FnOnce(&mut ProxySettings)) -> Handle {
    let mut settings = settings(server.local_addr().expect("an address"));
    change(&mut settings);
    Handle::start(settings).expect("a proxy")
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_000];
    let received = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
    let (length, from) = received.expect("nothing came").expect("a datagram");
    (buffer[..length].to_vec(), from)
}

/// Waits until the proxy says so.
async fn until(proxy: &Handle, holds: impl Fn(&Summary) -> bool) -> Summary {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let summary = proxy.report().await.expect("a summary");
            if holds(&summary) {
                return summary;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it never happened")
}

#[tokio::test]
async fn packets_reach_the_server_and_answers_their_own_client() {
    let server = socket().await;
    let proxy = start(&server, |_| {});
    let (first, second) = (socket().await, socket().await);
    first
        .send_to(b"from one", proxy.address())
        .await
        .expect("sent");
    let (data, one) = receive(&server).await;
    assert_eq!(data, b"from one");
    second
        .send_to(b"from two", proxy.address())
        .await
        .expect("sent");
    let (data, two) = receive(&server).await;
    assert_eq!(data, b"from two");
    assert_ne!(one, two, "each client has a port of its own");

    server.send_to(b"to two", two).await.expect("sent");
    server.send_to(b"to one", one).await.expect("sent");
    assert_eq!(receive(&first).await, (b"to one".to_vec(), proxy.address()));
    assert_eq!(
        receive(&second).await,
        (b"to two".to_vec(), proxy.address())
    );

    let summary = until(&proxy, |summary| summary.down.delivered == 2).await;
    assert_eq!(
        (
            summary.clients.seen,
            summary.clients.active,
            summary.up.delivered
        ),
        (2, 2, 2)
    );
    assert_eq!(
        (summary.up.counts.packets, summary.up.counts.bytes),
        (2, 16)
    );
}

#[tokio::test]
async fn a_cut_path_drops_and_a_healed_one_carries_again() {
    let server = socket().await;
    let proxy = start(&server, |_| {});
    let client = socket().await;
    assert!(proxy.cut(Directions::Both).await.expect("cut").cut_now);
    client
        .send_to(b"into the dark", proxy.address())
        .await
        .expect("sent");
    until(&proxy, |summary| summary.up.counts.cut == 1).await;
    assert!(!proxy.heal().await.expect("healed").cut_now);
    client
        .send_to(b"into the light", proxy.address())
        .await
        .expect("sent");
    assert_eq!(receive(&server).await.0, b"into the light");
}

#[tokio::test]
async fn rebinding_changes_the_port_that_the_server_sees_and_answers_still_arrive() {
    let server = socket().await;
    let proxy = start(&server, |settings| {
        settings.rebind_every = Some(Duration::from_millis(5))
    });
    let client = socket().await;
    let mut ports = BTreeSet::new();
    while ports.len() < 3 {
        client
            .send_to(b"who am I?", proxy.address())
            .await
            .expect("sent");
        ports.insert(receive(&server).await.1.port());
    }
    until(&proxy, |summary| summary.rebinds >= 2).await;

    // An answer to a port that is gone by then is lost, as behind a NAT, so it may take some.
    let answered = async {
        let mut buffer = [0; 100];
        loop {
            client
                .send_to(b"answer me", proxy.address())
                .await
                .expect("sent");
            let (_, from) = receive(&server).await;
            server.send_to(b"answer", from).await.expect("sent");
            if client.try_recv(&mut buffer).is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("no answer arrived");
}

#[tokio::test]
async fn an_order_to_rebind_gives_a_new_port_at_once() {
    let server = socket().await;
    let proxy = start(&server, |_| {});
    let client = socket().await;
    let port = async || {
        client
            .send_to(b"who am I?", proxy.address())
            .await
            .expect("sent");
        receive(&server).await.1.port()
    };
    let before = port().await;
    assert_eq!(port().await, before);
    let summary = proxy.obey(orders::Order::Rebind).await.expect("obeyed");
    assert_eq!(summary.rebinds, 1);
    assert_ne!(port().await, before);
}

#[tokio::test]
async fn a_delayed_packet_takes_its_time() {
    let server = socket().await;
    let delay = Duration::from_millis(40);
    let proxy = start(&server, |settings| {
        settings.impairments.delay = delay;
        settings.impairments.directions = Directions::Up;
    });
    let client = socket().await;
    let before = Instant::now();
    client
        .send_to(b"slowly", proxy.address())
        .await
        .expect("sent");
    receive(&server).await;
    assert!(
        before.elapsed() >= delay,
        "it took only {:?}",
        before.elapsed()
    );
}

#[tokio::test]
async fn damage_is_one_bit_and_copies_are_whole() {
    let server = socket().await;
    let proxy = start(&server, |settings| {
        settings.impairments.corrupt = Share::new(1.0);
        settings.impairments.duplicate = Share::new(1.0);
    });
    let client = socket().await;
    client
        .send_to(&[0; 500], proxy.address())
        .await
        .expect("sent");
    let (first, _) = receive(&server).await;
    assert_eq!(first.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(receive(&server).await.0, [0; 500]);
}

#[tokio::test]
async fn clients_are_bounded_and_make_room_when_they_are_silent() {
    let server = socket().await;
    let proxy = start(&server, |settings| settings.clients = 1);
    let (first, second) = (socket().await, socket().await);
    first
        .send_to(b"first", proxy.address())
        .await
        .expect("sent");
    receive(&server).await;
    second
        .send_to(b"second", proxy.address())
        .await
        .expect("sent");
    let summary = until(&proxy, |summary| summary.clients.refused_packets == 1).await;
    assert_eq!((summary.clients.seen, summary.up.counts.packets), (1, 1));

    let forgetful = start(&server, |settings| {
        settings.idle = Duration::from_millis(20)
    });
    first
        .send_to(b"once", forgetful.address())
        .await
        .expect("sent");
    assert_eq!(receive(&server).await.0, b"once");
    let summary = until(&forgetful, |summary| summary.clients.expired == 1).await;
    assert_eq!(summary.clients.active, 0);
}

#[tokio::test]
async fn a_server_that_was_away_is_reached_when_it_is_back() {
    let address = ports::free_address();
    let server = UdpSocket::bind(address).await.expect("a socket");
    let proxy = start(&server, |_| {});
    let client = socket().await;
    drop(server);
    for _ in 0..10 {
        client
            .send_to(b"anybody?", proxy.address())
            .await
            .expect("sent");
    }
    until(&proxy, |summary| {
        summary.up.delivered + summary.up.unsendable == 10
    })
    .await;
    let server = UdpSocket::bind(address).await.expect("the same address");
    client
        .send_to(b"welcome back", proxy.address())
        .await
        .expect("sent");
    assert_eq!(receive(&server).await.0, b"welcome back");
}

#[tokio::test]
async fn a_stopped_proxy_gives_its_address_back_and_a_taken_one_is_refused() {
    let server = socket().await;
    let address = ports::free_address();
    let proxy = start(&server, |settings| settings.listen = address);
    assert_eq!(proxy.address(), address);
    let mut again = settings(server.local_addr().expect("an address"));
    again.listen = address;
    let refused = Handle::start(again).expect_err("the address is taken");
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    let summary = proxy.stop().await.expect("a summary");
    assert_eq!(summary.listen, address);
    let freed = async {
        while UdpSocket::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed)
        .await
        .expect("the address is still taken");
}
