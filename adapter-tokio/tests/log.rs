//! What stands in the log. Alone in its program: whether a line of the code logs at all is decided once for
//! all threads, by whoever comes to it first.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Authority, Note, soon};
use trunkline_tokio::{Admit, Context, Message, PromiseError, Service, Status, StatusCode, Tag};

/// What is logged while it is the thread's.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes what this thread logs from now on.
    fn of_this_thread(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn what_is_rejected_and_nobody_hears_of_stands_out_in_the_log_once() {
    let log = Log::default();
    let _logging = log.of_this_thread();
    let authority = Authority::new();
    let fails =
        async |_: Context<()>, _: Note| Err::<(), _>(Status::new(StatusCode::NOT_FOUND, "none"));
    let server = authority.server().admission(Admit::open());
    let server = server.service(Service::new(()).on(fails)).await.unwrap();
    let connect = |id: &str| authority.client(server.local_addr(), id).into_future();
    for id in ["anna", "otto address=10.0.0.1:443"] {
        let client = soon(connect(id)).await.unwrap();
        for number in 0..3 {
            soon(client.send(&Note { number }).into_future())
                .await
                .unwrap();
            let unknown = Message::new(Tag::of("nobody.v1.Knows"), "");
            soon(client.send_raw(unknown).into_future()).await.unwrap();
        }
        // Whoever waits hears of it, and need not be told twice.
        let told = soon(client.send(&Note { number: 3 }).acked().into_future()).await;
        assert!(matches!(told, Err(PromiseError::Rejected(_))), "{told:?}");
    }
    let log = log.text();
    // What a client wrote is quoted.
    for id in ["anna", "otto address=10.0.0.1:443"] {
        let connected = format!("client=\"{id}\" address=127.0.0.1:");
        assert!(log.contains(&connected), "{log}");
        let lines = |level: &str| {
            let of = |line: &&str| {
                line.contains("does not wait") && line.contains(&format!("client=\"{id}\" "))
            };
            log.lines()
                .filter(of)
                .filter(|line| line.contains(level))
                .count()
        };
        assert_eq!((lines("WARN"), lines("DEBUG")), (1, 5), "{log}");
    }
}

/// Whoever dials is sent to this log.
#[tokio::test]
async fn whose_certificate_is_not_accepted_stands_in_the_log_of_the_server() {
    let log = Log::default();
    let _logging = log.of_this_thread();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority
        .server()
        .admission(Admit::mutual_tls(authority.roots()))
        .await
        .unwrap();
    let client = authority
        .client(server.local_addr(), "anna")
        .identity(stranger.identity("anna"));
    let told = soon(client.connect_timeout(Duration::from_secs(5)).into_future()).await;
    assert!(told.is_err());
    let metrics = soon(server.metrics()).await.unwrap();
    assert!(metrics.certificates_refused > 0);
    let log = log.text();
    let line = log.lines().find(|line| line.contains("was let in"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    for part in [" INFO ", "address=127.0.0.1:", "the peer's certificate"] {
        assert!(line.contains(part), "{line}");
    }
}
