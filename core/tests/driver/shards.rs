//! A server of several nodes is one server to whoever holds its handles, and to its clients.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::{join, join_all};
use trunkline_core::driver::{Context, Drained, Notice, Peer, Recording, Service, State};
use trunkline_core::{
    ClientId, CloseCode, DisconnectReason, Event, GroupName, MetricsSnapshot, SessionKey, trace,
};

use super::lab::Lab;
use super::{
    Certificate, Client, ClientBuilder, MILLISECOND, Note, SECOND, Server, ServerBuilder, config,
};

const SHARDS: usize = 4;
const CLIENTS: usize = 16;

/// What was received, by the client that sent it.
type Book = Arc<Mutex<BTreeMap<ClientId, Vec<u64>>>>;

fn book() -> (Book, Service<Book>) {
    let book = Book::default();
    let write = async |context: Context<Book>, note: Note| {
        let mut book = context.state().lock().unwrap();
        let page = book.entry(context.client_id().clone()).or_default();
        page.push(note.number);
    };
    (book.clone(), Service::new(book).on(write))
}

/// Links die of silence within a second.
fn quick() -> trunkline_core::Config {
    config(|config| config.heartbeat.interval = 250 * MILLISECOND)
}

fn server(certificate: &Certificate) -> ServerBuilder {
    certificate.server().config(quick()).shards(SHARDS)
}

fn client(certificate: &Certificate, server: &Server, number: usize) -> ClientBuilder {
    let id = format!("client-{number}");
    let client = certificate.client(server.local_addr(), &id);
    client.config(quick())
}

async fn clients(certificate: &Certificate, server: &Server) -> Vec<Client> {
    let client = |number| client(certificate, server, number).into_future();
    let clients = join_all((0..CLIENTS).map(client)).await;
    clients.into_iter().map(Result::unwrap).collect()
}

fn shards_of(peers: &[Peer]) -> BTreeSet<usize> {
    peers.iter().map(|peer| peer.session().shard()).collect()
}

async fn metrics(server: &Server) -> MetricsSnapshot {
    server.metrics().await.unwrap()
}

/// The server's side of a client.
fn peer_of(server: &Server, client: &Client) -> Peer {
    server.client(client.client_id()).unwrap()
}

#[test]
fn a_client_is_served_by_its_shard_whatever_socket_its_datagrams_come_to() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let (book, service) = book();
        let server = server(&certificate).service(service).await.unwrap();
        let clients = clients(&certificate, &server).await;
        assert_eq!(shards_of(&server.peers()), (0..SHARDS).collect());
        let homes: Vec<_> = clients
            .iter()
            .map(|client| peer_of(&server, client).session())
            .collect();
        // The lab's network chooses sockets by the sender's port. Under living links they change.
        for number in 0..30 {
            for client in &clients {
                client.send(&Note { number }).acked().await.unwrap();
                if number % 10 == 9 {
                    let seen = peer_of(&server, client).address().unwrap();
                    lab.rebind(seen);
                }
            }
        }
        for (client, home) in clients.iter().zip(homes) {
            let peer = peer_of(&server, client);
            assert_eq!(peer.session(), home);
            assert!(matches!(peer.state(), State::Connected { epoch: 1, .. }));
        }
        for page in book.lock().unwrap().values() {
            assert_eq!(*page, (0..30).collect::<Vec<_>>());
        }
        let metrics = metrics(&server).await;
        assert!(metrics.datagrams_forwarded > 100, "{metrics:?}");
        assert_eq!(metrics.forwarded_dropped, 0);
        assert_eq!(metrics.links_opened, CLIENTS as u64);
    });
}

#[test]
fn a_client_that_comes_back_from_elsewhere_goes_on_at_its_shard() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let (book, service) = book();
        let server = server(&certificate).service(service).await.unwrap();
        let clients = clients(&certificate, &server).await;
        let homes: Vec<_> = clients
            .iter()
            .map(|client| peer_of(&server, client).session())
            .collect();
        for round in 0..3 {
            let sent = clients.iter().map(async |client| {
                for number in round * 20..(round + 1) * 20 {
                    client.send(&Note { number }).acked().await.unwrap();
                }
            });
            let broken = async {
                lab.pass(5 * MILLISECOND).await;
                for client in &clients {
                    // Where it is now, nobody hears of it until it has dialled again.
                    let seen = peer_of(&server, client).address();
                    seen.map(|seen| lab.rebind(seen));
                    lab.socket(client.local_addr(), |socket| socket.cut = true);
                }
                lab.pass(2 * SECOND).await;
                for client in &clients {
                    lab.socket(client.local_addr(), |socket| socket.cut = false);
                }
            };
            join(join_all(sent), broken).await;
        }
        for (client, home) in clients.iter().zip(homes) {
            let peer = peer_of(&server, client);
            assert_eq!(peer.session(), home);
            assert!(matches!(peer.state(), State::Connected { epoch: 4, .. }));
            let expected: Vec<_> = (0..60).collect();
            assert_eq!(book.lock().unwrap()[client.client_id()], expected);
        }
        let metrics = metrics(&server).await;
        assert_eq!(metrics.sessions_opened, CLIENTS as u64);
        assert_eq!(metrics.sessions_resumed, 3 * CLIENTS as u64);
        assert_eq!(metrics.sessions_unknown, 0);
    });
}

#[test]
fn lists_groups_broadcasts_events_and_counts_are_of_all_shards() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let everybody = async |context: Context<()>, _: super::Ask| {
            let number = context.server().clients().await.unwrap().len() as u64;
            Ok::<_, trunkline_core::Status>(super::Answer { number })
        };
        let service = Service::new(())
            .on_request(everybody)
            .on(async |_: Context<()>, _: Note| ());
        let server = server(&certificate).service(service).await.unwrap();
        let mut events = server.events();
        let heard = Book::default();
        let listener = |number| {
            let write = async |context: Context<Book>, note: Note| {
                let mut book = context.state().lock().unwrap();
                book.entry(context.client_id().clone())
                    .or_default()
                    .push(note.number);
            };
            let service = Service::new(heard.clone()).on(write);
            client(&certificate, &server, number)
                .service(service)
                .into_future()
        };
        let clients = join_all((0..CLIENTS).map(listener)).await;
        let clients: Vec<_> = clients.into_iter().map(Result::unwrap).collect();

        let listed = server.clients().await.unwrap();
        let keys: BTreeSet<SessionKey> = listed.iter().map(|info| info.session).collect();
        assert_eq!((listed.len(), keys.len()), (CLIENTS, CLIENTS));
        assert_eq!(shards_of(&server.peers()), (0..SHARDS).collect());
        let mut told = BTreeSet::new();
        while told.len() < CLIENTS {
            if let Some(Notice::Event(Event::Connected { session, .. })) = events.next().await {
                told.insert(session);
            }
        }
        assert_eq!(told, keys);
        let answer: super::Answer = clients[0].request(&super::Ask { number: 0 }).await.unwrap();
        assert_eq!(answer.number, CLIENTS as u64, "asked by a handler");

        let group = server.group(&GroupName::new("even").unwrap());
        for client in clients.iter().step_by(2) {
            group.join(&peer_of(&server, client)).await.unwrap();
        }
        assert_eq!(group.members().await.unwrap().len(), CLIENTS / 2);
        let all = server.broadcast(&Note { number: 1 }).await.unwrap();
        let half = group.broadcast(&Note { number: 2 }).await.unwrap();
        assert_eq!((all.queued, half.queued), (CLIENTS, CLIENTS / 2));
        lab.pass(SECOND).await;
        for (number, client) in clients.iter().enumerate() {
            let expected = if number % 2 == 0 { &[1, 2][..] } else { &[1] };
            assert_eq!(heard.lock().unwrap()[client.client_id()], expected);
        }

        for client in &clients {
            let peer = peer_of(&server, client);
            peer.send(&Note { number: 3 }).acked().await.unwrap();
        }
        let metrics = metrics(&server).await;
        assert_eq!((metrics.sessions, metrics.connected), (CLIENTS, CLIENTS));
        assert_eq!(metrics.broadcasts, 2);
        assert_eq!(metrics.best_effort_sent, (CLIENTS + CLIENTS / 2) as u64);
        assert_eq!(metrics.latency_count, CLIENTS as u64);
        assert!(metrics.latency_p50 >= 2 * MILLISECOND && metrics.latency_max < SECOND);
        let within: Vec<_> = metrics.latency_buckets().collect();
        assert_eq!(within.first(), Some(&(MILLISECOND / 10, 0)));
        assert_eq!(within.last(), Some(&(60 * SECOND, CLIENTS as u64)));

        server.close().await;
        while let Some(notice) = events.next().await {
            assert!(matches!(notice, Notice::Event(_)));
        }
    });
}

#[test]
fn all_shards_drain_and_close_together() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let (_, service) = book();
        let server = server(&certificate).service(service).await.unwrap();
        let address = server.local_addr();
        let clients = clients(&certificate, &server).await;
        let away = peer_of(&server, &clients[0]);
        lab.socket(clients[0].local_addr(), |socket| socket.cut = true);
        away.wait_for(|state| !state.is_connected()).await;
        away.send(&Note { number: 1 }).await.unwrap();
        let drained = server.drain(2 * SECOND).await.unwrap();
        let expected = Drained {
            finished: CLIENTS as u64 - 1,
            cut_off: 1,
        };
        assert_eq!(drained, expected);
        assert_eq!(server.drain(SECOND).await, Ok(expected));
        let late = client(&certificate, &server, 99)
            .connect_timeout(3 * SECOND)
            .await;
        assert!(late.is_err(), "nothing new is accepted by any of them");
        server.close().await;
        assert!(!lab.is_bound(address));
        assert!(server.clients().await.is_err() && server.drain(SECOND).await.is_err());
        assert!(server.broadcast(&Note { number: 1 }).await.is_err());
        assert!(server.metrics().await.is_err());
    });
}

#[test]
fn the_last_handle_closes_all_shards() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = server(&certificate).await.unwrap();
        let (address, handle) = (server.local_addr(), server.handle().clone());
        let clients = clients(&certificate, &server).await;
        drop(server);
        handle.closed().await;
        assert!(!lab.is_bound(address));
        for client in &clients {
            let told = client.wait_for(|state| !state.is_connected()).await;
            let State::Reconnecting { reason, .. } = told else {
                panic!("{told:?}")
            };
            assert!(matches!(reason, DisconnectReason::Peer { .. }), "{reason}");
        }
    });
}

#[test]
fn if_one_shard_ends_the_others_go_on_and_take_its_clients() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let (book, service) = book();
        let server = server(&certificate).service(service).await.unwrap();
        let clients = clients(&certificate, &server).await;
        let broken = 1;
        let own = |session: &SessionKey| session.shard() == broken;
        let homes: Vec<_> = clients
            .iter()
            .map(|client| peer_of(&server, client).session())
            .collect();
        let mut events: Vec<_> = clients.iter().map(|client| client.events()).collect();
        let socket = lab.sockets_at(server.local_addr())[broken];
        lab.socket(socket, |socket| socket.broken = true);
        while lab.panics() == 0 {
            lab.pass(MILLISECOND).await;
        }
        // The kernel has renumbered the sockets that are left by now, and nobody minds.
        for (client, home) in clients.iter().zip(&homes) {
            if !own(home) {
                client.send(&Note { number: 1 }).acked().await.unwrap();
                assert_eq!(peer_of(&server, client).session(), *home);
            }
        }
        let left = homes.iter().filter(|home| !own(home)).count();
        assert!(left < CLIENTS);
        assert_eq!(metrics(&server).await.sessions, left);
        for ((client, home), events) in clients.iter().zip(&homes).zip(&mut events) {
            if own(home) {
                loop {
                    let notice = events.next().await.unwrap();
                    if let Notice::Event(Event::SessionLost { .. }) = notice {
                        break;
                    }
                }
                client.connected().await.unwrap();
                client.send(&Note { number: 2 }).acked().await.unwrap();
                assert_ne!(peer_of(&server, client).session().shard(), broken);
            }
        }
        assert_eq!(server.clients().await.unwrap().len(), CLIENTS);
        assert_eq!(book.lock().unwrap().len(), CLIENTS);
        let sent = server.broadcast(&Note { number: 3 }).await.unwrap();
        assert_eq!(sent.queued, CLIENTS);
        let drained = server.drain(SECOND).await.unwrap();
        assert_eq!(drained.finished, CLIENTS as u64);
        server.close().await;
    });
}

/// All that only grows.
fn counted(metrics: &MetricsSnapshot) -> Vec<(String, u64)> {
    let named = |(name, count): (&str, u64)| (name.to_owned(), count);
    let mut counted: Vec<_> = metrics.counters().map(named).collect();
    let within = metrics.latency_buckets();
    counted.extend(within.map(|(bound, count)| (format!("{bound:?}"), count)));
    counted.push(("latencies".into(), metrics.latency_count));
    counted.push(("latency".into(), metrics.latency_sum.as_nanos() as u64));
    for code in [CloseCode::NORMAL, CloseCode::GOING_AWAY] {
        let count = metrics.closed_by_code.get(&code).copied();
        counted.push((format!("{code}"), count.unwrap_or(0)));
    }
    counted
}

/// What was counted later is no less.
#[track_caller]
fn assert_grown(before: &MetricsSnapshot, after: &MetricsSnapshot) {
    for ((name, before), (_, after)) in counted(before).into_iter().zip(counted(after)) {
        assert!(before <= after, "{name} shrinks from {before} to {after}");
    }
}

#[test]
fn what_an_ended_shard_had_counted_stays_counted() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let (_, service) = book();
        let server = server(&certificate).service(service).await.unwrap();
        let away = client(&certificate, &server, CLIENTS).await.unwrap();
        away.close().await;
        let service = || Service::new(()).on(async |_: Context<()>, _: Note| ());
        let client = |number| client(&certificate, &server, number).service(service());
        let clients = join_all((0..CLIENTS).map(|number| client(number).into_future())).await;
        let clients: Vec<_> = clients.into_iter().map(Result::unwrap).collect();
        for client in &clients {
            client.send(&Note { number: 1 }).acked().await.unwrap();
            let peer = peer_of(&server, client);
            peer.send(&Note { number: 2 }).acked().await.unwrap();
        }
        server.broadcast(&Note { number: 3 }).await.unwrap();
        let sockets = lab.sockets_at(server.local_addr());
        let mut last = metrics(&server).await;
        assert_eq!(last.latency_count, CLIENTS as u64);
        for (ended, socket) in sockets.into_iter().enumerate().take(SHARDS - 1) {
            let before = last.clone();
            lab.socket(socket, |socket| socket.broken = true);
            while lab.panics() <= ended {
                let asked = server.metrics();
                let (asked, ()) = join(asked, lab.pass(MILLISECOND)).await;
                let asked = asked.unwrap();
                assert_grown(&last, &asked);
                last = asked;
            }
            let after = metrics(&server).await;
            assert_grown(&last, &after);
            // Each is counted once.
            assert_eq!(after.messages_received, CLIENTS as u64);
            assert_eq!((after.broadcasts, after.latency_count), (1, CLIENTS as u64));
            assert_eq!(after.latency_max, before.latency_max);
            // Of what it had nothing is there.
            let shards = (after.shards_running, after.shards_started);
            assert_eq!(shards, (SHARDS - 1 - ended, SHARDS));
            assert_eq!(after.sessions, server.peers().len());
            last = after;
        }
        let sent = server.broadcast(&Note { number: 4 }).await.unwrap();
        let after = metrics(&server).await;
        assert_eq!(after.broadcasts, 2);
        let queued = after.best_effort_sent - last.best_effort_sent;
        assert_eq!(queued, sent.queued as u64);
    });
}

#[test]
fn each_shard_is_recorded_into_a_file_of_its_own_and_replays() {
    recorded_and_replayed("wire", Recording::wire);
    recorded_and_replayed("link", Recording::link);
}

fn recorded_and_replayed(level: &str, recording: impl Fn(PathBuf) -> Recording) {
    let name = format!("trunkline-shards-{level}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    Lab::run(async |_| {
        let certificate = Certificate::new();
        let (_, service) = book();
        let server = server(&certificate).service(service);
        let server = server.record(recording(folder.join("server.tlt")));
        let server = server.await.unwrap();
        let clients = clients(&certificate, &server).await;
        for client in &clients {
            client.send(&Note { number: 1 }).acked().await.unwrap();
            let sent = server.broadcast(&Note { number: 2 });
            let sent = sent.except(&peer_of(&server, client)).await.unwrap();
            assert_eq!(sent.queued, CLIENTS - 1);
        }
        server.close().await;
    });
    for number in 0..SHARDS {
        let file = std::fs::read(folder.join(format!("server.{number}.tlt"))).unwrap();
        let report = trace::replay(&file[..], Instant::now()).unwrap();
        assert!(report.is_identical(), "{level}, {number}: {report}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), SHARDS);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_platform_that_returns_another_number_of_places_starts_nothing() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        for surplus in [1, -1, -(SHARDS as i16)] {
            lab.miscount_shards(surplus);
            let error = server(&certificate).await.unwrap_err();
            let places = SHARDS.saturating_add_signed(surplus.into());
            let expected = format!("{places} places for {SHARDS} shards");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        lab.miscount_shards(0);
        server(&certificate).await.unwrap().close().await;
    });
}

#[test]
fn a_number_of_shards_that_cannot_be_is_refused_and_one_is_none() {
    Lab::run(async |_| {
        let certificate = Certificate::new();
        for count in [0, 257, 1 << 20] {
            let error = certificate.server().shards(count).await.unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("shard.of is") && text.contains("1 to 256"),
                "{text}"
            );
        }
        let server = certificate.server().shards(1).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let _client = client.await.unwrap();
        assert_eq!(server.peers()[0].session().shard(), 0);
        assert_eq!(server.metrics().await.unwrap().datagrams_forwarded, 0);
    });
}
