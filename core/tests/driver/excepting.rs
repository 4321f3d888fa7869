//! Broadcasts to all but one peer, through handles.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use trunkline_core::driver::{Context, Peer, Service};
use trunkline_core::{ClientId, GroupName, Status};

use super::lab::Lab;
use super::{Certificate, MILLISECOND, Note, SECOND, Server};

const SHARDS: usize = 4;
const CLIENTS: usize = 12;

/// What was heard, by the client that did.
type Heard = Arc<Mutex<BTreeMap<ClientId, Vec<u64>>>>;

/// On a client: writes down what it hears.
async fn hear(context: Context<Heard>, note: Note) {
    let mut heard = context.state().lock().unwrap();
    let page = heard.entry(context.client_id().clone()).or_default();
    page.push(note.number);
}

/// On a server: passes on what a client says, to everybody else in the room.
async fn say(context: Context<GroupName>, note: Note) -> Result<(), Status> {
    let group = context.server().group(context.state());
    group.broadcast(&note).except(context.peer()).await?;
    Ok(())
}

/// Its session stands first among those of its node.
fn is_first(peer: &Peer) -> bool {
    peer.session().0.slot.is_multiple_of(1 << 24)
}

fn room() -> GroupName {
    GroupName::new("room").unwrap()
}

#[test]
fn who_says_something_does_not_hear_it_whatever_shard_it_is_at() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let service = Service::new(room()).on(say);
        let server = certificate.server().shards(SHARDS).service(service);
        let server = server.await.unwrap();
        let heard = Heard::default();
        let listener = |number| {
            let id = format!("client-{number}");
            let client = certificate.client(server.local_addr(), &id);
            client
                .service(Service::new(heard.clone()).on(hear))
                .into_future()
        };
        let clients = join_all((0..CLIENTS).map(listener)).await;
        let clients: Vec<_> = clients.into_iter().map(Result::unwrap).collect();
        let peers = server.peers();
        // Each shard has a session in the first place of its table, and they are told apart.
        let firsts = peers.iter().filter(|peer| is_first(peer));
        let shards: Vec<_> = firsts.map(|peer| peer.session().shard()).collect();
        assert_eq!(shards.len(), SHARDS, "{shards:?}");
        let group = server.group(&room());
        for peer in &peers {
            group.join(peer).await.unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let number = number as u64;
            client.send(&Note { number }).acked().await.unwrap();
        }
        lab.pass(SECOND).await;
        for (own, client) in clients.iter().enumerate() {
            let others = (0..CLIENTS as u64).filter(|number| *number != own as u64);
            let heard = &heard.lock().unwrap()[client.client_id()];
            assert_eq!(*heard, others.collect::<Vec<_>>());
        }
        let note = Note { number: 99 };
        for peer in &peers {
            let sent = server.broadcast(&note).except(peer).await.unwrap();
            assert_eq!((sent.queued, sent.away), (CLIENTS - 1, 0));
        }
        let sent = server.broadcast(&note).except(&peers[0]).except(&peers[1]);
        assert_eq!(sent.await.unwrap().queued, CLIENTS - 1);
    });
}

#[test]
fn a_peer_that_is_none_of_the_audience_changes_nothing() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let other = certificate.server().await.unwrap();
        let client = |server: &Server, id| {
            let client = certificate.client(server.local_addr(), id);
            client.into_future()
        };
        let anna = client(&server, "anna").await.unwrap();
        let _ben = client(&server, "ben").await.unwrap();
        let _elsewhere = client(&other, "anna").await.unwrap();
        let note = Note { number: 1 };
        let peer = server.client(anna.client_id()).unwrap();
        let namesake = other.client(anna.client_id()).unwrap();

        // By their keys alone nobody could tell them apart.
        assert_eq!(peer.session(), namesake.session());
        assert_eq!(peer.session(), anna.session());
        for (stranger, number) in [(&namesake, 2), (&*anna, 2), (&peer, 1)] {
            let sent = server.broadcast(&note).except(stranger).await.unwrap();
            assert_eq!(sent.queued, number);
        }

        // Not in the group.
        let group = server.group(&room());
        let ben = server.client(&ClientId::new("ben").unwrap()).unwrap();
        group.join(&ben).await.unwrap();
        let sent = group.broadcast(&note).except(&peer).await.unwrap();
        assert_eq!((sent.queued, sent.away), (1, 0));

        // Gone, and another has its place.
        anna.close().await;
        lab.pass(10 * MILLISECOND).await;
        let late = client(&server, "late").await.unwrap();
        let in_place = server.client(late.client_id()).unwrap();
        assert_eq!(in_place.session().0.slot, peer.session().0.slot);
        let sent = server.broadcast(&note).except(&peer).await.unwrap();
        assert_eq!(sent.queued, 2);
    });
}
