//! Turns: what goes wrong with a socket, or comes in masses, keeps nobody else from their turn.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::future::{join, join_all, join4};
use trunkline_core::driver::{Context, PromiseError, Runtime, Service};
use trunkline_core::{CloseCode, CommandError, Config, SlowConsumer};

use super::lab::{Lab, within};
use super::{Certificate, Client, MILLISECOND, Note, SECOND, Server, book};

/// A server that takes notes, and a client of it.
async fn taking_notes() -> (Server, Client) {
    let certificate = Certificate::new();
    let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
    let server = certificate.server().service(service).await.unwrap();
    let client = certificate.client(server.local_addr(), "anna");
    (server, client.await.unwrap())
}

#[test]
fn a_socket_that_fails_is_tried_again_now_and_then() {
    Lab::run(async |lab| {
        let (server, client) = taking_notes().await;
        let address = server.local_addr();
        let before = lab.socket(address, |socket| {
            socket.fails = true;
            socket.receives
        });
        lab.pass(SECOND).await;
        let attempts = lab.socket(address, |socket| {
            socket.fails = false;
            socket.receives - before
        });
        assert!((100..=100_000).contains(&attempts), "{attempts}");
        let metrics = server.metrics().await.unwrap();
        assert_eq!(
            (metrics.receives_failed, metrics.datagrams_unsent),
            (attempts, 0)
        );
        let sent = client.send(&Note { number: 1 }).acked();
        assert!(
            within(&lab, SECOND, sent.into_future())
                .await
                .unwrap()
                .is_ok()
        );
    });
}

#[test]
fn what_the_system_refuses_to_send_is_counted_and_sent_again() {
    Lab::run(async |lab| {
        let (server, client) = taking_notes().await;
        let address = server.local_addr();
        let sends = lab.socket(address, |socket| {
            socket.refuses = true;
            socket.sends
        });
        let sent = client.send(&Note { number: 1 }).acked().into_future();
        let told = within(&lab, SECOND, sent).await;
        assert!(told.is_none(), "the ack does not come: {told:?}");
        let refused = lab.socket(address, |socket| {
            socket.refuses = false;
            socket.sends - sends
        });
        assert!(refused > 0);
        let metrics = server.metrics().await.unwrap();
        assert_eq!(
            (metrics.datagrams_unsent, metrics.receives_failed),
            (refused, 0)
        );
        let sent = client.send(&Note { number: 2 }).acked().into_future();
        assert!(within(&lab, 5 * SECOND, sent).await.unwrap().is_ok());
    });
}

#[test]
fn a_flood_keeps_neither_timers_nor_handles_from_their_turn() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        lab.socket(server.local_addr(), |socket| socket.flooded = true);
        let peer = server.client(client.client_id()).unwrap();
        // The client hears nothing, so that a timer is all there is.
        lab.socket(client.local_addr(), |socket| socket.cut = true);
        let sent = peer.send(&Note { number: 1 }).acked().timeout(SECOND);
        let start = lab.now();
        assert!(sent.await.is_err());
        assert!(lab.now() - start < SECOND + 100 * MILLISECOND);
        assert_eq!(server.clients().await.unwrap().len(), 1);
    });
}

/// A runtime may run next whoever was woken last, as tokio's threads do: then the first of a crowd
/// that sends again would have the driver run for its message alone.
#[test]
fn a_crowd_that_is_woken_together_is_heard_together() {
    const CROWD: u64 = 100;
    const ROUNDS: u64 = 20;
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
        let server = certificate.server().service(service).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        lab.run_latest_first();
        let turns = |lab: &Lab| lab.socket(client.local_addr(), |socket| socket.receives);
        let before = turns(&lab);
        let done = Arc::new(AtomicU64::new(0));
        for _ in 0..CROWD {
            let (client, done) = (client.clone(), done.clone());
            lab.spawn(Box::pin(async move {
                for number in 0..ROUNDS {
                    client.send(&Note { number }).acked().await.unwrap();
                }
                done.fetch_add(1, Ordering::Relaxed);
            }));
        }
        while done.load(Ordering::Relaxed) < CROWD {
            lab.pass(MILLISECOND).await;
        }
        let turns = turns(&lab) - before;
        // After a rest they are woken in three portions.
        assert!(turns < CROWD * ROUNDS / 2, "{turns} calls of the socket");
    });
}

/// A runtime may take only so many wake-ups at once without more ado, as tokio's threads do.
#[test]
fn a_turn_wakes_no_more_than_its_runtime_likes() {
    const CROWD: u64 = 100;
    const AT_ONCE: usize = 10;
    Lab::run(async |lab| {
        lab.wake_at_once(AT_ONCE);
        let certificate = Certificate::new();
        let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
        let server = certificate.server().service(service).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        let woken = Arc::new(Mutex::new(BTreeMap::<_, usize>::new()));
        for number in 0..CROWD {
            let (lab, client, woken) = (lab.clone(), client.clone(), woken.clone());
            lab.clone().spawn(Box::pin(async move {
                client.send(&Note { number }).acked().await.unwrap();
                let turn = lab.socket(client.local_addr(), |socket| socket.receives);
                *woken.lock().unwrap().entry(turn).or_default() += 1;
            }));
        }
        while woken.lock().unwrap().values().sum::<usize>() < CROWD as usize {
            lab.pass(MILLISECOND).await;
        }
        let woken: Vec<_> = woken.lock().unwrap().values().copied().collect();
        assert!(woken.iter().all(|tasks| *tasks <= AT_ONCE), "{woken:?}");
        assert!(
            woken.contains(&AT_ONCE),
            "it was never a question: {woken:?}"
        );
    });
}

/// What commands wake is not counted: those who send plain messages all the time keep nobody's answer back.
#[test]
fn senders_that_never_rest_do_not_hold_events_up() {
    const ACKED: u64 = 10;
    const MANY: u64 = 50_000;
    Lab::run(async |lab| {
        lab.wake_at_once(1);
        let certificate = Certificate::new();
        let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
        let server = certificate.server().service(service).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        let [told, sent] = [0, 0].map(|count| Arc::new(AtomicU64::new(count)));
        for number in 0..ACKED {
            let (client, told, sent) = (client.clone(), told.clone(), sent.clone());
            lab.spawn(Box::pin(async move {
                client.send(&Note { number }).acked().await.unwrap();
                told.fetch_add(1, Ordering::Relaxed);
                let waits = || told.load(Ordering::Relaxed) < ACKED;
                while waits() && sent.fetch_add(1, Ordering::Relaxed) < MANY {
                    client.send(&Note { number }).await.unwrap();
                }
            }));
        }
        while told.load(Ordering::Relaxed) < ACKED {
            lab.pass(MILLISECOND).await;
        }
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < MANY, "{sent} were sent before acks that had come");
    });
}

/// Who waits for the first answers is not to sleep until the last ones are made.
#[test]
fn after_a_rest_the_first_answers_leave_before_the_last_handler_runs() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let (sends, address) = (Arc::new(Mutex::new(Vec::new())), Arc::new(OnceLock::new()));
        let (book, place, socket) = (sends.clone(), address.clone(), lab.clone());
        let service = Service::new(()).on(move |_: Context<()>, _: Note| {
            let sent = socket.socket(*place.get().unwrap(), |socket| socket.sends);
            book.lock().unwrap().push(sent);
            std::future::ready(())
        });
        let server = certificate.server().service(service).await.unwrap();
        address.set(server.local_addr()).unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        lab.pass(SECOND).await;
        for number in 0..64 {
            let client = client.clone();
            lab.spawn(Box::pin(async move {
                client.send(&Note { number }).acked().await.unwrap();
            }));
        }
        lab.pass(SECOND).await;
        let sends = sends.lock().unwrap();
        assert_eq!(sends.len(), 64);
        assert!(sends[63] > sends[0], "{sends:?}");
        assert_eq!(sends[15], sends[0], "the first ones go together");
    });
}

/// Who broadcasts waits for each message to be queued, and not to be sent.
#[test]
fn broadcasts_that_follow_upon_each_other_share_packets() {
    const EVENTS: u64 = 40;
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let (mut heard, mut clients) = (Vec::new(), Vec::new());
        for name in ["anna", "bela", "cleo"] {
            let (numbers, service) = book();
            heard.push(numbers);
            let client = certificate.client(server.local_addr(), name);
            clients.push(client.service(service).await.unwrap());
        }
        lab.pass(SECOND).await;
        let sends = |lab: &Lab| lab.socket(server.local_addr(), |socket| socket.sends);
        let before = sends(&lab);
        for number in 0..EVENTS {
            let sent = server.broadcast(&Note { number }).await.unwrap();
            assert_eq!(sent.queued, clients.len());
        }
        lab.pass(SECOND).await;
        let sends = sends(&lab) - before;
        let expected: Vec<_> = (0..EVENTS).collect();
        for book in &heard {
            assert_eq!(*book.lock().unwrap(), expected);
        }
        // Two gatherings; and a receipt, an acknowledgement.
        let most = 4 * clients.len() as u64;
        assert!(sends <= most, "{sends} of {most}");
    });
}

/// One that waits is replaced by the next one of its key: a client that is fast enough gets each of them.
#[test]
fn broadcasts_that_replace_each_other_are_not_gathered() {
    const EVENTS: u64 = 40;
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let mut config = Config::default();
        config.slow_consumer = SlowConsumer::KeepLatest;
        let server = certificate.server().config(config).await.unwrap();
        let (heard, service) = book();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.service(service).await.unwrap();
        lab.pass(SECOND).await;
        for number in 0..EVENTS {
            let sent = server.broadcast(&Note { number }).key(7).await.unwrap();
            assert_eq!((sent.queued, sent.dropped), (1, 0));
        }
        lab.pass(SECOND).await;
        assert_eq!(*heard.lock().unwrap(), (0..EVENTS).collect::<Vec<_>>());
        drop(client);
    });
}

/// With very many sessions, a broadcast that waits for those before it does so for many turns.
#[test]
fn a_message_does_not_wait_for_broadcasts_that_wait_and_a_group_does() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let (heard, service) = book();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.service(service).await.unwrap();
        lab.pass(SECOND).await;
        let peer = server.client(client.client_id()).unwrap();
        let room = server.group(&"room".parse().unwrap());
        let (early, late) = (Note { number: 5 }, Note { number: 6 });
        // Each waits for those before it, for it might replace them.
        let broadcast = |number| server.broadcast(&Note { number }).key(number).into_future();
        let broadcasts = join_all((1..=3).map(broadcast));
        let others = async {
            let (before, best_effort, looked, sent) = join4(
                room.broadcast(&early).into_future(),
                peer.send(&Note { number: 7 }).best_effort().into_future(),
                server.metrics(),
                peer.send(&Note { number: 4 }).into_future(),
            )
            .await;
            looked.unwrap();
            best_effort.unwrap();
            sent.unwrap();
            before.unwrap()
        };
        let joined = async {
            room.join(&peer).await.unwrap();
            room.broadcast(&late).await.unwrap()
        };
        let (_, (before, after)) = join(broadcasts, join(others, joined)).await;
        assert_eq!((before.queued, after.queued), (0, 1));
        lab.pass(SECOND).await;
        let heard = heard.lock().unwrap();
        let at = |number| heard.iter().position(|n| *n == number).unwrap();
        assert!(at(1) < at(2) && at(2) < at(3) && at(3) < at(6), "{heard:?}");
        assert!(at(4) < at(2) && at(3) < at(7), "{heard:?}");
    });
}

/// A change has its turn behind the broadcasts that were asked for before it, and nothing else waits for it.
#[test]
fn what_changes_who_hears_broadcasts_holds_up_no_message_but_those_behind_a_close() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let (books, services): (Vec<_>, Vec<_>) = [book(), book()].into_iter().unzip();
        let (mut clients, mut peers) = (Vec::new(), Vec::new());
        for (name, service) in ["anna", "bela"].into_iter().zip(services) {
            let client = certificate.client(server.local_addr(), name);
            let client = client.service(service).await.unwrap();
            peers.push(server.client(client.client_id()).unwrap());
            clients.push(client);
        }
        lab.pass(SECOND).await;
        let room = server.group(&"room".parse().unwrap());
        let broadcast = |number| server.broadcast(&Note { number }).key(number).into_future();
        let changes = async {
            let closed = peers[1].close_session(CloseCode::NORMAL, "enough");
            join(room.join(&peers[0]), closed).await.0.unwrap();
        };
        let sent = join(
            peers[0].send(&Note { number: 4 }).into_future(),
            peers[1].send(&Note { number: 5 }).acked().into_future(),
        );
        let (queued, (_, (sent, late))) =
            join(join_all((1..=3).map(broadcast)), join(changes, sent)).await;
        sent.unwrap();
        let Err(PromiseError::Refused(late)) = late else {
            panic!("{late:?}");
        };
        assert_eq!(late.error, CommandError::Closing);
        assert!(queued.iter().all(|sent| sent.as_ref().unwrap().queued == 2));
        lab.pass(SECOND).await;
        let heard = books.iter().map(|book| book.lock().unwrap().clone());
        let heard: Vec<_> = heard.collect();
        let at = |number| heard[0].iter().position(|n| *n == number).unwrap();
        assert!(at(1) < at(2) && at(2) < at(3) && at(4) < at(2), "{heard:?}");
        assert_eq!(heard[1], [1, 2, 3]);
    });
}

/// What waits would have to be sent first, and the time to close has begun.
#[test]
fn broadcasts_that_wait_do_not_hold_up_the_end() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        for drains in [false, true] {
            let server = certificate.server().await.unwrap();
            let (heard, service) = book();
            let client = certificate.client(server.local_addr(), "anna");
            let _client = client.service(service).await.unwrap();
            lab.pass(SECOND).await;
            let broadcast = |number| server.broadcast(&Note { number }).key(number).into_future();
            let end = async {
                match drains {
                    true => drop(server.drain(SECOND).await),
                    false => server.close().await,
                }
            };
            let (queued, ()) = join(join_all((1..=3).map(broadcast)), end).await;
            assert!(queued.iter().all(|sent| sent.as_ref().unwrap().queued == 1));
            lab.pass(SECOND).await;
            assert_eq!(*heard.lock().unwrap(), [1, 2, 3]);
        }
    });
}
