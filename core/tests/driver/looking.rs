//! Looking for datagrams before sleeping.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use trunkline_core::BusyPoll;
use trunkline_core::driver::{self, Service};

use super::lab::Lab;
use super::{Certificate, Client, MILLISECOND, Note, SECOND, Server};

/// What is sent, each with the time: at which it was, or at which its handler ran.
type Book = Arc<Mutex<Vec<(u64, Instant)>>>;

/// A server that writes down what it gets, with a client.
async fn pair(lab: &Lab, server: &BusyPoll, client: &BusyPoll) -> (Server, Client, Book) {
    let certificate = Certificate::new();
    let book = Book::default();
    let (page, clock) = (book.clone(), lab.clone());
    let service = Service::new(()).on(move |_: driver::Context<()>, note: Note| {
        page.lock().unwrap().push((note.number, clock.now()));
        std::future::ready(())
    });
    let server = certificate.server().busy_poll(server.clone());
    let server = server.service(service).await.unwrap();
    let builder = certificate.client(server.local_addr(), "anna");
    let client = builder.busy_poll(client.clone()).await.unwrap();
    (server, client, book)
}

async fn send(client: &Client, numbers: std::ops::Range<u64>) {
    for number in numbers {
        client.send(&Note { number }).acked().await.unwrap();
    }
}

#[test]
fn what_comes_while_a_driver_looks_is_handled_at_once() {
    const APART: Duration = Duration::from_micros(45);
    Lab::run(async |lab| {
        let (server, client, book) = pair(&lab, &BusyPoll::default(), &BusyPoll::NEVER).await;
        let address = server.local_addr();
        lab.socket(address, |socket| socket.sees = true);
        for number in 0..500 {
            client.send(&Note { number }).await.unwrap();
            lab.pass(APART).await;
        }
        lab.pass(SECOND).await;
        let (found_at, looks, holdups) = lab.socket(address, |socket| {
            let found_at = std::mem::take(&mut socket.found_at);
            (found_at, socket.looks, socket.holdups)
        });
        let book = book.lock().unwrap();
        let handled_at: BTreeSet<_> = book.iter().map(|(_, at)| *at).collect();
        let (found, at_once) = (found_at.len(), |at: &&Instant| handled_at.contains(at));
        let at_once = found_at.iter().filter(at_once).count();
        assert!(found > 100, "{found}");
        // Some were acknowledgements.
        assert!(at_once * 10 > found * 9, "{at_once} of {found}");
        // But for who is woken by one of those that went first.
        assert!(holdups * 10 < looks, "{holdups} of {looks}");
        assert!(book.iter().map(|(number, _)| *number).eq(0..500));
    });
}

#[test]
fn a_command_ends_a_look() {
    const COMMANDS: u64 = 50;
    /// What is sent while the driver does not look.
    const OTHER: u64 = 1_000;
    Lab::run(async |lab| {
        let (_server, client, book) = pair(&lab, &BusyPoll::NEVER, &BusyPoll::default()).await;
        let sender = client.clone();
        let mut calls = Vec::new();
        let send_another = move || {
            let (sender, number) = (sender.clone(), calls.len() as u64);
            if number == COMMANDS {
                return;
            }
            let mut call = Box::pin(async move { sender.send(&Note { number }).await });
            let mut cx = Context::from_waker(Waker::noop());
            let _ = call.as_mut().poll(&mut cx);
            calls.push(call);
        };
        lab.socket(client.local_addr(), |socket| {
            socket.meanwhile = Some(Box::new(send_another));
        });
        send(&client, OTHER..OTHER + 100).await;
        let book = book.lock().unwrap();
        let sent = book.iter().map(|(number, _)| *number);
        assert!(sent.filter(|number| *number < OTHER).eq(0..COMMANDS));
    });
}

#[test]
fn no_look_goes_on_beyond_a_deadline() {
    const PATIENCE: Duration = Duration::from_millis(3);
    Lab::run(async |lab| {
        for (time, looks) in [(PATIENCE / 2, true), (2 * PATIENCE, false)] {
            let (server, client, _) = pair(&lab, &BusyPoll::NEVER, &BusyPoll::new(time)).await;
            lab.socket(server.local_addr(), |socket| socket.cut = true);
            let looks_before = lab.socket(client.local_addr(), |socket| {
                socket.sees = true;
                socket.looks
            });
            for number in 0..100 {
                let begin = lab.now();
                let call = client.send(&Note { number }).acked().timeout(PATIENCE);
                assert!(call.await.is_err());
                assert!(lab.now() - begin < PATIENCE + MILLISECOND);
            }
            let looked = lab.socket(client.local_addr(), |socket| socket.looks) > looks_before;
            assert_eq!(looked, looks);
        }
    });
}

#[test]
fn who_finds_nothing_seldom_looks() {
    Lab::run(async |lab| {
        let (server, client, _) = pair(&lab, &BusyPoll::default(), &BusyPoll::NEVER).await;
        send(&client, 0..100).await;
        let looks = |lab: &Lab| lab.socket(server.local_addr(), |socket| socket.looks);
        let before = looks(&lab);
        send(&client, 100..1_100).await;
        let looks = looks(&lab) - before;
        assert!((1..30).contains(&looks), "{looks}");
    });
}

#[test]
fn who_is_told_never_to_look_does_not() {
    Lab::run(async |lab| {
        for never in [BusyPoll::NEVER, BusyPoll::new(Duration::ZERO)] {
            let (server, client, _) = pair(&lab, &never, &never).await;
            send(&client, 0..100).await;
            for address in [server.local_addr(), client.local_addr()] {
                assert_eq!(lab.socket(address, |socket| socket.looks), 0);
            }
        }
    });
}
