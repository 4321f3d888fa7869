//! Hooks, events and cancellations: who is told what, and when.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Waker};

use trunkline_core::driver::{Admit, Context, Hooks, Notice, Peer, Service, State};
use trunkline_core::{
    AdmissionRequest, ClientId, CloseCode, DisconnectReason, Event, Lane, Message, Refusal, Status,
    Tag, UndeliveredReason,
};

use super::lab::{Lab, Looking, within};
use super::{Answer, Ask, Certificate, Client, Note, SECOND};

/// Panics whenever it is called.
#[derive(Default)]
struct Clumsy(Arc<AtomicUsize>);

impl Clumsy {
    fn stumble(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("on purpose");
    }
}

impl Hooks for Clumsy {
    fn connected(&self, _: &Peer) {
        self.stumble();
    }

    fn message_received(&self, _: &Peer, _: Lane, _: Tag, _: usize) {
        self.stumble();
    }

    fn undelivered(&self, _: &Peer, _: &Message, _: UndeliveredReason, _: bool) {
        self.stumble();
    }

    fn closed(&self, _: &Peer, _: &DisconnectReason) {
        self.stumble();
    }
}

#[test]
fn a_hook_that_panics_harms_nothing_else() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
        let server = certificate.server().service(service);
        let server = server.hooks(Clumsy(calls.clone())).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        client.send(&Note { number: 1 }).acked().await.unwrap();
        client.close().await;
        server.close().await;
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert_eq!(lab.panics(), 0);
    });
}

#[test]
fn a_hook_is_called_before_anything_that_follows() {
    struct Seen(Arc<Mutex<Vec<&'static str>>>);
    impl Hooks for Seen {
        fn connected(&self, peer: &Peer) {
            assert!(peer.state().is_connected());
            self.0.lock().unwrap().push("connected");
        }
    }
    Lab::run(async |_| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.hooks(Seen(seen.clone())).start().await.unwrap();
        let waker = Waker::from(Arc::new(Looking({
            let seen = seen.clone();
            move || seen.lock().unwrap().push("woken")
        })));
        let mut connected = Box::pin(client.connected());
        let polled = connected
            .as_mut()
            .poll(&mut TaskContext::from_waker(&waker));
        assert!(polled.is_pending());
        client.connected().await.unwrap();
        assert_eq!(*seen.lock().unwrap(), ["connected", "woken"]);
    });
}

#[test]
fn handlers_of_a_session_that_is_lost_see_that_nobody_waits() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let first = certificate.server().await.unwrap();
        let second = certificate.server().await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        type Seen = Arc<Mutex<Vec<u64>>>;
        let service =
            Service::new(seen.clone()).on_request(async |context: Context<Seen>, ask: Ask| {
                if ask.number == 1 {
                    context.cancelled().await;
                }
                assert_eq!(context.is_cancelled(), ask.number == 1);
                context.state().lock().unwrap().push(ask.number);
                Ok::<_, Status>(Answer { number: ask.number })
            });
        lab.name("server:1", &[first.local_addr()]);
        let client = Client::connect("server:1")
            .server_name("localhost")
            .roots(certificate.roots.clone())
            .client_id("anna")
            .service(service)
            .await
            .unwrap();
        let peer = first.client(client.client_id()).unwrap();
        let mut asking = Box::pin(peer.request::<Answer>(&Ask { number: 1 }).into_future());
        assert!(within(&lab, SECOND, asking.as_mut()).await.is_none());
        // The first server is gone, and the second one knows nothing of its session.
        lab.name("server:1", &[second.local_addr()]);
        lab.socket(first.local_addr(), |socket| socket.cut = true);
        let mut events = client.events();
        while !matches!(
            events.next().await.unwrap(),
            Notice::Event(Event::SessionLost { .. })
        ) {}
        client.connected().await.unwrap();
        let peer = second.client(client.client_id()).unwrap();
        let answer: Answer = peer.request(&Ask { number: 2 }).await.unwrap();
        assert_eq!(answer.number, 2);
        assert_eq!(*seen.lock().unwrap(), [1, 2]);
    });
}

/// Writes down what ends, and sends something when it is too late.
#[derive(Default)]
struct Late(Arc<Mutex<Vec<String>>>);

impl Hooks for Late {
    fn undelivered(
        &self,
        _: &Peer,
        message: &Message,
        reason: UndeliveredReason,
        maybe_delivered: bool,
    ) {
        let number = message.body.last().unwrap();
        let line = format!("undelivered {number} {maybe_delivered}, {reason}");
        self.0.lock().unwrap().push(line);
    }

    fn closed(&self, peer: &Peer, _: &DisconnectReason) {
        self.0.lock().unwrap().push("closed".into());
        // Handles do not know yet.
        if peer.try_send(&Note { number: 9 }).is_err() {
            self.0.lock().unwrap().push("refused".into());
        }
    }
}

#[test]
fn what_was_taken_too_late_is_told_of() {
    Lab::run(async |_| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let lines = Arc::<Mutex<Vec<_>>>::default();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.hooks(Late(lines.clone())).await.unwrap();
        let mut events = client.events();
        client.close().await;
        assert_eq!(
            *lines.lock().unwrap(),
            ["closed", "undelivered 9 false, its session is over"]
        );
        let mut last = None;
        while let Some(notice) = events.next().await {
            last = Some(notice);
        }
        let back = Notice::Event(Event::Undelivered {
            session: client.session(),
            message: Message::new(Tag::of("test.v1.Note"), &b"\x08\x09"[..]),
            reason: UndeliveredReason::SessionOver,
            maybe_delivered: false,
        });
        assert_eq!(last, Some(back));
    });
}

#[test]
fn a_runtime_that_goes_away_takes_no_message_with_it_untold() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let lines = Arc::<Mutex<Vec<_>>>::default();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.hooks(Late(lines.clone())).await.unwrap();
        lab.socket(client.local_addr(), |socket| socket.cut = true);
        client.send(&Note { number: 1 }).await.unwrap();
        lab.pass(SECOND).await;
        // This one is still on its way to the outbox.
        client.send(&Note { number: 2 }).await.unwrap();
        lab.shut_down();
        assert_eq!(
            *lines.lock().unwrap(),
            [
                "undelivered 1 true, its session is over",
                "undelivered 2 false, its session is over",
                "closed",
                "refused",
            ]
        );
        assert!(matches!(client.state(), State::Closed(_)));
    });
}

/// Writes down who was not let in.
#[derive(Default)]
struct Doorkeeper(Mutex<Vec<String>>);

impl Hooks for Doorkeeper {
    fn refused(&self, client: &ClientId, address: SocketAddr, code: CloseCode, reason: &str) {
        let line = format!("{client} at {address}, {code}: {reason}");
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn whom_a_server_does_not_let_in_hooks_and_events_tell() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let doorkeeper = Arc::<Doorkeeper>::default();
        let admit = async |request: AdmissionRequest| match request.client.as_str() {
            "mallory" => Err(Refusal {
                reason: "not on\nthe list".into(),
                retry_after: None,
            }),
            "otto" => std::future::pending().await,
            _ => Ok(()),
        };
        let server = certificate.server().admission(Admit::ask(admit));
        let server = server.hooks(doorkeeper.clone()).await.unwrap();
        let mut events = server.events();
        let anna = certificate.client(server.local_addr(), "anna");
        let anna = anna.await.unwrap();
        let mallory = certificate.client(server.local_addr(), "mallory");
        let mallory = mallory.start().await.unwrap();
        assert!(mallory.connected().await.is_err());
        let port = mallory.local_addr().port();
        let first = format!("mallory at 127.0.0.1:{port}, REFUSED (3): not on the list");
        assert_eq!(*doorkeeper.0.lock().unwrap(), [&*first]);
        // About this one nobody has decided when the server closes.
        let otto = certificate.client(server.local_addr(), "otto");
        let otto = otto.start().await.unwrap();
        lab.pass(SECOND).await;
        server.close().await;
        let mut told = Vec::new();
        while let Some(notice) = events.next().await {
            if let Notice::Event(Event::Refused {
                client,
                address,
                code,
                reason,
                ..
            }) = notice
            {
                told.push(format!("{client} at {address}, {code}: {reason}"));
            }
        }
        let port = otto.local_addr().port();
        let last = format!("otto at 127.0.0.1:{port}, REFUSED (3): the server closes");
        assert_eq!(told, [first, last]);
        assert_eq!(*doorkeeper.0.lock().unwrap(), told);
        drop(anna);
    });
}
