//! Looking for datagrams before sleeping.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use trunkline_core::BusyPoll;
use trunkline_core::driver::{self, Service};

use super::lab::Lab;
use super::{Certificate, Client, Note, SECOND, Server};

/// A server that writes down what it gets, with a client.
async fn pair(busy_poll: &BusyPoll) -> (Server, Client, Arc<Mutex<Vec<u64>>>) {
    let certificate = Certificate::new();
    let book = Arc::new(Mutex::new(Vec::new()));
    let page = book.clone();
    let service = Service::new(()).on(move |_: driver::Context<()>, note: Note| {
        page.lock().unwrap().push(note.number);
        std::future::ready(())
    });
    let server = certificate.server().busy_poll(busy_poll.clone());
    let server = server.service(service).await.unwrap();
    let client = certificate.client(server.local_addr(), "anna");
    let client = client.busy_poll(busy_poll.clone()).await.unwrap();
    (server, client, book)
}

async fn send(client: &Client, numbers: std::ops::Range<u64>) {
    for number in numbers {
        client.send(&Note { number }).acked().await.unwrap();
    }
}

#[test]
fn what_comes_while_a_driver_looks_is_handled_at_once() {
    const APART: Duration = Duration::from_micros(300);
    Lab::run(async |lab| {
        let (server, client, book) = pair(&BusyPoll::default()).await;
        let (address, others) = (server.local_addr(), lab.clone());
        lab.socket(address, |socket| {
            socket.meanwhile = Some(Box::new(move || others.take_time(2 * APART)));
        });
        for number in 0..200 {
            client.send(&Note { number }).await.unwrap();
            lab.pass(APART).await;
        }
        lab.pass(SECOND).await;
        assert_eq!(*book.lock().unwrap(), (0..200).collect::<Vec<_>>());
        lab.socket(address, |socket| {
            socket.meanwhile = None;
            let (looks, finds) = (socket.looks, socket.finds);
            assert!(finds > 20, "{finds} of {looks}");
            // But for who is woken by one of those that went first.
            let holdups = socket.holdups;
            assert!(holdups * 10 < looks, "{holdups} of {looks}");
        });
    });
}

#[test]
fn a_command_ends_a_look() {
    const COMMANDS: u64 = 50;
    /// What is sent while the driver does not look.
    const OTHER: u64 = 1_000;
    Lab::run(async |lab| {
        let (_server, client, book) = pair(&BusyPoll::default()).await;
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
        let finds = lab.socket(client.local_addr(), |socket| {
            socket.meanwhile = Some(Box::new(send_another));
            std::mem::take(&mut socket.finds)
        });
        assert_eq!(finds, 0);
        send(&client, OTHER..OTHER + 100).await;
        let finds = lab.socket(client.local_addr(), |socket| socket.finds);
        let book = book.lock().unwrap();
        let sent = book.iter().copied().filter(|number| *number < OTHER);
        assert!(sent.eq(0..COMMANDS), "{book:?}");
        assert!(finds >= COMMANDS, "{finds}");
    });
}

#[test]
fn who_finds_nothing_seldom_looks() {
    Lab::run(async |lab| {
        let (server, client, _) = pair(&BusyPoll::default()).await;
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
            let (server, client, _) = pair(&never).await;
            send(&client, 0..100).await;
            for address in [server.local_addr(), client.local_addr()] {
                assert_eq!(lab.socket(address, |socket| socket.looks), 0);
            }
        }
    });
}
