//! A server of several shards over real sockets: threads, steering, coming back from elsewhere.

#![allow(clippy::unwrap_used, reason = "tests end by panicking")]
#![cfg(unix)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::ports::free_address;
use common::relay::Relay;
use common::{Authority, Double, Doubled, Note, quick, soon};
use tokio::runtime::Builder;
use trunkline_tokio::{
    Admit, Client, ClientId, Config, Context, Event, Notice, Server, Service, State, Status,
    Stopped,
};

const SHARDS: usize = 3;
const CLIENTS: usize = 12;

#[derive(Default)]
struct Seen {
    notes: Mutex<BTreeMap<ClientId, Vec<u64>>>,
    threads: Mutex<BTreeSet<String>>,
}

fn service(seen: &Arc<Seen>) -> Service<Arc<Seen>> {
    Service::new(seen.clone())
        .on(async |context: Context<Arc<Seen>>, note: Note| {
            let mut notes = context.state().notes.lock().unwrap();
            let page = notes.entry(context.client_id().clone()).or_default();
            page.push(note.number);
        })
        .on_request(async |context: Context<Arc<Seen>>, question: Double| {
            let thread = std::thread::current().name().unwrap().to_owned();
            context.state().threads.lock().unwrap().insert(thread);
            // Their reactor and timer are the shard's.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let number = 2 * question.number;
            Ok::<_, Status>(Doubled { number })
        })
}

async fn server(authority: &Authority, seen: &Arc<Seen>) -> Server {
    let server = authority.server_at(free_address());
    let server = server.admission(Admit::open()).shards(SHARDS);
    server.service(service(seen)).await.unwrap()
}

async fn clients(
    authority: &Authority,
    address: std::net::SocketAddr,
    config: Config,
) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let config = config.clone();
        let client = authority.client(address, &format!("client-{number}"));
        let client = soon(client.config(config).into_future()).await;
        clients.push(client.unwrap());
    }
    clients
}

#[tokio::test]
async fn each_shard_is_a_thread_and_the_kernel_steers() {
    let authority = Authority::new();
    let seen = Arc::<Seen>::default();
    let server = server(&authority, &seen).await;
    let clients = clients(&authority, server.local_addr(), quick()).await;
    for client in &clients {
        for number in 0..20 {
            let doubled: Doubled = soon(client.request(&Double { number }).into_future())
                .await
                .unwrap();
            assert_eq!(doubled.number, 2 * number);
        }
    }
    let shards: BTreeSet<_> = server
        .peers()
        .iter()
        .map(|peer| format!("trunkline-{}", peer.session().shard()))
        .collect();
    assert_eq!(*seen.threads.lock().unwrap(), shards);
    assert!(shards.len() > 1, "12 clients at one of 3 shards");
    assert_eq!(server.clients().await.unwrap().len(), CLIENTS);
    let metrics = server.metrics().await.unwrap();
    assert_eq!(metrics.requests_received, 20 * CLIENTS as u64);
    #[cfg(target_os = "linux")]
    assert_eq!(metrics.datagrams_forwarded, 0, "{metrics:?}");
    let address = server.local_addr();
    soon(server.close()).await;
    assert_eq!(server.clients().await, Err(Stopped));
    std::net::UdpSocket::bind(address).unwrap();
}

#[tokio::test]
async fn parallel_handlers_run_where_the_server_was_started() {
    let authority = Authority::new();
    let seen = Arc::<Seen>::default();
    let server = authority.server().admission(Admit::open()).shards(SHARDS);
    let server = server.service(service(&seen).parallel()).await.unwrap();
    let client = authority.client(server.local_addr(), "anna");
    let client = soon(client.into_future()).await.unwrap();
    let question = Double { number: 1 };
    let doubled: Doubled = soon(client.request(&question).into_future()).await.unwrap();
    assert_eq!(doubled.number, 2);
    let here = std::thread::current().name().unwrap().to_owned();
    assert_eq!(*seen.threads.lock().unwrap(), BTreeSet::from([here]));
}

#[tokio::test]
async fn a_client_finds_its_session_from_another_address() {
    let authority = Authority::new();
    let seen = Arc::<Seen>::default();
    let server = server(&authority, &seen).await;
    let relay = Relay::to(server.local_addr()).await;
    let mut config = quick();
    // Long enough for a busy machine not to be silent so long, and short enough to be waited for.
    config.heartbeat.interval = Duration::from_secs(2);
    let clients = clients(&authority, relay.address, config).await;
    let peer = |client: &Client| server.client(client.client_id()).unwrap();
    let homes: Vec<_> = clients
        .iter()
        .map(|client| peer(client).session())
        .collect();
    let mut events: Vec<_> = clients.iter().map(|client| client.events()).collect();
    let send = async |numbers: std::ops::Range<u64>| {
        for client in &clients {
            for number in numbers.clone() {
                client.send(&Note { number }).await.unwrap();
            }
        }
    };
    // Under living links, addresses change.
    send(0..10).await;
    relay.rebind();
    send(10..20).await;
    for client in &clients {
        soon(client.send(&Note { number: 20 }).acked().into_future())
            .await
            .unwrap();
        let state = peer(client).state();
        assert!(
            matches!(state, State::Connected { epoch: 1, .. }),
            "{state:?}"
        );
    }
    // Links die of silence, with messages under way, and clients dial from elsewhere.
    send(21..30).await;
    relay.cut();
    send(30..40).await;
    for events in &mut events {
        loop {
            let notice = soon(events.next()).await.unwrap();
            if let Notice::Event(Event::Disconnected { .. } | Event::Reconnecting { .. }) = notice {
                break;
            }
        }
    }
    relay.rebind();
    relay.mend();
    for (client, home) in clients.iter().zip(homes) {
        soon(client.send(&Note { number: 40 }).acked().into_future())
            .await
            .unwrap();
        assert_eq!(peer(client).session(), home);
        let notes = &seen.notes.lock().unwrap()[client.client_id()];
        assert_eq!(*notes, (0..=40).collect::<Vec<_>>());
    }
    let metrics = server.metrics().await.unwrap();
    assert_eq!(metrics.sessions_opened, CLIENTS as u64);
    assert_eq!(metrics.sessions_unknown, 0);
    assert!(metrics.sessions_resumed >= CLIENTS as u64);
    soon(server.close()).await;
}

#[test]
fn shards_end_with_the_runtime_that_started_them() {
    let authority = Authority::new();
    let seen = Arc::<Seen>::default();
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let (server, client) = runtime.block_on(async {
        let server = server(&authority, &seen).await;
        let client = authority.client(server.local_addr(), "anna");
        (server, soon(client.into_future()).await.unwrap())
    });
    let waits = server.client(client.client_id()).unwrap();
    drop(runtime);
    // Handles work wherever they are.
    let outside = Builder::new_current_thread().enable_all().build().unwrap();
    outside.block_on(async {
        soon(server.closed()).await;
        assert_eq!(server.clients().await, Err(Stopped));
        let sent = waits.send(&Note { number: 1 }).acked().await;
        assert!(sent.is_err());
    });
    std::net::UdpSocket::bind(server.local_addr()).unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_an_error_with_shards_too() {
    let authority = Authority::new();
    let seen = Arc::<Seen>::default();
    let first = server(&authority, &seen).await;
    let second = Server::bind(first.local_addr())
        .identity(authority.identity("localhost"))
        .admission(Admit::open())
        .shards(SHARDS);
    let error = second.await.unwrap_err().to_string();
    assert!(error.contains("stop whoever uses it"), "{error}");
}
