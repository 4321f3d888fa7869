//! Many threads send, wait, give up and are late, all at once; in the end nothing is left of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Authority, Double, Doubled, Note, soon};
use tokio::task::{JoinSet, yield_now};
use trunkline_tokio::{Admit, Context, Peer, PromiseError, Service, Status, StatusCode};

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// Sends notes and questions in every way there is, and gives up on some of them. Returns how many
/// notes have to arrive.
async fn talk(peer: Peer, seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let mut sure = 0;
    for number in 0..400 {
        match dice.throw(6) {
            0 => {
                peer.send(&Note { number }).await.unwrap();
                sure += 1;
            }
            1 => {
                peer.send(&Note { number }).acked().await.unwrap();
                sure += 1;
            }
            2 => sure += u64::from(peer.try_send(&Note { number }).is_ok()),
            3 => {
                let question = Double { number: 2 };
                let answer = peer.request::<Doubled>(&question).await.unwrap();
                assert_eq!(answer.number, 4);
            }
            4 => {
                // Its handler waits until it is given up.
                let late = peer.request::<Doubled>(&Double { number: 0 });
                let late = late.timeout(Duration::from_millis(dice.throw(4)));
                match late.await {
                    Err(PromiseError::TimedOut) => {}
                    Err(PromiseError::Rejected(status)) => {
                        assert_eq!(status.code, StatusCode::DEADLINE_EXCEEDED);
                    }
                    other => panic!("unexpected: {other:?}"),
                }
            }
            _ => {
                let given_up = peer.request::<Doubled>(&Double { number: 0 });
                let given_up = tokio::spawn(given_up.into_future());
                for _ in 0..dice.throw(20) {
                    yield_now().await;
                }
                given_up.abort();
            }
        }
    }
    sure
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_of_what_was_given_up_or_late() {
    let authority = Authority::new();
    let arrived = Arc::new(AtomicU64::new(0));
    let service = || {
        Service::new(arrived.clone())
            .on(async |context: Context<Arc<AtomicU64>>, _: Note| {
                context.state().fetch_add(1, Ordering::SeqCst);
            })
            .on_request(async |context: Context<Arc<AtomicU64>>, question: Double| {
                if question.number == 0 {
                    context.cancelled().await;
                    return Err(Status::new(StatusCode::CANCELLED, "given up"));
                }
                let number = question.number * 2;
                Ok(Doubled { number })
            })
            .concurrency(16, 40)
    };
    let server = authority.server().admission(Admit::open());
    let server = server.service(service()).await.unwrap();
    let mut clients = Vec::new();
    let mut talks = JoinSet::new();
    for (seed, name) in (1..).zip(["anna", "otto", "emil"]) {
        let client = authority.client(server.local_addr(), name);
        let client = soon(client.service(service()).into_future()).await.unwrap();
        let peer = server.client(client.client_id()).unwrap();
        talks.spawn(talk(client.peer().clone(), seed));
        talks.spawn(talk(client.peer().clone(), 10 * seed));
        talks.spawn(talk(peer, 100 * seed));
        clients.push(client);
    }
    let sure: u64 = soon(talks.join_all()).await.into_iter().sum();
    soon(async {
        // Handlers see that they were given up, and answer; nobody waits for that, so look.
        loop {
            let mut sessions = server.clients().await.unwrap();
            for client in &clients {
                sessions.extend(client.info().await.unwrap());
            }
            let left = |count: fn(&trunkline_tokio::SessionInfo) -> usize| -> usize {
                sessions.iter().map(count).sum()
            };
            if left(|s| s.promises) + left(|s| s.deliveries) + left(|s| s.queued_bytes) == 0 {
                break;
            }
            yield_now().await;
        }
    })
    .await;
    assert_eq!(arrived.load(Ordering::SeqCst), sure);
}
