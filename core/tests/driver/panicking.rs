//! What panics in somebody else's code, and what is left of a driver that panics itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};

use futures_util::future::join_all;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use trunkline_core::driver::{Answer as Answered, Hooks, Peer, PromiseError, Service, State};
use trunkline_core::trace::{self, Ending};
use trunkline_core::{DisconnectReason, Message, Status, StatusCode, Tag};

use super::lab::Lab;
use super::{Certificate, MILLISECOND, Note, SECOND};

/// A log that cannot be written, and panics for it: of all that is written up to that level, other crates' aside
/// that may write whatever they like below INFO.
struct Unwritable(Level);

impl Subscriber for Unwritable {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().starts_with("trunkline");
        *metadata.level() <= if own { self.0 } else { Level::INFO }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        panic!("nobody reads the log");
    }
}

#[test]
fn a_log_that_panics_ends_nothing() {
    for level in [Level::INFO, Level::TRACE] {
        tracing::subscriber::with_default(Unwritable(level), || {
            Lab::run(async |lab| {
                let certificate = Certificate::new();
                let server = certificate.server().await.unwrap();
                let client = certificate.client(server.local_addr(), "anna");
                let client = client.await.unwrap();
                // Nobody handles them, which is a warning once.
                for number in 0..2 {
                    client.send(&Note { number }).await.unwrap();
                }
                let acked = client.send(&Note { number: 2 }).acked().into_future();
                assert!(matches!(acked.await, Err(PromiseError::Rejected(_))));
                // Silence, a redial, and what the system does not do.
                lab.socket(client.local_addr(), |socket| {
                    socket.cut = true;
                    socket.refuses = true;
                });
                client.wait_for(|state| !state.is_connected()).await;
                lab.socket(server.local_addr(), |socket| socket.fails = true);
                lab.pass(2 * MILLISECOND).await;
                lab.socket(server.local_addr(), |socket| socket.fails = false);
                lab.pass(2 * SECOND).await;
                lab.socket(client.local_addr(), |socket| {
                    socket.cut = false;
                    socket.refuses = false;
                });
                client.connected().await.unwrap();
                let _ = server.drain(SECOND).await;
                lab.socket(client.local_addr(), |socket| socket.cut = true);
                client.send(&Note { number: 3 }).await.unwrap();
                client.close().await;
                server.close().await;
                assert_eq!(lab.panics(), 0);
            });
        });
    }
}

#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<DisconnectReason>>>);

impl Hooks for Ends {
    fn closed(&self, _: &Peer, reason: &DisconnectReason) {
        self.0.lock().unwrap().push(reason.clone());
    }
}

#[test]
fn a_driver_that_panics_tells_of_its_sessions_ends_and_leaves_its_recording_open() {
    let file = std::env::temp_dir().join(format!("trunkline-panic-{}.tlt", std::process::id()));
    let _ = std::fs::remove_file(&file);
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let ends = Ends::default();
        let server = certificate.server().hooks(ends.clone()).record(&*file);
        let server = server.await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        let peer = server.client(client.client_id()).unwrap();
        lab.socket(server.local_addr(), |socket| socket.broken = true);
        while lab.panics() == 0 {
            lab.pass(MILLISECOND).await;
        }
        assert!(matches!(peer.state(), State::Closed(_)));
        assert_eq!(ends.0.lock().unwrap().len(), 1);
        server.closed().await;
    });
    let trace = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let report = trace::replay(&trace[..], std::time::Instant::now()).unwrap();
    assert!(report.is_identical(), "{report}");
    assert_eq!(report.ending, Some(Ending::Open));
}

/// Is done at once or after another turn, and may panic when it is dropped.
struct Done {
    clumsy: bool,
    waits: bool,
}

impl Future for Done {
    type Output = Result<Answered, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(Answered::Ack))
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        assert!(!self.clumsy, "on purpose");
    }
}

#[test]
fn a_handler_that_panics_as_it_is_dropped_rejects_its_message_alone() {
    for waits in [false, true] {
        Lab::run(async |lab| {
            let certificate = Certificate::new();
            let service = Service::new(()).otherwise(move |_, message| Done {
                clumsy: &message.body[..] == b"clumsy",
                waits,
            });
            let server = certificate.server().service(service).await.unwrap();
            let client = certificate.client(server.local_addr(), "anna");
            let client = client.await.unwrap();
            let send = |body: &'static str| client.send_raw(Message::new(Tag(1), body)).acked();
            let sent = join_all(["clumsy", "next", "clumsy"].map(|body| send(body).into_future()));
            let sent = sent.await;
            for clumsy in [0, 2] {
                let Err(PromiseError::Rejected(status)) = &sent[clumsy] else {
                    panic!("{:?}", sent[clumsy]);
                };
                assert_eq!(status.code, StatusCode::INTERNAL);
            }
            assert_eq!(sent[1], Ok(()));
            assert_eq!(lab.panics(), 0);
        });
    }
}
